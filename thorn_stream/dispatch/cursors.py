"""Cursors at work: what one receiver's parked deliveries of one partition have come to.

While it takes, a receiver's parked records are delivered as they are read, and what is in flight
stands in a Ledger of its own. From the first that cannot be delivered on, that Ledger is its
cursor: written to the cursors topic, and moved as the drain settles what it reads from there.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from thorn_stream.core import cursors
from thorn_stream.core.cursors import Cursor
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record

__all__ = ["CursorLedger", "LiveCursor", "ParkedEntry"]

_ENDLESS: Final = 1 << 62
"""The Ledger of a cursor has no window: what is open in it is in flight, or put back."""


class ParkedEntry(Entry):
    """One parked record that was begun.

    `origin` is its entry in the Ledger of its partition, as long as that waits for it. `parked_at`
    (unix milliseconds) is when it was written.
    """

    __slots__ = ("cursor", "origin", "parked_at")

    cursor: "LiveCursor"
    origin: Entry | None
    parked_at: int

    def release(self) -> None:
        super().release()
        if not self.pending and not self.ledger.closed:
            origin, self.origin = self.origin, None
            if origin is not None:
                origin.release()
            self.cursor.settled(self)


class CursorLedger(Ledger):
    """What is done of one receiver's records, from its cursor on."""

    __slots__ = ()
    entry_type = ParkedEntry


class LiveCursor:
    """One receiver in one partition of the parked topic, in one assignment.

    `stands` says that there is a cursor to be written, `durable` that Kafka has one at or below
    where it is now. `read` is the next offset the drain reads, `newest` the highest there is of
    this receiver: between them stands what was never begun, and what was put back (`again`).
    `waiting` are entries of the partition that wait until the cursor is durable. `changed` is told
    whenever something has settled.
    """

    __slots__ = (
        "again",
        "began_at",
        "buffer",
        "changed",
        "count",
        "counted",
        "definition",
        "durable",
        "error",
        "gap",
        "hint",
        "key",
        "ledger",
        "name",
        "newest",
        "partition",
        "read",
        "rests_until",
        "settled_since",
        "stands",
        "topic",
        "unknown_since",
        "waiting",
        "written_at",
    )

    def __init__(
        self,
        partition: Partition,
        name: str,
        cursor: Cursor,
        tally: Tally,
        changed: Callable[["LiveCursor"], None],
    ) -> None:
        known = cursors.known_at(cursor)
        self.ledger = CursorLedger(partition, cursor.next, _ENDLESS, tally, known)
        self.partition = partition
        self.name = name
        self.key = name.encode()
        self.changed = changed
        self.stands = self.durable = self.gap = False
        self.read = cursor.next
        self.newest = cursor.next - 1
        self.again: dict[int, ParkedEntry] = {}
        self.buffer: deque[Record] = deque()
        self.waiting: list[Entry] = []
        self.count = cursor.count
        self.counted = cursor.through  # offsets below it are in the count already
        self.hint = cursor.oldest or 0
        self.error = cursor.error
        self.definition = cursor.definition
        self.unknown_since = cursor.unknown_since
        self.topic = cursor.topic
        self.began_at = self.rests_until = self.written_at = 0.0
        self.settled_since = 0  # records, since it was last written

    # --- what comes in -------------------------------------------------------------------------

    def enter(self, record: Record, origin: Entry | None, size: int) -> ParkedEntry | None:
        """Begin a record; None for one that was begun, or done, before."""
        entry = self.ledger.enter(record.offset, size)
        if not isinstance(entry, ParkedEntry):
            return None
        entry.cursor = self
        entry.origin = origin
        entry.parked_at = record.timestamp
        return entry

    def pass_over(self, record: Record, origin: Entry) -> None:
        """It is read from the cursor, when its turn comes."""
        self.newest = max(self.newest, record.offset)
        self.more(record.offset)
        if self.durable:
            origin.release()
        else:
            self.waiting.append(origin)

    def more(self, offset: int) -> None:
        """One more of this receiver's stands in the topic."""
        if self.count is not None and offset >= self.counted:
            self.count += 1

    def put_back(self, entry: ParkedEntry, error: str) -> None:
        """It was begun and cannot be tried now: it stays where it stands, and is let go of here."""
        entry.ledger.tally.size += entry.size
        entry.size = 0
        self.again[entry.offset] = entry
        self.read = min(self.read, entry.offset)
        self.newest = max(self.newest, entry.offset)
        self.error = error or self.error
        origin, entry.origin = entry.origin, None
        if origin is None:
            return
        if self.durable:
            origin.release()
        else:
            self.waiting.append(origin)

    def settled(self, entry: ParkedEntry) -> None:
        self.hint = max(self.hint, entry.parked_at)
        self.settled_since += 1
        if self.count is not None:
            self.count -= 1
        self.changed(self)

    def forget_buffer(self) -> int:
        """Read what was not begun again later; returns its bytes."""
        size = sum(record.size for record in self.buffer)
        if self.buffer:
            self.read = min(self.read, self.buffer[0].offset)
            self.hint = max(self.hint, self.buffer[0].timestamp)
            self.buffer.clear()
        return size

    def lose(self, below: int) -> int:
        """Kafka has deleted all below this offset; returns how many offsets were not read."""
        lost = below - self.read
        for offset in [offset for offset in self.again if offset < below]:
            self.again.pop(offset).release()
        self.read = below
        return lost

    # --- how it is -----------------------------------------------------------------------------

    @property
    def unread(self) -> bool:
        return self.read <= self.newest

    @property
    def caught_up(self) -> bool:
        """Nothing of this receiver is left below what has been read of the partition."""
        return not (self.unread or self.buffer or self.again or self.ledger.open)

    @property
    def oldest(self) -> int:
        """When the oldest that is left was parked, unix milliseconds (not later, at least)."""
        first = self.ledger.first
        if isinstance(first, ParkedEntry):
            return first.parked_at
        return self.buffer[0].timestamp if self.buffer else self.hint

    def told(self, through: int) -> Cursor:
        """What is to be written of it; `through` is how far the partition has been read."""
        position = self.ledger.to_commit(force=True)
        start, done = (position.offset, position.metadata) if position else (self.read, "")
        return Cursor(
            next=start,
            done=done,
            count=self.count,
            through=max(through, self.counted),
            oldest=self.oldest,
            error=self.error[:200],
            definition=self.definition,
            unknown_since=self.unknown_since,
            topic=self.topic,
        )

    def acknowledged(self) -> None:
        """Kafka has it: whoever begins here anew reads all that has waited for that."""
        self.durable = True
        waiting, self.waiting = self.waiting, []
        for entry in waiting:
            entry.release()
