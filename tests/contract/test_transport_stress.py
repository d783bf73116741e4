"""Both transports under a dispatcher, against receivers that do everything wrong at once."""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop

from tests.support.dispatching import DEAD, PARKED, retry_topic
from tests.support.receivers import MODES, Receiver, closed_port
from tests.support.waiting import until
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.app import SystemClock
from thorn_stream.core.deliveries import Attempt, Outcome
from thorn_stream.core.directory import Directory
from thorn_stream.core.flow import Limits
from thorn_stream.core.ledger import Ledger, Tally
from thorn_stream.core.overrides import EventRules
from thorn_stream.core.records import Headers, Partition, Record
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.schedule import RetryPolicy, Tiers
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import Guard
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.dispatcher import Dispatcher
from thorn_stream.dispatch.lane import LaneSettings
from thorn_stream.dispatch.settler import Settler, Topics
from thorn_stream.testing import MemorySink, RecordingObserver

SEED: Final = int(os.environ.get("THORN_STRESS_SEED", "0")) or random.randrange(1, 2**31)
SECONDS: Final = float(os.environ.get("THORN_STRESS_SECONDS", "8"))
CONNECTIONS: Final = 40
ARGUMENTS: Final = {
    "status": "/503",
    "redirect": "/307",
    "retry-after": "/503/1",
    "drip": "/503/1",
    "slow": "/0.05",
    "slow-body": "/500",
    "endless-body": "/200",
    "short-body": "/500",
    "bad-chunk": "/500",
}


class Counted:
    """A transport, and how often each Attempt that it was given has ended."""

    def __init__(self, inner: NativeTransport | HttpxTransport) -> None:
        self.inner = inner
        self.target = inner.target
        self.ended: Counter[Attempt] = Counter()
        self.outcomes: Counter[str] = Counter()

    def send(self, attempt: Attempt) -> None:
        ended = attempt.ended
        self.ended[attempt] = 0

        def counted(one: Attempt, outcome: Outcome) -> None:
            self.ended[one] += 1
            self.outcomes[outcome.kind] += 1
            ended(one, outcome)

        attempt.ended = counted
        self.inner.send(attempt)

    def under_way(self) -> Iterable[Attempt]:
        return self.inner.under_way()

    def abort(self, which: Callable[[Attempt], bool]) -> None:
        self.inner.abort(which)

    async def stop(self) -> None:
        await self.inner.stop()


class Stress:
    """Some dozens of subscribers of one dispatcher, and events with rules of their own."""

    def __init__(self, transport: Counted, receiver: Receiver, dice: random.Random) -> None:
        self.transport = transport
        self.dice = dice
        self.tally = Tally()
        self.ledger = Ledger(Partition("orders", 0), 0, 1_000_000, self.tally)
        self._receiver = receiver
        clock = SystemClock()
        limits = Limits(max_connections=CONNECTIONS, lane_size=50, lane_wait_max=0.3)
        context = Context(limits, Tiers((5.0,)), clock, RecordingObserver(), dice.random, RULES)
        settler = Settler(MemorySink(clock=clock), Topics(DEAD, retry_topic, PARKED), context)
        directory = Directory([("test", self.subscribers())])
        self.dispatcher = Dispatcher(directory, transport, settler, self._prepare, context)

    def subscribers(self) -> list[Subscriber]:
        """One for each thing that can go wrong, with other limits each time."""
        paths = [f"/{mode}{ARGUMENTS.get(mode, '')}" for mode in MODES]
        urls = [self._receiver.url(path) for path in paths]
        urls += [f"http://127.0.0.1:{closed_port()}/", "http://10.1.2.3/", "http://no.invalid/"]
        return [
            Subscriber(
                id=f"s{number}",
                event="**",
                url=url,
                timeout=self.dice.choice([0.03, 0.1, 0.3]),
                max_in_flight=self.dice.choice([1, 3, 30]),
            )
            for number, url in enumerate(urls)
        ]

    def _prepare(self, one: Subscriber) -> LaneSettings:
        factory = RequestFactory(one, (), user_agent="test", source="thorn-stream/test")
        most = one.max_in_flight or 1
        keep = self.dice.random() < 0.8
        return LaneSettings(factory, RetryPolicy(), one.timeout or 1.0, most, keep_alive=keep)

    def publish(self) -> None:
        headers: Headers = []
        if self.dice.random() < 0.1:
            headers.append(("thorn-allow-keepalive", b"false"))
        if self.dice.random() < 0.1:
            headers.append(("thorn-timeout", b"0.02"))
        if self.dice.random() < 0.1:
            port = b"443" if self.dice.random() < 0.5 else b"%d" % self._receiver.port
            headers.append(("thorn-validators", b'[["ensure_port", [%b]]]' % port))
        value = b'{"event": "order.created"}'
        record = Record("orders", 0, self.ledger.next, None, value, headers, 0)
        entry = self.ledger.enter(record.offset, 1)
        assert entry is not None
        self.dispatcher.consume(record, entry)

    async def run(self, seconds: float) -> None:
        """Offer, reload and tick at random for so long."""
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            for _ in range(self.dice.randrange(4)):
                self.publish()
            if self.dice.random() < 0.02:
                self.dispatcher.use(Directory([("test", self.subscribers())]))
            self.dispatcher.tick()
            lanes = self.dispatcher.lanes
            assert lanes.in_flight == sum(lane.in_flight for lane in lanes) <= CONNECTIONS
            await asyncio.sleep(self.dice.choice([0.0, 0.005, 0.03]))

    async def settle(self) -> None:
        """Wait until nothing is open any more."""
        async with asyncio.timeout(20):
            while self.tally.records < self.ledger.next:
                self.dispatcher.tick()
                await asyncio.sleep(0.01)


RULES: Final = EventRules(
    timeout_max=60.0,
    retry_max=20,
    retry_delay_max=60.0,
    max_in_flight=10,
    subscribers=False,
    allowed_networks=("127.0.0.0/8",),
)


@pytest.mark.long
@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("kind", [NativeTransport, HttpxTransport])
def test_counters_never_drift(
    kind: type[NativeTransport | HttpxTransport],
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Whatever receivers do, each Attempt ends once, and nothing stays counted or open."""
    print(f"seed {SEED}")
    wrong: list[Any] = []
    with Receiver() as receiver, asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: wrong.append(context))
        runner.run(_stress(kind, receiver))
    assert wrong == []


async def _stress(kind: type[NativeTransport | HttpxTransport], receiver: Receiver) -> None:
    open_files = _open_files()
    guard = Guard.from_names([["block_internal_ips"]], ["127.0.0.0/8"])
    transport = Counted(kind(guard, Resolver(), max_connections=CONNECTIONS))
    try:
        await _use(transport, receiver)
    finally:
        await transport.stop()
    assert transport.inner.open == 0
    await until(lambda: len(asyncio.all_tasks()) == 1 and _open_files() <= open_files + 2)


def _open_files() -> int:
    """Of this process, its receivers included; 0 where there is no /proc."""
    there = Path("/proc/self/fd")
    return len(list(there.iterdir())) if there.exists() else 0


async def _use(transport: Counted, receiver: Receiver) -> None:
    stress = Stress(transport, receiver, random.Random(SEED))
    await stress.run(SECONDS)
    await stress.settle()
    lanes = stress.dispatcher.lanes
    print(f"{len(transport.ended)} attempts, {dict(transport.outcomes)}")
    assert set(transport.ended.values()) == {1}
    assert lanes.in_flight == sum(lane.in_flight for lane in lanes) == 0
    assert sum(lane.depth for lane in lanes) == 0
    assert stress.ledger.busy == 0
    assert stress.ledger.committable == stress.ledger.next
    assert stress.dispatcher.settler.failing == 0
    await until(lambda: transport.inner.open == transport.inner.idle)
