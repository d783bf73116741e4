"""A group of dispatchers and its receivers in moved time: who waits, for how long, and for whom.

Receivers refuse, hang, crawl, ask for silence and come back; some have a rate; records are small or
large. Partitions stay where they are (tests/property/test_dispatch.py moves them): here every limit
is looked at all the time, and at the end everything has to be delivered.
"""

import asyncio
import random
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from tests.support.dispatching import (
    OK,
    Rig,
    World,
    attempt_number,
    status,
    subscriber,
    value,
)
from thorn_stream.core.circuit import CircuitRules, probes_within
from thorn_stream.core.deliveries import Attempt, Kind, Outcome
from thorn_stream.core.flow import Limits, ahead
from thorn_stream.core.records import Partition, Position, Record
from thorn_stream.core.schedule import RetryPolicy
from thorn_stream.core.sharing import for_later_ones
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.testing import MemorySource

RULES: Final = CircuitRules(failures=4, open_for=1.0, open_for_max=4.0)
LIMITS: Final = Limits(
    max_in_flight=12,
    max_connections=60,
    lane_size=60,
    lane_wait_max=1.0,
    window=400,
    lookahead=200,
    memory=1_500_000,
    commit_count=100,
)
POLICY: Final = RetryPolicy(retry_max=20, delay=5.0, jitter=0.5)
"""So many retries that every outage ends before: nothing may be dead."""
LOAD: Final = 25.0
"""Seconds in which events are published and receivers have their troubles."""
SOON: Final = 1.0
"""Seconds within which whoever is in good health is called, whatever the others do."""
SLICE: Final = 64
LARGEST: Final = 14_000  # with what is made around its body


@dataclass
class Receiver:
    """How one receiver behaves, and what it has seen. `down`: from, until, and what it does."""

    one: Subscriber
    takes: float
    flaky: float = 0.0
    down: list[tuple[float, float, str]] = field(default_factory=list)
    asked: Counter[int] = field(default_factory=Counter)  # of each outage and member
    recent: deque[float] = field(default_factory=deque)
    seen: int = 0

    @property
    def is_well(self) -> bool:
        troubled = self.down or self.flaky or self.takes > 0.02
        return not (troubled or self.one.rate_limit or self.one.max_in_flight)

    def trouble(self, now: float) -> int | None:
        """The number of the outage that it is in."""
        for number, (begin, end, _) in enumerate(self.down):
            if begin <= now < end:
                return number
        return None


class Member(Rig):
    """One dispatcher of the group: it has some of the partitions of each kind."""

    def __init__(self, group: "Group", number: int) -> None:
        self.group = group
        self.number = number
        super().__init__(
            group.world,
            *(each.one for each in group.receivers.values()),
            answers=group.answer,
            partitions=group.partitions,
            limits=LIMITS,
            policy=POLICY,
            circuit=RULES,
        )
        self.main.credit_size = LIMITS.memory // 2
        self.retry.credit_size = ahead(LIMITS.memory // 4)
        self.parked.credit_size = LIMITS.memory // 16

    def _source(
        self,
        made: type[MemorySource],
        partitions: Sequence[Partition],
        committed: dict[Partition, Position],
    ) -> MemorySource:
        ours = [each for each in partitions if self.group.owner(each) == self.number]
        source = super()._source(made, ours, committed)
        source.total = len(partitions)
        return source

    def _written(self, records: Sequence[Record]) -> None:
        for each in self.group.members:
            Rig._written(each, records)


class Group:
    """The simulation: made from a seed, it lives once."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.world = World()
        self.partitions = [Partition("orders", n) for n in range(self.dice.randint(1, 3))]
        self.members: list[Member] = []
        self.count = self.dice.randint(1, 2)
        self.receivers: dict[str, Receiver] = {}
        for number in range(self.dice.randint(2, 6)):
            each = self._receiver(number)
            self.receivers[each.one.url] = each
        self.published: dict[tuple[int, int], float] = {}
        self.in_flight: Counter[tuple[str, int]] = Counter()
        self.delivered: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
        self.late = 0.0
        self.probed = self.opened = 0

    def _receiver(self, number: int) -> Receiver:
        dice = self.dice
        fields: dict[str, Any] = {}
        kind = dice.choice(["well", "well", "down", "down", "crawls", "flaky"])
        if dice.random() < 0.2:
            fields["rate_limit"] = dice.choice([8.0, 20.0, 60.0])
        if kind != "crawls" and dice.random() < 0.3:
            fields["max_in_flight"] = dice.randint(1, 12)
        made = Receiver(subscriber(f"s{number}", **fields), dice.choice([0.001, 0.02, 0.1]))
        match kind:
            case "crawls":
                made.takes = 1.0
            case "flaky":
                made.flaky = dice.choice([0.02, 0.3, 0.9])
            case "down":
                begin = dice.random() * LOAD
                end = begin + dice.choice([0.5, 5.0, 20.0])
                made.down.append((begin, end, dice.choice(["refuses", "hangs", "fails", "busy"])))
        return made

    def owner(self, partition: Partition) -> int:
        return hash((partition.topic == "orders", len(partition.topic), partition.number)) % (
            self.count
        )

    # --- receivers ------------------------------------------------------------------------------

    def answer(self, attempt: Attempt) -> Awaitable[Outcome]:
        return self._answer(attempt, self.receivers[str(attempt.target)])

    async def _answer(self, attempt: Attempt, receiver: Receiver) -> Outcome:
        member = self._member(attempt)
        self._begun(attempt, receiver, member)
        key = (receiver.one.id, member.number)
        try:
            return await self._behave(attempt, receiver, member)
        finally:
            self.in_flight[key] -= 1

    async def _behave(self, attempt: Attempt, receiver: Receiver, member: Member) -> Outcome:
        trouble = receiver.trouble(self.world.clock.now)
        if trouble is None:
            await asyncio.sleep(receiver.takes)
            if self.dice.random() < receiver.flaky and self.world.clock.now < LOAD:
                return status(500)
            record = attempt.delivery.envelope.record
            self.delivered[receiver.one.id][record.partition, record.offset] += 1
            return OK
        receiver.asked[trouble * 10 + member.number] += 1
        match receiver.down[trouble][2]:
            case "hangs":
                await asyncio.sleep(attempt.timeout + 1)
            case "refuses":
                return Outcome(Kind.CONNECT, detail="refused")
            case "busy":
                return status(self.dice.choice([429, 503]), retry_after="2")
        return status(500)

    def _member(self, attempt: Attempt) -> Member:
        return next(each for each in self.members if attempt in each.transport.waiting)

    # --- what must hold at every request --------------------------------------------------------

    def _begun(self, attempt: Attempt, receiver: Receiver, member: Member) -> None:
        now = self.world.clock.now
        one, record = receiver.one, attempt.delivery.envelope.record
        key = (one.id, member.number)
        self.in_flight[key] += 1
        receiver.seen += 1
        assert self.in_flight[key] <= (one.max_in_flight or LIMITS.max_in_flight)
        lanes = member.dispatcher.lanes
        assert lanes.in_flight <= LIMITS.max_connections
        assert lanes.again_in_flight <= for_later_ones(LIMITS.max_connections)
        if receiver.is_well:
            waited = now - self.published[record.partition, record.offset]
            self.late = max(self.late, waited)
            assert attempt_number(attempt) == 1
        if one.rate_limit is not None:
            assert receiver.seen <= one.rate_limit * now + 1e-6
            receiver.recent.append(now)
            while receiver.recent[0] <= now - 1:
                receiver.recent.popleft()
            assert len(receiver.recent) <= 1.04 * one.rate_limit + 2 * self.count

    # --- what must hold all the time ------------------------------------------------------------

    async def watch(self) -> None:
        while True:
            for each in self.members:
                self._look_at(each)
            await asyncio.sleep(0.1)

    def _look_at(self, member: Member) -> None:
        for lane in member.dispatcher.lanes:
            assert lane.depth <= LIMITS.lane_size + SLICE
            assert lane.again_depth <= LIMITS.lane_size * 3 // 4
            assert lane.in_flight <= lane.settings.max_in_flight
        queued = sum(lane.size for lane in member.dispatcher.lanes)
        assert queued <= LIMITS.memory // 2 + len(self.receivers) * LARGEST * SLICE
        worker = member.worker
        assert worker.main.open_bytes <= LIMITS.memory // 2 + LARGEST
        assert worker.retry.open_bytes <= LIMITS.memory // 4 + LARGEST
        assert member.parking.held_bytes <= LIMITS.memory // 8 + 2 * LARGEST
        for ledger in worker.main.ledgers.values():
            assert ledger.depth <= LIMITS.window + SLICE

    # --- its life -------------------------------------------------------------------------------

    def live(self) -> None:
        self.world.live(self._life())

    async def _life(self) -> None:
        self.members += [Member(self, number) for number in range(self.count)]
        for each in self.members:
            each.start()
        watching = asyncio.get_running_loop().create_task(self.watch())
        clock = self.world.clock
        while clock.now < LOAD:
            self._publish(self.dice.choice([0, 1, 3, 10, 20]))
            await asyncio.sleep(self.dice.choice([0.1, 0.5, 1.0]))
        await self.members[0].until(lambda: self.all_delivered or watching.done(), 400)
        watching.cancel()
        for done in await asyncio.gather(watching, return_exceptions=True):
            assert isinstance(done, asyncio.CancelledError), done
        for each in self.members:
            self.opened += len(each.observer.named("circuit_opened"))
            self.probed += sum(probes for _, _, probes in each.observer.named("circuit_closed"))
            assert await each.worker.drain(25.0)

    def _publish(self, count: int) -> None:
        for _ in range(count):
            place = self.dice.choice(self.partitions)
            pad = self.dice.choice([0, 0, 0, LARGEST - 3000])
            body = value(len(self.published)) + b" " * pad
            member = self.members[self.owner(place)]
            (record,) = member.publish(body, partition=place.number)
            self.published[place.number, record.offset] = self.world.clock.now

    @property
    def all_delivered(self) -> bool:
        return all(
            len(self.delivered[each.one.id]) == len(self.published)
            for each in self.receivers.values()
        )

    def check_the_end(self) -> None:
        assert self.all_delivered
        assert self.world.dead == []
        for each in self.receivers.values():  # nobody crashed, so nothing comes twice
            assert set(self.delivered[each.one.id].values()) <= {1}
            most = (each.one.max_in_flight or LIMITS.max_in_flight) + RULES.failures - 1
            for outage, asked in each.asked.items():
                begin, end, _ = each.down[outage // 10]
                assert asked <= most + probes_within(end - begin, RULES)
        assert self.late <= SOON


def simulated(seed: int) -> Group:
    group = Group(seed)
    group.live()
    group.check_the_end()
    return group


@pytest.mark.parametrize("seed", range(8, 24))
def test_nobody_waits_for_anybody(seed: int) -> None:
    """All limits hold all the time, the healthy are served soon, and everything is delivered."""
    simulated(seed)


@pytest.mark.long
@pytest.mark.timeout(3600)  # 300 groups
@pytest.mark.parametrize("part", range(10))
def test_nobody_waits_for_anybody_in_thousands_of_runs(part: int) -> None:
    """The same, of many more groups."""
    for seed in range(24 + 300 * part, 324 + 300 * part):
        try:
            simulated(seed)
        except BaseException as error:
            raise AssertionError(f"seed {seed}") from error


def test_the_simulations_reach_what_they_are_about() -> None:
    """Circuits open and are probed, rates and full lanes park, in the quick ones already."""
    causes: Counter[str] = Counter()
    opened = probed = 0
    for seed in range(8):
        group = simulated(seed)
        opened, probed = opened + group.opened, probed + group.probed
        for each in group.members:
            for (decided,) in each.observer.named("settled"):
                causes[getattr(decided, "cause", "")] += 1
    assert opened
    assert probed
    assert causes.keys() >= {"circuit", "rate", "lane"}
