"""An ordered subscriber in moved time, and what checks the order at its receiver."""

import asyncio
import json
import random
from collections import defaultdict
from typing import Any

from tests.support.dispatching import CREDIT_SIZE, ORDERS, Rig, World, attempt_number
from tests.support.receivers import Call
from thorn_stream.core.deliveries import Attempt
from thorn_stream.core.records import Partition, Position
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.ordered import OrderedRead
from thorn_stream.dispatch.ordered_reads import OrderedReads
from thorn_stream.testing import MemorySource

__all__ = ["OrderChecker", "OrderedRig", "OrderedWorld", "inversions", "keyed"]


def keyed(key: str, number: int) -> bytes:
    return json.dumps({"event": "order.paid", "data": {"key": key, "number": number}}).encode()


def inversions(told: dict[str, list[int]]) -> list[str]:
    """Where a key's number came for the first time after a higher one had come.

    A repeat is no inversion: the receiver has seen it in its turn, and can tell it by its id.
    """
    found = []
    for key, sequence in told.items():
        highest, seen = -1, set[int]()
        for number in sequence:
            if number not in seen and number < highest:
                found.append(f"{key}: {number} after {highest}")
            seen.add(number)
            highest = max(highest, number)
    return found


class OrderChecker:
    """A receiver's mode that looks for what comes too early: it fails one request in `fails`.

    Each key's numbers count from 0. `early` tells of a number that came before the one ahead of it
    was answered 2xx; `delivered` are those that were.
    """

    def __init__(self, fails: int, wait: float = 0.0) -> None:
        self.early: list[str] = []
        self.delivered: dict[str, set[int]] = defaultdict(set)
        self.attempts: list[tuple[str, int, int]] = []
        self._fails = fails
        self._wait = wait
        self._dice = random.Random(7)

    async def __call__(self, call: Call) -> None:
        data = json.loads(call.request.body)["data"]
        key, number = data["key"], data["number"]
        self.attempts.append((key, number, int(call.request.headers["hook-attempt"])))
        if number and number - 1 not in self.delivered[key]:
            self.early.append(f"{key}: {number} before {number - 1}")
        if self._wait:
            await asyncio.sleep(self._wait * self._dice.random())
        if self._dice.randrange(self._fails) == 0:
            await call.answer(503)
        else:
            self.delivered[key].add(number)
            await call.answer(200)

    @property
    def count(self) -> int:
        return sum(len(numbers) for numbers in self.delivered.values())

    @property
    def repeated(self) -> int:
        """How many requests were more than those that were to be: each number's, and retries."""
        return len(self.attempts) - len(set(self.attempts))


class OrderedWorld(World):
    """With what the groups of ordered subscribers have committed."""

    def __init__(self) -> None:
        super().__init__()
        self.ordered_committed: dict[Partition, Position] = {}


class OrderedRig(Rig):
    """A Rig whose one ordered subscriber is read by a `MemorySource` of its own (`own`)."""

    def __init__(self, world: OrderedWorld, subscriber: Subscriber, **more: Any) -> None:
        super().__init__(world, subscriber, **more)
        partitions = more.get("partitions", (ORDERS,))
        self.own = MemorySource(partitions, size=CREDIT_SIZE, clock=self.clock)
        self.own.committed = world.ordered_committed
        self.own.feed(world.inputs)
        self.opened = 0
        self.reads = OrderedReads(self._open, self._make, CREDIT_SIZE)
        self.worker.serve(self.reads)

    async def _open(self, one: Subscriber, _: int) -> tuple[str, MemorySource]:
        self.opened += 1
        return f"thorn.o.{one.id}", self.own

    def _make(self, one: Subscriber, source: Any) -> OrderedRead:
        made = (source, self.dispatcher, self.transport, self.context)
        return OrderedRead(one, *made, 8.0)

    @property
    def read(self) -> OrderedRead:
        found = self.reads.get("a")
        assert found is not None
        return found

    async def begin(self) -> "OrderedRig":
        await self.reads.begin(self.dispatcher.directory)
        self.start()
        return self

    def write(self, *events: tuple[str | None, int], partition: int = 0) -> None:
        """Publish events of these keys and numbers."""
        for key, number in events:
            raw = None if key is None else key.encode()
            made = self.publish(keyed(str(key), number), key=raw, partition=partition)
            self.own.feed(made)

    def change(self, *subscribers: Subscriber) -> None:
        super().change(*subscribers)
        self.reads.use(self.dispatcher.directory)

    @property
    def told(self) -> list[tuple[str, int, int]]:
        """Key, number and Attempt of each request, in order."""
        return [_told(attempt) for attempt in self.transport.attempts]


def _told(attempt: Attempt) -> tuple[str, int, int]:
    data = json.loads(attempt.body)["data"]
    return data["key"], data["number"], attempt_number(attempt)
