"""Parked once, drained from a cursor: through failures of processes, receivers, Kafka."""

import pytest

from tests.support.dispatching import (
    CURSORS,
    OK,
    PARKED,
    PARKING,
    Rig,
    World,
    attempt_number,
    status,
    subscriber,
    told,
)
from thorn_stream.core.circuit import CircuitRules
from thorn_stream.core.cursors import Cursor, CursorKey, written
from thorn_stream.core.deliveries import Attempt
from thorn_stream.core.flow import Limits
from thorn_stream.core.records import Position, Record

QUICK = CircuitRules(failures=3, open_for=1.0, open_for_max=2.0)


def park(world: World, count: int, *names: str, partition: int = 0) -> None:
    """A life in which nobody takes anything: `count` events are parked for each of these."""

    async def life() -> None:
        rig = Rig(world, *(subscriber(name, state="paused") for name in names)).start()
        before = rig.committed
        rig.publish(count=count, partition=partition)
        await rig.until(lambda: rig.committed == before + count)
        await rig.until(lambda: rig.parked_committed == len(world.parked))
        assert await rig.worker.drain(5.0)

    world.live(life())


def offsets(attempts: list[Attempt]) -> list[int]:
    """Where in the input topic the events of these Attempts stand."""
    return [each.delivery.envelope.record.offset for each in attempts]


def write_cursor(world: World, key: CursorKey, cursor: Cursor | None) -> None:
    """What another process writes into the cursors topic."""
    log = world.topics.setdefault(CURSORS, [])
    value = None if cursor is None else written(cursor)
    log.append(Record(CURSORS, 0, len(log), key.encoded(), value, [], world.clock.wall()))


# --- one process ---


def test_what_a_paused_subscriber_has_missed_is_delivered_in_order_when_it_is_enabled() -> None:
    """All of it, once, each as its first attempt; then no cursor is left, and nothing is held."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused")).start()
        rig.publish(count=1200)
        await rig.until(lambda: rig.parked_committed == 1200)
        (key,) = world.cursors
        assert key == "0/1/a"
        assert world.cursors[key]["next"] == 0
        assert rig.transport.attempts == []
        rig.change(subscriber("a"))
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == list(range(1200))
        assert {attempt_number(each) for each in rig.transport.attempts} == {1}
        assert rig.parking.held_bytes == 0
        assert rig.credit_is_whole

    world.live(life())
    assert len(world.parked) == 1200
    assert world.dead == []


def test_new_events_go_on_beside_the_drain() -> None:
    """Parked ones have half of what the Lane may have in flight, new ones the rest at once."""
    world = World()
    park(world, 300, "a")

    async def life() -> None:
        limits = Limits(max_in_flight=8)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits).start()
        await rig.until(lambda: len(rig.under_way) == 4)
        await rig.idle(1.0)
        assert offsets(rig.under_way) == [0, 1, 2, 3]
        rig.publish(count=2)
        await rig.until(lambda: len(rig.under_way) == 6)
        assert offsets(rig.under_way)[4:] == [300, 301]

    world.live(life())


def test_a_failure_of_what_was_parked_goes_to_a_tier_like_any_other() -> None:
    """It was tried: its cursor passes it, and its next attempt is the second."""
    world = World()
    park(world, 1, "a")

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=[status(500), OK]).start()
        await rig.until(lambda: not world.cursors)
        (retry,) = world.tier(5)
        assert told(retry)["thorn-attempt"] == "1"
        assert "thorn-parked" not in told(retry)
        await rig.until(lambda: len(rig.transport.attempts) == 2)
        assert [attempt_number(each) for each in rig.transport.attempts] == [1, 2]

    world.live(life())


def test_an_open_circuit_parks_once_and_only_probes_are_in_vain() -> None:
    """Of 404s at a high rate nothing is rewritten, however often a probe fails."""
    world = World()

    async def life() -> None:
        answers = {"http://a": status(404)}
        limits = Limits(max_in_flight=4)
        rig = Rig(world, subscriber("a"), answers=answers, limits=limits, circuit=QUICK).start()
        for _ in range(40):
            rig.publish(count=100)
            await rig.idle(0.1)
        await rig.until(lambda: rig.committed == 4000)
        await rig.idle(20.0)
        parked, tried = len(world.parked), len(rig.transport.attempts)
        assert parked <= 4000 + 10  # those tried and due again, once more
        await rig.idle(60.0)
        assert len(world.parked) == parked
        assert len(rig.transport.attempts) - tried <= 31  # one probe in two seconds
        assert rig.parked_committed == parked
        rig.transport.answers = OK
        await rig.until(lambda: not world.cursors, 600)
        delivered = {each.delivery.id for each in rig.transport.attempts}
        assert len(delivered) == 4000

    world.live(life())
    assert world.dead == []
    assert len({told(record)["thorn-delivery"] for record in world.parked}) == len(world.parked)


def test_of_two_dead_in_one_partition_one_recovers() -> None:
    """It gets all of its own; the other's wait where they stand, at no cost of writes."""
    world = World()
    park(world, 50, "a", "b")

    async def life() -> None:
        rig = Rig(world, subscriber("a"), subscriber("b", state="paused")).start()
        await rig.until(lambda: list(world.cursors) == ["0/2/b"])
        assert offsets(rig.sent_to("http://a")) == list(range(50))
        assert rig.sent_to("http://b") == []
        assert world.cursors["0/2/b"]["next"] == 1  # of a and b in turn
        assert world.cursors["0/2/b"]["count"] == 50

    world.live(life())
    assert len(world.parked) == 100


def test_five_hundred_that_recover_at_once_are_served_by_few_reads() -> None:
    """Whoever stands further on is served by the same slice."""
    world = World()
    names = [f"s{number}" for number in range(500)]
    park(world, 4, *names)

    async def life() -> None:
        rig = Rig(world, *(subscriber(name) for name in names)).start()
        await rig.until(lambda: len(rig.transport.attempts) == 2000)
        await rig.until(lambda: not world.cursors)
        slices = [ask for ask in rig.replay.asked if ask.partition == PARKING]
        assert len(slices) < 60
        for name in names:
            assert offsets(rig.sent_to(f"http://{name}")) == [0, 1, 2, 3]

    world.live(life())


# --- what ends otherwise ---


def test_what_was_parked_too_long_is_dead() -> None:
    """Expired, though its receiver never took anything; what is younger waits on."""
    world = World()
    limits = Limits(park_max=100.0)

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused"), limits=limits).start()
        rig.publish(count=20)
        await rig.until(lambda: rig.parked_committed == 20)
        await rig.idle(60.0)
        rig.publish(count=5)
        await rig.idle(39.0)
        assert world.dead == []
        await rig.until(lambda: len(world.dead_of("expired")) == 20)
        await rig.idle(5.0)
        assert len(world.dead) == 20
        assert [each["next"] for each in world.cursors.values()] == [20]

    world.live(life())
    assert {told(letter)["thorn-attempt"] for letter in world.dead} == {"0"}


def test_a_subscriber_that_is_not_known_keeps_its_parked_for_the_grace() -> None:
    """A file edited by mistake loses nothing; after the grace they are dead, `unsubscribed`."""
    world = World()
    park(world, 30, "a")

    async def life() -> None:
        rig = Rig(world, limits=Limits(unknown_grace=50.0)).start()
        await rig.idle(45.0)
        assert world.dead == []
        await rig.until(lambda: len(world.dead_of("unsubscribed")) == 30)
        await rig.until(lambda: not world.cursors)

    world.live(life())
    assert len(world.topics[PARKED]) == 30  # nothing went round in the tiers meanwhile
    assert [len(world.tier(tier)) for tier in (5.0, 15.0, 60.0)] == [0, 0, 0]


@pytest.mark.parametrize(
    "definition", ["x", "[]", '{"url":"http://b","event":["**"],"id":"b"}', '{"hmac_secret":"s"}']
)
def test_a_cursor_that_garbles_its_definition_holds_nobody_up(definition: str) -> None:
    """Others go on at once; its own come after the grace: each record has what it needs."""
    world = World()
    park(world, 3, "a", "b")
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(0, definition=definition))

    async def life() -> None:
        limits = Limits(unknown_grace=30.0)
        rig = Rig(world, subscriber("a"), subscriber("b"), limits=limits).start()
        rig.publish()
        await rig.until(lambda: len(rig.transport.attempts) == 5)
        await rig.idle(20.0)
        assert {each.delivery.subscriber.id for each in rig.transport.attempts[1:4]} == {"b"}
        assert len(rig.transport.attempts) == 5
        await rig.until(lambda: not world.cursors)
        assert len(rig.transport.attempts) == 8

    world.live(life())
    assert world.dead == []


@pytest.mark.parametrize("offset", [8, 1000, 2**62])
def test_a_cursor_beyond_the_end_of_its_partition_hides_nothing(offset: int) -> None:
    """As when the parked topic was made anew, and that of the cursors was not."""
    world = World()
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(offset))
    park(world, 7, "a")

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == list(range(7))

    world.live(life())
    assert world.dead == []


def test_a_cursor_beyond_what_was_committed_is_believed_up_to_the_end() -> None:
    """Its owner died between writing it and the commit: what it says is done is done."""
    world = World()
    park(world, 7, "a")
    write_cursor(world, CursorKey(0, 9, "a"), Cursor(5))
    (place,) = world.parked_committed
    world.parked_committed[place] = Position(2, "")

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == [5, 6]

    world.live(life())


def test_what_kafka_deleted_before_it_was_drained_is_counted_exactly() -> None:
    """Of this receiver, not of the others beside it; the rest is delivered."""
    world = World()
    park(world, 50, "a", "b")

    async def life() -> None:
        rig = Rig(world, subscriber("a"), subscriber("b", state="paused"))
        rig.replay.low[PARKING] = 40  # of 100: 20 of each
        rig.start()
        await rig.until(lambda: list(world.cursors) == ["0/2/b"])
        assert offsets(rig.sent_to("http://a")) == list(range(20, 50))
        assert rig.observer.named("lost_records") == [("thorn.parked", PARKING, 20)]

    world.live(life())


def test_what_is_no_parked_record_is_a_dead_letter() -> None:
    """One without headers, and one under a key that is not its subscriber; others go on."""
    world = World()
    park(world, 1, "a")
    (good,) = world.parked
    strange = Record(PARKED, 0, 1, b"else", good.value, good.headers, good.timestamp)
    bare = Record(PARKED, 0, 2, b"a", b"{}", [], good.timestamp)
    world.topics[PARKED] += [strange, bare]

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: len(world.dead_of("undecodable")) == 2)
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == [0]

    world.live(life())


# --- who comes after ---


def test_a_crash_between_parking_and_commit_parks_twice_under_one_delivery_id() -> None:
    """The source offset was not done: it is parked again, and the receiver can drop the repeat."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused"))
        rig.main.refuse = "Broker: not now"
        rig.start()
        rig.publish()
        await rig.until(lambda: len(world.parked) == 1)

    world.live(life())
    park(world, 0, "a")
    assert len(world.parked) == 2
    assert len({told(record)["thorn-delivery"] for record in world.parked}) == 1


def test_a_crash_between_cursor_and_commit_loses_and_repeats_nothing() -> None:
    """What is read again stands at or above the cursor."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused")).start()
        await rig.idle(1.0)
        rig.parked.refuse = "Broker: not now"
        rig.publish(count=10)
        await rig.until(lambda: bool(world.cursors))
        await rig.idle(2.0)
        assert rig.parked_committed == 0

    world.live(life())

    async def after() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: not world.cursors)
        await rig.until(lambda: rig.parked_committed == 10)
        assert offsets(rig.transport.attempts) == list(range(10))

    world.live(after())


def test_nothing_is_let_go_of_before_kafka_has_the_cursor() -> None:
    """Neither the first nor those that are passed over: a crash then reads all of them again."""
    world = World()
    park(world, 5, "a")
    world.topics[CURSORS].clear()  # as if nobody had read the parked ones yet
    world.parked_committed.clear()

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused"))
        rig.sink.hold = True
        rig.start()
        await rig.until(lambda: rig.sink.under_way > 0)
        await rig.idle(5.0)
        assert rig.parked.committed[PARKING] == Position(0, "|epoch=1")
        rig.sink.release()
        await rig.until(lambda: rig.parked_committed == 5)
        assert list(world.cursors) == ["0/1/a"]

    world.live(life())


def test_an_owner_that_dies_in_a_drain_repeats_a_second_at_most() -> None:
    """What it delivered after the last cursor it wrote; all the rest is delivered once."""
    world = World()
    park(world, 3000, "a")
    first: list[int] = []
    second: list[int] = []

    async def life() -> None:
        rig = Rig(world, subscriber("a"), limits=Limits(max_in_flight=2)).start()
        await rig.until(lambda: len(rig.transport.attempts) >= 1500, 600)
        first.extend(offsets(rig.transport.attempts))

    world.live(life())

    async def after() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: not world.cursors, 600)
        second.extend(offsets(rig.transport.attempts))

    world.live(after())
    assert sorted(set(first) | set(second)) == list(range(3000))
    assert len(second) == len(set(second))
    assert len(set(first) & set(second)) <= 1000


def test_an_owner_that_is_stopped_repeats_nothing() -> None:
    """Cursors are written last, when all that was under way has ended."""
    world = World()
    park(world, 500, "a")
    delivered: list[int] = []

    async def life() -> None:
        rig = Rig(world, subscriber("a"), limits=Limits(max_in_flight=2)).start()
        await rig.until(lambda: len(rig.transport.attempts) >= 200)
        assert await rig.worker.drain(5.0)
        assert await rig.worker.leave(3.0)
        delivered.extend(offsets(rig.transport.attempts))

    world.live(life())

    async def after() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: not world.cursors)
        delivered.extend(offsets(rig.transport.attempts))

    world.live(after())
    assert sorted(delivered) == list(range(500))


def test_a_partition_that_is_given_away_leaves_its_cursors_as_they_are() -> None:
    """They are written before the answer, so its next owner repeats nothing."""
    world = World()
    park(world, 500, "a")

    async def life() -> None:
        rig = Rig(world, subscriber("a"), limits=Limits(max_in_flight=2)).start()
        await rig.until(lambda: len(rig.transport.attempts) >= 200)
        assert await rig.parked.revoke(PARKING)
        await rig.idle(1.0)
        begun = len(rig.transport.attempts)
        await rig.idle(5.0)
        assert len(rig.transport.attempts) == begun
        rig.parked.assign(PARKING)
        await rig.until(lambda: not world.cursors)
        assert sorted(offsets(rig.transport.attempts)) == list(range(500))

    world.live(life())


def test_a_former_owner_can_hide_and_bring_back_nothing() -> None:
    """Its late cursor is of no account, nor is its late deletion; both are cleared away."""
    world = World()
    park(world, 10, "a", "b")

    async def life() -> None:
        rig = Rig(world, subscriber("a"), subscriber("b", state="paused")).start()
        await rig.until(lambda: list(world.cursors) == ["0/2/b"])
        assert await rig.worker.drain(5.0)

    world.live(life())
    write_cursor(world, CursorKey(0, 1, "a"), Cursor(0))
    write_cursor(world, CursorKey(0, 1, "b"), None)

    async def after() -> None:
        rig = Rig(world, subscriber("a"), subscriber("b")).start()
        await rig.until(lambda: not world.cursors)
        assert rig.sent_to("http://a") == []
        assert offsets(rig.sent_to("http://b")) == list(range(10))

    world.live(after())


def test_nothing_is_taken_before_the_cursors_are_known() -> None:
    """While they cannot be read the reason is told; afterwards everything goes on."""
    world = World()
    park(world, 10, "a")
    delivered_already = Record(PARKED, 0, 10, b"a", *_same(world.parked[0]))
    world.topics[PARKED].append(delivered_already)

    async def life() -> None:
        rig = Rig(world, subscriber("a"))
        rig.replay.refuse = "no answer"
        rig.start()
        await rig.idle(10.0)
        assert rig.transport.attempts == []
        assert any("thorn.cursors: no answer" in reason for reason in rig.worker.reasons())
        rig.replay.refuse = None
        await rig.until(lambda: not world.cursors)
        assert len(rig.transport.attempts) == 11
        assert rig.worker.reasons() == []

    world.live(life())


def _same(record: Record) -> tuple[bytes | None, list[tuple[str, bytes | None]], int]:
    return record.value, record.headers, record.timestamp
