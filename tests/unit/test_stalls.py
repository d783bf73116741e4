"""After a stall nothing new is delivered until Kafka has taken a commit that was sent after it."""

import asyncio

from tests.support.dispatching import OK, ORDERS, Rig, World, status, subscriber
from thorn_stream.core.deliveries import Attempt, Outcome
from thorn_stream.core.flow import STALL, Limits
from thorn_stream.core.records import Partition, Position

TIERS = [Partition(f"thorn.retry.{wait}s", 0) for wait in (5, 15, 60)]
STALLED = ["no sign of life between this process and Kafka for more than 2 s"]


def stand_still(rig: Rig, seconds: float = STALL + 1) -> None:
    """As after a SIGSTOP: the clock goes on, the loop does not."""
    rig.clock.now += seconds


def said(rig: Rig) -> list[str]:
    return [reason.partition(":")[0] for reason in rig.worker.reasons()]


def numbers(rig: Rig) -> list[int]:
    return [each.delivery.envelope.record.offset for each in rig.transport.attempts]


async def in_half_a_second(attempt: Attempt) -> Outcome:
    await asyncio.sleep(0.5)
    return OK


def test_what_is_read_or_queued_waits_for_the_commit() -> None:
    """Neither a new record nor a free place in the Lane begins anything before the answer."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", max_in_flight=1), answers=in_half_a_second).start()
        rig.publish(count=3)
        await rig.idle(0.1)
        assert numbers(rig) == [0]
        rig.main.hold_commits = True
        stand_still(rig)
        rig.publish(count=2)
        await rig.idle(1.5)  # the first has ended in the meantime
        assert numbers(rig) == [0]
        assert said(rig) == STALLED
        assert rig.main.commits[-1].keys() == {ORDERS}
        rig.main.hold_commits = False
        rig.main.answer_commits()
        await rig.until(lambda: rig.committed == 5)
        assert sorted(numbers(rig)) == [0, 1, 2, 3, 4]
        assert said(rig) == []
        assert rig.credit_is_whole

    world.live(life())


def test_the_place_of_before_is_committed_again() -> None:
    """Nothing has moved, and yet there is something to be answered: the same offset."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.publish(count=2)
        await rig.until(lambda: rig.committed == 2)
        before = len(rig.main.commits)
        stand_still(rig)
        await rig.idle(0.1)
        assert rig.main.commits[before:] == [{ORDERS: Position(2)}]
        assert said(rig) == []
        await rig.idle(2)
        assert len(rig.main.commits) == before + 1

    world.live(life())


def test_a_short_gap_is_no_stall() -> None:
    """A pause of the collector, or of the machine, costs nothing."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.idle(0.1)
        stand_still(rig, STALL - 0.1)
        await rig.idle(1)
        assert rig.main.commits == []
        assert rig.observer.named("trouble") == []

    world.live(life())


def test_a_commit_without_an_answer_is_a_stall_as_well() -> None:
    """Its late answer alone does not end it: it may be from before."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.main.hold_commits = True
        rig.publish()
        await rig.idle(STALL + 1)
        rig.publish()
        await rig.idle(1)
        assert numbers(rig) == [0]
        rig.main.answer_commits()
        await rig.idle(1)
        assert numbers(rig) == [0]
        assert rig.main.commits == [{ORDERS: Position(1)}, {ORDERS: Position(1)}]
        rig.main.hold_commits = False
        rig.main.answer_commits()
        await rig.until(lambda: rig.committed == 2)
        assert numbers(rig) == [0, 1]

    world.live(life())


def test_a_commit_may_wait_as_long_as_the_session_allows() -> None:
    """Until then everything goes on: a classic group answers nobody while it waits for one."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), limits=Limits(commit_patience=7)).start()
        rig.main.hold_commits = True
        rig.publish()
        await rig.idle(6.5)
        rig.publish()
        await rig.idle(0.1)
        assert numbers(rig) == [0, 1]
        assert said(rig) == []
        await rig.idle(1)
        rig.publish()
        await rig.idle(1)
        assert numbers(rig) == [0, 1]
        assert said(rig) == [STALLED[0].replace("2 s", "7 s")]
        rig.main.hold_commits = False
        rig.main.answer_commits()
        await rig.until(lambda: rig.committed == 3)
        assert said(rig) == []

    world.live(life())


def test_a_loop_that_stands_still_is_a_stall_whatever_a_commit_may_wait() -> None:
    """The whole process may have stood still with it, and its heartbeats."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), limits=Limits(commit_patience=7)).start()
        await rig.idle(0.1)
        rig.main.hold_commits = True
        stand_still(rig)
        rig.publish()
        await rig.idle(1)
        assert numbers(rig) == []
        assert said(rig) == STALLED

    world.live(life())


def test_a_refused_commit_ends_nothing() -> None:
    """It is sent again until it is accepted, well before the usual interval."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.idle(0.1)
        rig.main.refuse = "Broker: Specified group generation id is not valid"
        stand_still(rig)
        rig.publish()
        await rig.idle(2)
        assert numbers(rig) == []
        assert len(rig.main.commits) > 5
        rig.main.refuse = None
        await rig.until(lambda: numbers(rig) == [0], seconds=1)

    world.live(life())


def test_lost_partitions_take_with_them_what_was_held() -> None:
    """Nothing of it is delivered; assigned again, they begin at what was committed, at once."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", max_in_flight=1), answers=None).start()
        rig.publish(count=3)
        await rig.idle(0.1)
        rig.main.hold_commits = True
        stand_still(rig)
        await rig.idle(0.2)
        rig.main.lose(ORDERS)
        for attempt in rig.under_way:
            rig.transport.end(attempt, OK)
        await rig.idle(1)
        assert numbers(rig) == [0]
        assert said(rig) == []
        rig.main.committed[ORDERS] = Position(2)  # by whoever had them meanwhile
        rig.main.hold_commits = False
        rig.main.assign(ORDERS)
        await rig.idle(0.1)
        assert numbers(rig) == [0, 2]

    world.live(life())


def test_a_due_retry_waits_for_the_commit_of_its_own_group() -> None:
    """It is held on; live deliveries, whose group answers, go on meanwhile."""
    world = World()

    async def life() -> None:
        answers = [status(503), OK]
        rig = Rig(world, subscriber("a"), answers=answers).start()
        rig.publish()
        await rig.until(lambda: len(rig.waiting) == 1)
        rig.retry.hold_commits = True
        stand_still(rig, 60)
        await rig.idle(1)
        assert len(rig.transport.attempts) == 1
        rig.publish()
        await rig.until(lambda: rig.committed == 2)
        assert numbers(rig) == [0, 1]
        assert rig.retry.commits == [dict.fromkeys(TIERS, Position(0))]
        rig.retry.hold_commits = False
        rig.retry.answer_commits()
        await rig.until(lambda: rig.tier_committed(5) == 1)
        assert len(rig.transport.attempts) == 3

    world.live(life())
