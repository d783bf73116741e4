"""What may be committed: one Ledger per assigned partition and assignment.

Offsets enter in rising order, settle in any order, and the committable offset moves over those
that have nothing open. A late settle of an earlier assignment reaches that assignment's Ledger,
which nobody asks any more: the epoch is the object itself.
"""

from collections import deque
from dataclasses import dataclass, field

from thorn_stream.core.flow import Hold
from thorn_stream.core.records import Partition, Position

__all__ = ["Entry", "Ledger", "Tally"]


@dataclass(slots=True)
class Tally:
    """How much of what a Source handed over is done with: records, and their payload bytes.

    `hold` says whether anything new of it may be delivered just now.
    """

    records: int = 0
    size: int = 0
    hold: Hold = field(default_factory=Hold)


class Entry:
    """One received offset, open until each of its Deliveries has let go of it."""

    __slots__ = ("ledger", "offset", "pending", "size")

    def __init__(self, ledger: "Ledger", offset: int, size: int) -> None:
        self.ledger = ledger
        self.offset = offset
        self.size = size
        self.pending = 1  # held by whoever entered it until all its Deliveries hold it

    def hold(self) -> None:
        self.pending += 1

    def release(self) -> None:
        """Let go of it once; the last to let go settles the offset."""
        self.pending -= 1
        if not self.pending:
            self.ledger.settle(self)


class Ledger:
    """Received offsets of one partition in one assignment, and the next one to commit.

    `base` is the committed offset the assignment began at, `window` how many offsets above the
    committable one may be received before reading is to stop. `tally` is shared by all Ledgers of
    one Source. `busy` counts requests and hand-overs under way, `held` what waits to be due,
    `held_bytes` the memory of that.
    """

    __slots__ = (
        "_open",
        "busy",
        "closed",
        "committable",
        "committed",
        "draining",
        "held",
        "held_bytes",
        "next",
        "partition",
        "tally",
        "window",
    )

    def __init__(self, partition: Partition, base: int, window: int, tally: Tally) -> None:
        self.partition = partition
        self.window = window
        self.tally = tally
        self.next = base
        self.committable = base
        self.committed = base
        self.busy = 0
        self.held = 0
        self.held_bytes = 0
        self.draining = False
        self.closed = False
        self._open: deque[Entry] = deque()

    def enter(self, offset: int, size: int) -> Entry | None:
        """Take in a received offset; None for one that was received before.

        Offsets skipped over were never written or are gone (compaction, transaction markers):
        nothing waits for them.
        """
        if offset < self.next:
            return None
        if not self._open:
            self.committable = offset
        entry = Entry(self, offset, size)
        self._open.append(entry)
        self.next = offset + 1
        return entry

    def settle(self, entry: Entry) -> None:
        """Move the committable offset over everything that has nothing open."""
        if self.closed:
            return
        self.tally.records += 1
        self.tally.size += entry.size
        entries = self._open
        if entries[0] is entry:
            entries.popleft()
            while entries and not entries[0].pending:
                entries.popleft()
            self.committable = entries[0].offset if entries else self.next

    def to_commit(self, *, force: bool = False) -> Position | None:
        """What a commit should say now; None when it would say nothing new, unless forced."""
        if self.closed or (self.committable == self.committed and not force):
            return None
        return Position(self.committable)

    def answered(self, offset: int) -> None:
        """Kafka has accepted a commit of `offset`; an older answer that comes late is no news."""
        self.committed = max(self.committed, offset)

    def drain(self) -> None:
        """The partition is about to go: nothing new is begun for it, what is under way may end."""
        self.draining = True

    def close(self) -> None:
        """The partition is no longer ours: whatever settles from now on changes nothing here."""
        if self.closed:
            return
        self.draining = self.closed = True
        for entry in self._open:
            if entry.pending:
                self.tally.records += 1
                self.tally.size += entry.size
        self._open.clear()

    @property
    def depth(self) -> int:
        """Offsets between the committable one and the next to read."""
        return self.next - self.committable

    @property
    def full(self) -> bool:
        return self.depth >= self.window

    @property
    def has_room(self) -> bool:
        """Half of the window is free again; between that and `full` nothing changes."""
        return self.depth <= self.window // 2
