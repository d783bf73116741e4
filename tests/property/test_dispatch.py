"""Whole lives of dispatchers, at random: nothing is lost, nothing is early, everything adds up.

Receivers fail, crawl or are gone, writes are refused, partitions come and go, dispatchers crash or
drain and others take over. What must hold is checked at every commit and at the end.
"""

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.dispatching import (
    DEAD,
    OK,
    PARKED,
    PARKING,
    TIERS,
    Rig,
    World,
    attempt_number,
    retry_topic,
    status,
    subscriber,
    told,
    value,
)
from thorn_stream.core import cursors, ids, notes, offsets
from thorn_stream.core.circuit import CircuitRules
from thorn_stream.core.deliveries import Attempt, Kind, Outcome
from thorn_stream.core.flow import Limits
from thorn_stream.core.records import Headers, Partition, Position, Record
from thorn_stream.core.schedule import RetryPolicy
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ports import SendFailed, Sink
from thorn_stream.testing import MemorySink, MemorySource

PARTITIONS = (Partition("orders", 0), Partition("orders", 1))
TIER_PARTITIONS = tuple(Partition(retry_topic(tier), 0) for tier in TIERS)
RETRY_MAX = 2
LIMITS = Limits(
    max_in_flight=20,
    max_connections=30,
    lane_size=10,
    lane_wait_max=1.0,
    window=100,
    lookahead=20,
    commit_count=50,
)
NEVER = CircuitRules(failures=1 << 30)
"""Receivers that never recover are to use up their attempts here: circuits have a simulation."""
POLICY = RetryPolicy(retry_max=RETRY_MAX, delay=6.0, backoff=3.0, jitter=0.5)
SUBSCRIBERS = (
    subscriber("good"),
    subscriber("flaky"),
    subscriber("broken"),
    subscriber("gone"),
    subscriber("slow", event="user.deleted", max_in_flight=3),
    subscriber("some", event="user.*"),
)


class CheckedSource(MemorySource):
    """Asks before every commit, and after every revocation, whether it may be."""

    check: Callable[[Mapping[Partition, Position]], None]
    begun: Callable[[Mapping[Partition, Position]], None]

    def assign(self, *partitions: Partition) -> None:
        self.begun({each: self.committed.get(each, Position(0)) for each in partitions})
        super().assign(*partitions)

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        for partition, position in positions.items():
            before = self.committed.get(partition, Position(0))
            assert position.offset >= before.offset
            assert position != before
            if position.offset == before.offset:
                known, knew = told_done(position), told_done(before)
                noted = notes.split(position.metadata)[1] != notes.split(before.metadata)[1]
                assert known > knew or (known >= knew and noted)
        self.check(positions)
        super().commit(positions)

    async def revoke(self, *partitions: Partition, wait: float = 2.0) -> bool:
        before = dict(self.committed)
        answered = await super().revoke(*partitions, wait=wait)
        assert all(self.committed[each].offset >= at.offset for each, at in before.items())
        self.check(self.committed)
        return answered


STORIES = 6 if settings().max_examples < 1000 else settings().max_examples // 5
"""Of each kind: a handful in the quick run, a thousand in the long one."""


def told_done(position: Position) -> set[int]:
    """Offsets above the committed one that its metadata calls done."""
    text, _ = notes.split(position.metadata)
    known = offsets.decode(text, position.offset)
    assert known is not None
    return set(range(position.offset, known.end)) - set(known.incomplete)


class Unreliable:
    """A Sink that refuses some records and acknowledges the others late."""

    def __init__(self, inner: MemorySink, story: "Story") -> None:
        self._inner = inner
        self._story = story

    def send(
        self,
        topic: str,
        record: tuple[bytes | None, bytes | None, Headers],
        done: Callable[[Any, SendFailed | None], None],
        token: Any,
    ) -> None:
        loop, dice = asyncio.get_running_loop(), self._story.dice

        def written(_: Any, failed: SendFailed | None) -> None:
            if failed is None:
                self._story.written(self._inner.topics[topic][-1])
            loop.call_later(dice.random() * 0.3, done, token, failed)

        if dice.random() < self._story.refused:
            loop.call_later(dice.random() * 0.1, done, token, SendFailed("Broker: not enough"))
        else:
            self._inner.send(topic, record, written, None)

    async def stop(self, grace: float) -> int:
        return await self._inner.stop(grace)


@dataclass
class Story:
    """One World, who lives in it, and what was seen."""

    dice: random.Random
    world: World = field(default_factory=World)
    refused: float = 0.0
    attempts: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    delivered: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    carried: dict[str, list[Record]] = field(default_factory=lambda: defaultdict(list))
    checked: Counter[Partition] = field(default_factory=Counter)
    wanted: dict[Partition, list[list[str]]] = field(default_factory=lambda: defaultdict(list))
    passed_over: dict[Partition, set[int]] = field(default_factory=dict)
    spared: int = 0

    # --- what happens ---------------------------------------------------------------------------

    def rig(self) -> Rig:
        def unreliable(inner: MemorySink) -> Sink:
            return Unreliable(inner, self)

        rig: Rig = Rig(
            self.world,
            *SUBSCRIBERS,
            answers=lambda attempt: self.answer(rig, attempt),
            partitions=PARTITIONS,
            limits=LIMITS,
            policy=POLICY,
            wrap=unreliable,
            source=CheckedSource,
            circuit=NEVER,
        )
        for source in (rig.main, rig.retry, rig.parked):
            assert isinstance(source, CheckedSource)
            source.check, source.begun = self.check, self.begun
        return rig.start()

    def publish(self, rig: Rig, count: int) -> None:
        for _ in range(count):
            name = self.dice.choice(["order.created", "user.created", "user.deleted"])
            place = self.dice.choice(PARTITIONS)
            body = value(len(self.world.inputs), name)
            (record,) = rig.publish(body, partition=place.number)
            event = ids.event_id("orders", place.number, record.offset, record.timestamp)
            meant = [one for one in SUBSCRIBERS if _wants(one, name)]
            self.wanted[place].append([ids.delivery_id(event, one.id) for one in meant])

    def answer(self, rig: Rig, attempt: Attempt) -> None:
        """What the receiver of this Attempt does, in its time."""
        delivery = attempt.delivery
        entry = delivery.entry
        if entry.ledger.partition != PARKING:  # what its group passes over is read from cursors
            over = self.passed_over[entry.ledger.partition]
            assert entry.offset not in over or entry.ledger.closed
        self.attempts[delivery.id].append((attempt_number(attempt), self.world.clock.wall()))
        crawls = delivery.subscriber.id == "slow" and self.dice.random() < 0.1
        takes = self.dice.random() * (5.0 if crawls else 0.05)
        loop = asyncio.get_running_loop()
        if takes < attempt.timeout:
            loop.call_later(takes, self.answered, rig, attempt)
        else:
            loop.call_later(attempt.timeout, rig.transport.end, attempt, Outcome(Kind.TIMEOUT))

    def answered(self, rig: Rig, attempt: Attempt) -> None:
        dice, name = self.dice, attempt.delivery.subscriber.id
        outcome = OK
        if name == "broken" or (name == "flaky" and dice.random() < 0.4):
            after = dice.choice([None, "7", "no"])
            outcome = status(dice.choice([500, 404, 302]), retry_after=after)
        elif name == "gone" and dice.random() < 0.3:
            outcome = status(410)
        else:
            self.delivered[attempt.delivery.id] += 1
        rig.transport.end(attempt, outcome)

    def written(self, record: Record) -> None:
        delivery = told(record)["thorn-delivery"]
        if record.topic == DEAD:
            self.letters[delivery] += 1
        else:
            self.carried[delivery].append(record)

    # --- what must hold -------------------------------------------------------------------------

    def begun(self, positions: Mapping[Partition, Position]) -> None:
        """What these commits call done is not to be delivered by who begins at them."""
        for partition, position in positions.items():
            self.passed_over[partition] = told_done(position)
            self.spared += len(self.passed_over[partition])

    def check(self, positions: Mapping[Partition, Position]) -> None:
        """All below a committed offset, and what is told of above, is over or written further."""
        assert all(told.get("count", 0) >= 0 for told in self.world.cursors.values())
        for partition, position in positions.items():
            before = self.checked[partition]
            for offset in (*range(before, position.offset), *told_done(position)):
                if partition in PARTITIONS:
                    for delivery in self.wanted[partition][offset]:
                        assert self.is_over(delivery) or self.carried[delivery]
                else:
                    record = self.world.topics[partition.topic][offset]
                    delivery = told(record)["thorn-delivery"]
                    further = self.carried[delivery][-1] is not record
                    assert self.is_over(delivery) or further or self.has_cursor(record)
            self.checked[partition] = max(before, position.offset)

    def has_cursor(self, record: Record) -> bool:
        """Whether whoever reads the cursors will read this parked record."""
        name = told(record)["thorn-subscriber"]
        return record.topic == PARKED and any(
            key.endswith(f"/{name}") and cursor["next"] <= record.offset
            for key, cursor in self.world.cursors.items()
        )

    def live_cursors(self) -> list[str]:
        """Those that count: one that a former owner wrote too late is cleared away by the next."""
        at = self.world.parked_committed.get(PARKING, Position(0))
        epoch = cursors.epoch_in(notes.split(at.metadata)[1])
        return [key for key in self.world.cursors if int(key.split("/")[1]) >= epoch]

    def is_over(self, delivery: str) -> bool:
        return bool(self.delivered[delivery] or self.letters[delivery])

    def check_the_end(self) -> None:
        everybody = [each for events in self.wanted.values() for one in events for each in one]
        assert all(self.is_over(delivery) for delivery in everybody)
        assert set(self.attempts) <= set(everybody)
        for delivery, made in self.attempts.items():
            numbers = {number for number, _ in made}
            assert numbers == set(range(1, len(numbers) + 1))
            assert len(numbers) <= 1 + RETRY_MAX
            for number, at in made:
                assert number == 1 or any(
                    int(tells["thorn-due"]) <= at
                    for record in self.carried[delivery]
                    if (tells := told(record))["thorn-attempt"] == str(number - 1)
                )
        for letter in self.world.dead:
            tells = told(letter)
            assert tells["thorn-reason"] in ("exhausted", "gone")
            attempts = int(tells["thorn-attempt"])
            assert attempts == 1 + RETRY_MAX or tells["thorn-reason"] == "gone"

    def check_nothing_twice(self) -> None:
        """Without a crash, a loss or a revocation."""
        for delivery, made in self.attempts.items():
            assert [number for number, _ in made] == list(range(1, len(made) + 1))
            assert self.delivered[delivery] + self.letters[delivery] == 1

    # --- lives ----------------------------------------------------------------------------------

    async def life(self) -> None:
        """Some time of one dispatcher; afterwards it is gone, drained or not."""
        rig = self.rig()
        await self.some_time(rig, self.storm)
        if self.dice.random() < 0.5:
            self.all_is_well(rig)
            assert await rig.worker.drain(25.0)
            assert await rig.worker.leave(3.0)

    async def some_time(self, rig: Rig, happens: Callable[[Rig], Awaitable[None]]) -> None:
        for _ in range(self.dice.randrange(1, 8)):
            self.publish(rig, self.dice.choice([0, 1, 5, 20, 100]))
            self.refused = self.dice.choice([0.0, 0.0, 0.3, 0.9])
            rig.main.refuse = self.dice.choice([None, None, "Broker: not now"])
            rig.retry.refuse = self.dice.choice([None, None, "Broker: not now"])
            rig.parked.refuse = self.dice.choice([None, None, "Broker: not now"])
            await happens(rig)
            await rig.idle(self.dice.choice([0.0, 0.01, 0.3, 2.0, 9.0]))

    def all_is_well(self, rig: Rig) -> None:
        self.refused = 0.0
        for source in (rig.main, rig.retry, rig.parked):
            source.refuse = None

    async def calm(self, rig: Rig) -> None:
        """Partitions stay where they are."""

    async def storm(self, rig: Rig) -> None:
        """Partitions are taken away, and given back sooner or later."""
        ways = [
            (rig.main, PARTITIONS),
            (rig.retry, TIER_PARTITIONS),
            (rig.parked, [PARKING]),
        ]
        source, places = self.dice.choice(ways)
        gone = self.dice.sample(places, self.dice.randrange(len(places) + 1))
        if not gone:
            return
        for _ in range(self.dice.randrange(3)):  # in the middle of a batch
            await asyncio.sleep(0)
        if self.dice.random() < 0.5:
            source.lose(*gone)
        else:
            assert await source.revoke(*gone)
        await rig.idle(self.dice.choice([0.0, 0.0, 0.5]))
        source.assign(*gone)

    async def only_life(self) -> None:
        rig = self.rig()
        await self.some_time(rig, self.calm)
        await self.to_the_end(rig)

    async def last_life(self) -> None:
        await self.to_the_end(self.rig())

    async def to_the_end(self, rig: Rig) -> None:
        """Everything works: all of it is done, and nothing is left anywhere."""
        self.all_is_well(rig)

        def all_read() -> bool:
            ends = {place: len(self.wanted[place]) for place in PARTITIONS}
            own = [*TIER_PARTITIONS, PARKING]
            ends |= {p: len(self.world.topics.get(p.topic, ())) for p in own}
            committed = rig.main.committed | rig.retry.committed | rig.parked.committed
            if self.live_cursors():
                return False
            return all(committed.get(p, Position(0)).offset == end for p, end in ends.items())

        await rig.until(lambda: not rig.worker.reasons())
        for _ in range(600):
            if all_read():
                break
            await rig.idle(1)
        assert all_read()
        await rig.until(lambda: rig.credit_is_whole)
        assert [intake.busy for intake in rig.worker.intakes] == [0, 0, 0]
        assert [intake.open_bytes for intake in rig.worker.intakes] == [0, 0, 0]
        assert (rig.parking.busy, rig.parking.held_bytes) == (False, 0)
        assert (rig.dispatcher.lanes.in_flight, len(rig.waiting)) == (0, 0)
        assert [lane.depth for lane in rig.dispatcher.lanes if lane.depth] == []
        assert rig.worker.reasons() == []
        assert await rig.worker.drain(1.0)


def _wants(one: Subscriber, name: str) -> bool:
    """Matching, as slow and as plain as it can be said."""
    (pattern,) = one.event
    return pattern in ("**", name) or (pattern == "user.*" and name.startswith("user."))


def stormy(seed: int) -> Story:
    """Up to three lives that end in a crash or a drain, and one that does what is left."""
    story = Story(random.Random(seed))
    for _ in range(story.dice.randrange(1, 4)):
        story.world.live(story.life())
    story.world.live(story.last_life())
    story.check_the_end()
    return story


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=STORIES)
def test_through_crashes_and_rebalances_nothing_is_lost_or_early(seed: int) -> None:
    """Every Delivery ends delivered or dead, whatever happens to dispatchers and partitions."""
    stormy(seed)


@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=STORIES)
def test_without_a_crash_or_rebalance_nothing_is_done_twice(seed: int) -> None:
    """Receivers, writes and commits may fail as they like: each Attempt is made once."""
    story = Story(random.Random(seed))
    story.world.live(story.only_life())
    story.check_the_end()
    story.check_nothing_twice()


def test_the_stories_reach_what_they_are_about() -> None:
    """Retries, dead letters of each reason, parked ones and repeats do occur in them."""
    reasons: Counter[str] = Counter()
    causes: Counter[str] = Counter()
    repeats = spared = 0
    for seed in range(3):
        story = stormy(seed)
        reasons.update(told(record)["thorn-reason"] for record in story.world.dead)
        for records in story.carried.values():
            causes.update(told(record)["thorn-attempt"] for record in records)
        spared += story.spared
        repeats += sum(count > 1 for count in story.delivered.values())
    assert reasons.keys() == {"exhausted", "gone"}
    assert causes.keys() == {"0", "1", "2"}
    assert repeats
    assert spared
