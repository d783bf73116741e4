"""Parked deliveries where it is dangerous: owners that do not know they are over, late answers."""

import asyncio

from tests.support.dispatching import CURSORS, OK, PARKING, Rig, World, status, subscriber
from tests.unit.test_parked import QUICK, offsets, park
from thorn_stream.core.deliveries import Attempt, Outcome
from thorn_stream.core.flow import Limits


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
