"""Tells several Observers what happened, in turn."""

from collections.abc import Sequence

from thorn_stream.core.deliveries import Delivery, Outcome, Settlement
from thorn_stream.core.records import Partition, Record
from thorn_stream.ports import Observer, Trouble

__all__ = ["Observers"]


class Observers:
    """An Observer made of several; each is told everything, in the order given.

    Written out method by method, so that mypy finds what is missing here or in one of them.
    """

    def __init__(self, *observers: Observer) -> None:
        self._all = observers
        # the two that are called per delivery, looked up once
        self._attempted = tuple(each.attempted for each in observers)
        self._settled = tuple(each.settled for each in observers)

    def attempted(self, delivery: Delivery, outcome: Outcome, settlement: Settlement) -> None:
        for tell in self._attempted:
            tell(delivery, outcome, settlement)

    def settled(self, settlement: Settlement) -> None:
        for tell in self._settled:
            tell(settlement)

    def consumed(self, group: str, topic: str, count: int) -> None:
        for each in self._all:
            each.consumed(group, topic, count)

    def unmatched(self) -> None:
        for each in self._all:
            each.unmatched()

    def tombstone(self) -> None:
        for each in self._all:
            each.tombstone()

    def undecodable(self, record: Record, why: str) -> None:
        for each in self._all:
            each.undecodable(record, why)

    def ignored(self, what: str) -> None:
        for each in self._all:
            each.ignored(what)

    def clamped(self, header: str) -> None:
        for each in self._all:
            each.clamped(header)

    def dropped(self, cause: str) -> None:
        for each in self._all:
            each.dropped(cause)

    def dead(self, reason: str) -> None:
        for each in self._all:
            each.dead(reason)

    def handed_over(self, kind: str, error: str | None) -> None:
        for each in self._all:
            each.handed_over(kind, error)

    def committed(self, group: str, error: str | None) -> None:
        for each in self._all:
            each.committed(group, error)

    def lost_records(self, group: str, partition: Partition, count: int) -> None:
        for each in self._all:
            each.lost_records(group, partition, count)

    def circuit_opened(self, subscriber: str, failures: int, error: str) -> None:
        for each in self._all:
            each.circuit_opened(subscriber, failures, error)

    def circuit_closed(self, subscriber: str, lasted: float, probes: int) -> None:
        for each in self._all:
            each.circuit_closed(subscriber, lasted, probes)

    def late_outcome(self) -> None:
        for each in self._all:
            each.late_outcome()

    def trouble(self, group: str, trouble: Trouble) -> None:
        for each in self._all:
            each.trouble(group, trouble)

    def assigned(self, group: str, partitions: Sequence[Partition]) -> None:
        for each in self._all:
            each.assigned(group, partitions)

    def unassigned(self, group: str, partitions: Sequence[Partition], *, lost: bool) -> None:
        for each in self._all:
            each.unassigned(group, partitions, lost=lost)
