"""Retry records, held until they are due.

Read ahead into one heap by due time. How many a partition may have here is bounded; a full one is
read no further, so a record behind can be late by as much as its tier is long, never more.
"""

from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final

from thorn_stream.core.envelope import Undecodable
from thorn_stream.core.flow import LATE_FOR_LANE
from thorn_stream.core.handover import Held, restore
from thorn_stream.core.ledger import Entry
from thorn_stream.core.oldest import Oldest
from thorn_stream.core.records import Record
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.dispatcher import Dispatcher

__all__ = ["Waiting"]

_LOOK_AGAIN: Final = 50
"""Milliseconds until one that found its Lane full is offered again."""


class Waiting:
    """Takes the Records of the tiers, and gives each to the Dispatcher when it is due.

    `tier_of` maps a retry topic to its wait in seconds: one that is due later than its tier is
    long has several rounds to wait, and begins the next when this one is over.
    """

    def __init__(self, dispatcher: Dispatcher, tier_of: dict[str, float], context: Context) -> None:
        self._dispatcher = dispatcher
        self._tier_of = tier_of
        self._clock = context.clock
        self._heap: list[tuple[int, int, Held, Entry]] = []
        self._order = count()
        self.oldest = Oldest()  # when the events of each subscriber were written

    def __len__(self) -> int:
        return len(self._heap)

    def consume(self, record: Record, entry: Entry) -> int:
        """Hold a retry record; one that cannot be read is a dead letter."""
        held = restore(record)
        if isinstance(held, Undecodable):
            self._dispatcher.undecodable(record, held.why, entry)
            return 0
        entry.ledger.held += 1
        entry.ledger.held_bytes += entry.size
        due = held.due
        if (tier := self._tier_of.get(record.topic)) is not None:
            due = min(due, self._clock.wall() + int(1000 * tier))
        heappush(self._heap, (due, next(self._order), held, entry))
        self.oldest.add(held.subscriber, _written(held))
        return 1

    def purge(self) -> None:
        """Let go of what belongs to partitions that are no longer ours."""
        self._heap = [item for item in self._heap if not item[3].ledger.closed]
        heapify(self._heap)
        self.oldest.clear()
        for _, _, held, _ in self._heap:
            self.oldest.add(held.subscriber, _written(held))

    def release_due(self, most: int) -> bool:
        """Give on what is due, at most so many; True when more is due."""
        now = self._clock.wall()
        heap = self._heap
        while heap and heap[0][0] <= now:
            if not most or self._dispatcher.lanes.holding:
                return True
            most -= 1
            _, _, held, entry = heappop(heap)
            if self._finds_no_place(held, now):
                heappush(heap, (now + _LOOK_AGAIN, next(self._order), held, entry))
                continue
            self.oldest.remove(held.subscriber, _written(held))
            entry.ledger.held -= 1
            entry.ledger.held_bytes -= entry.size
            if entry.ledger.draining:
                continue
            if held.due > now:
                self._dispatcher.settler.wait_on(held, entry)
            else:
                self._dispatcher.resume(held, entry)
        return False

    def _finds_no_place(self, held: Held, now: int) -> bool:
        """Its Lane is full: held on for a moment. Who is too late by that is parked."""
        lane = held.definition or held.subscriber
        return (0 <= now - held.due < 1000 * LATE_FOR_LANE) and self._dispatcher.lanes.is_full(lane)


def _written(held: Held) -> int:
    """When its event was written, or else first tried: unix milliseconds."""
    written = held.envelope.record.timestamp
    return written if written >= 0 else held.first
