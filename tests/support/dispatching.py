"""A Worker on memory adapters, in a time that is moved: nothing here ever really waits.

A `World` is what outlives a dispatcher: the topics, what is committed, the time. A `Rig` is one
dispatcher in it. `live` runs a coroutine on a loop whose time is the World's; what is left on the
loop when it returns is gone, as after a crash.
"""

import asyncio
import json
import selectors
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from thorn_stream.core.circuit import CircuitRules
from thorn_stream.core.deliveries import Attempt, Kind, Outcome
from thorn_stream.core.directory import Directory
from thorn_stream.core.flow import Limits
from thorn_stream.core.overrides import EventRules
from thorn_stream.core.records import Headers, Partition, Position, Record
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.schedule import RetryPolicy, Tiers, policy_for
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.dispatcher import Dispatcher
from thorn_stream.dispatch.lane import LaneSettings
from thorn_stream.dispatch.parked import Parked, ParkedTopics
from thorn_stream.dispatch.results import Results
from thorn_stream.dispatch.settler import Settler, Topics
from thorn_stream.dispatch.waiting import Waiting
from thorn_stream.dispatch.worker import Worker
from thorn_stream.ports import Sink
from thorn_stream.testing import (
    MemoryReplay,
    MemorySink,
    MemorySource,
    MemoryTransport,
    RecordingObserver,
)

__all__ = [
    "CURSORS",
    "DEAD",
    "OK",
    "ORDERS",
    "PARKED",
    "PARKING",
    "RESULTS",
    "TIERS",
    "LoopClock",
    "Rig",
    "World",
    "attempt_number",
    "retry_topic",
    "status",
    "subscriber",
    "told",
    "value",
]

TIERS: Final = (5.0, 15.0, 60.0)
ORDERS: Final = Partition("orders", 0)
DEAD: Final = "thorn.dead"
PARKED: Final = "thorn.parked"
CURSORS: Final = "thorn.cursors"
RESULTS: Final = "thorn.results"
PARKING: Final = Partition(PARKED, 0)
OK: Final = Outcome(Kind.OK, 200)
GROUP: Final = "thorn"
CREDIT: Final = 10_000
CREDIT_SIZE: Final = 1 << 30
MOST_ROUNDS: Final = 100_000
"""Of the loop in one moment; the busiest of our tests make some thousands."""


def subscriber(name: str, **fields: Any) -> Subscriber:
    """One that wants everything, at `http://<name>`."""
    return Subscriber(**{"id": name, "event": "**", "url": f"http://{name}", **fields})


def status(code: int, **more: Any) -> Outcome:
    return Outcome(Kind.STATUS, code, **more)


def value(number: int = 0, event: str = "order.created") -> bytes:
    return json.dumps({"event": event, "data": {"number": number}}).encode()


def told(record: Record) -> dict[str, str]:
    """Headers of a record of our own topics, as text; a name that stands there twice fails."""
    names = [name for name, _ in record.headers]
    assert len(set(names)) == len(names)
    return {name: (text or b"").decode() for name, text in record.headers}


def attempt_number(attempt: Attempt) -> int:
    """What the receiver sees as Hook-Attempt."""
    lines = dict(line.split(": ", 1) for line in attempt.headers.decode().splitlines())
    return int(lines["Hook-Attempt"])


def retry_topic(tier: float) -> str:
    return f"thorn.retry.{tier:g}s"


class LoopClock:
    """Moved by the loop that would otherwise wait (`ports.Clock`)."""

    START: Final = 1_700_000_000_000

    def __init__(self) -> None:
        self.now = 0.0
        self.rounds = 0  # how often the loop went round

    def wall(self) -> int:
        return self.START + int(self.now * 1000)

    def monotonic(self) -> float:
        return self.now


class _NeverWaits(selectors.SelectSelector):
    """Moves the time by what the loop would have waited.

    A loop that goes round and round in the same moment ends: pytest's own limit would not end it,
    since what that raises in a callback is handed to the loop, which goes on.
    """

    def __init__(self, clock: LoopClock) -> None:
        super().__init__()
        self._clock = clock
        self._rounds = 0  # in this moment

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing on the loop will ever happen"
        self._rounds = self._rounds + 1 if timeout <= 0 else 0
        assert self._rounds < MOST_ROUNDS, f"the loop spins at {self._clock.now} s"
        self._clock.now += max(0.0, timeout)
        self._clock.rounds += 1
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: LoopClock) -> None:
        super().__init__(_NeverWaits(clock))
        self._clock = clock
        self.rounds = 0

    def time(self) -> float:
        return self._clock.now


@dataclass
class World:
    """`topics` is what dispatchers have written, `inputs` what they read."""

    clock: LoopClock = field(default_factory=LoopClock)
    inputs: list[Record] = field(default_factory=list)
    topics: dict[str, list[Record]] = field(default_factory=dict)
    main_committed: dict[Partition, Position] = field(default_factory=dict)
    retry_committed: dict[Partition, Position] = field(default_factory=dict)
    parked_committed: dict[Partition, Position] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def live(self, life: Coroutine[Any, Any, None]) -> None:
        """Run one life; a callback that raises fails the test."""

        def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            self.faults.append(f"{context['message']}: {context.get('exception')!r}")

        with asyncio.Runner(loop_factory=lambda: _Loop(self.clock)) as runner:
            runner.get_loop().set_exception_handler(note)
            runner.run(life)
        assert self.faults == [], self.faults

    @property
    def dead(self) -> list[Record]:
        return self.topics.get(DEAD, [])

    def tier(self, seconds: float) -> list[Record]:
        return self.topics.get(retry_topic(seconds), [])

    @property
    def parked(self) -> list[Record]:
        return self.topics.get(PARKED, [])

    @property
    def cursors(self) -> dict[str, dict[str, Any]]:
        """What the compacted topic holds: each key that is there, and what its value says."""
        last = {record.key or b"": record.value for record in self.topics.get(CURSORS, [])}
        return {key.decode(): json.loads(value) for key, value in last.items() if value}

    def dead_of(self, reason: str) -> list[Record]:
        return [record for record in self.dead if told(record)["thorn-reason"] == reason]


class Rig:
    """One dispatcher in a World. Nothing runs before `start`; made inside a life."""

    def __init__(
        self,
        world: World,
        *subscribers: Subscriber,
        answers: Any = OK,
        partitions: Sequence[Partition] = (ORDERS,),
        limits: Limits | None = None,
        policy: RetryPolicy | None = None,
        wrap: Callable[[MemorySink], Sink] = lambda sink: sink,
        source: type[MemorySource] = MemorySource,
        rules: EventRules | None = None,
        circuit: CircuitRules | None = None,
        every_result: bool = False,
    ) -> None:
        self.world = world
        self.clock = world.clock
        self.limits = limits or Limits()
        self.policy = policy or RetryPolicy(delay=5.0, jitter=0.0)
        tiers = [Partition(retry_topic(tier), 0) for tier in TIERS]
        self.main = self._source(source, partitions, world.main_committed)
        self.retry = self._source(source, tiers, world.retry_committed)
        self.main.feed(world.inputs)
        self.parked = self._source(source, [PARKING], world.parked_committed)
        for tier in TIERS:
            self.retry.feed(world.tier(tier))
        self.parked.feed(world.parked)
        self.sink = MemorySink(into=self._written, clock=self.clock)
        self.sink.topics = world.topics
        self.transport = MemoryTransport(answers)
        self.observer = RecordingObserver()
        self.result_sink = MemorySink(clock=self.clock)
        self.results = Results(
            RESULTS, lambda: self.result_sink, self.observer, self.clock, every=every_result
        )
        self.context = Context(
            self.limits,
            Tiers(TIERS),
            self.clock,
            self.observer,
            lambda: 0.5,
            rules or EventRules(),
            circuit or CircuitRules(),
            self.results,
        )
        self.settler = Settler(wrap(self.sink), Topics(DEAD, retry_topic, PARKED), self.context)
        self.dispatcher = Dispatcher(
            Directory([("test", subscribers)]),
            self.transport,
            self.settler,
            self.prepare,
            self.context,
        )
        waits = {retry_topic(tier): tier for tier in TIERS}
        self.waiting = Waiting(self.dispatcher, waits, self.context)
        self.worker = Worker(
            self.dispatcher,
            self.waiting,
            (GROUP, self.main),
            (f"{GROUP}.retry", self.retry),
            self.context,
        )
        self.replay = MemoryReplay(lambda topic: world.topics.get(topic, []))
        self.parking = Parked(
            self.dispatcher,
            (f"{GROUP}.parked", self.parked),
            (self.replay, self.sink),
            ParkedTopics(PARKED, CURSORS),
            self.context,
        )
        self.worker.read_parked(self.parking)
        self.prepared: list[Subscriber] = []

    def _source(
        self,
        made: type[MemorySource],
        partitions: Sequence[Partition],
        committed: dict[Partition, Position],
    ) -> MemorySource:
        source = made(partitions, records=CREDIT, size=CREDIT_SIZE, clock=self.clock)
        source.committed = committed
        return source

    def _written(self, records: Sequence[Record]) -> None:
        tiers = {retry_topic(tier) for tier in TIERS}
        self.retry.feed([record for record in records if record.topic in tiers])
        self.parked.feed([record for record in records if record.topic == PARKED])

    def prepare(self, one: Subscriber) -> LaneSettings:
        self.prepared.append(one)
        return LaneSettings(
            RequestFactory(one, (), user_agent="test", source="thorn-stream/test"),
            policy_for(one, self.policy, 20),
            3.0 if one.timeout is None else one.timeout,
            one.max_in_flight or self.limits.max_in_flight,
            keep_alive=True,
        )

    def start(self) -> "Rig":
        self.worker.start()
        return self

    # --- what a test does to it ----------------------------------------------------------------

    def publish(
        self,
        body: bytes | None = None,
        *,
        key: bytes | None = None,
        headers: Headers | None = None,
        partition: int = 0,
        count: int = 1,
    ) -> list[Record]:
        """Write `count` events to the input topic."""
        made = []
        for _ in range(count):
            number = len(self.world.inputs)
            given = value(number) if body is None else body
            made.append(
                self.main.publish("orders", given, key=key, headers=headers, partition=partition)
            )
            self.world.inputs.append(made[-1])
        return made

    def change(self, *subscribers: Subscriber) -> None:
        """These are all the Subscribers from now on."""
        self.dispatcher.use(Directory([("test", subscribers)]))

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait (in moved time) for a condition."""
        end = self.clock.now + seconds
        while not condition():
            assert self.clock.now < end, f"it did not come true within {seconds} s"
            await asyncio.sleep(0.01)

    async def idle(self, seconds: float = 1.0) -> None:
        """Let so much time go by."""
        await asyncio.sleep(seconds)

    # --- what a test looks at ------------------------------------------------------------------

    @property
    def committed(self) -> int:
        return self.main.committed.get(ORDERS, Position(0)).offset

    def tier_committed(self, seconds: float) -> int:
        place = Partition(retry_topic(seconds), 0)
        return self.retry.committed.get(place, Position(0)).offset

    @property
    def parked_committed(self) -> int:
        return self.parked.committed.get(PARKING, Position(0)).offset

    def sent_to(self, url: str) -> list[Attempt]:
        return [each for each in self.transport.attempts if each.target == url]

    @property
    def under_way(self) -> list[Attempt]:
        return list(self.transport.waiting)

    @property
    def credit_is_whole(self) -> bool:
        return all(
            (source.credit_records, source.credit_size) == (CREDIT, CREDIT_SIZE)
            for source in (self.main, self.retry, self.parked)
        )
