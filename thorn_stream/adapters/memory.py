"""Every port in memory, for tests: no Kafka, no socket, no thread.

They keep the ports' rules: what is called back comes later on the loop, never from inside the
call that asked for it, and exactly once. What passed through them is kept in plain lists and
dictionaries, for a test to look at.
"""

import asyncio
from bisect import bisect_left
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from inspect import isawaitable
from typing import Any, NamedTuple, TypeAlias

from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome, Settlement
from thorn_stream.core.records import Headers, Partition, Position, Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.urls import Refusal
from thorn_stream.ports import (
    Ask,
    Assigned,
    Clock,
    Committed,
    Lost,
    Records,
    Revoked,
    SendFailed,
    Slice,
    SourceEvent,
    Trouble,
)

__all__ = [
    "Answer",
    "Call",
    "MemoryClock",
    "MemoryReplay",
    "MemorySink",
    "MemorySource",
    "MemorySubscribers",
    "MemoryTransport",
    "RecordingObserver",
]


class MemoryClock:
    """Stands still until it is moved: `wall` in unix milliseconds, `monotonic` in seconds."""

    def __init__(self, wall: int = 1_700_000_000_000, monotonic: float = 0.0) -> None:
        self._wall = wall
        self._monotonic = monotonic

    def wall(self) -> int:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        self._wall += round(seconds * 1000)
        self._monotonic += seconds


class MemorySource:
    """A consumer group of one member over records kept in lists.

    `partitions` are assigned when it starts; `records` and `size` (bytes) are its first credit.
    A partition is read from its committed offset whenever it is assigned. Look at `committed`
    (where a new assignment would begin), `commits` (every request, in order) and `paused`.
    While `refuse` has a text, commits are refused with it; while `hold_commits`, they wait for
    `answer_commits`. `leaves` is what `stop` returns. `total` is how many partitions there are,
    other members' included.
    """

    def __init__(
        self,
        partitions: Iterable[Partition] = (),
        *,
        records: int = 1_000_000,
        size: int = 1 << 30,
        clock: Clock | None = None,
    ) -> None:
        self.committed: dict[Partition, Position] = {}
        self.commits: list[dict[Partition, Position]] = []
        self.paused: set[Partition] = set()
        self.refuse: str | None = None
        self.hold_commits = False
        self.leaves = True
        self.stopped = False
        self.credit_records = records
        self.credit_size = size
        self._at_start = tuple(partitions)
        self.total = len(self._at_start)
        self._clock = clock or MemoryClock()
        self._logs: dict[Partition, list[Record]] = {}
        self._read: dict[Partition, int] = {}  # assigned ones: index of the next to hand over
        self._assigned: set[Partition] = set()
        self._events: list[SourceEvent] = []
        self._held: list[Mapping[Partition, Position]] = []
        self._handle: Callable[[Sequence[SourceEvent]], None] | None = None
        self._woken = False

    # what a test does to it

    def feed(self, records: Iterable[Record]) -> None:
        """Write records, of rising offsets within a partition, to be read when it is their turn."""
        for record in records:
            self._logs.setdefault(Partition(record.topic, record.partition), []).append(record)
        self._wake()

    def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = 0,
    ) -> Record:
        """Write one record at the next offset of its partition, timed now; returns it."""
        log = self._logs.get(Partition(topic, partition))
        offset = log[-1].offset + 1 if log else 0
        now = self._clock.wall()
        record = Record(topic, partition, offset, key, value, headers or [], now)
        self.feed([record])
        return record

    def assign(self, *partitions: Partition) -> None:
        """Hand these to this member, to be read from their committed offsets."""
        positions = {each: self.committed.get(each, Position(0)) for each in partitions}
        self._assigned.update(partitions)
        for each, position in positions.items():
            log = self._logs.setdefault(each, [])
            self._read[each] = bisect_left(log, position.offset, key=lambda record: record.offset)
        self.tell(Assigned(positions))

    async def revoke(self, *partitions: Partition, wait: float = 2.0) -> bool:
        """Take them away; True when the last positions came (and were committed) in time."""
        answered: asyncio.Future[Mapping[Partition, Position]] = asyncio.Future()

        def answer(positions: Mapping[Partition, Position]) -> None:
            if not answered.done():  # else it comes too late
                answered.set_result(positions)

        for each in partitions:
            self._read.pop(each, None)
        self.tell(Revoked(partitions, answer))
        try:
            self.committed.update(await asyncio.wait_for(answered, wait))
        except TimeoutError:
            return False
        finally:
            self._unassign(partitions)
        return True

    def lose(self, *partitions: Partition) -> None:
        """Take them away unasked: the member learns of it afterwards."""
        self._unassign(partitions)
        self.tell(Lost(partitions))

    def tell(self, event: SourceEvent) -> None:
        """Hand over any event: `LostRecords`, `Trouble`, or one that no group would send."""
        self._events.append(event)
        self._wake()

    def answer_commits(self) -> None:
        """Answer what `hold_commits` has kept back."""
        held, self._held = self._held, []
        for positions in held:
            self._answer(positions)

    # the port

    def start(self, handle: Callable[[Sequence[SourceEvent]], None]) -> None:
        self._handle = handle
        if self._at_start:
            self.assign(*self._at_start)
        self._wake()

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        asked = dict(positions)
        self.commits.append(asked)
        if self.hold_commits:
            self._held.append(asked)
        else:
            self._answer(asked)

    def pause(self, partitions: Sequence[Partition]) -> None:
        self.paused.update(partitions)

    def resume(self, partitions: Sequence[Partition]) -> None:
        self.paused.difference_update(partitions)
        self._wake()

    def credit(self, records: int, size: int) -> None:
        self.credit_records += records
        self.credit_size += size
        self._wake()

    async def stop(self, grace: float) -> bool:
        del grace  # nothing here takes time
        self._unassign(tuple(self._assigned))
        await asyncio.sleep(0)  # answers that are on their way are handed over first
        self.stopped = True
        return self.leaves

    # inside

    def _unassign(self, partitions: Sequence[Partition]) -> None:
        for each in partitions:
            self._read.pop(each, None)
            self._assigned.discard(each)
            self.paused.discard(each)

    def _answer(self, positions: Mapping[Partition, Position]) -> None:
        errors = {
            each: self.refuse if each in self._assigned else "not assigned to this member"
            for each in positions
        }
        taken = {each: at for each, at in positions.items() if errors[each] is None}
        self.committed.update(taken)
        self.tell(Committed(positions, errors))

    def _wake(self) -> None:
        if self._handle is not None and not self._woken and not self.stopped:
            self._woken = True
            asyncio.get_running_loop().call_soon(self._hand_over)

    def _hand_over(self) -> None:
        self._woken = False
        events, self._events = self._events, []
        if records := self._readable():
            events.append(Records(records))
        if events and self._handle is not None and not self.stopped:
            self._handle(events)

    def _readable(self) -> list[Record]:
        records = []
        for partition in self._read:
            log = self._logs[partition]
            while (
                partition not in self.paused
                and self._read[partition] < len(log)
                and self.credit_records > 0
                and self.credit_size > 0
            ):
                record = log[self._read[partition]]
                self._read[partition] += 1
                self.credit_records -= 1
                self.credit_size -= record.size
                records.append(record)
        return records


class MemorySink:
    """Keeps what is written: `topics[name]` is a list of Records with offsets from 0.

    `limits[topic]` is the largest value in bytes that the topic takes; `fail` makes the next sends
    fail; while `hold`, nothing is acknowledged until `release`. `into` is given each record that
    was taken, as `MemorySource.feed` takes them, so that a retry topic can be read back.
    """

    def __init__(
        self,
        into: Callable[[Sequence[Record]], None] | None = None,
        *,
        clock: Clock | None = None,
    ) -> None:
        self.topics: dict[str, list[Record]] = {}
        self.limits: dict[str, int] = {}
        self.hold = False
        self.under_way = 0
        self._into = into
        self._clock = clock or MemoryClock()
        self._failures: deque[SendFailed] = deque()
        self._held: list[Callable[[], None]] = []
        self._idle = asyncio.Event()
        self._idle.set()

    def fail(self, times: int = 1, error: str = "Broker: Not enough in-sync replicas") -> None:
        """Let the next so many sends fail."""
        self._failures.extend(SendFailed(error) for _ in range(times))

    def release(self) -> None:
        """Answer what `hold` has kept back, and hold no more."""
        self.hold = False
        held, self._held = self._held, []
        for answer in held:
            asyncio.get_running_loop().call_soon(answer)

    def send(
        self,
        topic: str,
        record: tuple[bytes | None, bytes | None, Headers],
        done: Callable[[Any, SendFailed | None], None],
        token: Any,
    ) -> None:
        self.under_way += 1
        self._idle.clear()

        def answer() -> None:
            self.under_way -= 1
            done(token, self._write(topic, record))
            if not self.under_way:
                self._idle.set()

        if self.hold:
            self._held.append(answer)
        else:
            asyncio.get_running_loop().call_soon(answer)

    def send_to(
        self,
        partition: Partition,
        record: tuple[bytes | None, bytes | None, Headers],
        done: Callable[[Any, SendFailed | None], None],
        token: Any,
    ) -> None:
        """All is kept in the one partition there is, in the order of writing."""
        self.send(partition.topic, record, done, token)

    async def stop(self, grace: float) -> int:
        try:
            await asyncio.wait_for(self._idle.wait(), grace)
        except TimeoutError:
            return self.under_way
        return 0

    def _write(
        self, topic: str, record: tuple[bytes | None, bytes | None, Headers]
    ) -> SendFailed | None:
        if self._failures:
            return self._failures.popleft()
        key, value, headers = record
        if topic in self.limits and len(value or b"") > self.limits[topic]:
            return SendFailed("Broker: Message size too large", too_large=True)
        log = self.topics.setdefault(topic, [])
        now = self._clock.wall()
        log.append(Record(topic, 0, len(log), key, value, list(headers), now))
        if self._into is not None:
            self._into([log[-1]])
        return None


class MemoryReplay:
    """Reads again what `logs` returns of a topic: Records of rising offsets, as in a `MemorySink`.

    `asked` keeps every Ask. While `hold`, no slice is answered until `release`; while `refuse` has
    a text, each ends with it. `low` is the first offset that a partition still has, `ids` Kafka's
    own id of a topic, where it has one.
    """

    def __init__(self, logs: Callable[[str], Sequence[Record]]) -> None:
        self.asked: list[Ask] = []
        self.low: dict[Partition, int] = {}
        self.ids: dict[str, str] = {}
        self.hold = False
        self.refuse: str | None = None
        self._logs = logs
        self._held: list[tuple[Ask, Callable[[Ask, Slice], None]]] = []

    def read(self, ask: Ask, done: Callable[[Ask, Slice], None]) -> None:
        self.asked.append(ask)
        self._held.append((ask, done))
        if not self.hold:
            asyncio.get_running_loop().call_soon(self._answer)

    def release(self) -> None:
        """Answer what `hold` has kept back, and hold no more."""
        self.hold = False
        for _ in self._held:
            asyncio.get_running_loop().call_soon(self._answer)

    async def stop(self, grace: float) -> bool:
        del grace  # nothing here takes time
        return True

    def _answer(self) -> None:
        if self._held and not self.hold:
            ask, done = self._held.pop(0)
            done(ask, self._slice(ask))

    def _slice(self, ask: Ask) -> Slice:
        if self.refuse is not None:
            return Slice(error=self.refuse)
        low = self.low.get(ask.partition, 0)
        log = [each for each in self._logs(ask.partition.topic) if each.offset >= low]
        high = log[-1].offset + 1 if log else low
        end = high if ask.end is None else min(ask.end, high)
        found = Slice([], max(ask.begin, low), low, high)
        records: list[Record] = []
        size = 0
        for record in log:
            full = len(records) >= ask.records or size >= ask.size
            if full or not found.next <= record.offset < end:
                continue
            found.next = record.offset + 1
            if ask.wanted is None or record.offset >= ask.wanted.get(record.key, end):
                records.append(record)
                size += record.size
        found.records = records
        found.topic = self.ids.get(ask.partition.topic, "") if ask.identify else ""
        return found


Answer: TypeAlias = (
    Outcome | Sequence[Outcome] | Callable[[Attempt], Outcome | Awaitable[Outcome]] | None
)
"""How a receiver answers: always the same; one after another, the last one for ever; what a
function (plain or async) says of the Attempt; None: not until the test calls `end`."""

_OK = Outcome(Kind.OK, 200)


class MemoryTransport:
    """Receivers in memory. `attempts` keeps every Attempt, `waiting` those not yet answered.

    `answers` is one Answer for all URLs, or a dictionary of them by URL; a URL that it lacks ends
    as `connect`. An async answer that takes longer than the Attempt's timeout ends as `timeout`.
    """

    def __init__(self, answers: Mapping[str, Answer] | Answer = _OK) -> None:
        self.answers = answers
        self.attempts: list[Attempt] = []
        self.waiting: dict[Attempt, asyncio.Task[None] | None] = {}
        self._turns: dict[object, int] = {}

    def target(self, subscriber: Subscriber) -> object:
        return subscriber.url

    def send(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        self.waiting[attempt] = None
        if attempt.guard is not None:
            judged = attempt.guard.url(str(attempt.target))
            if isinstance(judged, Refusal):
                self.end(attempt, Outcome(Kind.BLOCKED, detail=judged.rule))
                return
        asyncio.get_running_loop().call_soon(self._begin, attempt)

    def end(self, attempt: Attempt, outcome: Outcome) -> None:
        """End an Attempt that waits; one that has ended already is left as it is."""
        if attempt in self.waiting:
            task = self.waiting.pop(attempt)
            if task is not None:
                task.cancel()
            asyncio.get_running_loop().call_soon(attempt.ended, attempt, outcome)

    def under_way(self) -> Iterable[Attempt]:
        return tuple(self.waiting)

    def abort(self, which: Callable[[Attempt], bool]) -> None:
        for attempt in tuple(self.waiting):
            if which(attempt):
                self.end(attempt, Outcome(Kind.CONNECT, detail="aborted"))

    async def stop(self) -> None:
        for attempt in tuple(self.waiting):
            self.end(attempt, Outcome(Kind.CONNECT, detail="stopped"))
        await asyncio.sleep(0)

    def _begin(self, attempt: Attempt) -> None:
        if attempt not in self.waiting:
            return
        answer = self.answers
        if isinstance(answer, Mapping):
            nobody = Outcome(Kind.CONNECT, detail="nobody is there")
            answer = answer.get(str(attempt.target), nobody)
        if isinstance(answer, Sequence):
            turn = self._turns.get(attempt.target, 0)
            self._turns[attempt.target] = turn + 1
            answer = answer[min(turn, len(answer) - 1)]
        said = answer(attempt) if callable(answer) else answer
        if isinstance(said, Outcome):
            self.end(attempt, said)
        elif isawaitable(said):
            self.waiting[attempt] = asyncio.ensure_future(self._wait(attempt, said))

    async def _wait(self, attempt: Attempt, answer: Awaitable[Outcome]) -> None:
        try:
            outcome = await asyncio.wait_for(answer, attempt.timeout)
        except TimeoutError:
            outcome = Outcome(Kind.TIMEOUT, duration=attempt.timeout)
        self.waiting[attempt] = None  # this task has done its work, and is not to be cancelled
        self.end(attempt, outcome)


class MemorySubscribers:
    """A source of subscribers that a test fills; `error`, when set, is raised by `load`."""

    def __init__(self, *subscribers: Subscriber, name: str = "memory") -> None:
        self.name = name
        self.subscribers = list(subscribers)
        self.error: Exception | None = None

    def load(self) -> Sequence[Subscriber]:
        if self.error is not None:
            raise self.error
        return tuple(self.subscribers)


class Call(NamedTuple):
    """What an Observer was told: the method's name and its arguments."""

    name: str
    arguments: tuple[Any, ...]


class RecordingObserver:
    """Keeps every call, in order, in `calls`; `named` picks the arguments of one kind."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [call.arguments for call in self.calls if call.name == name]

    def _keep(self, name: str, *arguments: Any) -> None:
        self.calls.append(Call(name, arguments))

    def consumed(self, group: str, topic: str, count: int) -> None:
        self._keep("consumed", group, topic, count)

    def unmatched(self) -> None:
        self._keep("unmatched")

    def tombstone(self) -> None:
        self._keep("tombstone")

    def undecodable(self, record: Record, why: str) -> None:
        self._keep("undecodable", record, why)

    def ignored(self, what: str) -> None:
        self._keep("ignored", what)

    def clamped(self, header: str) -> None:
        self._keep("clamped", header)

    def attempted(self, delivery: Delivery, outcome: Outcome, settlement: Settlement) -> None:
        self._keep("attempted", delivery, outcome, settlement)

    def settled(self, settlement: Settlement) -> None:
        self._keep("settled", settlement)

    def dropped(self, cause: str) -> None:
        self._keep("dropped", cause)

    def dead(self, reason: str) -> None:
        self._keep("dead", reason)

    def handed_over(self, kind: str, error: str | None) -> None:
        self._keep("handed_over", kind, error)

    def committed(self, group: str, error: str | None) -> None:
        self._keep("committed", group, error)

    def lost_records(self, group: str, partition: Partition, count: int) -> None:
        self._keep("lost_records", group, partition, count)

    def circuit_opened(self, subscriber: str, failures: int, error: str) -> None:
        self._keep("circuit_opened", subscriber, failures, error)

    def circuit_closed(self, subscriber: str, lasted: float, probes: int) -> None:
        self._keep("circuit_closed", subscriber, lasted, probes)

    def late_outcome(self) -> None:
        self._keep("late_outcome")

    def trouble(self, group: str, trouble: Trouble) -> None:
        self._keep("trouble", group, trouble)

    def assigned(self, group: str, partitions: Sequence[Partition]) -> None:
        self._keep("assigned", group, partitions)

    def unassigned(self, group: str, partitions: Sequence[Partition], *, lost: bool) -> None:
        self._keep("unassigned", group, partitions, lost)
