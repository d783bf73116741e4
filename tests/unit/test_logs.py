"""Logs: canonical lines, bounded floods, secrets kept out, everything on one stream."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

import pytest
import structlog
from pydantic import SecretStr

from thorn_stream.adapters.logs import LogObserver, masked, scrubbed, set_up, summary
from thorn_stream.adapters.observers import Observers
from thorn_stream.core.deliveries import (
    Dead,
    Delivered,
    Delivery,
    Kind,
    Outcome,
    Reason,
    Retry,
    Settlement,
)
from thorn_stream.core.envelope import Envelope
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ports import NOT_ASSIGNED, Observer, Trouble
from thorn_stream.testing import MemoryClock, RecordingObserver

# mypy refuses this file when one of them no longer fits the port
_LOGS: type[Observer] = LogObserver
_FAN_OUT: type[Observer] = Observers

ORDERS = Partition("orders", 3)
FAILED = Outcome(Kind.STATUS, 503, duration=0.0123456)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Broken(io.StringIO):
    def write(self, text: str, /) -> int:
        raise BrokenPipeError(32, text)


def is_ours(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("thorn_stream.")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [each for each in root.handlers if is_ours(each)]:
        root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


class Logs:
    """A LogObserver, what it wrote, and the clock it goes by."""

    def __init__(
        self, *, level: str = "info", successes: bool = False, per_second: int = 3
    ) -> None:
        self.stream = io.StringIO()
        self.clock = MemoryClock()
        self.observer = LogObserver(
            set_up(level=level, style="json", stream=self.stream),
            successes=successes,
            per_second=per_second,
            clock=self.clock.monotonic,
        )

    def taken(self) -> list[dict[str, Any]]:
        """The lines since the last time."""
        got = lines(self.stream)
        self.stream.truncate(0)
        self.stream.seek(0)
        return got

    def attempted(self, outcome: Outcome, settlement: Settlement) -> None:
        record = Record("orders", 3, 7, None, b"{}", [], 1_700_000_000_000)
        url = "https://user:hunter2@a.example.com/x?token=hunter2"
        subscriber = Subscriber(id="billing", event=("*",), url=url)
        entry = Entry(Ledger(ORDERS, 0, 10, Tally()), 7, 1)
        envelope = Envelope("order.created", "e1", record)
        self.observer.attempted(
            Delivery(envelope, subscriber, "d1", entry, attempts=2), outcome, settlement
        )


def test_an_answer_that_was_kept_is_in_the_line() -> None:
    """As text, what is none escaped; where nothing was kept there is no such key."""
    logs = Logs()
    logs.attempted(Outcome(Kind.STATUS, 503, body=b"busy \xff"), Dead(Reason.EXHAUSTED))
    logs.attempted(Outcome(Kind.STATUS, 503), Dead(Reason.EXHAUSTED))
    kept, none = logs.taken()
    assert kept["response"] == "busy \\xff"
    assert "response" not in none


def test_a_failed_attempt_is_one_line_of_the_documented_shape() -> None:
    """Every key is there under its name, also those that have no value."""
    logs = Logs()
    logs.attempted(FAILED, Retry(1_700_000_060_000, 60))
    (line,) = logs.taken()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "attempt",
        "level": "warning",
        "event_name": "order.created",
        "event_id": "e1",
        "delivery": "d1",
        "subscriber": "billing",
        "attempt": 2,
        "outcome": "status",
        "status": 503,
        "duration_ms": 12.346,
        "settlement": "retry",
        "next_due": 1_700_000_060_000,
        "error": "status:503",
    }


def test_a_dead_delivery_says_its_reason() -> None:
    """The last attempt's line carries why no other follows, and no due time."""
    logs = Logs()
    logs.attempted(Outcome(Kind.TIMEOUT, duration=3.0), Dead(Reason.EXHAUSTED))
    (line,) = logs.taken()
    assert (line["settlement"], line["reason"], line["next_due"]) == ("dead", "exhausted", None)
    assert (line["outcome"], line["status"], line["error"]) == ("timeout", None, "timeout")


@pytest.mark.parametrize(
    ("successes", "level", "count"), [(False, "info", 0), (True, "info", 1), (True, "warning", 0)]
)
def test_a_success_is_a_line_only_when_asked_for(successes: bool, level: str, count: int) -> None:
    """A 2xx is written with `log.successes` and a level that lets it through, else not."""
    logs = Logs(successes=successes, level=level)
    logs.attempted(Outcome(Kind.OK, 200), Delivered())
    written = logs.taken()
    assert len(written) == count
    assert all(line["settlement"] == "delivered" and line["error"] is None for line in written)


def test_a_flood_of_attempts_is_cut_and_counted() -> None:
    """No more than so many lines a second, and a line afterwards that says how many are missing."""
    logs = Logs(per_second=3)
    for _ in range(10):
        logs.attempted(FAILED, Retry(0, 5))
    logs.observer.tick()
    assert len(logs.taken()) == 3
    logs.clock.advance(1)
    logs.observer.tick()
    logs.attempted(FAILED, Retry(0, 5))
    first, second = logs.taken()
    assert (first["event"], first["kind"], first["count"]) == ("lines left out", "attempt", 7)
    assert second["event"] == "attempt"
    logs.clock.advance(1)
    logs.observer.tick()
    assert logs.taken() == []


def test_no_attempt_is_left_out_when_each_is_asked_for() -> None:
    """With `log.successes` every attempt has its line, however many there are."""
    logs = Logs(per_second=3, successes=True)
    for _ in range(5):
        logs.attempted(FAILED, Retry(0, 5))
        logs.attempted(Outcome(Kind.OK, 200), Delivered())
    assert len(logs.taken()) == 10


def test_two_groups_that_reach_no_broker_are_one_line_each_30_s() -> None:
    """Whichever noticed first says it; when that one is well again, the other goes on."""
    logs = Logs()
    logs.observer.trouble("thorn", Trouble("broker", "no broker answers"))
    logs.clock.advance(0.5)
    logs.observer.trouble("thorn.retry", Trouble("broker", "connection refused"))
    logs.observer.trouble("thorn.retry", Trouble("group", "no permission"))
    came = [(line["group"], line["key"]) for line in logs.taken()]
    assert came == [("thorn", "broker"), ("thorn.retry", "group")]
    for _ in range(61):
        logs.clock.advance(1)
        logs.observer.tick()
    assert [line["key"] for line in logs.taken()].count("broker") == 2
    logs.observer.trouble("thorn", Trouble("broker", None))
    logs.taken()
    logs.clock.advance(30)
    logs.observer.tick()
    assert ("thorn.retry", "broker") in {(line["group"], line["key"]) for line in logs.taken()}


def test_a_trouble_is_told_when_it_comes_each_30_s_and_when_it_clears() -> None:
    """Repeats in between are silent; the reminder has the latest text and how long it lasts."""
    logs = Logs()
    logs.observer.trouble("thorn", Trouble("broker", "no broker answers"))
    logs.observer.trouble("thorn", Trouble("broker", "connection refused"))
    logs.clock.advance(29)
    logs.observer.tick()
    (came,) = logs.taken()
    assert came["level"] == "error"
    assert (came["event"], came["group"], came["key"]) == ("trouble", "thorn", "broker")
    assert came["error"] == "no broker answers"
    logs.clock.advance(1)
    logs.observer.tick()
    logs.observer.tick()
    (reminder,) = logs.taken()
    assert (reminder["error"], reminder["lasting_s"]) == ("connection refused", 30)
    logs.clock.advance(5)
    logs.observer.trouble("thorn", Trouble("broker", None))
    logs.observer.trouble("thorn", Trouble("broker", None))
    (over,) = logs.taken()
    assert (over["event"], over["level"], over["lasted_s"]) == ("trouble over", "info", 35)
    logs.clock.advance(60)
    logs.observer.tick()
    assert logs.taken() == []


def test_failing_commits_and_hand_overs_are_told_as_states() -> None:
    """One line when they begin to fail, none for each, one when they have gone well for 5 s."""
    logs = Logs()
    observer = logs.observer
    observer.committed("thorn", None)
    observer.handed_over("retry", None)
    assert logs.taken() == []
    for _ in range(50):  # failing and succeeding in turn is one state, too
        observer.committed("thorn", "Broker: Unknown member")
        observer.handed_over("retry", "Broker: Not enough in-sync replicas")
        observer.committed("thorn", None)
        observer.handed_over("retry", None)
        logs.clock.advance(0.2)
        observer.tick()
    commits, retries = logs.taken()
    assert (commits["event"], commits["group"]) == ("commits refused", "thorn")
    assert (retries["event"], retries["kind"]) == ("hand-overs failing", "retry")
    logs.clock.advance(5)
    observer.tick()
    assert [line["event"] for line in logs.taken()] == [
        "commits accepted again",
        "hand-overs succeed again",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS", "UNKNOWN_MEMBER_ID"),
        *("STALE_MEMBER_EPOCH", "FENCED_MEMBER_EPOCH"),
    ],
)
def test_a_commit_refused_because_partitions_move_is_a_warning(name: str) -> None:
    """It is so in any rebalance; one that lasts is an error, and says so every 30 s."""
    logs = Logs()
    logs.observer.committed("thorn", f"{name}: Broker: whatever it says")
    (line,) = logs.taken()
    assert (line["event"], line["level"]) == ("commits refused", "warning")
    logs.observer.committed("thorn", f"{name}: Broker: whatever it says")
    assert logs.taken() == []
    logs.clock.advance(30)
    logs.observer.tick()
    (line,) = logs.taken()
    assert (line["event"], line["level"], line["lasting_s"]) == ("commits refused", "error", 30)


def test_a_commit_of_what_was_just_given_away_is_a_warning() -> None:
    """Any move of partitions has some; nor does it make an error of one that Kafka refused."""
    logs = Logs()
    for error in (NOT_ASSIGNED, "REBALANCE_IN_PROGRESS: Broker: whatever it says", NOT_ASSIGNED):
        logs.observer.committed("thorn", error)
    (line,) = logs.taken()
    assert (line["event"], line["level"]) == ("commits refused", "warning")
    assert line["error"] == NOT_ASSIGNED
    logs.observer.committed("thorn", None)
    logs.clock.advance(5)
    logs.observer.tick()
    assert [line["event"] for line in logs.taken()] == ["commits accepted again"]


def test_a_commit_refused_for_another_reason_is_an_error() -> None:
    """At once, even when the refusals began in a rebalance; and once, whatever comes after it."""
    logs = Logs()
    logs.observer.committed("a", "TOPIC_AUTHORIZATION_FAILED (orders): allow it for this user")
    logs.observer.committed("b", "ILLEGAL_GENERATION: Broker: Specified group generation ...")
    logs.clock.advance(1)
    logs.observer.committed("b", "OFFSET_METADATA_TOO_LARGE: Broker: Offset metadata too large")
    logs.observer.committed("b", "ILLEGAL_GENERATION: Broker: Specified group generation ...")
    logs.observer.committed("b", "OFFSET_METADATA_TOO_LARGE: Broker: Offset metadata too large")
    told = [(line["group"], line["level"], line["error"].split(":")[0]) for line in logs.taken()]
    assert told == [
        ("a", "error", "TOPIC_AUTHORIZATION_FAILED (orders)"),
        ("b", "warning", "ILLEGAL_GENERATION"),
        ("b", "error", "OFFSET_METADATA_TOO_LARGE"),
    ]


def test_what_names_a_rebalance_elsewhere_is_an_error_all_the_same() -> None:
    """Only commits are refused in one as a matter of course."""
    logs = Logs()
    logs.observer.handed_over("retry", "ILLEGAL_GENERATION: Broker: whatever it says")
    assert [line["level"] for line in logs.taken()] == ["error"]


def test_what_else_an_operator_must_know_has_a_line() -> None:
    """Assignments, losses, undecodable records and dead letters name their place."""
    logs = Logs()
    observer = logs.observer
    observer.assigned("thorn", [ORDERS])
    observer.unassigned("thorn", [ORDERS], lost=False)
    observer.unassigned("thorn", [Partition("t", n) for n in range(60)], lost=True)
    observer.lost_records("thorn", ORDERS, 7)
    observer.undecodable(Record("orders", 3, 7, None, b"x", [], 0), "not an envelope")
    observer.dead("gone")
    assigned, revoked, lost, deleted, undecodable, dead = logs.taken()
    assert (assigned["event"], assigned["partitions"]) == ("assigned", ["orders[3]"])
    assert (revoked["event"], revoked["level"]) == ("revoked", "info")
    assert (lost["event"], lost["level"], lost["count"]) == ("partitions lost", "warning", 60)
    assert len(lost["partitions"]) == 50
    assert (deleted["event"], deleted["count"]) == ("records lost", 7)
    assert (undecodable["record"], undecodable["error"]) == ("orders:3:7", "not an envelope")
    assert (dead["event"], dead["reason"]) == ("dead letter", "gone")


def test_what_is_only_counted_has_no_line() -> None:
    """Ordinary work writes nothing, whatever the level."""
    logs = Logs(level="debug")
    observer = logs.observer
    observer.consumed("thorn", "orders", 500)
    observer.unmatched()
    observer.tombstone()
    observer.ignored("thorn-id")
    observer.clamped("thorn-timeout")
    observer.dropped("too_old")
    observer.late_outcome()
    observer.settled(Delivered())
    assert logs.taken() == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pw@a.example.com/x?token=s#f", "https://a.example.com/x"),
        ("https://u:p@ss@a.example.com:8443", "https://a.example.com:8443"),
        ("connect to 'http://a/b?c=d' failed", "connect to 'http://a/b' failed"),
        ("https://a/b?x=1, then http://u@c?y", "https://a/b then http://c"),
        ("https://[::1]:80/?q", "https://[::1]:80/"),
        ("user@example.com asked: why?", "user@example.com asked: why?"),
        ("https://a/@handle", "https://a/@handle"),
    ],
)
def test_user_part_query_and_fragment_are_left_out_of_urls(text: str, expected: str) -> None:
    """Wherever a URL stands in a text, only scheme, host, port and path of it remain."""
    assert scrubbed(text) == expected


def test_no_line_has_a_urls_secrets() -> None:
    """Ours, those of libraries, warnings and tracebacks: all go through the same door."""
    stream = io.StringIO()
    logger = set_up(level="info", style="json", stream=stream)
    url = "https://user:hunter2@a.example.com/x?token=hunter2"
    logger.info("ours", url=url)
    logging.getLogger("lib").warning("theirs: %s", url)
    logging.getLogger("lib").error("failed", exc_info=ValueError(url))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(f"old: {url}", stacklevel=1)
    assert len(lines(stream)) == 4
    assert stream.getvalue().count("https://a.example.com/x") >= 4
    assert "hunter2" not in stream.getvalue()


def test_settings_are_summed_up_with_secrets_as_set() -> None:
    """What is secret by its type or by its name, at any depth, is `set` or null."""
    stream = io.StringIO()
    settings = {
        "group": "thorn",
        "retry_max": 3,
        "hmac_secret": SecretStr("hunter2"),
        "proxy": "http://user:hunter2@proxy:3128",
        "kafka": {
            "bootstrap.servers": "kafka:9092",
            "sasl.password": 12345678,
            "ssl_key_pem": "-----BEGIN hunter2",
            "ssl.key.password": "",
        },
        "api": {"enabled": False, "tokens": ["hunter2", "hunter2"]},
        "subscribers": [
            Subscriber(
                id="a",
                event=("*",),
                url="http://a/?k=hunter2",
                headers={"X-Own": "hunter2"},
                hmac_secret=(SecretStr("hunter2"),),
            )
        ],
        "nothing": SecretStr(""),
        "dumped": str(SecretStr("hunter2")),
    }
    summary(set_up(style="json", stream=stream), settings)
    assert "hunter2" not in stream.getvalue()
    assert "12345678" not in stream.getvalue()
    (line,) = lines(stream)
    shown = line["settings"]
    assert line["event"] == "starting"
    assert shown["hmac_secret"] == "set"
    assert shown["proxy"] == "http://proxy:3128"
    assert shown["kafka"] == {
        "bootstrap.servers": "kafka:9092",
        "sasl.password": "set",
        "ssl_key_pem": "set",
        "ssl.key.password": None,
    }
    assert shown["api"] == {"enabled": False, "tokens": "set"}
    assert shown["subscribers"][0]["headers"] == {"X-Own": "set"}
    assert shown["subscribers"][0]["url"] == "http://a/"
    assert shown["nothing"] is None
    assert shown["dumped"] == "set"
    assert shown["retry_max"] == 3


def test_masking_leaves_what_is_not_secret() -> None:
    """Numbers, flags, null and plain texts stay as they are."""
    given = {"a": 1, "b": 0.5, "c": True, "d": None, "e": "x", "f": [1, "*"], "token": None}
    assert masked(given) == given


def test_a_network_is_one_value() -> None:
    """It is written as it is, and not as the addresses in it."""
    assert masked({"allowed_networks": (ip_network("10.0.0.0/8"),)}) == {
        "allowed_networks": ["10.0.0.0/8"]
    }


def test_the_format_follows_the_stream_unless_it_is_set() -> None:
    """`auto` is for people on a terminal, JSON elsewhere; the other two are what they say."""
    for style, stream, is_json in (
        ("auto", io.StringIO(), True),
        ("auto", Terminal(), False),
        ("json", Terminal(), True),
        ("console", io.StringIO(), False),
    ):
        set_up(style=style, stream=stream).info("hello", n=1)  # type: ignore[arg-type] # a tuple's text
        assert stream.getvalue().startswith("{") == is_json
        assert "hello" in stream.getvalue()


def test_control_characters_do_not_reach_the_terminal() -> None:
    """What a receiver sent cannot move the cursor or forge a line; tracebacks keep their lines."""
    stream = io.StringIO()
    logger = set_up(style="console", stream=stream)
    logger.warning("attempt", error="tls:\x1b[2J\nforged")
    assert "\x1b[2J" not in stream.getvalue()
    assert len(stream.getvalue().splitlines()) == 1
    logger.error("failed", exc_info=ValueError("wrong"))
    assert "ValueError: wrong\n" in stream.getvalue()


def test_libraries_are_heard_from_warning_on() -> None:
    """An outside library's info lines are noise, except when debugging."""
    for level, expected in (("info", ["loud"]), ("debug", ["quiet", "loud"]), ("error", [])):
        stream = io.StringIO()
        set_up(level=level, style="json", stream=stream)
        logging.getLogger("lib").info("quiet")
        logging.getLogger("lib").warning("loud")
        assert [line["event"] for line in lines(stream)] == expected


def test_a_library_that_logs_wrongly_still_gets_its_line() -> None:
    """Arguments that do not fit the message lose no line and raise nothing."""
    stream = io.StringIO()
    set_up(style="json", stream=stream)
    (handler,) = [each for each in logging.getLogger().handlers if is_ours(each)]
    handler.handle(logging.LogRecord("lib", 30, "lib.py", 1, "%d of %d", ("x",), None))
    assert [line["event"] for line in lines(stream)] == ["%d of %d"]


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    """A broken pipe or a closed stream loses the line, and nothing else."""
    for stream in (Broken(), io.StringIO()):
        logger = set_up(style="json", stream=stream)
        stream.close()
        logger.info("lost")
        logging.getLogger("lib").warning("lost")
        assert stream.closed


def test_the_fan_out_tells_each_observer_everything_in_turn() -> None:
    """Every method of the port reaches all observers with the same arguments, once."""
    one, two = RecordingObserver(), RecordingObserver()
    logs = Logs()
    observers = Observers(one, logs.observer, two)
    record = Record("orders", 3, 7, None, b"x", [], 0)
    delivery = Delivery(
        Envelope("a", "e1", record),
        Subscriber(id="a", event=("*",), url="http://a"),
        "d1",
        Entry(Ledger(ORDERS, 0, 10, Tally()), 7, 1),
    )
    observers.consumed("thorn", "orders", 1)
    observers.unmatched()
    observers.tombstone()
    observers.undecodable(record, "why")
    observers.ignored("thorn-id")
    observers.clamped("thorn-timeout")
    observers.attempted(delivery, FAILED, Retry(0, 5))
    observers.settled(Retry(0, 5))
    observers.dropped("too_old")
    observers.dead("gone")
    observers.handed_over("retry", None)
    observers.committed("thorn", None)
    observers.lost_records("thorn", ORDERS, 1)
    observers.circuit_opened("a", 10, "timeout")
    observers.circuit_closed("a", 5.0, 1)
    observers.late_outcome()
    observers.trouble("thorn", Trouble("broker", "gone"))
    observers.assigned("thorn", [ORDERS])
    observers.unassigned("thorn", [ORDERS], lost=True)
    methods = {name for name in vars(Observer) if not name.startswith("_")}
    assert {call.name for call in one.calls} == methods
    assert len(one.calls) == len(methods)
    assert one.calls == two.calls
