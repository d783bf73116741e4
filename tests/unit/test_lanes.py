"""Lanes: limits, turns, and who is parked, held back or left alone."""

import asyncio

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
from thorn_stream.ports import Revoked


async def soon(attempt: Attempt) -> Outcome:
    """A receiver that takes a millisecond."""
    await asyncio.sleep(0.001)
    return OK


def test_no_more_are_in_flight_than_a_subscriber_may_have() -> None:
    """The others are sent one by one as places get free, in the order they came."""
    world = World()

    async def life() -> None:
        limits = Limits(max_in_flight=2)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits).start()
        records = rig.publish(count=5)
        await rig.idle(0.1)
        assert len(rig.under_way) == 2
        assert rig.dispatcher.lanes.in_flight == 2
        while rig.under_way:
            rig.transport.end(rig.under_way[0], OK)
            await rig.idle(0.1)
            assert len(rig.under_way) <= 2
        sent = [each.delivery.envelope.record for each in rig.transport.attempts]
        assert sent == records
        await rig.until(lambda: rig.committed == 5)
        assert rig.dispatcher.lanes.in_flight == 0

    world.live(life())


def test_a_subscribers_own_limit_holds() -> None:
    """`max_in_flight` of the subscriber beats that of the settings."""
    world = World()

    async def life() -> None:
        one = subscriber("a", max_in_flight=3)
        rig = Rig(world, one, answers=None, limits=Limits(max_in_flight=1)).start()
        rig.publish(count=5)
        await rig.idle(0.1)
        assert len(rig.under_way) == 3

    world.live(life())


def test_scarce_connections_are_shared_in_turn() -> None:
    """Who has one event waiting is not kept behind another's ten."""
    world = World()

    async def life() -> None:
        ones = subscriber("a", event="a.*"), subscriber("b", event="b.*")
        limits = Limits(max_connections=1)
        rig = Rig(world, *ones, answers=soon, limits=limits).start()
        rig.publish(value(event="a.x"), count=10)
        rig.publish(value(event="b.x"), count=2)
        await rig.until(lambda: rig.committed == 12)
        urls = [str(each.target)[-1] for each in rig.transport.attempts]
        assert urls == ["a", "a", "b", "a", "b", *"aaaaaaa"]

    world.live(life())


def test_many_share_few_connections_without_exceeding_them() -> None:
    """Never more in flight than connections; everybody is served to the end."""
    world = World()

    async def life() -> None:
        limits = Limits(max_connections=3, max_in_flight=2)
        ones = [subscriber(f"s{number}") for number in range(10)]
        most = 0

        async def answer(attempt: Attempt) -> Outcome:
            nonlocal most
            most = max(most, len(rig.under_way))
            return await soon(attempt)

        rig = Rig(world, *ones, answers=answer, limits=limits).start()
        rig.publish(count=20)
        await rig.until(lambda: rig.committed == 20)
        assert most == 3
        assert len(rig.transport.attempts) == 200
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    assert world.topics == {}


def test_what_a_slow_receiver_cannot_take_is_parked_untried() -> None:
    """Its Lane full, the next are parked with no attempt; another receiver gets everything."""
    world = World()

    async def life() -> None:
        limits = Limits(lane_size=3, max_in_flight=1, lane_wait_max=100.0)
        answers = {"http://slow": None, "http://fast": OK}
        rig = Rig(world, subscriber("slow"), subscriber("fast"), answers=answers, limits=limits)
        rig.start()
        rig.publish(count=4)
        await rig.idle(0.1)
        assert world.topics == {}
        rig.publish(count=2)
        await rig.idle(0.1)
        assert len(rig.sent_to("http://fast")) == 6
        assert len(rig.sent_to("http://slow")) == 1
        assert [each.depth for each in rig.dispatcher.lanes] == [3, 0]
        settled = [each for (each,) in rig.observer.named("settled") if each.name == "parked"]
        assert [each.cause for each in settled] == ["lane", "lane"]

    world.live(life())
    headers = [told(record) for record in world.parked]
    assert [each["thorn-parked"] for each in headers] == ["lane", "lane"]
    assert [each["thorn-attempt"] for each in headers] == ["0", "0"]
    assert [each["thorn-origin"] for each in headers] == ["orders:0:4", "orders:0:5"]


def test_what_was_parked_is_delivered_as_the_first_attempt_later() -> None:
    """A parked Delivery is delivered when its receiver takes, and keeps its number."""
    world = World()

    async def life() -> None:
        limits = Limits(lane_size=1, max_in_flight=1, lane_wait_max=100.0)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits).start()
        rig.publish(count=2)
        await rig.idle(0.1)
        rig.publish()
        await rig.until(lambda: len(world.parked) == 1)
        rig.transport.answers = OK
        for attempt in rig.under_way:
            rig.transport.end(attempt, OK)
        await rig.until(lambda: rig.parked_committed == 1)
        await rig.until(lambda: len(rig.transport.attempts) == 3)
        assert [attempt_number(each) for each in rig.transport.attempts] == [1, 1, 1]
        assert len({each.delivery.id for each in rig.transport.attempts}) == 3

    world.live(life())


def test_a_burst_on_a_fast_receiver_holds_intake_back_and_parks_nothing() -> None:
    """A thousand at once through a Lane of fifty: held for moments, all delivered directly."""
    world = World()

    async def life() -> None:
        limits = Limits(lane_size=50, max_in_flight=50)
        rig = Rig(world, subscriber("a"), answers=soon, limits=limits).start()
        rig.publish(count=1000)
        held, deepest = 0, 0
        while rig.committed < 1000:
            held += rig.dispatcher.lanes.holding
            deepest = max(deepest, *(each.depth for each in rig.dispatcher.lanes), 0)
            await rig.idle(0.0005)
        assert held
        assert deepest == 51  # the one that filled it is queued as well

    world.live(life())
    assert world.topics == {}


def test_a_full_lane_holds_the_others_back_for_a_moment_only() -> None:
    """A receiver that turns out slow delays others by the time intake may be held, no more."""
    world = World()

    async def life() -> None:
        limits = Limits(lane_size=50, max_in_flight=50)
        answers = {"http://slow": None, "http://fast": OK}
        rig = Rig(world, subscriber("slow"), subscriber("fast"), answers=answers, limits=limits)
        rig.start()
        rig.publish(count=1000)
        await rig.until(lambda: len(rig.sent_to("http://fast")) == 1000)
        assert rig.clock.now < 0.1

    world.live(life())


def test_what_has_waited_too_long_is_parked() -> None:
    """After `lane_wait_max` those that wait are parked; the one in flight is left alone."""
    world = World()

    async def life() -> None:
        limits = Limits(max_in_flight=1, lane_wait_max=2.0)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits).start()
        rig.publish(count=3)
        await rig.idle(1.9)
        assert world.topics == {}
        await rig.idle(0.2)
        assert len(world.parked) == 2
        assert len(rig.under_way) == 1
        rig.transport.end(rig.under_way[0], OK)
        await rig.until(lambda: rig.committed == 3)

    world.live(life())


def test_what_waits_in_lanes_is_parked_at_once_when_the_window_is_crowded() -> None:
    """From three quarters of the window on, nothing that waits in a Lane may hold it back."""
    world = World()

    async def life() -> None:
        limits = Limits(window=100, max_in_flight=1, lane_wait_max=1000.0)
        answers = {"http://slow": None, "http://fast": OK}
        rig = Rig(world, subscriber("slow"), subscriber("fast"), answers=answers, limits=limits)
        rig.start()
        rig.publish(count=74)
        await rig.idle(1)
        assert world.topics == {}
        rig.publish()
        await rig.idle(0.1)
        assert len(world.parked) == 74

    world.live(life())


def test_a_changed_subscriber_keeps_its_queue_and_is_called_at_its_new_url() -> None:
    """An Attempt to the old URL that ends afterwards changes nothing of that."""
    world = World()

    async def life() -> None:
        limits = Limits(max_in_flight=1)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits).start()
        rig.publish(count=3)
        await rig.idle(0.1)
        rig.change(subscriber("a", url="http://new"))
        rig.publish()
        await rig.idle(0.1)
        while rig.under_way:
            rig.transport.end(rig.under_way[0], OK)
            await rig.idle(0.1)
        urls = [each.target for each in rig.transport.attempts]
        assert urls == ["http://a", "http://new", "http://new", "http://new"]
        assert len(rig.prepared) == 2  # not back and forth

    world.live(life())


def test_a_subscriber_that_was_only_read_again_is_not_prepared_again() -> None:
    """A reload that changes nothing keeps connections and templates."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        rig.publish()
        await rig.until(lambda: rig.committed == 1)
        rig.change(subscriber("a"))
        rig.publish()
        await rig.until(lambda: rig.committed == 2)
        assert len(rig.prepared) == 1

    world.live(life())


def test_a_raised_limit_holds_for_what_is_queued_already() -> None:
    """With the Attempt under way hanging, the next event takes the others along."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", max_in_flight=1), answers=None).start()
        rig.publish(count=3)
        await rig.idle(0.1)
        assert len(rig.under_way) == 1
        rig.change(subscriber("a", max_in_flight=10))
        rig.publish()
        await rig.idle(0.1)
        assert len(rig.under_way) == 4

    world.live(life())


def test_a_failing_attempt_of_a_changed_subscriber_follows_its_policy_of_now() -> None:
    """`dead_on` that came while the request was under way counts."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=None).start()
        rig.publish()
        await rig.idle(0.1)
        rig.change(subscriber("a", dead_on=[500]))
        rig.publish()
        await rig.idle(0.1)
        rig.transport.end(rig.under_way[0], status(500))
        await rig.until(lambda: rig.committed == 1)

    world.live(life())
    assert len(world.dead_of("rejected")) == 1


def test_lanes_of_removed_subscribers_are_let_go() -> None:
    """Idle ones at once, busy ones when they are done: churn leaves nothing behind."""
    world = World()

    async def life() -> None:
        answers = {"http://busy": None, "http://idle": OK}
        rig = Rig(world, subscriber("busy"), subscriber("idle"), answers=answers).start()
        rig.publish()
        await rig.idle(0.1)
        rig.change()
        assert [lane.subscriber.id for lane in rig.dispatcher.lanes] == ["busy"]
        rig.transport.end(rig.under_way[0], OK)
        await rig.until(lambda: rig.committed == 1)
        await rig.idle(0.1)
        assert list(rig.dispatcher.lanes) == []

    world.live(life())


def test_what_is_queued_of_a_lost_partition_is_forgotten() -> None:
    """Neither sent nor parked: the next owner repeats it. Those of other partitions go on."""
    world = World()

    async def life() -> None:
        limits = Limits(max_in_flight=1)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits).start()
        rig.publish(count=5)
        await rig.idle(0.1)
        rig.main.lose(ORDERS)
        await rig.idle(0.1)
        assert [lane.depth for lane in rig.dispatcher.lanes] == [0]
        rig.transport.end(rig.under_way[0], OK)
        await rig.idle(10)
        assert len(rig.transport.attempts) == 1
        assert rig.observer.named("late_outcome") == [()]

    world.live(life())
    assert world.topics == {}
    assert world.main_committed == {}


def test_a_place_that_gets_free_is_not_for_a_partition_that_is_about_to_go() -> None:
    """Revoked, with the queue not yet looked through: the next in turn is another partition's."""
    world = World()

    async def life() -> None:
        other = Partition("orders", 1)
        limits = Limits(max_in_flight=1)
        ones = (ORDERS, other)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits, partitions=ones).start()
        rig.publish(count=3)
        await rig.idle(0.01)
        rig.publish(partition=1)
        await rig.idle(0.01)
        (first,) = rig.under_way
        rig.worker.main.handle([Revoked([ORDERS], lambda _: None)])
        first.ended(first, OK)
        assert [each.delivery.envelope.record.partition for each in rig.transport.attempts] == [
            0,
            1,
        ]

    world.live(life())


def test_nothing_turns_while_nothing_happens() -> None:
    """Held back, full or idle: the loop goes round with the tick and the pause alone."""
    world = World()

    async def life() -> None:
        limits = Limits(lane_size=10, max_in_flight=1, lane_wait_max=1000.0)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits).start()
        rig.publish(count=100)
        await rig.idle(1)
        before = rig.clock.rounds
        await rig.idle(1)
        assert rig.clock.rounds - before < 120

    world.live(life())
