"""What goes from the owner thread to the loop, and how much of it may."""

from collections.abc import Callable
from typing import Final

from thorn_stream.ports import SourceEvent

__all__ = ["Credit", "Outbox"]


class Credit:
    """Records and bytes that may still be handed over.

    Counters that only rise, each written by one thread alone, so there is no lock. `enough` bytes
    have to be back, by default half of them, before reading goes on after a long shortage.
    """

    def __init__(self, records: int, size: int, enough: int | None = None) -> None:
        self._enough: Final = (records // 2, size // 2 if enough is None else enough)
        self.given_records, self.given_size = records, size  # written on the loop
        self.taken_records = self.taken_size = 0  # written by the owner thread

    @property
    def left(self) -> tuple[int, int]:
        return self.given_records - self.taken_records, self.given_size - self.taken_size

    @property
    def used_up(self) -> bool:
        records, size = self.left
        return records <= 0 or size <= 0

    @property
    def enough_back(self) -> bool:
        records, size = self.left
        return not self.used_up and records >= self._enough[0] and size >= self._enough[1]


class Outbox:
    """Events in the order they were learnt; a batch of them is one wake-up of the loop.

    `number` is that of the batch being filled. The loop's commands carry the number of the last
    batch it had seen, so a command can be told from the assignment it was meant for.
    """

    def __init__(self, hand_over: Callable[[list[SourceEvent], int], bool]) -> None:
        self.number = 1
        self._hand_over = hand_over
        self._events: list[SourceEvent] = []

    def add(self, *events: SourceEvent) -> None:
        self._events += events

    def flush(self) -> bool:
        """Hand the batch over; False when there is no loop any more."""
        if not self._events:
            return True
        events, self._events = self._events, []
        self.number += 1
        return self._hand_over(events, self.number - 1)
