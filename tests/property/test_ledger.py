"""The ledger against sets of numbers: what is received, what is open, what may be committed."""

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition

PARTITION = Partition("orders", 0)


class LedgerMachine(RuleBasedStateMachine):
    """Receives, settles and commits in any order, over one assignment after another."""

    # A hold on an Entry: whoever has it lets go once.
    holds = Bundle("holds")

    @initialize(base=st.integers(0, 1_000), window=st.integers(1, 20))
    def assign(self, base: int, window: int) -> None:
        self.tally = Tally()
        self.window = window
        self.begin(base)

    def begin(self, base: int) -> None:
        self.ledger = Ledger(PARTITION, base, self.window, self.tally)
        self.base = self.next = self.highest_commit = base
        self.open: dict[int, int] = {}
        self.received = 0
        self.under_way: list[int] = []

    @rule(target=holds, gap=st.sampled_from([0, 0, 0, 1, 7, 100_000]), size=st.integers(0, 9))
    def receive(self, gap: int, size: int) -> Entry:
        entry = self.ledger.enter(self.next + gap, size)
        assert entry is not None
        self.next += gap + 1
        self.open[entry.offset] = 1
        self.received += 1
        return entry

    @rule(back=st.integers(1, 50))
    def receive_again(self, back: int) -> None:
        """What was received before is not taken in twice."""
        assert self.ledger.enter(self.next - back, 1) is None

    @rule(target=holds, entry=consumes(holds), more=st.integers(1, 3))
    def deliver_to_several(self, entry: Entry, more: int) -> object:
        for _ in range(more):
            entry.hold()
        if entry.ledger is self.ledger:
            self.open[entry.offset] += more
        return multiple(*[entry] * (more + 1))

    @rule(entry=consumes(holds))
    def let_go(self, entry: Entry) -> None:
        """I7: one that belongs to an earlier assignment changes nothing in this one."""
        entry.release()
        if entry.ledger is self.ledger:
            self.open[entry.offset] -= 1
            if not self.open[entry.offset]:
                del self.open[entry.offset]

    @rule()
    def commit(self) -> None:
        position = self.ledger.to_commit()
        if position is not None:
            assert position.offset >= self.highest_commit  # I2
            self.highest_commit = position.offset
            self.under_way.append(position.offset)

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """Answers come late, in any order, or never."""
        if self.under_way:
            index = data.draw(st.integers(0, len(self.under_way) - 1))
            self.ledger.answered(self.under_way.pop(index))

    @rule(lost=st.booleans())
    def assign_again(self, lost: bool) -> None:
        """A new epoch begins at what was committed; the old ledger commits nothing any more."""
        old = self.ledger
        committed = old.committed if lost else max(old.committed, self.highest_commit)
        old.close()
        assert old.to_commit() is None
        self.begin(committed)

    @invariant()
    def never_beyond_what_is_open(self) -> None:
        """I1, and I10: no gap is waited for. I3: with nothing open it has caught up."""
        expected = min(self.open) if self.open else self.next
        received_nothing_yet = self.received == 0
        assert self.ledger.committable == (self.base if received_nothing_yet else expected)
        assert self.ledger.next == self.next

    @invariant()
    def a_commit_says_what_is_new(self) -> None:
        position = self.ledger.to_commit()
        if self.ledger.committable == self.ledger.committed:
            assert position is None
        else:
            assert position is not None
            assert position.offset == self.ledger.committable

    @invariant()
    def reading_stops_in_time(self) -> None:
        depth = self.next - self.ledger.committable
        assert self.ledger.depth == depth
        assert self.ledger.full == (depth >= self.window)
        assert not (self.ledger.full and self.ledger.has_room)


class TallyMachine(RuleBasedStateMachine):
    """Every record handed over is given back to the source exactly once, whatever ends first."""

    entries = Bundle("entries")

    def __init__(self) -> None:
        super().__init__()
        self.tally = Tally()
        self.ledger = Ledger(PARTITION, 0, 10, self.tally)
        self.size_in = self.count_in = 0
        self.size_open: dict[int, int] = {}

    @rule(target=entries, size=st.integers(0, 100))
    def receive(self, size: int) -> Entry:
        entry = self.ledger.enter(self.ledger.next, size)
        assert entry is not None
        self.count_in += 1
        self.size_in += size
        self.size_open[id(entry)] = size
        return entry

    @rule(entry=consumes(entries))
    def settle(self, entry: Entry) -> None:
        entry.release()
        if entry.ledger is self.ledger:
            del self.size_open[id(entry)]

    @rule()
    def end(self) -> None:
        self.ledger.close()
        self.ledger.close()
        self.size_open.clear()
        self.ledger = Ledger(PARTITION, 0, 10, self.tally)

    @invariant()
    def nothing_is_counted_twice_or_forgotten(self) -> None:
        assert self.tally.records == self.count_in - len(self.size_open)
        assert self.tally.size == self.size_in - sum(self.size_open.values())


TestLedger = LedgerMachine.TestCase
TestTally = TallyMachine.TestCase
