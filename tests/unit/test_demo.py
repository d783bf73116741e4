"""The demo's own arithmetic: matching, accounting, figures, and how they are shown."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from thorn_stream.config import load_settings
from thorn_stream.core.records import Record
from thorn_stream.core.signing import Signer
from thorn_stream.ops.demo.account import Account, Books, DeadLetter
from thorn_stream.ops.demo.cast import Behaviour, Part, cast, happenings, outage, wire
from thorn_stream.ops.demo.dispatcher import (
    DispatcherProcess,
    metrics_of,
    new_secret,
    settings_for,
    write_configuration,
)
from thorn_stream.ops.demo.figures import count, duration, percentile
from thorn_stream.ops.demo.kafka import dead_letter
from thorn_stream.ops.demo.matching import matches
from thorn_stream.ops.demo.receivers import Receivers
from thorn_stream.ops.demo.report import (
    Result,
    as_json,
    counted_by_dispatcher,
    notes,
    verdict,
    where_it_waits,
)
from thorn_stream.ops.demo.view import Moment, live, plain, state, summary

HEALTHY = Part("healthy", "**", "answers at once", Behaviour())
GONE = Part("gone", "user.profile.*", "answers 410", Behaviour(status=410))


# --- matching -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*", "order"),
        ("*", "order.item.added"),
        ("**", "order.item.added"),
        ("order.*", "order.created"),
        ("order.*", "order.item.added"),
        ("order.**", "order"),
        ("order.**.added", "order.added"),
        ("order.**.added", "order.item.line.added"),
        ("*.created", "user.created"),
        ("{order,user}.**", "user.profile.changed"),
        ("{order,user.{profile,mail}}.changed", "user.mail.changed"),
        ("order.{item.added,paid}", "order.item.added"),
        ("or?er.[cp]*", "order.paid"),
        ("order.[!c]*", "order.paid"),
    ],
)
def test_matches(pattern: str, name: str) -> None:
    """The slow matcher finds what the rules for patterns call a match."""
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("order.*", "order"),
        ("order.*", "orders.created"),
        ("*.created", "user.profile.created"),
        ("order.**.added", "order.item"),
        ("{order,user}.**", "article.created"),
        ("Order.*", "order.created"),
        ("order.[!p]*", "order.paid"),
        ("order", "order.created"),
    ],
)
def test_does_not_match(pattern: str, name: str) -> None:
    """What the rules do not call a match is none."""
    assert not matches(pattern, name)


# --- what is sent -------------------------------------------------------------------------------


def test_events_are_the_same_each_time_and_reach_everybody() -> None:
    """The mixture is repeatable, has events with and without sender, and work for all five."""
    sent = list(happenings(300))
    assert sent == list(happenings(300))
    assert {one.sender is None for one in sent} == {True, False}
    for part in cast(10):
        assert any(matches(part.pattern, one.name) for one in sent), part.id
    value = json.loads(wire(sent[7], 1234))
    assert value["event"] == sent[7].name
    assert value["data"] == {"number": 7, "sent": 1234}


@pytest.mark.parametrize(
    ("events", "rate", "seconds"), [(2000, 200, 10), (60, 100, 2), (500, 100, 5)]
)
def test_the_outage_is_ten_seconds_or_as_long_as_a_short_run(
    events: int, rate: float, seconds: float
) -> None:
    """A receiver is dead for 10 s; in a run shorter than that, for as long as it lasts."""
    assert outage(events, rate) == seconds


# --- accounts -----------------------------------------------------------------------------------


def books_of(*parts: Part) -> Books:
    books = Books(parts)
    for number, name in enumerate(["order.paid", "user.profile.changed", "user.profile.seen"]):
        books.produced(number, name)
    return books


def settle(books: Books) -> Books:
    for number in range(3):
        books.accounts["healthy"].answered(f"h{number}", number, 10.0 * (number + 1))
    for number in (1, 2):
        books.died(DeadLetter("gone", "gone", number))
    return books


def test_all_adds_up() -> None:
    """Everything delivered or dead for the reason its receiver gives: no fault, nothing waits."""
    books = settle(books_of(HEALTHY, GONE))
    assert books.settled
    assert (books.sent, books.matched, books.delivered, books.dead) == (3, 5, 3, 2)
    assert books.faults() == []


def test_what_is_neither_delivered_nor_dead_is_missing() -> None:
    """An event that did not come is named by its number, and waits until then."""
    books = books_of(HEALTHY)
    books.accounts["healthy"].answered("a", 1, 5.0)
    assert not books.settled
    assert books.accounts["healthy"].waiting == 2
    assert books.faults() == ["healthy: 2 neither delivered nor dead: events 0, 2"]


def test_one_that_is_lost_is_not_made_good_by_one_that_came_twice() -> None:
    """Sets are compared, not numbers: an event under a second delivery id is a fault of its own."""
    books = books_of(HEALTHY)
    account = books.accounts["healthy"]
    for delivery, event in (("a", 0), ("b", 1), ("c", 1)):
        account.answered(delivery, event, 5.0)
    assert account.faults() == [
        "healthy: 1 neither delivered nor dead: event 2",
        "healthy: 1 came under a second delivery id",
    ]


def test_a_repeat_under_the_same_id_is_counted_and_forgiven() -> None:
    """At least once: the same delivery again is a duplicate, and counts for no latency."""
    books = settle(books_of(HEALTHY, GONE))
    books.accounts["healthy"].answered("h1", 1, 900.0)
    assert (books.duplicates, books.faults()) == (1, [])
    assert books.accounts["healthy"].p99 == 30.0


@pytest.mark.parametrize(
    ("letter", "fault"),
    [
        (DeadLetter("healthy", "exhausted", 0), "given up on for no good reason"),
        (DeadLetter("gone", "exhausted", 1), "given up on for no good reason"),
        (DeadLetter("gone", "gone", 0), "though the pattern does not match"),
        (DeadLetter("nobody", "gone", 0), "1 dead letter of nobody here: subscriber nobody"),
        (DeadLetter("", "undecodable", None), "subscriber none, reason undecodable"),
    ],
)
def test_a_dead_letter_that_should_not_be_is_a_fault(letter: DeadLetter, fault: str) -> None:
    """Only the receiver that answers 410 may have dead letters, of events it matches, `gone`."""
    books = books_of(HEALTHY, GONE)
    books.died(letter)
    assert any(fault in found for found in books.faults())


def test_delivered_and_dead_as_well_is_a_fault() -> None:
    """A delivery has one end."""
    books = settle(books_of(HEALTHY, GONE))
    books.accounts["gone"].answered("g", 1, 1.0)
    assert books.faults() == ["gone: 1 delivered and dead as well: event 1"]


def test_signatures_and_refused_events_are_faults() -> None:
    """A request that is not signed, and an event that Kafka did not take, make it fail."""
    books = settle(books_of(HEALTHY, GONE))
    books.accounts["healthy"].forged = 2
    books.refused(7, "the topic does not exist")
    assert books.faults() == [
        "healthy: 2 came with a signature that is missing or wrong",
        "Kafka did not take 1 event: the topic does not exist",
    ]


# --- figures ------------------------------------------------------------------------------------


def test_percentiles_are_of_the_nearest_rank() -> None:
    """A percentile is a value that was measured; of nothing there is none."""
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.50) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([1.0, 2.0], 0.99) == 2.0
    assert percentile([], 0.5) is None


def test_numbers_are_easy_to_read() -> None:
    """Thousands are set apart, nouns agree, a duration fits into six characters."""
    assert count(1204) == "1,204"
    assert [count(1, "event"), count(1, "delivery")] == ["1 event", "1 delivery"]
    assert [count(2000, "event"), count(0, "delivery")] == ["2,000 events", "0 deliveries"]
    assert [duration(one) for one in (None, 8.4, 512.0, 999.6, 12_040.0, 184_000.0)] == [
        "-",
        "8 ms",
        "512 ms",
        "1.0 s",
        "12.0 s",
        "184 s",
    ]


# --- what is told -------------------------------------------------------------------------------


def shown(what: object, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(what)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def busy_books() -> Books:
    """The five with work of every kind, in numbers as large as they get by default."""
    books = Books(cast(10))
    for one in happenings(2000):
        books.produced(one.number, one.name)
    for account in books.accounts.values():
        for number in sorted(account.matched)[: len(account.matched) * 2 // 3]:
            account.called(f"{account.part.id}-{number}", 1 + number % 2)
            account.answered(f"{account.part.id}-{number}", number, 99_900.0)
    return books


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_the_terminal(width: int) -> None:
    """At 80 and at 100 columns no line is cut or wrapped: every number can be read."""
    books = busy_books()
    moment = Moment(books, 2000, 8.0, lambda _: 2.4)
    result = Result(books, embedded=True, seconds=20.0)
    for lines in (shown(live(moment), width), shown(summary(result), width)):
        assert all(len(line) <= width for line in lines)
        text = "\n".join(lines)
        assert "…" not in text
        for account in books.accounts.values():
            assert account.part.does in text
            assert account.part.pattern in text
            assert count(len(account.delivered)) in text
        assert "99.9 s" in text


def test_states() -> None:
    """A subscriber is down, behind a circuit, catching up, delivering, in step or done."""
    late = Part("late", "**", "dead for 10 s", Behaviour(outage=10))
    books = books_of(late)
    account = books.accounts["late"]

    def word(down: float = 0.0, circuits: tuple[str, ...] = (), total: int = 3) -> str:
        return state(Moment(books, total, 1.0, lambda _: down, circuits), account)[0]

    assert word(down=6.2) == "down, 6 s left"
    assert word(down=0.2) == "down"
    assert word(circuits=("late",)) == "circuit open"
    assert word() == "delivering"
    account.answered("a", 0, 1.0)
    assert word() == "catching up"
    account.answered("b", 1, 1.0)
    account.answered("c", 2, 1.0)
    assert word(total=9) == "in step"
    assert word() == "done"


def test_plain_line() -> None:
    """Without a terminal a line tells the time, what was sent, and who has how much of what."""
    books = settle(books_of(HEALTHY, GONE))
    books.produced(3, "order.paid")
    assert plain(Moment(books, 9, 4.0)) == "  4.0 s  sent 4  healthy 3/4  gone 2/2"


def test_a_sum_that_adds_up_is_told_in_one_sentence() -> None:
    """The verdict names events and deliveries, and says that the figures are the mock's."""
    result = Result(settle(books_of(HEALTHY, GONE)), embedded=True, seconds=1.5)
    assert verdict(result) == "3 events, 5 deliveries: every one accounted for."
    assert any("embedded broker" in note for note in notes(result))
    assert not any("embedded" in note for note in notes(Result(result.books, embedded=False)))


def test_faults_are_told_with_where_it_waits() -> None:
    """When it does not add up, the summary says so, what is missing, and where it waits."""
    result = Result(books_of(HEALTHY), embedded=True)
    result.faults = result.books.faults()
    result.hints = ["3 queued for healthy"]
    text = "\n".join(shown(summary(result), 100))
    assert "3 events, 3 deliveries: it does not add up." in text
    assert "healthy: 3 neither delivered nor dead: events 0, 1, 2" in text
    assert "3 queued for healthy" in text
    assert "3 missing" in text


def test_json_has_the_promised_shape() -> None:
    """`--json`: percentiles are null where nothing was delivered."""
    result = Result(settle(books_of(HEALTHY, GONE)), embedded=True)
    told = json.loads(as_json(result))
    assert told["events"] == 3
    assert told["accounted"] is True
    assert told["subscribers"] == [
        {
            "id": "healthy",
            "matched": 3,
            "delivered": 3,
            "dead": 0,
            "received": 3,
            "duplicates": 0,
            "retried": 0,
            "p50_ms": 20.0,
            "p99_ms": 30.0,
        },
        {
            "id": "gone",
            "matched": 2,
            "delivered": 0,
            "dead": 2,
            "received": 0,
            "duplicates": 0,
            "retried": 0,
            "p50_ms": None,
            "p99_ms": None,
        },
    ]


def test_topics_left_behind_are_named() -> None:
    """On a real broker the topics stay, and the summary names them."""
    result = Result(settle(books_of(HEALTHY)), embedded=False, left_behind=["d.dead", "d.events"])
    assert any("d.dead, d.events" in note for note in notes(result))


METRICS = """\
# HELP thorn_deliveries_total What was decided.
# TYPE thorn_deliveries_total counter
thorn_deliveries_total{settlement="delivered"} 41
thorn_deliveries_total{settlement="retry"} 7
thorn_dead_letters_total{reason="gone"} 2
thorn_dead_letters_total{reason="exhausted"} 1
thorn_in_flight 3
thorn_lane_depth{subscriber="slow"} 12
thorn_lane_depth{subscriber="flaky"} 0
thorn_circuit_open{subscriber="late"} 1
thorn_consumer_lag{group="d",topic="d.retry.1s",partition="2"} 9
"""


def test_metrics_are_read() -> None:
    """What the dispatcher says of itself is read from Prometheus' text format."""
    samples = metrics_of(METRICS)
    assert counted_by_dispatcher(samples) == (41, 3)
    assert counted_by_dispatcher([]) is None
    assert where_it_waits(samples) == [
        "3 requests under way",
        "12 queued for slow",
        "the circuit of late is open",
        "9 not committed in d.retry.1s[2]",
    ]


def test_dead_letters_are_read() -> None:
    """A dead letter tells its subscriber and reason in headers, its event in its value."""
    headers: list[tuple[str, bytes | None]] = [
        ("thorn-subscriber", b"gone"),
        ("thorn-reason", b"gone"),
    ]
    letter = Record("d.dead", 0, 0, None, b'{"event": "a", "data": {"number": 4}}', headers, 0)
    assert dead_letter(letter) == DeadLetter("gone", "gone", 4)
    empty = Record("d.dead", 0, 0, None, b"\xff", [], 0)
    assert dead_letter(empty) == DeadLetter("", "none", None)


# --- receivers ----------------------------------------------------------------------------------


@asynccontextmanager
async def receiving(*parts: Part) -> AsyncIterator[tuple[Receivers, Books]]:
    books = Books(parts)
    keys = dict.fromkeys((part.id for part in parts), SECRET)
    receivers = Receivers(list(books.accounts.values()), keys, lambda: None)
    await receivers.start()
    try:
        yield receivers, books
    finally:
        await receivers.stop()


SECRET = new_secret()
BODY = b'{"event": "order.paid", "data": {"number": 3, "sent": 0}}'


async def post(url: str, delivery: str, attempt: int = 1, secret: str = SECRET) -> int:
    """One request as a dispatcher makes it; returns the status."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    signer, now = Signer([secret]), int(time.time())
    head = [
        f"POST /{path} HTTP/1.1",
        f"Host: {host}",
        f"Content-Length: {len(BODY)}",
        f"Hook-Delivery: {delivery}",
        f"Hook-Attempt: {attempt}",
        f"Hook-HMAC: {signer.hook_hmac(BODY).decode()}",
        f"webhook-id: {delivery}",
        f"webhook-timestamp: {now}",
        f"webhook-signature: {signer.standard(delivery, now, BODY).decode()}",
        "Connection: close",
    ]
    reader, writer = await asyncio.open_connection(name, int(port))
    writer.write("\r\n".join([*head, "", ""]).encode() + BODY)
    status = int((await reader.read()).split(b" ")[1])
    writer.close()
    await writer.wait_closed()
    return status


def test_receivers_answer_as_their_parts_say() -> None:
    """A healthy one answers 200, one that is gone 410; what is answered 2xx is counted."""

    async def go() -> None:
        async with receiving(HEALTHY, GONE) as (receivers, books):
            healthy = books.accounts["healthy"]
            assert await post(receivers.urls["healthy"], "a", attempt=2) == 200
            assert await post(receivers.urls["healthy"], "a", attempt=2) == 200
            assert await post(receivers.urls["gone"], "b") == 410
            assert (healthy.delivered, healthy.deliveries) == ({3}, {"a"})
            assert (healthy.duplicates, healthy.retried, healthy.forged) == (1, {"a"}, 0)
            assert books.accounts["gone"].delivered == set()

    asyncio.run(go())


def test_a_wrong_signature_is_noticed() -> None:
    """A request signed with another secret is counted as forged."""

    async def go() -> None:
        async with receiving(HEALTHY) as (receivers, books):
            await post(receivers.urls["healthy"], "a", secret=new_secret())
            assert books.accounts["healthy"].forged == 1

    asyncio.run(go())


def test_a_flaky_receiver_dooms_no_delivery() -> None:
    """Each request is a throw of its own: a delivery that fails gets through in the end."""
    flaky = Part("flaky", "**", "fails", Behaviour(failing=0.3))

    async def go() -> None:
        async with receiving(flaky) as (receivers, _):
            statuses = [await post(receivers.urls["flaky"], f"d{number}") for number in range(60)]
            assert set(statuses) == {200, 503}
            assert 6 <= statuses.count(503) <= 30
            for _ in range(20):
                if await post(receivers.urls["flaky"], "again") == 200:
                    return
            raise AssertionError("a delivery was refused 20 times")

    asyncio.run(go())


def test_an_outage_refuses_connections_until_it_is_over() -> None:
    """Nobody listens at first, then the receiver is there as if nothing had been."""
    late = Part("late", "**", "dead", Behaviour(outage=0.2))

    async def go() -> None:
        async with receiving(late) as (receivers, _):
            url = receivers.urls["late"]
            with pytest.raises(ConnectionRefusedError):
                await post(url, "a")
            assert receivers.down_for("late") == 0.2
            receivers.first_event()
            status = 0
            while status == 0:
                with suppress(ConnectionRefusedError):
                    status = await post(url, "a")
                await asyncio.sleep(0.01)
            assert (status, receivers.down_for("late")) == (200, 0.0)

    asyncio.run(go())


# --- the dispatcher process ---------------------------------------------------------------------


def test_the_configuration_is_one_that_a_dispatcher_takes(tmp_path: Path) -> None:
    """What the demo writes are settings without a mistake, and retries outlast the outage."""
    parts = cast(10)
    urls = {part.id: f"http://127.0.0.1:1/{part.id}" for part in parts}
    keys = {part.id: new_secret() for part in parts}
    given = settings_for("127.0.0.1:9", "thorn-demo-0", 9464)
    settings = load_settings(write_configuration(tmp_path, given, parts, urls, keys), {}).settings
    waits = [
        min(settings.retry_delay * settings.retry_backoff**number, settings.retry_delay_max)
        for number in range(settings.retry_max)
    ]
    assert sum(waits) * (1 - settings.retry_jitter) > 2 * 10
    assert max(waits) <= max(settings.retry_tiers)


def test_a_dispatcher_that_ends_early_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """One that does not start says why, in one line without a traceback."""
    config = tmp_path / "thorn.yaml"
    config.write_text("nonsense: 1\n", "utf-8")
    process = DispatcherProcess(config, 1)
    process.start()
    with pytest.raises(Exception, match=r"the dispatcher process ended with status 2: .*nonsense"):
        asyncio.run(process.ready())
    assert process.kill() == 2


CHILD = """
import os, sys
from thorn_stream.ops.demo.child import tie_to_parent
tie_to_parent(sys.stdin.fileno(), grace={grace})
import signal, time
if {stubborn}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("stubborn", "status"), [(False, -signal.SIGTERM), (True, 1)])
def test_a_child_ends_when_its_parent_is_gone(stubborn: bool, status: int) -> None:
    """The pipe ends with whoever holds it: the child stops, and is ended if it does not."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.format(grace=0.1, stubborn=stubborn)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        os.close(os.dup(child.stdin.fileno()))  # a copy that is closed changes nothing
        assert child.poll() is None
        child.stdin.close()
        assert child.wait(10) == status


def test_an_account_knows_what_is_under_way() -> None:
    """What waits is what was sent and has not come to an end."""
    account = Account(HEALTHY)
    account.claims(1)
    account.claims(2)
    assert account.waiting == 2
    account.died(1, "gone")
    account.answered("b", 2, 1.0)
    assert account.waiting == 0
