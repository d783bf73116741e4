"""A Worker as a whole: whether it is ready, how it drains, what the next one repeats."""

import asyncio

import pytest

from tests.support.dispatching import (
    OK,
    ORDERS,
    Rig,
    World,
    attempt_number,
    status,
    subscriber,
    told,
    value,
)
from thorn_stream.core.deliveries import Attempt, Outcome
from thorn_stream.core.flow import Limits
from thorn_stream.core.records import Partition
from thorn_stream.ports import Revoked, Trouble


async def in_a_second(attempt: Attempt) -> Outcome:
    await asyncio.sleep(1)
    return OK


def offsets(attempts: list[Attempt]) -> list[int]:
    return [each.delivery.envelope.record.offset for each in attempts]


# --- how it is -----------------------------------------------------------------------------------


def test_it_is_ready_once_its_groups_are_joined() -> None:
    """Each group that is not says so."""
    world = World()

    async def life() -> None:
        rig = Rig(world).start()
        assert rig.worker.reasons() == [
            "group thorn: not assigned yet: waiting to join",
            "group thorn.retry: not assigned yet: waiting to join",
            "group thorn.parked: not assigned yet: waiting to join",
        ]
        await rig.idle(0.1)
        assert rig.worker.reasons() == []

    world.live(life())


def test_what_both_groups_are_told_is_told_once() -> None:
    """No broker answers: one reason, until both are well again."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        for source in (rig.main, rig.retry):
            source.tell(Trouble("broker", "no Kafka broker answers"))
        await rig.idle(0.1)
        assert rig.worker.reasons() == ["no Kafka broker answers"]
        rig.main.tell(Trouble("broker", None))
        await rig.idle(0.1)
        assert rig.worker.reasons() == ["no Kafka broker answers"]
        rig.retry.tell(Trouble("broker", None))
        await rig.idle(0.1)
        assert rig.worker.reasons() == []

    world.live(life())


def test_it_tells_troubles_and_commits_without_an_answer() -> None:
    """A reason is there while its cause is, and no longer."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.retry.tell(Trouble("topic:x", "the topic x is missing: create it"))
        rig.main.hold_commits = True
        rig.publish()
        await rig.idle(1.5)
        assert rig.worker.reasons() == ["the topic x is missing: create it"]
        await rig.idle(27.5)
        assert [reason.partition(":")[0] for reason in rig.worker.reasons()] == [
            "no sign of life between this process and Kafka for more than 2 s",
            "the topic x is missing",
        ]
        await rig.idle(2)
        assert rig.worker.reasons()[-1] == "group thorn: no commit has been answered for 31 s"
        rig.retry.tell(Trouble("topic:x", None))
        rig.main.hold_commits = False
        rig.main.answer_commits()
        await rig.idle(0.1)
        assert rig.worker.reasons() == []

    world.live(life())


def test_an_idle_worker_costs_its_tick() -> None:
    """Nothing turns on its own with partitions assigned and retries held."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=status(500)).start()
        rig.publish(count=10)
        await rig.until(lambda: len(rig.waiting) == 10)
        before = rig.clock.rounds
        await rig.idle(2)
        assert rig.clock.rounds - before < 220

    world.live(life())


# --- how it ends ---------------------------------------------------------------------------------


def test_a_drain_lets_requests_end_commits_and_takes_nothing_new() -> None:
    """True; everything begun is committed; what came meanwhile was not begun."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=in_a_second).start()
        rig.publish(count=3)
        await rig.idle(0.1)
        draining = asyncio.ensure_future(rig.worker.drain(25.0))
        await rig.idle(0.1)
        rig.publish(count=2)
        assert await draining
        assert rig.clock.now < 1.5
        assert rig.committed == 3
        assert len(rig.transport.attempts) == 3
        assert await rig.worker.leave(3.0)
        assert rig.main.stopped
        assert rig.retry.stopped

    world.live(life())


def test_a_drain_waits_for_the_hand_over_of_what_failed() -> None:
    """A request that fails in the drain is in its tier before the drain is done."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=None).start()
        rig.publish()
        await rig.idle(0.1)
        rig.sink.hold = True
        draining = asyncio.ensure_future(rig.worker.drain(25.0))
        rig.transport.end(rig.under_way[0], status(500))
        await rig.idle(5)
        assert not draining.done()
        rig.sink.release()
        assert await draining
        assert rig.committed == 1
        assert len(world.tier(5)) == 1

    world.live(life())


def test_what_hangs_at_the_deadline_is_the_next_ones() -> None:
    """False, in time; committed is what is done, and the next worker gets exactly the rest."""
    world = World()

    async def first() -> None:
        rig = Rig(world, subscriber("a"), answers=None).start()
        rig.publish(count=5)
        await rig.idle(0.1)
        for attempt in rig.under_way[:2]:
            rig.transport.end(attempt, OK)
        before = rig.clock.now
        assert not await rig.worker.drain(2.0)
        assert rig.clock.now - before < 2.1
        assert rig.committed == 2
        await rig.worker.leave(1.0)
        for attempt in rig.under_way:  # as when the transport stops
            rig.transport.end(attempt, status(500))
        await rig.idle(10)

    async def second() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: rig.committed == 5)
        assert offsets(rig.transport.attempts) == [2, 3, 4]
        assert [attempt_number(each) for each in rig.transport.attempts] == [1, 1, 1]

    world.live(first())
    assert world.topics == {}
    world.live(second())


def test_what_falls_due_in_a_drain_is_not_begun() -> None:
    """A drain that waits for a request begins no retry in the meantime."""
    world = World()

    async def life() -> None:
        answers = {"http://a": status(500), "http://b": None}
        rig = Rig(world, subscriber("a"), subscriber("b"), answers=answers).start()
        rig.publish()
        await rig.until(lambda: len(rig.waiting) == 1)
        draining = asyncio.ensure_future(rig.worker.drain(25.0))
        await rig.idle(10)
        assert len(rig.transport.attempts) == 2
        rig.transport.end(rig.under_way[0], OK)
        assert await draining

    world.live(life())


def test_what_settles_just_before_the_deadline_is_committed() -> None:
    """The last commit does not wait for an interval to pass."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=None).start()
        rig.publish(count=3)
        await rig.idle(1)
        draining = asyncio.ensure_future(rig.worker.drain(2.0))
        await rig.idle(1.85)
        rig.transport.end(rig.under_way[0], OK)
        await rig.idle(0.1)
        assert rig.committed == 1
        rig.transport.end(rig.under_way[0], OK)
        assert not await draining
        await rig.idle(0.001)
        assert rig.committed == 2

    world.live(life())


def test_what_is_queued_or_held_is_begun_by_the_next_worker() -> None:
    """The drain does not wait for it, and it is not parked: nobody else has had its record."""
    world = World()

    async def first() -> None:
        limits = Limits(max_in_flight=1, lane_wait_max=100.0)
        answers = {"http://slow": in_a_second, "http://failing": status(500)}
        rig = Rig(
            world,
            subscriber("slow", event="order.*"),
            subscriber("failing", event="stock.*", max_in_flight=100),
            answers=answers,
            limits=limits,
        ).start()
        rig.publish(count=4)
        rig.publish(value(event="stock.low"), count=4)
        await rig.until(lambda: len(rig.waiting) == 4)
        assert [lane.depth for lane in rig.dispatcher.lanes] == [3, 0]
        assert await rig.worker.drain(25.0)
        assert await rig.worker.leave(1.0)
        assert rig.committed == 1
        assert rig.tier_committed(5) == 0

    async def second() -> None:
        ones = subscriber("slow", event="order.*"), subscriber("failing", event="stock.*")
        rig = Rig(world, *ones).start()
        await rig.until(lambda: rig.committed == 8 and rig.tier_committed(5) == 4)
        assert offsets(rig.sent_to("http://slow")) == [1, 2, 3]
        assert [attempt_number(each) for each in rig.sent_to("http://failing")] == [2, 2, 2, 2]

    world.live(first())
    world.live(second())
    assert world.dead == []
    assert not world.parked


@pytest.mark.parametrize("how", ["drained", "revoked"])
def test_what_is_queued_of_a_record_that_others_had_is_parked(how: str) -> None:
    """The next owner would call those again. Each is called once, by whichever Worker."""
    world = World()
    ones = [subscriber("slow", event="order.*"), subscriber("quick")]
    slow: list[int] = []

    async def first() -> None:
        limits = Limits(max_in_flight=1, lane_wait_max=100.0)
        answers = {"http://slow": in_a_second, "http://quick": OK}
        rig = Rig(world, *ones, answers=answers, limits=limits).start()
        rig.publish(count=4)
        await rig.until(lambda: len(rig.sent_to("http://quick")) == 4)
        if how == "revoked":
            assert await rig.main.revoke(ORDERS)
        else:
            assert await rig.worker.drain(25.0)
        assert rig.committed == 4
        assert len(world.parked) == 3
        assert await rig.worker.drain(25.0)
        assert await rig.worker.leave(1.0)
        slow.extend(offsets(rig.sent_to("http://slow")))

    async def second() -> None:
        rig = Rig(world, *ones).start()
        await rig.until(lambda: not world.cursors and rig.parked_committed == 3)
        slow.extend(offsets(rig.sent_to("http://slow")))
        assert sorted(slow) == [0, 1, 2, 3]
        assert rig.sent_to("http://quick") == []

    world.live(first())
    world.live(second())
    assert world.dead == []


def test_many_that_are_queued_are_all_parked_before_the_partition_goes() -> None:
    """More than fit into one slice: the answer waits for them."""
    world = World()

    async def life() -> None:
        limits = Limits(max_in_flight=1, lane_wait_max=100.0)
        answers = {"http://slow": in_a_second, "http://quick": OK}
        ones = subscriber("slow"), subscriber("quick", max_in_flight=1000)
        rig = Rig(world, *ones, answers=answers, limits=limits).start()
        rig.publish(count=700)
        await rig.until(lambda: len(rig.sent_to("http://quick")) == 700)
        assert await rig.main.revoke(ORDERS)
        assert rig.committed == 700
        assert len(world.parked) == 699

    world.live(life())


def test_what_nobody_has_had_yet_is_left_to_the_next_owner() -> None:
    """Two receivers are slow, and neither has been called: the next owner calls each once."""
    world = World()

    async def life() -> None:
        limits = Limits(max_in_flight=1, lane_wait_max=100.0)
        ones = subscriber("slow"), subscriber("slower")
        rig = Rig(world, *ones, answers=in_a_second, limits=limits).start()
        rig.publish(count=4)
        await rig.until(lambda: len(rig.transport.attempts) == 2)
        assert await rig.main.revoke(ORDERS)
        assert rig.committed == 1
        assert not world.parked

    world.live(life())


def behind_a_slow_one(world: World) -> Rig:
    """A Rig in which three Deliveries are queued of Records that another has had."""
    limits = Limits(max_in_flight=1, lane_wait_max=100.0)
    answers = {"http://slow": in_a_second, "http://quick": OK}
    rig = Rig(world, subscriber("slow"), subscriber("quick"), answers=answers, limits=limits)
    rig.start().publish(count=4)
    return rig


def test_what_is_queued_during_a_hold_is_not_parked() -> None:
    """The partitions may be another's already, who has begun it."""
    world = World()

    async def life() -> None:
        rig = behind_a_slow_one(world)
        await rig.until(lambda: len(rig.sent_to("http://quick")) == 4)
        rig.main.hold_commits = True
        rig.worker.main.begin_hold()
        await rig.worker.drain(2.0)
        assert not world.parked

    world.live(life())


def test_a_revocation_that_comes_after_a_stall_parks_nothing() -> None:
    """The process stood still: whoever asked has stopped waiting, and another may have begun."""
    world = World()

    async def life() -> None:
        rig = behind_a_slow_one(world)
        await rig.until(lambda: len(rig.sent_to("http://quick")) == 4)
        rig.clock.now += 5
        rig.worker.main.handle([Revoked([ORDERS], lambda _: None)])
        await rig.idle(3)
        assert not world.parked

    world.live(life())


def test_what_is_queued_of_a_lost_partition_is_not_parked_by_a_stop() -> None:
    """It is another's already."""
    world = World()

    async def life() -> None:
        rig = behind_a_slow_one(world)
        await rig.until(lambda: len(rig.sent_to("http://quick")) == 4)
        rig.main.lose(ORDERS)
        await rig.idle(0.001)  # told of, and not yet looked for in the Lanes
        assert rig.worker.main.ledgers == {}
        await rig.worker.drain(2.0)
        assert not world.parked

    world.live(life())


def test_a_drain_against_a_failing_sink_ends_in_time_and_loses_nothing() -> None:
    """False; the offset is not committed; the next worker makes the attempt again."""
    world = World()

    async def first() -> None:
        rig = Rig(world, subscriber("a"), answers=status(500)).start()
        rig.sink.fail(10_000)
        rig.publish(count=3)
        await rig.idle(1)
        assert not await rig.worker.drain(5.0)
        await rig.worker.leave(1.0)
        assert rig.clock.now < 7
        refused = len(rig.observer.named("handed_over"))
        await rig.idle(20)
        assert len(rig.observer.named("handed_over")) == refused

    async def second() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: rig.committed == 3)
        assert len(rig.transport.attempts) == 3

    world.live(first())
    assert world.topics == {}
    assert world.main_committed == {}
    world.live(second())


def test_a_drain_without_an_answer_to_its_commit_is_not_done() -> None:
    """False at the deadline, however much was settled."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.main.hold_commits = True
        rig.publish()
        await rig.idle(1)
        assert not await rig.worker.drain(2.0)
        assert 3.0 <= rig.clock.now < 3.1

    world.live(life())


def test_a_drain_sends_a_refused_commit_again() -> None:
    """And is done when it is accepted, whatever the usual interval is."""
    world = World()

    async def life() -> None:
        limits = Limits(commit_interval=60.0)
        rig = Rig(world, subscriber("a"), limits=limits).start()
        rig.publish()
        await rig.idle(1)
        rig.main.refuse = "Broker: Coordinator load in progress"
        draining = asyncio.ensure_future(rig.worker.drain(10.0))
        await rig.idle(3)
        rig.main.refuse = None
        assert await draining
        assert rig.clock.now < 5
        assert rig.committed == 1

    world.live(life())


def test_partitions_may_be_revoked_in_the_middle_of_a_drain() -> None:
    """The revocation is answered, and the drain is done when both are."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=in_a_second).start()
        rig.publish(count=2)
        await rig.idle(0.5)
        draining = asyncio.ensure_future(rig.worker.drain(25.0))
        assert await rig.main.revoke(ORDERS)
        assert await draining
        assert rig.committed == 2

    world.live(life())


def test_a_group_that_cannot_be_left_in_time_is_told() -> None:
    """`leave` returns False, and the tick has ended all the same."""
    world = World()

    async def life() -> None:
        rig = Rig(world).start()
        await rig.idle(0.1)
        rig.retry.leaves = False
        assert await rig.worker.drain(1.0)
        assert not await rig.worker.leave(1.0)
        before = rig.clock.rounds
        await rig.idle(100)
        assert rig.clock.rounds - before < 5

    world.live(life())


def test_after_a_loss_late_outcomes_change_nothing_but_the_figure() -> None:
    """Neither a hand-over nor a commit nor a decision follows."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=None).start()
        rig.publish(count=2)
        await rig.idle(0.1)
        rig.main.lose(ORDERS)
        await rig.idle(0.1)
        rig.transport.end(rig.under_way[0], status(500))
        rig.transport.end(rig.under_way[0], OK)
        await rig.idle(1)
        assert rig.observer.named("late_outcome") == [(), ()]
        assert rig.observer.named("settled") == []
        assert rig.observer.named("attempted") == []
        assert rig.dispatcher.lanes.in_flight == 0
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    assert world.topics == {}
    assert world.main_committed == {}


def test_a_crash_repeats_what_was_not_committed_and_nothing_else() -> None:
    """Dropped without a word, the next worker begins at the last commit that was accepted."""
    world = World()

    async def first() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.publish(count=3)
        await rig.until(lambda: rig.committed == 3)
        rig.publish(count=2)
        await rig.idle(0.05)
        assert len(rig.transport.attempts) == 5

    async def second() -> None:
        rig = Rig(world, subscriber("a")).start()
        await rig.until(lambda: rig.committed == 5)
        assert offsets(rig.transport.attempts) == [3, 4]

    world.live(first())
    world.live(second())


def test_a_crash_between_hand_over_and_commit_keeps_both_copies_under_one_id() -> None:
    """The delivery id of the repeat is that of the first, so a receiver can tell."""
    world = World()

    async def first() -> None:
        rig = Rig(world, subscriber("a"), answers=status(500)).start()
        rig.main.refuse = "not now"
        rig.publish()
        await rig.until(lambda: len(world.tier(5)) == 1)

    async def second() -> None:
        rig = Rig(world, subscriber("a"), answers=[status(500), OK]).start()
        await rig.until(lambda: rig.tier_committed(5) == 2)
        assert len({each.delivery.id for each in rig.transport.attempts}) == 1

    world.live(first())
    world.live(second())
    assert len({told(record)["thorn-delivery"] for record in world.tier(5)}) == 1


def test_held_retries_never_stop_live_intake() -> None:
    """With the look-ahead of every tier full, new events are delivered and committed."""
    world = World()

    async def life() -> None:
        limits = Limits(lookahead=2)
        answers = {"http://failing": status(500), "http://a": OK}
        policy_of = subscriber("failing", retry_delay=60.0)
        rig = Rig(world, policy_of, subscriber("a"), answers=answers, limits=limits).start()
        rig.publish(count=50)
        await rig.until(lambda: rig.committed == 50)
        rig.publish(count=50)
        await rig.until(lambda: rig.committed == 100, 2)
        assert Partition("thorn.retry.60s", 0) in rig.retry.paused
        assert len(rig.sent_to("http://a")) == 100

    world.live(life())
