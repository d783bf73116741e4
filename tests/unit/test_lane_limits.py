"""Circuits, rates and fair shares, as a dispatcher keeps them."""

import asyncio
import tracemalloc
from collections import Counter
from typing import Any

import pytest

from tests.support.dispatching import (
    OK,
    TIERS,
    Rig,
    World,
    attempt_number,
    status,
    subscriber,
    told,
    value,
)
from thorn_stream.core.circuit import CircuitRules
from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.flow import Limits
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record
from thorn_stream.core.schedule import RetryPolicy
from thorn_stream.dispatch.lane import Lane

RULES = CircuitRules(failures=5, open_for=5.0, open_for_max=20.0)
REFUSED = Outcome(Kind.CONNECT, detail="refused")


class Receiver:
    """Answers as it is told to, in `takes` seconds; counts what it sees."""

    def __init__(self, answer: Outcome = OK, takes: float = 0.001) -> None:
        self.answer = answer
        self.takes = takes
        self.at_once = self.most_at_once = 0
        self.numbers: list[int] = []

    async def __call__(self, attempt: Attempt) -> Outcome:
        self.numbers.append(attempt_number(attempt))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.takes)
        self.at_once -= 1
        return self.answer


def answered(rig: Rig) -> int:
    """How many were taken."""
    return sum(outcome.kind is Kind.OK for _, outcome, _ in rig.observer.named("attempted"))


def settled(rig: Rig) -> Counter[str]:
    """What was decided without an Attempt, by cause."""
    told_of = [each for (each,) in rig.observer.named("settled")]
    return Counter(each.cause for each in told_of if each.name == "parked")


def later_one(rig: Rig, number: int, put_back: list[str] | None = None) -> Delivery:
    """One that is no first attempt; with a list, it was parked and is put back there."""
    now = rig.clock.wall()
    envelope = decode(Record("orders", 0, number, None, value(number), [], now))
    assert isinstance(envelope, Envelope)
    ledger = Ledger(Partition("elsewhere", number), 0, 100, Tally())
    entry = ledger.enter(0, 100)
    assert isinstance(entry, Entry)
    one = rig.dispatcher.directory.get("a")
    assert one is not None
    delivery = Delivery(envelope, one, f"later-{number}", entry, attempts=1, again=True)
    if put_back is not None:
        delivery.put_back = lambda _, cause: put_back.append(cause)
    return delivery


# --- circuits -----------------------------------------------------------------------------------


def test_a_receiver_that_is_down_gets_probes_only_and_costs_no_attempts() -> None:
    """Parked with the attempts they had; failures and probes are all that is tried in vain."""
    world = World()

    async def life() -> None:
        down = Receiver(REFUSED)
        answers = {"http://a": down, "http://b": OK}
        limits = Limits(max_in_flight=4)
        rig = Rig(
            world,
            subscriber("a", retry_delay=15.0, retry_max=9),
            subscriber("b"),
            answers=answers,
            limits=limits,
            circuit=RULES,
        ).start()
        rig.publish(count=50)
        await rig.until(lambda: rig.committed == 50)
        assert rig.observer.named("circuit_opened") == [("a", 5, "connect:refused")]
        counted = len(down.numbers)
        assert counted <= RULES.failures + limits.max_in_flight - 1
        assert settled(rig) == {"circuit": 50 - counted}
        await rig.idle(60)
        probes = len(down.numbers) - counted
        assert 3 <= probes <= 5  # after 5, 15, 35 and 55 seconds: whenever something is due
        assert set(down.numbers) == {1} or max(down.numbers) == 2
        assert len(rig.sent_to("http://b")) == 50
        down.answer = OK
        await rig.until(lambda: bool(rig.observer.named("circuit_closed")), 60)
        ((who, lasted, told_probes),) = rig.observer.named("circuit_closed")
        assert (who, told_probes) == ("a", probes + 1)
        assert 60 < lasted < 100
        await rig.until(lambda: answered(rig) == 100, 200)

    world.live(life())
    assert world.dead == []


def test_a_failed_probe_keeps_its_number_and_what_it_had() -> None:
    """The next request of that Delivery is the same attempt again."""
    world = World()

    async def life() -> None:
        down = Receiver(status(500))
        one = subscriber("a", retry_max=1)
        rig = Rig(world, one, answers=down, limits=Limits(max_in_flight=1), circuit=RULES).start()
        rig.publish(count=5)
        await rig.until(lambda: rig.committed == 5)
        assert rig.observer.named("circuit_opened")
        await rig.idle(100)  # their second attempts are due: each would be the last
        assert world.dead == []
        down.answer = OK
        await rig.until(lambda: answered(rig) == 5, 200)
        by_delivery: dict[str, list[int]] = {}
        for attempt in rig.transport.attempts:
            by_delivery.setdefault(attempt.delivery.id, []).append(attempt_number(attempt))
        assert all(set(numbers) == {1, 2} for numbers in by_delivery.values())
        assert max(len(numbers) for numbers in by_delivery.values()) > 2

    world.live(life())
    assert world.dead == []
    records = [told(record) for tier in TIERS for record in world.tier(tier)]
    assert {each["thorn-attempt"] for each in records} == {"1"}
    assert {each["thorn-error"] for each in records} == {"status:500"}


@pytest.mark.parametrize("last", [status(410), Outcome(Kind.BLOCKED, detail="block_internal_ips")])
def test_a_probe_may_end_its_delivery(last: Outcome) -> None:
    """What no further attempt can change is dead at once, probe or not."""
    world = World()

    async def life() -> None:
        down = Receiver(status(500))
        rig = Rig(world, subscriber("a"), answers=down, circuit=RULES).start()
        rig.publish(count=5)
        await rig.until(lambda: bool(rig.observer.named("circuit_opened")))
        down.answer = last
        await rig.until(lambda: len(world.dead) == 1, 30)

    world.live(life())


def test_answers_that_end_a_delivery_open_no_circuit() -> None:
    """410 and `dead_on`: the receiver is there, and knows what it does not want."""
    world = World()

    async def life() -> None:
        answers = {"http://a": status(410), "http://b": status(422)}
        ones = subscriber("a"), subscriber("b", dead_on=[422])
        rig = Rig(world, *ones, answers=answers, circuit=RULES).start()
        rig.publish(count=40)
        await rig.until(lambda: rig.committed == 40)
        assert rig.observer.named("circuit_opened") == []

    world.live(life())
    assert len(world.dead_of("gone")) == len(world.dead_of("rejected")) == 40


def test_what_is_queued_when_the_circuit_opens_is_parked_at_once() -> None:
    """Nothing of it waits in the Lane for `lane_wait_max`."""
    world = World()

    async def life() -> None:
        down = Receiver(REFUSED, takes=0.01)
        limits = Limits(max_in_flight=1, lane_wait_max=1000.0)
        rig = Rig(world, subscriber("a"), answers=down, limits=limits, circuit=RULES).start()
        rig.publish(count=30)
        await rig.until(lambda: bool(rig.observer.named("circuit_opened")))
        await rig.idle(0.1)
        assert settled(rig) == {"circuit": 25}
        assert [lane.depth for lane in rig.dispatcher.lanes] == [0]

    world.live(life())


def test_recovery_is_gentle() -> None:
    """After the outage one request at a time, and one more for each window of successes."""
    world = World()

    async def life() -> None:
        receiver = Receiver(REFUSED, takes=0.05)
        rig = Rig(
            world, subscriber("a"), answers=receiver, limits=Limits(lane_size=5000), circuit=RULES
        ).start()
        rig.publish(count=5)
        await rig.until(lambda: bool(rig.observer.named("circuit_opened")))
        receiver.answer = OK
        await rig.idle(5)
        receiver.most_at_once = 0
        rig.publish(count=1)
        await rig.until(lambda: bool(rig.observer.named("circuit_closed")))
        rig.publish(count=400)
        await rig.idle(0.04)
        assert receiver.most_at_once == 1
        await rig.idle(0.5)
        assert 2 <= receiver.most_at_once <= 12
        await rig.until(lambda: rig.committed == 406)
        assert receiver.most_at_once < 40

    world.live(life())


def test_another_url_is_not_judged_by_the_one_before() -> None:
    """Whoever mends the address of a receiver need not wait for a probe."""
    world = World()

    async def life() -> None:
        answers = {"http://a": REFUSED, "http://new": OK}
        rig = Rig(world, subscriber("a"), answers=answers, circuit=RULES).start()
        rig.publish(count=20)
        await rig.until(lambda: bool(rig.observer.named("circuit_opened")))
        rig.change(subscriber("a", url="http://new"))
        rig.publish(count=20)
        await rig.until(lambda: len(rig.sent_to("http://new")) >= 20, 3)
        assert rig.observer.named("circuit_closed")

    world.live(life())


def test_a_subscriber_that_is_paused_gets_nothing_of_what_is_queued() -> None:
    """Its queue is parked, cause `paused`."""
    world = World()

    async def life() -> None:
        limits = Limits(max_in_flight=1)
        rig = Rig(world, subscriber("a"), answers=None, limits=limits).start()
        rig.publish(count=5)
        await rig.idle(0.1)
        rig.change(subscriber("a", state="paused"))
        rig.transport.end(rig.under_way[0], OK)
        await rig.until(lambda: rig.committed == 5)
        assert len(rig.transport.attempts) == 1
        assert settled(rig) == {"paused": 4}

    world.live(life())


@pytest.mark.parametrize("code", [429, 503])
def test_retry_after_holds_the_whole_lane(code: int) -> None:
    """Nothing is sent before it is over; what waits too long is parked, cause `rate`."""
    world = World()

    async def life() -> None:
        receiver = Receiver(status(code, retry_after="10"))
        limits = Limits(max_in_flight=1, lane_wait_max=4.0)
        rig = Rig(world, subscriber("a"), answers=receiver, limits=limits, circuit=RULES).start()
        rig.publish(count=10)
        await rig.until(lambda: len(receiver.numbers) == 1)
        receiver.answer = OK
        await rig.idle(3.9)
        assert len(receiver.numbers) == 1
        await rig.idle(0.2)
        assert settled(rig) == {"rate": 9}
        await rig.idle(1)
        rig.publish()
        await rig.idle(4.5)
        assert len(receiver.numbers) == 1
        await rig.idle(1)
        assert len(receiver.numbers) > 1
        await rig.until(lambda: len(receiver.numbers) == 12, 30)

    world.live(life())


def test_retry_after_of_other_statuses_holds_its_delivery_alone() -> None:
    """A 500 with Retry-After says nothing about the others."""
    world = World()

    async def life() -> None:
        first = iter([status(500, retry_after="30")])
        rig = Rig(world, subscriber("a"), answers=lambda _: next(first, OK)).start()
        rig.publish(count=10)
        await rig.until(lambda: rig.committed == 10, 2)
        assert len(rig.transport.attempts) == 10

    world.live(life())


# --- rates --------------------------------------------------------------------------------------


def test_a_rate_holds_and_what_is_beyond_is_parked() -> None:
    """10 per second: never more in a second, and what the Lane cannot hold goes, cause `rate`."""
    world = World()

    async def life() -> None:
        at: list[float] = []

        def note(_: Attempt) -> Outcome:
            at.append(rig.clock.now)
            return OK

        limits = Limits(lane_size=30, lane_wait_max=2.0)
        one = subscriber("a", rate_limit=10.0)
        rig = Rig(world, one, answers=note, limits=limits).start()
        rig.publish(count=100)
        await rig.until(lambda: len(at) == 100, 60)
        for number, moment in enumerate(at, 1):
            assert number <= 10 * moment + 1e-6
        assert at[-1] < 20
        assert settled(rig)["rate"] >= 60
        assert rig.clock.now < 20

    world.live(life())


def test_what_is_beyond_a_rate_holds_nobody_back() -> None:
    """Intake does not wait a moment for a Lane that is at its rate."""
    world = World()

    async def life() -> None:
        limits = Limits(lane_size=10)
        ones = subscriber("a", rate_limit=1.0), subscriber("b")
        rig = Rig(world, *ones, limits=limits).start()
        rig.publish(count=1000)
        await rig.until(lambda: len(rig.sent_to("http://b")) == 1000)
        assert rig.clock.now < 0.02

    world.live(life())


def test_a_process_sends_its_part_of_the_rate() -> None:
    """Of four main partitions it has one, and all of the others: 0.75 / 4 + 0.25 of 32."""
    world = World()

    async def life() -> None:
        rig = Rig(world, subscriber("a", rate_limit=32.0), limits=Limits(lane_wait_max=100.0))
        rig.main.total = 4
        rig.start()
        rig.publish(count=500)
        await rig.idle(10.5)
        assert 130 <= len(rig.transport.attempts) <= 147

    world.live(life())


def test_first_attempts_and_later_ones_share_a_rate() -> None:
    """Three to one when both wait; all of it for whichever comes alone."""
    world = World()

    async def life() -> None:
        limits = Limits(lane_size=4000, lane_wait_max=1000.0)
        rig = Rig(world, subscriber("a", rate_limit=20.0), limits=limits).start()
        for number in range(400):
            rig.dispatcher.deliver(later_one(rig, number))
        rig.publish(count=150)
        await rig.idle(5)
        again = [each.delivery.again for each in rig.transport.attempts]
        assert len(again) >= 90
        assert 0.2 < sum(again) / len(again) < 0.3
        await rig.idle(10)
        again = [each.delivery.again for each in rig.transport.attempts]
        assert again.count(False) == 150
        assert len(again) >= 280

    world.live(life())


@pytest.mark.parametrize("answer", [Outcome(Kind.TIMEOUT, duration=3.0), status(503)])
def test_a_tenth_that_never_succeeds_does_not_hold_up_the_rest(answer: Outcome) -> None:
    """Of one receiver: whoever is behind those keys waits, all others are on time."""
    world = World()

    async def life() -> None:
        late: list[float] = []

        async def receiver(attempt: Attempt) -> Outcome:
            number = attempt.delivery.envelope.record.offset
            if number % 10 == 0:
                await asyncio.sleep(answer.duration)
                return answer
            late.append(rig.clock.now - published[number])
            await asyncio.sleep(0.02)
            return OK

        policy = RetryPolicy(delay=60.0)
        limits = Limits(max_in_flight=80)
        rig = Rig(world, subscriber("a"), answers=receiver, limits=limits, policy=policy).start()
        published: list[float] = []
        for _ in range(400):
            published += [rig.clock.now] * 5
            rig.publish(count=5)
            await rig.idle(0.025)
        assert len(late) == 1800
        assert max(late) < 1.0
        assert settled(rig) == {}

    world.live(life())


def test_a_crowded_partition_parks_nothing_of_a_receiver_that_is_quick() -> None:
    """Its window is three quarters full because of another one: that one's have to go."""
    world = World()

    async def life() -> None:
        quick = Receiver(takes=0.001)
        ones = subscriber("slow", event="slow.*"), subscriber("quick", event="quick.*")
        limits = Limits(max_in_flight=1, window=60)
        rig = Rig(
            world, *ones, answers={"http://slow": None, "http://quick": quick}, limits=limits
        ).start()
        rig.publish(value(event="slow.x"), count=20)
        rig.publish(value(event="quick.x"), count=35)
        await rig.until(lambda: len(quick.numbers) == 35, 1)
        assert settled(rig) == {}
        await rig.until(lambda: settled(rig) == {"lane": 19}, 1)

    world.live(life())


# --- shares -------------------------------------------------------------------------------------


def test_a_flood_of_retries_leaves_places_for_first_attempts() -> None:
    """A quarter of the queue is kept, and they have three turns of four."""
    world = World()

    async def life() -> None:
        receiver = Receiver(takes=0.1)
        limits = Limits(max_in_flight=4, lane_size=40)
        rig = Rig(world, subscriber("a"), answers=receiver, limits=limits).start()
        refused: list[str] = []
        for number in range(100):
            rig.dispatcher.deliver(later_one(rig, number, refused))
        (lane,) = rig.dispatcher.lanes
        assert (lane.in_flight, lane.depth, refused) == (4, 30, ["lane"] * 66)
        rig.publish(count=10)
        await rig.until(lambda: rig.committed == 10, 2)
        assert rig.clock.now < 0.9
        order = [each.delivery.again for each in rig.transport.attempts]
        assert any(order[4:17])  # the later ones had turns as well
        assert settled(rig) == {}

    world.live(life())


def test_some_connections_are_kept_for_first_attempts() -> None:
    """A flood of retries to receivers that hang takes three quarters of them, no more."""
    world = World()

    async def life() -> None:
        limits = Limits(max_connections=8)
        answers = {"http://a": None, "http://b": OK}
        ones = subscriber("a", event="never"), subscriber("b")
        rig = Rig(world, *ones, answers=answers, limits=limits).start()
        for number in range(100):
            rig.dispatcher.deliver(later_one(rig, number, []))
        assert rig.dispatcher.lanes.in_flight == 6
        rig.publish(count=10)
        await rig.until(lambda: rig.committed == 10, 1)

    world.live(life())


def test_slow_receivers_leave_connections_for_others() -> None:
    """Each may take many while half is free, and then only its even part."""
    world = World()

    async def life() -> None:
        limits = Limits(max_connections=100, max_in_flight=80, lane_wait_max=1000.0)
        slow = [subscriber(f"s{number}", event="slow.*") for number in range(9)]
        answers: dict[str, Any] = {f"http://s{number}": None for number in range(9)}
        receiver = answers["http://good"] = Receiver(takes=0.001)
        rig = Rig(world, *slow, subscriber("good", event="good.*"), answers=answers, limits=limits)
        rig.start()
        rig.publish(value(event="slow.x"), count=200)
        await rig.idle(1)
        crawling = sorted(lane.in_flight for lane in rig.dispatcher.lanes)
        assert sum(crawling) < 100
        rig.publish(value(event="good.x"), count=100)
        await rig.until(lambda: len(receiver.numbers) == 100, 1)
        assert rig.dispatcher.lanes.in_flight <= 100

    world.live(life())


def test_no_lane_queues_more_than_its_part_of_memory() -> None:
    """With large records a receiver that hangs is parked from before its places are full."""
    world = World()

    async def life() -> None:
        limits = Limits(max_in_flight=1, memory=400_000, lane_wait_max=1000.0)
        answers = {"http://a": None, "http://b": None}
        rig = Rig(world, subscriber("a"), subscriber("b"), answers=answers, limits=limits).start()
        body = value() + b" " * 10_000
        rig.publish(body, count=5)
        await rig.idle(0.1)
        assert settled(rig) == {}
        rig.publish(body, count=100)
        await rig.until(lambda: settled(rig)["lane"] > 150)
        sizes = [lane.size for lane in rig.dispatcher.lanes]
        assert sum(sizes) < 150_000
        assert min(sizes) > 40_000

    world.live(life())


def test_a_lane_at_rest_takes_less_than_a_kibibyte() -> None:
    """With what a queue or a failing receiver has left behind let go of."""
    world = World()

    async def life() -> None:
        names = [f"s{number}" for number in range(500)]
        ones = [subscriber(name) for name in names]
        rig = Rig(world, *ones, limits=Limits(max_in_flight=1)).start()
        settings = rig.prepare(ones[0])
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            lanes = [Lane(one, settings, None) for one in ones]
            after, _ = tracemalloc.get_traced_memory()
            assert (after - before) / len(lanes) < 1024
        finally:
            tracemalloc.stop()
        rig.publish(count=5)
        await rig.until(lambda: rig.committed == 5)
        await rig.idle(0.1)
        for lane in rig.dispatcher.lanes:
            assert list(lane.queues()) == []
            assert lane._first is None  # an empty deque would not show elsewhere

    world.live(life())


# --- what the drain of parked ones is told ------------------------------------------------------


def test_the_drain_has_half_of_what_may_be_in_flight() -> None:
    """New events keep the other half; nothing for a subscriber that takes nothing."""
    world = World()

    async def life() -> None:
        one = subscriber("a", max_in_flight=8)
        rig = Rig(world, one, answers=None).start()
        lanes = rig.dispatcher.lanes
        assert lanes.may_drain(one) == 1  # it has no Lane yet
        rig.dispatcher.deliver(later_one(rig, 0, []))
        assert lanes.may_drain(one) == 3
        for number in range(1, 4):
            rig.dispatcher.deliver(later_one(rig, number, []))
        assert lanes.may_drain(one) == 0
        rig.publish(count=4)
        await rig.idle(0.1)
        assert len(rig.under_way) == 8
        assert lanes.may_drain(subscriber("a", state="paused")) == 0
        rig.transport.end(rig.under_way[0], OK)
        await rig.idle(0.1)
        assert lanes.may_drain(one) == 1

    world.live(life())


def test_the_drain_gives_a_probe_when_one_is_due_and_gets_it_back_when_it_fails() -> None:
    """Without an attempt counted, and without a record written."""
    world = World()

    async def life() -> None:
        down = Receiver(REFUSED)
        rig = Rig(world, subscriber("a", retry_delay=60.0), answers=down, circuit=RULES).start()
        one = rig.dispatcher.directory.get("a")
        assert one is not None
        rig.publish(count=5)
        await rig.until(lambda: bool(rig.observer.named("circuit_opened")))
        lanes = rig.dispatcher.lanes
        assert lanes.may_drain(one) == 0
        await rig.idle(4.99)
        back: list[str] = []
        while not lanes.may_drain(one):
            await rig.idle(0.01)
        assert lanes.may_drain(one) == 1
        parked = later_one(rig, 1, back)
        rig.dispatcher.deliver(parked)
        assert lanes.may_drain(one) == 0
        await rig.until(lambda: back == ["circuit"], 2)
        assert parked.attempts == 1
        assert down.numbers[-1] == 2
        assert settled(rig) == {}

    world.live(life())


def test_the_drain_keeps_to_the_rate() -> None:
    """One may wait for its turn; more only as there are tokens."""
    world = World()

    async def life() -> None:
        one = subscriber("a", rate_limit=10.0)
        rig = Rig(world, one).start()
        lanes = rig.dispatcher.lanes
        await rig.idle(0.05)
        rig.dispatcher.deliver(later_one(rig, 0, []))
        await rig.idle(0.2)
        assert len(rig.transport.attempts) == 1
        assert 1 <= lanes.may_drain(one) <= 2  # one token, and one that waits for the next
        rig.dispatcher.deliver(later_one(rig, 1, []))
        assert lanes.may_drain(one) <= 1
        await rig.idle(0.2)
        assert len(rig.transport.attempts) == 2

    world.live(life())


def test_limits_of_the_policy_hold_for_retry_after() -> None:
    """A receiver cannot hold its Lane for longer than `retry_after_max`."""
    world = World()

    async def life() -> None:
        policy = RetryPolicy(delay=5.0, jitter=0.0, retry_after_max=8.0)
        first = iter([status(503, retry_after="999999")])
        rig = Rig(world, subscriber("a"), answers=lambda _: next(first, OK), policy=policy).start()
        rig.publish()
        await rig.idle(0.5)
        rig.publish()
        await rig.until(lambda: len(rig.transport.attempts) == 3, 12)
        assert rig.clock.now >= 8

    world.live(life())
