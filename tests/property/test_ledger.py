"""The ledger against sets of numbers: what is received, what is open, what may be committed."""

import random
from itertools import takewhile

from hypothesis import given, settings
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

from thorn_stream.core import offsets
from thorn_stream.core.flow import Limits, should_pause, should_resume
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Position

PARTITION = Partition("orders", 0)
GAPS = st.sampled_from([0, 0, 0, 1, 7, 100_000])


def begun_at(position: Position, window: int, tally: Tally) -> Ledger:
    known = offsets.decode(position.metadata, position.offset)
    assert known is not None
    return Ledger(PARTITION, position.offset, window, tally, known)


class LedgerMachine(RuleBasedStateMachine):
    """Receives, settles and commits in any order, over one assignment after another.

    `log` holds the offsets that exist, in order, up to `end`; the others are gaps. `done` are
    those that have settled as far as this assignment knows: in it, or told of by the commit it
    began at.
    """

    # A hold on an Entry: whoever has it lets go once.
    holds = Bundle("holds")

    @initialize(base=st.integers(0, 1_000), window=st.integers(1, 20))
    def assign(self, base: int, window: int) -> None:
        self.tally = Tally()
        self.window = window
        self.log: list[int] = []
        self.end = base
        # every commit that Kafka may have accepted, and what was done when it was made
        self.commits = [(Position(base), frozenset[int]())]
        self.begin(0)

    def begin(self, commit: int) -> None:
        position, done = self.commits[commit]
        self.commits = self.commits[: commit + 1]
        self.ledger = begun_at(position, self.window, self.tally)
        self.base = position.offset
        self.highest_commit = position.offset
        self.done = set(done)
        self.unread = [offset for offset in self.log if offset >= position.offset]
        self.open: dict[int, int] = {}
        self.next = position.offset
        self.received = False
        self.unanswered: list[tuple[Position, frozenset[int]]] = []
        self.accepted = (position, done)

    def all_is_told(self) -> bool:
        position, done = self.accepted
        committable = self.ledger.committable
        above = {offset for offset in self.done.intersection(self.log) if offset >= committable}
        return position.offset == committable and above <= done

    def read(self, gap: int) -> int:
        """The next offset of the log, which is made as it is read."""
        if not self.unread:
            self.log.append(self.end + gap)
            self.unread.append(self.log[-1])
            self.end = self.log[-1] + 1
        self.received = True
        return self.unread.pop(0)

    @rule(target=holds, gap=GAPS, size=st.integers(0, 9))
    def receive(self, gap: int, size: int) -> object:
        """I6: what was encoded as done does not come again; everything else does."""
        offset = self.read(gap)
        entry = self.ledger.enter(offset, size)
        self.next = offset + 1
        if offset in self.done:
            assert entry is None
            return multiple()
        assert entry is not None
        self.open[offset] = 1
        return entry

    @rule(target=holds, count=st.integers(2, 12))
    def receive_many(self, count: int) -> object:
        made = []
        for _ in range(count):
            entry = self.receive(0, 1)
            if isinstance(entry, Entry):
                made.append(entry)
        return multiple(*made)

    @rule(back=st.integers(1, 50))
    def receive_again(self, back: int) -> None:
        """What was received before is not taken in twice."""
        assert self.ledger.enter(self.next - back, 1) is None

    @rule()
    def records_go(self) -> None:
        """Kafka deletes the oldest that were not read yet: they are gaps from now on."""
        for offset in self.unread[:3]:
            self.log.remove(offset)
        self.unread = self.unread[3:]

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
                self.done.add(entry.offset)

    @rule(least=st.sampled_from([1, 1, 3]), force=st.booleans())
    def commit(self, least: int, force: bool) -> None:
        position = self.ledger.to_commit(force=force, least=least)
        if position is None:
            assert not force
            assert least > 1 or self.all_is_told()
            return
        assert position.offset >= self.highest_commit  # I2
        self.highest_commit = position.offset
        done = frozenset(self.done.intersection(self.log))
        assert all(offset in done for offset in self.log if offset < position.offset)  # I1
        known = offsets.decode(position.metadata, position.offset)
        assert known is not None
        told = {
            offset
            for offset in self.log
            if position.offset <= offset < known.end and offset not in known.incomplete
        }
        assert told == {offset for offset in done if offset >= position.offset}  # I4
        self.commits.append((position, done))
        self.unanswered.append((position, done))

    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """Answers come late, in any order, or never."""
        if self.unanswered:
            index = data.draw(st.integers(0, len(self.unanswered) - 1))
            position, done = self.unanswered.pop(index)
            self.ledger.answered(position)
            before = self.accepted
            if position.offset > before[0].offset or (
                position.offset == before[0].offset and done >= before[1]
            ):
                self.accepted = (position, done)
            assert self.ledger.committed == self.accepted[0].offset

    @rule(data=st.data())
    def assign_again(self, data: st.DataObject) -> None:
        """A new epoch begins at any commit there was; the old ledger commits nothing any more."""
        old = self.ledger
        old.close()
        assert old.to_commit(force=True) is None
        assert not old.is_news()
        latest_first = data.draw(st.integers(0, len(self.commits) - 1))
        self.begin(len(self.commits) - 1 - latest_first)

    @rule(
        reads=st.integers(1, 12),
        settles=st.sets(st.integers(0, 30), max_size=10),
        accepted=st.booleans(),
    )
    def crash(self, reads: int, settles: set[int], accepted: bool) -> None:
        """Some are read, some of those settle, and the next owner begins at what was committed."""
        made = [self.receive(0, 1) for _ in range(reads)]
        for number, entry in enumerate(made):
            if isinstance(entry, Entry) and number in settles:
                self.let_go(entry)
        before = len(self.commits)
        self.commit(1, force=False)
        self.begin(len(self.commits) - 1 if accepted else before - 1)

    @invariant()
    def never_beyond_what_is_open(self) -> None:
        """I1, and I10: no gap is waited for. I3: with nothing open it has caught up."""
        expected = min(self.open) if self.open else self.next
        assert self.ledger.committable == (expected if self.received else self.base)
        assert self.ledger.next == self.next
        assert self.ledger.open == len(self.open)

    @invariant()
    def a_commit_says_what_is_new(self) -> None:
        assert self.ledger.is_news() or self.all_is_told()

    @invariant()
    def the_depth_is_what_a_commit_leaves(self) -> None:
        assert self.ledger.depth == self.next - self.ledger.committable


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
    def commit(self) -> None:
        """What has settled is left behind by a commit, and is not counted again at the end."""
        self.ledger.to_commit(force=True)

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


class _Partition:
    """A long partition that is read as far as it may be, and 500 records further."""

    def __init__(self, dice: random.Random, window: int) -> None:
        self.dice = dice
        self.limits = Limits(window=window, lookahead=10**9)
        self.ledger = Ledger(PARTITION, 0, window, Tally())
        self.entries: dict[int, Entry] = {}
        self.reading = True

    def read(self) -> None:
        ledger, wanted = self.ledger, self.dice.choice([1, 1_000, 10_000])
        if not self.reading:
            self.reading = should_resume(ledger.depth, ledger.open, 0, self.limits)
        on_its_way = 500
        while wanted and (self.reading or on_its_way):
            wanted -= 1
            on_its_way -= not self.reading
            entry = ledger.enter(ledger.next, 1)
            assert entry is not None
            self.entries[entry.offset] = entry
            if should_pause(ledger.depth, ledger.open, 0, self.limits):
                self.reading = False

    def settle(self) -> None:
        share = self.dice.choice([0.1, 0.5, 0.9, 0.99, 1.0])
        for offset in list(takewhile(lambda _: self.dice.random() < 0.9999, self.entries)):
            if self.dice.random() < share:
                self.entries.pop(offset).release()


@given(seed=st.integers(0, 1 << 32), window=st.sampled_from([30_000, 200_000]))
@settings(max_examples=max(10, settings().max_examples // 20))
def test_what_a_partition_holds_always_fits_the_metadata(seed: int, window: int) -> None:
    """I4, I9: reading stops in time, also with what is on its way, whatever stays open."""
    partition = _Partition(random.Random(seed), window)
    for _ in range(20):
        partition.read()
        partition.settle()
        ledger = partition.ledger
        assert ledger.depth <= window + 500
        position = ledger.to_commit(force=True)
        assert position is not None
        assert len(position.metadata) <= offsets.LIMIT
        known = offsets.decode(position.metadata, position.offset)
        assert known is not None
        told = set(range(position.offset, known.end)) - set(known.incomplete)
        assert told == set(range(ledger.committable, ledger.next)) - set(partition.entries)
