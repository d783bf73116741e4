"""Taking a partition of the parked topic over: the cursors that its last owner left are read.

What of them holds is for core/cursors to say. It is written anew under an epoch of its new owner,
who takes nothing from the partition before Kafka has all of that, and has taken that epoch.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from thorn_stream.core import cursors
from thorn_stream.core.cursors import Cursor, CursorKey, Found, Ground
from thorn_stream.core.ledger import Entry, Ledger
from thorn_stream.core.records import Partition, Record
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.cursors import LiveCursor
from thorn_stream.ports import Ask, Replay, Slice

__all__ = ["ParkedTopics", "Part", "Takeover", "waiting_in"]

_ASK_AGAIN: Final = 1.0
"""Seconds until Kafka is asked again for cursors after it has refused them."""


class ParkedTopics:
    """Names of the topic of parked deliveries, and of the one of their cursors."""

    __slots__ = ("cursors", "parked")

    def __init__(self, parked: str, cursors: str) -> None:
        self.parked = parked
        self.cursors = cursors


class Part:
    """One partition of the parked topic, in one assignment."""

    __slots__ = (
        "again_at",
        "begun",
        "cursors",
        "early",
        "epoch",
        "ledger",
        "lost",
        "note",
        "raw",
        "ready",
        "stale",
        "topic",
    )

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.begun = ledger.end  # below it nothing comes any more, from it on everything
        self.cursors: dict[bytes, LiveCursor] = {}
        self.early: deque[tuple[Record, Entry]] = deque()  # came before the cursors were known
        self.raw: dict[bytes | None, bytes | None] = {}
        self.epoch = 0
        self.note: str | None = None  # once it is to be committed
        self.stale: list[CursorKey] = []
        self.lost = 0  # deliveries that are gone with a former topic: told when this is ready
        self.ready = False
        self.topic = ""  # Kafka's id of it, where that is known
        self.again_at = 0.0  # when the cursors topic is asked again; 0: it was not refused

    @property
    def number(self) -> int:
        return self.ledger.partition.number

    def key(self, cursor: LiveCursor) -> CursorKey:
        """What the cursor is written under in this assignment."""
        return CursorKey(self.number, self.epoch, cursor.name)

    @property
    def seen(self) -> int:
        """The offset below which everything is in the counts of the cursors."""
        return self.early[0][0].offset if self.early else self.ledger.next


class Takeover:
    """Reads the cursors of partitions that have become ours; says when all goes on from them.

    `adopt(part, name, cursor)` is called for each that holds, `ready(part)` when Kafka has all of
    them under the epoch of this assignment, and that epoch. `error` is why the last question was
    refused: it is asked again.
    """

    def __init__(self, replay: Replay, topics: ParkedTopics, group: str, context: Context) -> None:
        self.adopt: Callable[[Part, str, Cursor], None] = lambda *_: None
        self.ready: Callable[[Part], None] = lambda _: None
        self.error: str | None = None
        self._replay = replay
        self._topics = topics
        self._group = group
        self._clock = context.clock
        self._observer = context.observer

    def begin(self, part: Part) -> None:
        self._read(part, 0)

    def tick(self, part: Part) -> None:
        """Ask again what was refused, when time has gone by."""
        if part.again_at and self._clock.monotonic() >= part.again_at:
            part.again_at = 0.0
            self._read(part, 0)
        self.go_on(part)

    def _read(self, part: Part, begin: int) -> None:
        def arrived(_: Ask, found: Slice) -> None:
            if self._is_refused(part, found):
                return
            part.raw.update({record.key: record.value for record in found.records})
            if found.next < found.high:
                self._read(part, found.next)
            else:
                self._judge(part)

        self._replay.read(Ask(Partition(self._topics.cursors, part.number), begin), arrived)

    def _judge(self, part: Part) -> None:
        """They hold for the topic as it is now: it may have been deleted and made anew."""

        def arrived(_: Ask, reach: Slice) -> None:
            if self._is_refused(part, reach):
                return
            part.topic = reach.topic
            ground = Ground(reach.high, reach.topic, part.begun)
            epoch = cursors.epoch_in(part.ledger.note)
            found = cursors.found(part.raw.items(), part.number, epoch, ground)
            part.raw.clear()
            self._take_over(part, found)

        self._replay.read(Ask(part.ledger.partition, 0, 0, identify=True), arrived)

    def _is_refused(self, part: Part, answer: Slice) -> bool:
        """Whether nothing comes of this answer: it is none, or the partition is not ours now."""
        if part.ledger.closed:
            return True
        self.error = answer.error
        if answer.error is None:
            return False
        part.again_at = self._clock.monotonic() + _ASK_AGAIN
        part.raw.clear()
        return True

    def _take_over(self, part: Part, found: Found) -> None:
        for _ in range(found.garbled):
            self._observer.ignored("cursor")
        part.epoch, part.stale = found.epoch, found.stale
        # how many waited, as far as their cursors knew: for each there was one
        part.lost = sum(cursor.count or 1 for cursor in found.gone.values())
        for name, cursor in found.live.items():
            if cursors.known_at(cursor) is None:
                self._observer.ignored("cursor")
            self.adopt(part, name, cursor)
        self.go_on(part)

    def go_on(self, part: Part) -> None:
        """When Kafka has all cursors, tell the epoch with the commit; when that is taken, begin."""
        if part.ready or part.epoch == 0:
            return
        if part.note is None:
            if all(cursor.durable for cursor in part.cursors.values()):
                part.ledger.note = part.note = cursors.note_of(part.epoch)
        elif part.ledger.noted == part.note:
            part.ready = True
            if part.lost:  # before this another owner would find the same again
                self._observer.lost_records(self._group, part.ledger.partition, part.lost)
            self.ready(part)


def waiting_in(parts: Iterable[Part]) -> dict[str, tuple[int, int | None]]:
    """Of each subscriber with cursors in these: since when, and how many (`Parked.waiting`)."""
    found: dict[str, tuple[int, int | None]] = {}
    for part in parts:
        for cursor in part.cursors.values():
            if not cursor.stands:
                continue
            oldest, count = found.get(cursor.name, (cursor.oldest, 0))
            known = count is not None and cursor.count is not None
            total = (count or 0) + (cursor.count or 0) if known else None
            found[cursor.name] = (min(oldest, cursor.oldest), total)
    return found
