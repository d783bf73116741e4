"""An ordered subscriber: one delivery at a time of each key, whatever happens in between."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.dispatching import OK, ORDERS, status, subscriber, told
from tests.support.ordering import OrderedRig, OrderedWorld, inversions
from thorn_stream.core.deliveries import Attempt, Kind, Outcome
from thorn_stream.core.flow import Limits
from thorn_stream.core.notes import split
from thorn_stream.core.ordering import read_note
from thorn_stream.core.records import Partition, Position
from thorn_stream.core.schedule import RetryPolicy
from thorn_stream.core.subscribers import Subscriber

FAST = RetryPolicy(delay=5.0, jitter=0.0)


def ordered(**fields: Any) -> Subscriber:
    return subscriber("a", ordering="key", **fields)


def number(attempt: Attempt) -> int:
    found: int = json.loads(attempt.body)["data"]["number"]
    return found


def fails(*which: int, times: int = 10**9) -> Any:
    """A receiver that answers 500 to these numbers, so many times each."""
    left = dict.fromkeys(which, times)

    def answer(attempt: Attempt) -> Outcome:
        if left.get(number(attempt), 0):
            left[number(attempt)] -= 1
            return status(500)
        return OK

    return answer


def test_a_failing_head_is_tried_in_place_and_holds_up_its_own_key_alone() -> None:
    """Its followers wait, and begin with attempt 1 when it is delivered; nothing is parked."""
    world = OrderedWorld()

    async def life() -> None:
        rig = await OrderedRig(world, ordered(), answers=fails(0, times=2), policy=FAST).begin()
        rig.write(("x", 0), ("y", 1), ("x", 2), (None, 3), ("x", 4), (None, 5))
        await rig.until(lambda: len(rig.told) == 4)
        assert sorted(rig.told) == [("None", 3, 1), ("None", 5, 1), ("x", 0, 1), ("y", 1, 1)]
        began = rig.clock.now
        await rig.until(lambda: len(rig.told) == 8)
        assert rig.told[4:] == [("x", 0, 2), ("x", 0, 3), ("x", 2, 1), ("x", 4, 1)]
        assert 10 <= rig.clock.now - began < 11
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(6))
        assert rig.read.oldest is None

    world.live(life())
    assert world.topics == {}


def test_the_main_path_passes_an_ordered_subscriber_over() -> None:
    """It would get everything twice."""
    world = OrderedWorld()

    async def life() -> None:
        rig = await OrderedRig(world, ordered()).begin()
        rig.write(("x", 0), ("x", 1))
        await rig.until(lambda: rig.committed == 2 and world.ordered_committed != {})
        await rig.idle()
        assert rig.told == [("x", 0, 1), ("x", 1, 1)]

    world.live(life())


def test_an_exhausted_head_is_a_dead_letter_before_its_follower_begins() -> None:
    """`skip`: only when Kafka has it, so that what went before is told of somewhere."""
    world = OrderedWorld()

    async def life() -> None:
        only = ordered(retry_max=1)
        rig = await OrderedRig(world, only, answers=fails(0), policy=FAST).begin()
        rig.sink.hold = True
        rig.write(("x", 0), ("x", 1))
        await rig.until(lambda: rig.sink.under_way == 1)
        await rig.idle(10)
        assert rig.told == [("x", 0, 1), ("x", 0, 2)]
        rig.sink.release()
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(2))
        assert rig.told[2:] == [("x", 1, 1)]

    world.live(life())
    [dead] = world.dead_of("exhausted")
    assert told(dead)["thorn-attempt"] == "2"


def test_a_blocking_head_stays_and_is_tried_on_at_the_last_wait() -> None:
    """`block`: nothing is passed over; how many chains stand is shown until it is delivered."""
    world = OrderedWorld()

    async def life() -> None:
        only = ordered(on_exhausted="block", retry_schedule=(1, 7))
        rig = await OrderedRig(world, only, answers=fails(0, times=5)).begin()
        rig.write(("x", 0), ("x", 1), ("y", 2))
        await rig.until(lambda: rig.read.blocked == 1)
        assert len(rig.told) == 4
        began = rig.clock.now
        await rig.until(lambda: len(rig.told) == 5)
        assert 6.9 <= rig.clock.now - began <= 7.1
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(3))
        assert rig.read.blocked == 0
        assert rig.told[-2:] == [("x", 0, 6), ("x", 1, 1)]

    world.live(life())
    assert world.dead == []


def test_a_successor_makes_the_fourth_attempt_after_a_crash_behind_the_third() -> None:
    """When it would have been due; and then the followers, which nobody had begun."""
    world = OrderedWorld()
    only = ordered(retry_schedule=(1, 1, 60, 60))

    async def first() -> None:
        rig = await OrderedRig(world, only, answers=fails(0)).begin()
        rig.write(("x", 0), ("x", 1), ("y", 2))
        await rig.until(lambda: len(rig.told) == 4)
        await rig.idle(1)
        assert [attempt for key, _, attempt in rig.told if key == "x"] == [1, 2, 3]

    world.live(first())
    text, note = split(world.ordered_committed[ORDERS].metadata)
    assert text  # the other key is done
    assert [head.attempts for head in read_note(note)[0].values()] == [3]
    crashed = world.clock.now

    async def second() -> None:
        rig = await OrderedRig(world, only, answers=fails(0, times=1)).begin()
        await rig.until(lambda: world.ordered_committed[ORDERS] == Position(3), 200)
        assert rig.told == [("x", 0, 4), ("x", 0, 5), ("x", 1, 1)]
        assert rig.clock.now - crashed > 110

    world.live(second())


def test_a_crash_in_the_middle_of_an_attempt_repeats_the_head_and_then_goes_on() -> None:
    """What was in flight has the number it had; nothing overtakes it."""
    world = OrderedWorld()

    async def first() -> None:
        rig = await OrderedRig(world, ordered(), answers=None).begin()
        rig.write(("x", 0), ("x", 1), ("x", 2))
        await rig.until(lambda: len(rig.under_way) == 1)
        await rig.idle(5)

    async def second() -> None:
        rig = await OrderedRig(world, ordered()).begin()
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(3))
        assert rig.told == [("x", 0, 1), ("x", 1, 1), ("x", 2, 1)]

    world.live(first())
    world.live(second())


def test_a_lost_commit_repeats_in_order() -> None:
    """Whatever was told of, each key's repeats begin at the lowest that Kafka did not learn of."""
    world = OrderedWorld()
    requests: list[tuple[str, int, int]] = []

    async def first() -> None:
        rig = await OrderedRig(world, ordered()).begin()
        rig.own.refuse = "not this time"
        rig.write(*((key, n) for n in range(4) for key in "xy"))
        await rig.until(lambda: len(rig.told) == 8)
        await rig.idle(1)
        requests.extend(rig.told)

    async def second() -> None:
        rig = await OrderedRig(world, ordered()).begin()
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(8))
        requests.extend(rig.told)

    world.live(first())
    world.live(second())
    by_key: dict[str, list[int]] = {"x": [], "y": []}
    for key, n, _ in requests:
        by_key[key].append(n)
    assert by_key == {"x": [0, 1, 2, 3] * 2, "y": [0, 1, 2, 3] * 2}
    assert inversions(by_key) == []


def test_a_receiver_dead_for_a_day_gets_everything_in_order_afterwards() -> None:
    """`block`: no attempt is lost count of, no follower overtakes, memory holds one window."""
    world = OrderedWorld()
    only = ordered(on_exhausted="block", retry_schedule=(60, 7200))
    back = [False]

    async def life() -> None:
        def answer(_: Attempt) -> Outcome:
            return OK if back[0] else Outcome(Kind.CONNECT, detail="refused")

        limits = Limits(window=50)
        rig = await OrderedRig(world, only, answers=answer, limits=limits).begin()
        rig.write(*((f"k{n % 3}", n) for n in range(300)))
        for _ in range(24):
            rig.clock.now += 3600
            await rig.idle(3)  # what was due is tried
        assert ORDERS in rig.own.paused
        assert rig.read.oldest is not None
        assert rig.clock.wall() - rig.read.oldest >= 86_400_000
        back[0] = True
        for _ in range(3):
            rig.clock.now += 3600  # the last wait is two hours
            await rig.idle(3)
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(300))
        delivered: dict[str, list[int]] = {}
        for key, n, _ in rig.told:
            delivered.setdefault(key, []).append(n)
        assert inversions(delivered) == []
        assert {n for sequence in delivered.values() for n in sequence} == set(range(300))

    world.live(life())
    assert world.dead == []


def test_partitions_added_are_read_from_their_first_record() -> None:
    """A key that moves there is another chain: only what stands in one partition has an order."""
    world = OrderedWorld()
    more = Partition("orders", 1)

    async def life() -> None:
        rig = await OrderedRig(world, ordered(), answers=fails(0, times=2), policy=FAST).begin()
        rig.write(("x", 0), ("x", 1))
        await rig.until(lambda: len(rig.told) == 1)
        rig.main.assign(more)
        rig.own.assign(more)
        rig.write(("x", 2), ("x", 3), partition=1)
        await rig.until(lambda: len(rig.told) == 3)
        assert rig.told[1:] == [("x", 2, 1), ("x", 3, 1)]
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(2))

    world.live(life())


def test_a_partition_that_goes_takes_its_requests_with_it() -> None:
    """They are ended before the last commit, which tells of the heads that had failed before."""
    world = OrderedWorld()

    async def life() -> None:
        hanging: list[Attempt] = []

        async def answer(attempt: Attempt) -> Outcome:
            if number(attempt) == 0:
                return status(500)
            hanging.append(attempt)
            await asyncio.sleep(60)
            return OK

        rig = await OrderedRig(world, ordered(timeout=60), answers=answer, policy=FAST).begin()
        rig.write(("x", 0), ("y", 1), ("y", 2))
        await rig.until(lambda: len(hanging) == 1 and len(rig.told) == 2)
        assert await rig.own.revoke(ORDERS)
        assert rig.under_way == []
        assert [head.attempts for head in _noted(world).values()] == [1]
        await rig.idle(30)
        assert len(rig.told) == 2
        assert rig.observer.named("late_outcome")
        rig.own.assign(ORDERS)
        await rig.until(lambda: len(rig.told) == 4)
        assert sorted(rig.told[2:]) == [("x", 0, 2), ("y", 1, 1)]

    world.live(life())


def _noted(world: OrderedWorld) -> Any:
    return read_note(split(world.ordered_committed[ORDERS].metadata)[1])[0]


def test_a_partition_that_is_lost_ends_its_requests_at_once() -> None:
    """And nothing more of it is begun: it may be another's already."""
    world = OrderedWorld()

    async def life() -> None:
        rig = await OrderedRig(world, ordered(timeout=60), answers=None).begin()
        rig.write(("x", 0), ("x", 1), ("y", 2))
        await rig.until(lambda: len(rig.under_way) == 2)
        rig.own.lose(ORDERS)
        await rig.until(lambda: rig.under_way == [])
        await rig.idle(30)
        assert len(rig.told) == 2

    world.live(life())


def test_while_a_stall_is_looked_into_no_follower_begins() -> None:
    """The answer that comes in first after it must not let the next one go."""
    world = OrderedWorld()

    async def life() -> None:
        rig = await OrderedRig(world, ordered(timeout=60), answers=None).begin()
        rig.write(("x", 0), ("x", 1), ("x", 2))
        await rig.until(lambda: len(rig.under_way) == 1)
        rig.own.hold_commits = True
        rig.clock.now += 20  # the loop stood still
        rig.transport.end(rig.under_way[0], OK)
        await rig.idle(3)
        assert rig.read.intake.hold.on
        assert len(rig.told) == 1
        rig.own.hold_commits = False
        rig.own.answer_commits()
        await rig.until(lambda: len(rig.told) == 2)

    world.live(life())


def test_a_paused_subscriber_waits_and_goes_on_where_it_was() -> None:
    """Nothing is parked, nothing passed over, and the new state holds for what waited."""
    world = OrderedWorld()

    async def life() -> None:
        rig = await OrderedRig(world, ordered(state="paused")).begin()
        rig.write(("x", 0), ("x", 1), ("y", 2))
        await rig.idle(60)
        assert rig.told == []
        rig.change(ordered())
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(3))
        assert len(rig.told) == 3

    world.live(life())
    assert world.topics == {}


def test_a_disabled_subscriber_keeps_what_waited_and_is_matched_no_more() -> None:
    """Also when another process takes over while it is disabled."""
    world = OrderedWorld()

    async def first() -> None:
        rig = await OrderedRig(world, ordered(), answers=fails(0), policy=FAST).begin()
        rig.write(("x", 0), ("x", 1))
        await rig.until(lambda: len(rig.told) == 1)
        rig.change(ordered(state="disabled"))
        rig.write(("x", 2), ("y", 3))
        await rig.idle(30)
        assert len(rig.told) == 1

    async def second() -> None:
        rig = await OrderedRig(world, ordered(state="disabled")).begin()
        rig.write(("z", 4))
        await rig.idle(30)
        assert rig.told == []
        rig.change(ordered())
        rig.write(("z", 5))
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(6))
        assert sorted(rig.told) == [("x", 0, 2), ("x", 1, 1), ("z", 5, 1)]

    world.live(first())
    world.live(second())


def test_a_subscriber_that_goes_leaves_its_group_and_goes_on_when_it_is_back() -> None:
    """What was not settled stays the group's."""
    world = OrderedWorld()

    async def life() -> None:
        rig = await OrderedRig(world, ordered(), answers=fails(0), policy=FAST).begin()
        rig.write(("x", 0), ("x", 1))
        await rig.until(lambda: len(rig.told) == 1)
        rig.change()
        await rig.until(lambda: rig.own.stopped and not rig.reads.intakes)
        rig.own = OrderedRig(world, ordered()).own
        rig.transport.answers = OK
        rig.change(ordered())
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(2))
        assert rig.opened == 2
        assert rig.told[1:] == [("x", 0, 1), ("x", 1, 1)]

    world.live(life())


@pytest.mark.parametrize("body", [b"no json", None, b'{"event": "other.thing", "data": {}}'])
def test_what_it_does_not_want_is_no_business_of_its_read(body: bytes | None) -> None:
    """The main path tells of it, once."""
    world = OrderedWorld()

    async def life() -> None:
        rig = await OrderedRig(world, ordered(event="order.*")).begin()
        made = rig.main.publish("orders", body, key=b"x")
        rig.world.inputs.append(made)
        rig.own.feed([made])
        rig.write(("x", 1))
        await rig.until(lambda: world.ordered_committed.get(ORDERS) == Position(2))
        await rig.until(lambda: rig.committed == 2)
        assert rig.told == [("x", 1, 1)]

    world.live(life())
    assert len(world.dead) == (body == b"no json")


def test_an_event_cannot_ask_for_more_time_than_the_session_leaves() -> None:
    """Its request has to have ended before another member can begin."""
    world = OrderedWorld()

    async def life() -> None:
        rig = await OrderedRig(world, ordered(), answers=OK).begin()
        rig.own.feed(
            rig.publish(
                b'{"event": "order.paid", "data": {"key": "x", "number": 0}}',
                key=b"x",
                headers=[("thorn-timeout", b"20")],
            )
        )
        await rig.until(lambda: len(rig.told) == 1)
        assert rig.transport.attempts[0].timeout == 8.0

    world.live(life())


def test_the_rate_of_an_ordered_subscriber_goes_by_its_own_group() -> None:
    """Of the four partitions of its group one is ours, of the main group all: a fourth of 32."""
    world = OrderedWorld()

    async def life() -> None:
        rig = await OrderedRig(world, ordered(rate_limit=32.0)).begin()
        rig.own.total = 4
        rig.write(*((f"k{n}", n) for n in range(500)))
        await rig.idle(10.5)
        assert 75 <= len(rig.told) <= 84 + 1
        rig.own.total = 1
        before = len(rig.told)
        await rig.idle(10)
        assert 290 <= len(rig.told) - before <= 320 + 1

    world.live(life())
