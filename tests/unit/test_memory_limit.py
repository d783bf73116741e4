"""Memory is bounded whatever the records, and what is full of one kind never stops another."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.dispatching import (
    OK,
    ORDERS,
    TIERS,
    Rig,
    World,
    retry_topic,
    status,
    subscriber,
    value,
)
from thorn_stream.core import handover
from thorn_stream.core.circuit import CircuitRules
from thorn_stream.core.deliveries import Attempt, Kind, Outcome
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.flow import Limits, ahead
from thorn_stream.core.handover import Held
from thorn_stream.core.records import Partition, Record

MEMORY = 4 << 20
LIVE, RETRY, PARKED = MEMORY // 2, MEMORY // 4, MEMORY // 16
BODY = 100_000
AROUND = 4_000  # what a record counts beside its body, at most
NEVER = CircuitRules(failures=1 << 30)


def rig_of(world: World, *names: str, answers: Any = OK, **more: Any) -> Rig:
    """A dispatcher whose Sources have the credit that the app gives them."""
    more.setdefault("limits", Limits(memory=MEMORY))
    rig = Rig(world, *(subscriber(name) for name in names), answers=answers, **more)
    rig.main.credit_size = LIVE
    rig.retry.credit_size = ahead(RETRY)
    rig.parked.credit_size = PARKED
    return rig.start()


def body(size: int = BODY) -> bytes:
    return value() + b" " * size


def wait_in(rig: Rig, tier: float, count: int, due_in: float, size: int = BODY) -> None:
    """Write retries of this size into a tier."""
    now = rig.clock.wall()
    envelope = decode(Record("orders", 0, 0, None, value(), [], now))
    assert isinstance(envelope, Envelope)
    for number in range(count):
        held = Held(envelope, f"d{number}", "a", 1, now + int(1000 * due_in), now, "timeout")
        rig.retry.publish(retry_topic(tier), body(size), key=b"d", headers=handover.headers(held))


async def at_all_times(rig: Rig, holds: Callable[[], bool], seconds: float) -> None:
    """Let time go by, and look whether this holds all the while."""
    end = rig.clock.now + seconds
    while rig.clock.now < end:
        assert holds()
        await rig.idle(0.05)


def test_live_records_take_half_and_intake_goes_on_when_they_settle() -> None:
    """A receiver that never answers in time fills the half, no more; then everything is read."""
    world = World()

    async def life() -> None:
        rig = rig_of(world, "a", answers=None, circuit=NEVER)
        rig.publish(body(), count=60)  # three times the half
        await rig.until(lambda: rig.main.credit_size <= 0)
        await at_all_times(rig, lambda: rig.worker.main.open_bytes <= LIVE + BODY + AROUND, 2.0)
        assert rig.worker.main.open_bytes >= LIVE - BODY
        rig.transport.answers = OK
        for attempt in rig.under_way:
            rig.transport.end(attempt, OK)
        await rig.until(lambda: rig.committed == 60)
        assert rig.worker.main.open_bytes == 0
        assert rig.main.credit_size == LIVE

    world.live(life())


def test_held_retries_take_a_quarter_and_never_stop_what_is_live() -> None:
    """Tiers that are full of large records are read no further; events go through as ever."""
    world = World()

    async def life() -> None:
        rig = rig_of(world, "a")
        for tier in TIERS:
            wait_in(rig, tier, 30, due_in=tier)
        await rig.idle(1.0)
        held = rig.worker.retry.open_bytes
        assert held <= RETRY + BODY + AROUND
        assert len(rig.waiting) < 30 * len(TIERS)
        rig.publish(body(), count=100)
        await rig.until(lambda: rig.committed == 100, 1.0)
        everything = 100 + 30 * len(TIERS)
        bound = RETRY + BODY + AROUND
        while len(rig.transport.attempts) < everything:
            assert rig.clock.now < 1000
            await at_all_times(rig, lambda: rig.worker.retry.open_bytes <= bound, 1.0)
        await rig.until(lambda: rig.retry.credit_size == ahead(RETRY))

    world.live(life())


def test_a_tier_at_its_share_leaves_the_others_theirs() -> None:
    """Large records that wait a minute do not keep the tier of five seconds from being read."""
    world = World()

    async def life() -> None:
        rig = rig_of(world, "a")
        wait_in(rig, 60, 60, due_in=60.0)  # six times what may be held
        await rig.idle(1.0)
        full = Partition(retry_topic(60), 0)
        assert rig.retry.paused == {full}
        wait_in(rig, 5, 3, due_in=2.0)
        await rig.until(lambda: len(rig.transport.attempts) == 3, 3.0)
        await rig.until(lambda: len(rig.transport.attempts) == 63, 600)
        await rig.until(lambda: rig.retry.paused == set())

    world.live(life())


@pytest.mark.parametrize("size", [LIVE - BODY, LIVE, 2 * MEMORY])
def test_a_record_of_any_size_is_delivered_when_its_turn_comes(size: int) -> None:
    """One larger than what is left, than the half, than the whole: it and those behind it."""
    world = World()

    async def life() -> None:
        rig = rig_of(world, "a", answers=None, circuit=NEVER)
        for each in (BODY, BODY, size, BODY, size, BODY):
            rig.publish(body(each))
        await rig.until(lambda: len(rig.under_way) >= 2)
        rig.transport.answers = OK
        for attempt in rig.under_way:
            rig.transport.end(attempt, OK)
        await rig.until(lambda: rig.committed == 6)
        assert len(rig.transport.attempts) == 6
        assert rig.main.credit_size == LIVE

    world.live(life())


@pytest.mark.parametrize("size", [RETRY, 2 * MEMORY])
def test_a_retry_of_any_size_is_held_and_delivered(size: int) -> None:
    """It stops its tier, and the tiers, only until it is due; live events go on meanwhile."""
    world = World()

    async def life() -> None:
        rig = rig_of(world, "a")
        wait_in(rig, 15, 2, due_in=10.0, size=size)
        wait_in(rig, 5, 2, due_in=5.0)
        await rig.idle(1.0)
        rig.publish(body(), count=30)
        await rig.until(lambda: rig.committed == 30, 1.0)
        await rig.until(lambda: len(rig.transport.attempts) == 34, 120)
        await rig.until(lambda: rig.retry.credit_size == ahead(RETRY))

    world.live(life())


def test_partitions_of_large_records_end_at_half_beyond_the_quarter() -> None:
    """Each tier's first is as large as all that may be held: two are read, the others later."""
    world = World()

    async def life() -> None:
        rig = rig_of(world, "a")
        for tier in TIERS:
            wait_in(rig, tier, 1, due_in=tier, size=RETRY)
        bound = RETRY + RETRY // 2 + RETRY + AROUND
        while len(rig.transport.attempts) < len(TIERS):
            assert rig.clock.now < 1000
            await at_all_times(rig, lambda: rig.worker.retry.open_bytes <= bound, 1.0)
        await rig.until(lambda: rig.retry.credit_size == ahead(RETRY))

    world.live(life())


@pytest.mark.parametrize("size", [BODY, PARKED, 2 * MEMORY])
def test_parked_records_under_way_are_counted_whoever_recovers(size: int) -> None:
    """Of 20 receivers that come back at once no more is in memory than the drain may hold."""
    world = World()
    names = [f"s{number}" for number in range(20)]
    count = 6 if size == BODY else 2

    async def parks() -> None:
        paused = [subscriber(name, state="paused") for name in names]
        rig = Rig(world, *paused, limits=Limits(memory=MEMORY)).start()
        rig.publish(body(size), count=count)
        await rig.until(lambda: rig.parked_committed == count * len(names))
        assert await rig.worker.drain(5.0)

    async def drains() -> None:
        async def slowly(_: Attempt) -> Outcome:
            await rig.idle(0.1)
            return OK

        rig = rig_of(world, *names, answers=slowly)
        bound = 2 * PARKED + 2 * (size + AROUND)
        while world.cursors:
            assert rig.clock.now < 2000
            await at_all_times(rig, lambda: rig.parking.held_bytes <= bound, 0.2)
            sent = sum(len(each.body) for each in rig.under_way)
            assert sent <= bound
        assert len(rig.transport.attempts) == count * len(names)
        assert rig.parking.held_bytes == 0

    world.live(parks())
    world.live(drains())


def test_what_is_put_back_is_not_held_and_stops_nobody() -> None:
    """Large records of a receiver that fails again stand in their topic; another is drained."""
    world = World()

    async def parks() -> None:
        paused = [subscriber(name, state="paused") for name in ("a", "b")]
        rig = Rig(world, *paused, limits=Limits(memory=MEMORY)).start()
        rig.publish(body(), count=20)
        await rig.until(lambda: rig.parked_committed == 40)
        assert await rig.worker.drain(5.0)

    async def drains() -> None:
        answers = {"http://a": Outcome(Kind.CONNECT, detail="refused"), "http://b": OK}
        rules = CircuitRules(failures=1, open_for=5.0, open_for_max=5.0)
        rig = rig_of(world, "a", "b", answers=answers, circuit=rules)
        await rig.until(lambda: len(rig.sent_to("http://b")) == 20)
        await rig.idle(30.0)
        assert len(rig.sent_to("http://a")) >= 3
        assert rig.parking.held_bytes <= 2 * PARKED + BODY
        rig.transport.answers = OK
        await rig.until(lambda: not world.cursors, 120)
        assert rig.parking.held_bytes == 0

    world.live(parks())
    world.live(drains())


def test_when_all_of_it_is_full_whatever_can_settle_does() -> None:
    """Half, quarter and the drain's part are taken at once: it all comes to an end by itself."""
    world = World()

    async def parks() -> None:
        rig = Rig(world, subscriber("p", state="paused"), limits=Limits(memory=MEMORY)).start()
        rig.publish(body(), count=30)
        await rig.until(lambda: rig.parked_committed == 30)
        assert await rig.worker.drain(5.0)

    async def life() -> None:
        down = True

        async def answer(_: Attempt) -> Outcome:
            await rig.idle(0.5)
            return status(503) if down else OK

        rig = rig_of(world, "a", "p", answers=answer, circuit=NEVER)
        for tier in TIERS:
            wait_in(rig, tier, 20, due_in=tier / 2)
        rig.publish(body(), count=60)

        def within() -> bool:
            live, held = rig.worker.main.open_bytes, rig.worker.retry.open_bytes
            return live + held + rig.parking.held_bytes <= MEMORY + 4 * (BODY + AROUND)

        await at_all_times(rig, within, 20.0)
        down = False
        await at_all_times(rig, within, 20.0)
        await rig.until(lambda: rig.committed == len(world.inputs), 600)
        await rig.until(lambda: not world.cursors and not len(rig.waiting), 600)
        await rig.until(lambda: rig.main.credit_size == LIVE)
        await rig.until(lambda: rig.retry.credit_size == ahead(RETRY))
        assert rig.parking.held_bytes == 0
        assert rig.main.committed[ORDERS].offset == 90

    world.live(parks())
    world.live(life())
    assert world.dead == []
