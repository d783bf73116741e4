"""An ordered subscriber in moved time, and what checks the order at its receiver."""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from tests.support.dispatching import CREDIT_SIZE, ORDERS, Rig, World, attempt_number
from thorn_stream.core.deliveries import Attempt
from thorn_stream.core.records import Partition, Position
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.ordered import OrderedRead
from thorn_stream.dispatch.ordered_reads import OrderedReads
from thorn_stream.testing import MemorySource

__all__ = ["OrderedRig", "OrderedWorld", "inversions", "keyed", "numbers"]


def keyed(key: str, number: int) -> bytes:
    return json.dumps({"event": "order.paid", "data": {"key": key, "number": number}}).encode()


def numbers(bodies: Iterable[bytes]) -> dict[str, list[int]]:
    """What a receiver was told of each key, in the order of arrival."""
    told: dict[str, list[int]] = defaultdict(list)
    for body in bodies:
        data = json.loads(body)["data"]
        told[data["key"]].append(data["number"])
    return told


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
