"""What may be committed: one Ledger per assigned partition and assignment.

Offsets enter in rising order, settle in any order, and the committable offset moves over those
that have nothing open. A late settle of an earlier assignment reaches that assignment's Ledger,
which nobody asks any more: the epoch is the object itself.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

from thorn_stream.core import notes, offsets
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
    one Source. `known` is what the commit at `base` told of the offsets above it, `note` what else
    it told: it is written again with each commit until it is replaced, and `noted` is the one that
    Kafka has. `busy` counts requests and hand-overs under way, `held` what waits to be due,
    `held_bytes` the memory of that.
    """

    __slots__ = (
        "_ahead",
        "_known",
        "_open",
        "_sent",
        "_settled",
        "_told",
        "busy",
        "closed",
        "committable",
        "committed",
        "draining",
        "held",
        "held_bytes",
        "next",
        "note",
        "noted",
        "partition",
        "tally",
        "window",
    )

    entry_type: ClassVar[type[Entry]] = Entry

    def __init__(
        self,
        partition: Partition,
        base: int,
        window: int,
        tally: Tally,
        known: offsets.Known | None = None,
        note: str = "",
    ) -> None:
        self.partition = partition
        self.note = self.noted = note
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
        self._open: deque[Entry] = deque()  # the first is open; of the others
        self._settled = 0  # so many have settled
        # what an earlier assignment knew of offsets that this one has not received yet
        self._known = known.end if known else base
        self._ahead = deque(known.incomplete if known else ())
        self._told = self.done_above  # at the last accepted commit
        self._sent = (Position(base), self._told, note)

    def enter(self, offset: int, size: int) -> Entry | None:
        """Take in a received offset; None for one that was received, or settled, before.

        Offsets skipped over were never written or are gone (compaction, transaction markers):
        nothing waits for them.
        """
        after = self.next
        if offset < after:
            return None
        if after < self._known and self._was_done(offset):
            self.next = offset + 1
            if not self._open:
                self.committable = self.next
            return None
        if not self._open:
            self.committable = offset
        entry = self.entry_type(self, offset, size)
        self._open.append(entry)
        self.next = offset + 1
        return entry

    def _was_done(self, offset: int) -> bool:
        """Whether an earlier assignment had settled it. Nothing waits for what it skips over."""
        ahead = self._ahead
        while ahead and ahead[0] < offset:
            ahead.popleft()
        if ahead and ahead[0] == offset:
            ahead.popleft()
            return False
        return offset < self._known

    def pass_over(self, offset: int) -> None:
        """What stands below this offset, and was not received, never will be."""
        if offset <= self.next:
            return
        self.next = offset
        ahead = self._ahead
        while ahead and ahead[0] < offset:
            ahead.popleft()
        if not self._open:
            self.committable = offset

    def settle(self, entry: Entry) -> None:
        """Move the committable offset over everything that has nothing open."""
        if self.closed:
            return
        tally = self.tally
        tally.records += 1
        tally.size += entry.size
        entries = self._open
        if entries[0] is entry:
            entries.popleft()
            while entries and not entries[0].pending:
                entries.popleft()
                self._settled -= 1
            self.committable = entries[0].offset if entries else self.next
        else:
            self._settled += 1

    def is_news(self, least: int = 1) -> bool:
        """Whether Kafka has yet to learn something.

        The offset, another note, or `least` more offsets that are done above it.
        """
        if self.closed:
            return False
        moved = self.committable != self.committed or self.note != self.noted
        return moved or self.done_above - self._told >= least

    def to_commit(
        self, *, force: bool = False, least: int = 1, limit: int = offsets.LIMIT
    ) -> Position | None:
        """What a commit should say now; None when that would be no news, unless forced.

        `limit` is the greatest length of the metadata, in characters.
        """
        if self.closed or not (force or self.is_news(least)):
            return None
        done = self.done_above
        text = self._metadata(notes.left_for_offsets(self.note, limit)) if done else ""
        position = Position(self.committable, notes.joined(text, self.note, limit))
        self._sent = (position, done, self.note)
        return position

    def _metadata(self, limit: int) -> str:
        if self._settled:  # left behind here, so that no later commit has to pass over them
            self._open = deque([entry for entry in self._open if entry.pending])
            self._settled = 0
        incomplete = [entry.offset for entry in self._open]
        incomplete.extend(self._ahead)
        return offsets.encode(self.committable, self.end, incomplete, limit)

    def answered(self, position: Position) -> None:
        """Kafka has accepted this commit; an older answer that comes late is no news."""
        self.committed = max(self.committed, position.offset)
        sent, told, note = self._sent
        if position == sent:
            self._told = told
            self.noted = note

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
        self._settled = 0

    @property
    def depth(self) -> int:
        """Offsets between the committable one and the next to read."""
        return self.next - self.committable

    @property
    def first(self) -> Entry | None:
        """The lowest offset that is received and not settled."""
        return self._open[0] if self._open else None

    @property
    def open(self) -> int:
        """Received offsets that are not settled."""
        return len(self._open) - self._settled

    @property
    def end(self) -> int:
        """Of the offsets from here on nothing is known: neither received nor told of."""
        return max(self.next, self._known)

    @property
    def done_above(self) -> int:
        """How many offsets above the committable one need nothing more: settled ones, and gaps."""
        return self.end - self.committable - self.open - len(self._ahead)
