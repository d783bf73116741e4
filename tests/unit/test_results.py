"""Result events: one per HTTP request when they are wanted, and nothing ever waits for one."""

import json
from typing import Any

import pytest

from tests.support.dispatching import OK, RESULTS, Rig, World, status, subscriber, value
from thorn_stream.core.circuit import CircuitRules
from thorn_stream.core.deliveries import Delivered, Kind, Outcome
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.records import Headers, Record
from thorn_stream.core.results import read_result, shown_url
from thorn_stream.dispatch.results import Results

DELIVERED = Delivered()
ASKS: Headers = [("thorn-id", b"e-1"), ("thorn-results", b"true")]


def written(rig: Rig) -> list[Record]:
    return rig.result_sink.topics.get(RESULTS, [])


def said(rig: Rig) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in written(rig)]


def told(rig: Rig) -> list[str | None]:
    """What became of each, as it is counted."""
    return [error for kind, error in rig.observer.named("handed_over") if kind == "result"]


def test_a_result_says_what_a_request_came_to() -> None:
    """Every field by its name; under the subscriber's id, with the header of this form."""
    world = World()

    async def life() -> None:
        answer = Outcome(Kind.STATUS, 503, duration=0.25, address="192.0.2.1")
        one = subscriber("a", url="http://user:word@a/hook?token=secret")
        rig = Rig(world, one, answers=lambda _: answer, every_result=True).start()
        rig.publish(headers=[("thorn-id", b"e-1")])
        await rig.until(lambda: bool(written(rig)))
        (record,) = written(rig)
        (attempt,) = rig.transport.attempts
        assert record.key == b"a"
        assert record.headers == [("thorn-result", b"1")]
        found = json.loads(record.value or b"")
        at, due = found.pop("at"), found.pop("next_due")
        assert due - at == 5000
        assert found == {
            "delivery": attempt.delivery.id,
            "event_id": "e-1",
            "event_name": "order.created",
            "subscriber": "a",
            "attempt": 1,
            "outcome": "status",
            "status": 503,
            "duration_ms": 250.0,
            "settlement": "retry",
            "error": "status:503",
            "address": "192.0.2.1",
            "url": "http://a/hook",
        }
        await rig.until(lambda: told(rig) == [None])

    world.live(life())


def test_there_is_one_for_each_request_whatever_it_came_to() -> None:
    """Retries have theirs, too: failed, failed, dead; and what was delivered."""
    world = World()

    async def life() -> None:
        rig = Rig(
            world,
            subscriber("bad", retry_max=1),
            subscriber("good"),
            answers={"http://bad": status(500), "http://good": OK},
            every_result=True,
        ).start()
        rig.publish()
        await rig.until(lambda: len(written(rig)) == 3)
        await rig.idle(20)
        bad = [one for one in said(rig) if one["subscriber"] == "bad"]
        (good,) = [one for one in said(rig) if one["subscriber"] == "good"]
        assert [(one["attempt"], one["settlement"]) for one in bad] == [(1, "retry"), (2, "dead")]
        assert (good["outcome"], good["error"], good["next_due"]) == ("ok", None, None)

    world.live(life())


def test_without_being_asked_for_nothing_is_written() -> None:
    """Off means off: neither a record nor the producer that would write it."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=lambda _: status(500)).start()
        rig.publish(headers=[("thorn-timeout", b"1")])
        rig.publish(headers=[("thorn-results", b"false")])
        await rig.until(lambda: len(rig.transport.attempts) == 8)
        assert written(rig) == []
        assert told(rig) == []

    world.live(life())


def test_an_event_may_ask_for_its_own() -> None:
    """Those of others are not written; its retries, which come from a tier, have theirs."""
    world = World()

    async def life() -> None:
        one = subscriber("a", retry_max=1)
        rig = Rig(world, one, answers=lambda _: status(500)).start()
        rig.publish(headers=ASKS)
        rig.publish(headers=[("thorn-id", b"e-2")])
        await rig.until(lambda: len(rig.transport.attempts) == 4)
        await rig.idle(2)
        assert [(each["event_id"], each["attempt"]) for each in said(rig)] == [
            ("e-1", 1),
            ("e-1", 2),
        ]

    world.live(life())


def test_a_probe_that_fails_is_told_as_what_it_was() -> None:
    """A request that was made; its delivery is parked, and the next one has its number again."""
    world = World()

    async def life() -> None:
        rules = CircuitRules(failures=1, open_for=5.0, open_for_max=5.0)
        rig = Rig(
            world,
            subscriber("a"),
            answers=lambda _: Outcome(Kind.CONNECT, detail="refused"),
            circuit=rules,
            every_result=True,
        ).start()
        rig.publish()
        await rig.until(lambda: len(written(rig)) >= 2)
        first, second, *_ = said(rig)
        assert (first["attempt"], first["settlement"]) == (1, "retry")
        assert (second["attempt"], second["settlement"]) == (2, "parked")

    world.live(life())


def test_what_a_receiver_answered_is_in_it_when_that_is_kept() -> None:
    """As text, whatever the bytes are."""
    world = World()

    async def life() -> None:
        answer = Outcome(Kind.OK, 200, body=b"thanks \xff")
        rig = Rig(world, subscriber("a"), answers=lambda _: answer, every_result=True).start()
        rig.publish()
        await rig.until(lambda: bool(written(rig)))
        assert said(rig)[0]["response"] == "thanks \\xff"

    world.live(life())


def test_nothing_waits_for_a_result() -> None:
    """Kafka refuses every result: deliveries are committed all the same, and none is repeated."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), every_result=True)
        rig.result_sink.fail(3, "away")
        rig.start()
        rig.publish(count=3)
        await rig.until(lambda: rig.committed == 3)
        await rig.until(lambda: len(told(rig)) == 3)
        assert told(rig) == ["away"] * 3
        assert len(rig.transport.attempts) == 3
        assert rig.results.under_way == 0

    world.live(life())


def test_what_kafka_is_too_slow_for_is_left_out_and_counted() -> None:
    """Room for so many, in number and in bytes; what comes later is written again."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=None, every_result=True).start()
        rig.publish()
        await rig.until(lambda: bool(rig.under_way))
        delivery = rig.under_way[0].delivery
        rig.result_sink.hold = True
        for _ in range(10_002):
            rig.results.tell(delivery, OK, DELIVERED)
        assert rig.results.under_way == 10_000
        assert [error is None for error in told(rig)] == [False, False]
        rig.result_sink.release()
        await rig.until(lambda: rig.results.under_way == 0)
        rig.result_sink.hold = True
        large = Outcome(Kind.OK, 200, body=b"x" * 1_000_000)
        for _ in range(10):
            rig.results.tell(delivery, large, DELIVERED)
        assert rig.results.under_way == 9
        rig.result_sink.release()
        await rig.until(lambda: rig.results.under_way == 0)
        rig.results.tell(delivery, OK, DELIVERED)
        await rig.until(lambda: len(written(rig)) == 10_010)

    world.live(life())


def test_a_writer_that_cannot_be_made_costs_results_alone() -> None:
    """It is counted and said; the delivery is settled."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), every_result=True)

        def unmade() -> Any:
            raise ConfigurationError("kafka: no")

        results = Results(RESULTS, unmade, rig.observer, world.clock, every=True)
        rig.start()
        rig.publish()
        await rig.until(lambda: rig.committed == 1)
        results.tell(rig.transport.attempts[0].delivery, OK, DELIVERED)
        assert told(rig) == [None, "ConfigurationError: kafka: no"]
        await results.stop(1.0)

    world.live(life())


def test_stopping_gives_what_is_under_way_a_moment() -> None:
    """What Kafka does not answer then is given up: it is a note, no delivery."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), every_result=True).start()
        rig.result_sink.hold = True
        rig.publish()
        await rig.until(lambda: rig.committed == 1)
        began = world.clock.now
        await rig.results.stop(1.0)
        assert world.clock.now - began <= 1.5

    world.live(life())


def test_what_is_no_result_is_passed_over() -> None:
    """Another form, garbage, a tombstone: somebody else may write there."""
    ours = [("thorn-result", b"1")]
    assert read_result(value(), ours) is None
    assert read_result(b"\xff", ours) is None
    assert read_result(None, ours) is None
    assert read_result(b"{}", []) is None
    assert read_result(b"{}", [("thorn-result", b"2")]) is None
    assert read_result(b"[" * 10_000, ours) is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/hook?token=x#y", "https://a.example/hook"),
        ("https://user:word@a.example:8443/p@th", "https://a.example:8443/p@th"),
        ("https://a.example", "https://a.example"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    """Neither query nor fragment nor user."""
    assert shown_url(url) == shown
