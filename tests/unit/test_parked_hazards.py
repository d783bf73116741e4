"""Parked deliveries where it is dangerous: owners that do not know they are over, late answers."""

import asyncio

from tests.support.dispatching import CURSORS, OK, PARKED, PARKING, Rig, World, status, subscriber
from tests.unit.test_parked import QUICK, offsets, park
from thorn_stream.core import notes
from thorn_stream.core.cursors import CursorKey
from thorn_stream.core.deliveries import Attempt, Outcome
from thorn_stream.core.flow import Limits
from thorn_stream.core.offsets import encode
from thorn_stream.core.records import Position, Record
from thorn_stream.dispatch.cursor_writes import CursorWriter


async def unhurried(_: Attempt) -> Outcome:
    await asyncio.sleep(0.05)
    return OK


def test_an_owner_that_does_not_know_it_is_over_hides_nothing_from_the_next() -> None:
    """Both drain one partition; what the former writes last, a deletion, is of no account."""
    world = World()
    park(world, 600, "a")
    delivered: list[int] = []

    async def life() -> None:
        limits = Limits(max_in_flight=8)
        former = Rig(world, subscriber("a"), answers=unhurried, limits=limits).start()
        await former.until(lambda: len(former.transport.attempts) >= 100)
        former.parked.refuse = "ILLEGAL_GENERATION"
        limits = Limits(max_in_flight=2)
        owner = Rig(world, subscriber("a"), answers=unhurried, limits=limits).start()
        await owner.until(lambda: len(owner.transport.attempts) >= 20)
        await former.until(lambda: len(set(offsets(former.transport.attempts))) == 600)
        await former.until(lambda: list(world.cursors) == ["0/3/a"])
        delivered.extend(offsets(owner.transport.attempts))
        assert len(delivered) < 400  # and now it crashes

    world.live(life())

    async def after() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: rig.parked.committed[PARKING].metadata == "|epoch=4")
        await rig.until(lambda: not world.cursors)
        delivered.extend(offsets(rig.transport.attempts))

    world.live(after())
    assert sorted(set(delivered)) == list(range(min(delivered), 600))
    assert min(delivered) <= 100


def test_what_is_put_back_is_not_let_go_of_before_kafka_has_its_cursor() -> None:
    """It was a probe, sent as it was read, that failed: its offset waits for the cursor."""
    world = World()
    park(world, 1, "a")
    world.topics[CURSORS].clear()  # as if nobody had read the parked one yet
    world.parked_committed.clear()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(503), circuit=QUICK)
        rig.replay.refuse = "no answer"  # so that the circuit is open before it is read
        rig.start()
        rig.publish(count=3)
        await rig.until(lambda: len(rig.transport.attempts) == 3)
        rig.transport.answers = None
        await rig.idle(1.2)
        rig.replay.refuse = None
        await rig.until(lambda: len(rig.under_way) == 1)
        rig.sink.hold = True
        (probe,) = rig.under_way
        rig.transport.end(probe, status(503))
        await rig.idle(1.0)
        assert rig.sink.under_way == 1
        assert rig.parked_committed == 0
        rig.sink.release()
        await rig.until(lambda: rig.parked_committed == 1)
        assert world.cursors["0/1/a"]["next"] == 0

    world.live(life())


def test_who_cannot_commit_its_epoch_takes_and_deletes_nothing() -> None:
    """It may be over itself: the cursors that stand are another's until Kafka takes its commit."""
    world = World()
    park(world, 10, "a")

    async def life() -> None:
        rig = Rig(world, subscriber("a"))
        rig.parked.refuse = "ILLEGAL_GENERATION"
        rig.start()
        await rig.until(lambda: "0/2/a" in world.cursors)
        await rig.idle(10.0)
        assert list(world.cursors) == ["0/1/a", "0/2/a"]
        assert rig.transport.attempts == []
        rig.parked.refuse = None
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == list(range(10))

    world.live(life())


def test_an_epoch_is_committed_when_kafka_has_all_cursors_under_it() -> None:
    """Else a crash would leave those not yet written below the epoch that counts."""
    world = World()
    park(world, 10, "a", "b")

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused"), subscriber("b", state="paused"))
        rig.sink.hold = True
        rig.start()
        await rig.until(lambda: rig.sink.under_way == 2)
        await rig.idle(5.0)
        assert rig.parked.committed[PARKING].metadata == "|epoch=1"
        rig.sink.release()
        await rig.until(lambda: rig.parked.committed[PARKING].metadata == "|epoch=2")
        await rig.until(lambda: list(world.cursors) == ["0/2/a", "0/2/b"])

    world.live(life())


def test_the_last_error_of_a_receiver_that_is_down_stands_in_its_cursor() -> None:
    """Though nothing of what is parked was ever tried: the probes were new events."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(503), circuit=QUICK).start()
        rig.publish(count=3)
        await rig.until(lambda: bool(rig.observer.named("circuit_opened")))
        for _ in range(60):
            rig.publish(count=10)
            await rig.idle(0.2)
        await rig.until(lambda: world.cursors["0/1/a"].get("error") == "status:503")

    world.live(life())


def test_a_partition_that_is_given_away_in_full_drain_is_not_repeated() -> None:
    """What was delivered since the last cursor that was written stands in one more."""
    world = World()
    park(world, 300, "a")

    async def life() -> None:
        limits = Limits(max_in_flight=40)
        rig = Rig(world, subscriber("a"), answers=unhurried, limits=limits).start()
        await rig.until(lambda: 100 <= len(rig.transport.attempts) < 300)
        await rig.until(lambda: world.cursors["0/2/a"]["next"] < len(rig.transport.attempts) - 60)
        assert await rig.parked.revoke(PARKING)
        await rig.idle(1.0)
        rig.parked.assign(PARKING)
        await rig.until(lambda: not world.cursors)
        assert sorted(offsets(rig.transport.attempts)) == list(range(300))

    world.live(life())


def test_what_is_read_again_after_a_crash_is_counted_once() -> None:
    """The cursor says up to where its count goes; the group reads from before that."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused")).start()
        await rig.until(lambda: rig.parked.committed.get(PARKING) == Position(0, "|epoch=1"))
        rig.parked.refuse = "Broker: not now"
        rig.publish(count=10)
        await rig.until(lambda: world.cursors.get("0/1/a", {}).get("count") == 10)

    world.live(life())

    async def after() -> None:
        rig = Rig(world, subscriber("a", state="paused")).start()
        await rig.until(lambda: rig.parked_committed == 10)
        assert rig.parking.waiting["a"][1] == 10

    world.live(after())


def test_what_is_put_back_while_a_slice_is_read_is_not_forgotten() -> None:
    """The slice was asked for from where its receiver stood before: it is read again."""
    world = World()
    park(world, 1500, "a")

    async def life() -> None:
        limited = subscriber("a", rate_limit=400.0)
        rig = Rig(world, limited).start()
        await rig.until(lambda: len(rig.transport.attempts) > 100)
        rig.replay.hold = True
        before = len(rig.replay.asked)
        await rig.until(lambda: len(rig.replay.asked) > before)
        lanes = rig.dispatcher.lanes
        await rig.until(lambda: any(lane.depth for lane in lanes.queued))
        rig.change(subscriber("a", rate_limit=400.0, state="paused"))
        rig.replay.release()
        await rig.idle(2.0)
        rig.change(limited)
        await rig.until(lambda: not world.cursors)
        assert sorted(offsets(rig.transport.attempts)) == list(range(1500))

    world.live(life())


def test_what_is_parked_while_the_drain_is_on_waits_for_its_turn() -> None:
    """It does not overtake what was read from the cursor, which would be taken for done."""
    world = World()
    park(world, 100, "a")

    async def life() -> None:
        rig = Rig(world, subscriber("a", rate_limit=20.0)).start()
        await rig.until(lambda: bool(rig.transport.attempts))
        for number in range(100, 130):
            like = world.parked[0]
            same = like.key, like.value, like.headers, like.timestamp
            again = Record(PARKED, 0, number, *same)
            world.topics[PARKED].append(again)
            rig.parked.feed([again])
            await rig.idle(0.15)
        await rig.until(lambda: not world.cursors)
        assert [each.delivery.entry.offset for each in rig.transport.attempts] == list(range(130))

    world.live(life())


def test_the_drain_begins_nothing_after_a_stall_until_a_commit_is_taken() -> None:
    """The partition may be another's by now."""
    world = World()
    park(world, 300, "a")

    async def life() -> None:
        limits = Limits(max_in_flight=4)
        rig = Rig(world, subscriber("a"), answers=unhurried, limits=limits).start()
        await rig.until(lambda: len(rig.transport.attempts) >= 50)
        rig.parked.refuse = "ILLEGAL_GENERATION"
        rig.clock.now += 5.0  # nothing turned meanwhile
        await rig.idle(0.1)
        begun = len(rig.transport.attempts)
        await rig.idle(5.0)
        assert len(rig.transport.attempts) == begun
        rig.parked.refuse = None
        await rig.until(lambda: not world.cursors)
        assert set(offsets(rig.transport.attempts)) == set(range(300))

    world.live(life())


def test_a_cursor_is_written_when_kafka_has_the_one_before() -> None:
    """Two under way could arrive the other way round when one is written again."""
    world = World()

    async def life() -> None:
        rig = Rig(world)
        writer, key = CursorWriter(rig.sink, CURSORS, rig.context), CursorKey(0, 1, "a")
        rig.sink.hold = True
        done: list[int] = []
        writer.write(key, b"1", lambda: done.append(1))
        writer.write(key, b"2", lambda: done.append(2))
        writer.write(key, None, lambda: done.append(3))
        assert rig.sink.under_way == 1
        rig.sink.release()
        await rig.until(lambda: writer.idle)
        assert [record.value for record in world.topics[CURSORS]] == [b"1", None]
        assert done == [1, 2, 3]

    world.live(life())


def test_what_kafka_refused_is_not_written_for_an_assignment_that_is_over() -> None:
    """The next owner's epoch is above it; it would only be one more to clear away."""
    world = World()
    park(world, 10, "a")

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused"))
        rig.sink.fail(1)
        rig.start()
        await rig.until(lambda: not rig.sink.under_way and bool(rig.parking.reasons))
        rig.parked.lose(PARKING)
        before = len(world.topics[CURSORS])
        await rig.idle(5.0)
        assert len(world.topics[CURSORS]) == before

    world.live(life())


def test_the_first_cursor_counts_what_was_looked_at_and_no_more() -> None:
    """Of those that came early only one has been when it is written: a crash then counts on."""
    world = World()
    park(world, 5, "a")
    world.topics[CURSORS].clear()  # as if nobody had read the parked ones yet
    world.parked_committed.clear()

    async def life() -> None:
        rig = Rig(world, subscriber("a", state="paused")).start()
        await rig.until(lambda: bool(world.cursors))
        told = world.cursors["0/1/a"]
        assert (told["count"], told["through"]) == (1, 1)

    world.live(life())


def test_what_a_former_owner_passed_over_is_read_from_the_cursor() -> None:
    """Its commit says so of all but the first: they do not come again, and nobody was served."""
    world = World()
    park(world, 10, "a")
    passed_over = notes.joined(encode(3, 10, [3]), "epoch=1")
    world.parked_committed[PARKING] = Position(3, passed_over)

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: not world.cursors)
        assert offsets(rig.transport.attempts) == list(range(10))

    world.live(life())
