"""Retry records held until they are due."""

import asyncio
import random
from collections import Counter

from tests.support.dispatching import (
    OK,
    TIERS,
    Rig,
    World,
    attempt_number,
    retry_topic,
    subscriber,
    told,
    value,
)
from thorn_stream.core import handover
from thorn_stream.core.deliveries import Attempt, Outcome, Parked
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.flow import LATE_FOR_LANE, Limits
from thorn_stream.core.handover import Held
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record

FIVE = Partition(retry_topic(5), 0)


def held(rig: Rig, number: int, due_in: float) -> Held:
    """What a tier's record tells: one attempt made, due in so many seconds."""
    now = rig.clock.wall()
    envelope = decode(Record("orders", 0, number, None, value(number), [], now))
    assert isinstance(envelope, Envelope)
    return Held(envelope, f"d{number}", "a", 1, now + int(1000 * due_in), now, "timeout")


def write(rig: Rig, due_in: float, topic: str = FIVE.topic, number: int = 0, pad: int = 0) -> None:
    """A record of a tier, as another dispatcher may have written it; `pad` makes it longer."""
    headers = handover.headers(held(rig, number, due_in))
    rig.retry.publish(topic, value(number) + b" " * pad, key=b"d", headers=headers)


def test_records_are_given_on_when_due_whatever_their_order() -> None:
    """One that is due later does not keep back the one behind it."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        for number, due_in in enumerate([4.0, 1.0, 3.0, 2.0]):
            write(rig, due_in, number=number)
        at: list[float] = []
        while len(at) < 4:
            await rig.idle(0.01)
            at += [round(rig.clock.now, 1)] * (len(rig.transport.attempts) - len(at))
        bodies = [each.body for each in rig.transport.attempts]
        assert bodies == [value(number) for number in (1, 3, 2, 0)]
        assert at == [1.0, 2.0, 3.0, 4.0]
        await rig.until(lambda: rig.tier_committed(5) == 4)
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())
    assert world.topics == {}


def test_what_is_done_behind_one_that_waits_long_is_not_done_again_by_the_next_owner() -> None:
    """A crash brings back the record that still waits at the head of its tier, and no other."""
    world = World()

    async def first() -> None:
        rig = Rig(world, subscriber("a")).start()
        write(rig, 30.0, topic=retry_topic(60), number=0)
        for number in range(1, 200):
            write(rig, 1.0, topic=retry_topic(60), number=number)
        await rig.idle(3)
        assert len(rig.transport.attempts) == 199
        assert rig.tier_committed(60) == 0

    async def second() -> None:
        rig = Rig(world, subscriber("a")).start()
        for number in range(200):
            write(rig, 28.0 if not number else 0.0, topic=retry_topic(60), number=number)
        await rig.idle(20)
        assert len(rig.waiting) == 1
        assert rig.transport.attempts == []
        await rig.idle(10)
        assert [each.body for each in rig.transport.attempts] == [value(0)]
        assert rig.tier_committed(60) == 200
        assert rig.credit_is_whole

    world.live(first())
    world.live(second())


def test_a_full_look_ahead_pauses_its_partition_alone_and_all_come_in_the_end() -> None:
    """No more are held than the look-ahead; other tiers are read; live intake goes on."""
    world = World()

    async def life() -> None:
        limits = Limits(lookahead=10)
        rig = Rig(world, subscriber("a"), limits=limits)
        rig.retry.credit_records = 10  # a source hands over what it has credit for at once
        rig.start()
        for number in range(50):
            write(rig, 3.0, number=number)
        write(rig, 1.0, topic=retry_topic(15))
        rig.publish()
        await rig.idle(0.5)
        assert rig.retry.paused == {FIVE}
        assert len(rig.waiting) == 10
        rig.retry.credit(1, 0)
        await rig.until(lambda: rig.tier_committed(15) == 1, 2)
        assert rig.clock.now < 1.5
        await rig.until(lambda: rig.committed == 1)
        await rig.until(lambda: rig.tier_committed(5) == 50)
        assert len(rig.waiting) == 0
        assert rig.retry.paused == set()

    world.live(life())


def test_large_records_that_wait_long_do_not_keep_a_short_tier_from_being_read() -> None:
    """All that is held is bounded in bytes, and each partition leaves the others their part."""
    world = World()

    async def life() -> None:
        limits = Limits(memory=400_000)  # a quarter of it is for what is held
        rig = Rig(world, subscriber("a"), limits=limits)
        rig.retry.credit_size = 70_000  # a source hands over what it has credit for at once
        for number in range(100):
            write(rig, 4.9, number=number, pad=10_000)
        rig.start()
        await rig.idle(0.1)
        assert rig.retry.paused == {FIVE}
        assert rig.worker.retry.open_bytes < 90_000
        write(rig, 1.0, topic=retry_topic(15), pad=10_000)
        rig.retry.credit(0, 30_000)
        rig.publish()
        await rig.until(lambda: rig.tier_committed(15) == 1, 2)
        assert rig.clock.now < 1.5
        await rig.until(lambda: rig.committed == 1)
        assert 0 < len(rig.waiting) < 10
        await rig.until(lambda: rig.tier_committed(5) == 100)
        assert rig.retry.paused == set()
        assert rig.worker.retry.open_bytes == 0

    world.live(life())


def test_what_is_due_is_begun_a_slice_at_a_time() -> None:
    """`release_due` begins no more than it is told, and says whether more is due."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=None)
        ledger = Ledger(FIVE, 0, 1000, Tally())
        for offset in range(5):
            rig.waiting.consume(*tier_record(rig, ledger, offset, due_in=0.0))
        rig.waiting.consume(*tier_record(rig, ledger, 5, due_in=1.0))
        assert ledger.held == 6
        assert rig.waiting.release_due(3)
        assert (len(rig.transport.attempts), ledger.held, ledger.busy) == (3, 3, 3)
        assert not rig.waiting.release_due(3)
        assert (len(rig.transport.attempts), ledger.held, ledger.busy) == (5, 1, 5)

    world.live(life())


def tier_record(rig: Rig, ledger: Ledger, offset: int, due_in: float) -> tuple[Record, Entry]:
    entry = ledger.enter(offset, 1)
    assert entry is not None
    headers = handover.headers(held(rig, offset, due_in))
    return Record(FIVE.topic, 0, offset, b"d", value(offset), headers, 0), entry


def test_a_thousand_due_at_once_leave_turns_to_others() -> None:
    """Between two slices the loop goes round, and every one is delivered."""
    world = World()

    async def life() -> None:
        begun = Counter[int]()

        def answer(attempt: Attempt) -> Outcome:
            begun[rig.clock.rounds] += 1
            return OK

        rig = Rig(world, subscriber("a"), answers=answer)
        for number in range(1000):
            write(rig, 1.0, number=number)
        rig.start()
        await rig.until(lambda: rig.tier_committed(5) == 1000)
        assert max(begun.values()) == 64
        assert rig.clock.now < 1.5

    world.live(life())
    assert world.topics == {}


def test_due_retries_wait_while_a_lane_is_full_for_a_moment() -> None:
    """Held on, they are begun a moment later; neither parked nor lost, and nothing spins."""
    world = World()

    async def life() -> None:
        limits = Limits(lane_size=20, max_in_flight=20)

        async def soon(attempt: Attempt) -> Outcome:
            await rig.idle(0.001)
            return OK

        rig = Rig(world, subscriber("a"), answers=soon, limits=limits)
        for number in range(200):
            write(rig, 1.0, number=number)
        rig.start()
        deepest = 0
        while rig.tier_committed(5) < 200:
            deepest = max(deepest, *(lane.depth for lane in rig.dispatcher.lanes), 0)
            await rig.idle(0.0005)
        assert rig.clock.now < 1.6
        assert deepest == 15  # a quarter of the places is kept for first attempts
        assert rig.clock.rounds < 10_000

    world.live(life())
    assert world.topics == {}


def test_due_retries_do_not_wait_for_ever_for_a_full_lane() -> None:
    """A second late they are parked, so that they are in nobody's way; each counts its attempt."""
    world = World()

    async def life() -> None:
        limits = Limits(lane_size=5, max_in_flight=5)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits)
        for number in range(30):
            write(rig, 1.0, number=number)
        rig.start()
        await rig.until(lambda: len(rig.transport.attempts) == 5)
        await rig.idle(LATE_FOR_LANE - 0.1)
        assert len(rig.waiting) == 22  # 3 of the Lane's 5 places are for retries
        assert rig.observer.named("settled") == []
        await rig.idle(0.2)
        assert len(rig.waiting) == 0
        assert rig.observer.named("settled") == [(Parked("lane"),)] * 22

    world.live(life())
    assert {told(record)["thorn-attempt"] for record in world.parked} == {"1"}


def test_what_is_held_goes_with_its_partition() -> None:
    """Revoked or lost, the heap lets go of it, and the next assignment reads it again."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        for number in range(3):
            write(rig, 2.0, number=number)
        write(rig, 2.0, topic=retry_topic(15))
        await rig.until(lambda: len(rig.waiting) == 4)
        assert await rig.retry.revoke(FIVE)
        assert len(rig.waiting) == 1
        rig.retry.assign(FIVE)
        await rig.until(lambda: len(rig.waiting) == 4)
        rig.retry.lose(FIVE)
        await rig.until(lambda: len(rig.waiting) == 1)
        rig.retry.assign(FIVE)
        rig.retry.assign(FIVE)  # told twice, as after a seek
        await rig.until(lambda: len(rig.waiting) == 4)
        await rig.until(lambda: rig.tier_committed(5) == 3)
        assert len(rig.transport.attempts) == 4
        await rig.until(lambda: rig.credit_is_whole)

    world.live(life())


def test_nothing_is_begun_for_a_partition_that_is_about_to_go() -> None:
    """What falls due while the revocation waits for another Attempt is the next owner's."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a"), answers=None).start()
        write(rig, 1.0)
        write(rig, 2.0, number=1)
        await rig.until(lambda: len(rig.under_way) == 1)
        revoked = asyncio.ensure_future(rig.retry.revoke(FIVE))
        await rig.idle(1.5)
        assert len(rig.transport.attempts) == 1
        rig.transport.end(rig.under_way[0], OK)
        assert await revoked
        assert rig.tier_committed(5) == 1

    world.live(life())


def test_what_remains_is_given_on_in_time_when_others_have_gone() -> None:
    """With one of two partitions taken out of the middle, each is begun within a tick of due."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        order = random.Random(1)
        due = {number: order.uniform(1, 4) for number in range(200)}
        for number, due_in in due.items():
            write(rig, due_in, topic=retry_topic(5 if number % 2 else 15), number=number)
        await rig.until(lambda: len(rig.waiting) == 200)
        assert await rig.retry.revoke(FIVE)
        rest = sorted(due_in for number, due_in in due.items() if number % 2 == 0)
        for due_in in rest:
            await rig.idle(due_in + 0.021 - rig.clock.now)
            begun = sum(each <= rig.clock.now - 0.021 for each in rest)
            assert len(rig.transport.attempts) >= begun

    world.live(life())


def test_a_tier_that_is_not_in_the_settings_is_read_until_it_is_empty() -> None:
    """Its records are held until due like any other."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        old = Partition("thorn.retry.7s", 0)
        rig.retry.assign(old)
        write(rig, 6.0, topic=old.topic)
        await rig.until(lambda: len(rig.transport.attempts) == 1)
        assert 6.0 <= rig.clock.now < 7.0
        assert attempt_number(rig.transport.attempts[0]) == 2

    world.live(life())


def test_the_oldest_event_of_each_subscriber_is_known() -> None:
    """By when it was written; nothing of a subscriber of whom nothing is held."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        assert dict(rig.waiting.oldest.items()) == {}
        write(rig, 5.0)
        first = rig.clock.wall()
        await rig.idle(1)
        write(rig, 1.0, number=1)
        await rig.idle(0.1)
        assert dict(rig.waiting.oldest.items()) == {"a": first}
        rig.retry.lose(FIVE)
        await rig.until(lambda: rig.waiting.oldest.get("a") is None)

    world.live(life())


def test_a_round_of_its_tier_is_over_before_the_next_begins() -> None:
    """Due in 40 s in a tier of 5 s: held 5 s, then in the tier that covers what remains."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a")).start()
        write(rig, 40.0)
        await rig.until(lambda: len(world.tier(60)) == 1)
        assert 5.0 <= rig.clock.now < 5.1
        assert told(world.tier(60)[0])["thorn-attempt"] == "1"
        assert told(world.tier(60)[0])["thorn-error"] == "timeout"
        await rig.until(lambda: len(rig.transport.attempts) == 1)
        assert 40.0 <= rig.clock.now < 41.0

    world.live(life())
    assert [len(world.tier(tier)) for tier in TIERS] == [0, 0, 1]
