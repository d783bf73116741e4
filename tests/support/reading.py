"""What a test needs to follow a Source: its events in order, and waiting for a condition."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

from tests.support.brokers import Broker
from tests.support.waiting import until as until  # noqa: PLC0414 - whoever reads waits, too
from thorn_stream.adapters.kafka import KafkaSource, SourceSettings
from thorn_stream.core.records import Partition, Position, Record
from thorn_stream.ports import Assigned, Lost, Records, Revoked, Source, SourceEvent, Trouble

E = TypeVar("E")

_QUICK: Final[dict[bool, dict[str, Any]]] = {
    True: {"session.timeout.ms": 2_000, "heartbeat.interval.ms": 200},
    False: {"session.timeout.ms": 6_000, "heartbeat.interval.ms": 200},
}
"""A rebalance lasts until the next heartbeat, on the embedded broker a session less a second."""


async def stays(condition: Callable[[], object], seconds: float) -> None:
    """Watch the condition hold for a while."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        assert condition()
        await asyncio.sleep(0.005)


class Reading:
    """A started Source and everything it has told.

    `answer` is what is to be committed for a revoked partition, if anything. Credit is given
    back for each record at once when `generous`.
    """

    def __init__(self, source: Source, *, generous: bool = True) -> None:
        self.source = source
        self.events: list[SourceEvent] = []
        self.owned: dict[Partition, Position] = {}
        self.troubles: dict[str, Trouble] = {}
        self.answer: Mapping[Partition, Position] = {}
        self._generous = generous

    def handle(self, events: Sequence[SourceEvent]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Assigned):
                self.owned.update(event.positions)
            elif isinstance(event, Revoked):
                for partition in event.partitions:
                    del self.owned[partition]
                ours = {p: at for p, at in self.answer.items() if p in event.partitions}
                event.answer(ours)
            elif isinstance(event, Lost):
                for partition in event.partitions:
                    del self.owned[partition]
            elif isinstance(event, Records) and self._generous:
                self.source.credit(len(event.records), sum(r.size for r in event.records))
            elif isinstance(event, Trouble):
                self._note(event)

    def _note(self, trouble: Trouble) -> None:
        if trouble.text is None:
            del self.troubles[trouble.key]
        else:
            self.troubles[trouble.key] = trouble

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def records(self) -> list[Record]:
        return [record for event in self.all(Records) for record in event.records]

    def values(self, partition: int | None = None) -> list[bytes | None]:
        return [r.value for r in self.records if partition is None or r.partition == partition]


@asynccontextmanager
async def reading(
    broker: Broker, *topics: str, generous: bool = True, **settings: Any
) -> AsyncIterator[Reading]:
    """Read these topics as a group of this test (`group`, else `g`), and leave at the end."""
    group = broker.name(settings.pop("group", "g"))
    client = broker.client | _QUICK[broker.embedded] | settings.pop("client", {})
    source = KafkaSource(
        SourceSettings(client, group, topics, embedded=broker.embedded, **settings)
    )
    one = Reading(source, generous=generous)
    source.start(one.handle)
    try:
        yield one
    finally:
        await source.stop(10)
