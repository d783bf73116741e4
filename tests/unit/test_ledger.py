"""The ledger, step by step; its rules at large are in tests/property."""

import pytest

from thorn_stream.core import offsets
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Position

PARTITION = Partition("orders", 0)


@pytest.fixture
def tally() -> Tally:
    return Tally()


@pytest.fixture
def ledger(tally: Tally) -> Ledger:
    return Ledger(PARTITION, base=10, window=4, tally=tally)


def entered(ledger: Ledger, offset: int, size: int = 1) -> Entry:
    entry = ledger.enter(offset, size)
    assert entry is not None
    return entry


def done(at: Position | None) -> set[int]:
    """Which offsets above the committed one a commit calls done."""
    assert at is not None
    known = offsets.decode(at.metadata, at.offset)
    assert known is not None
    return set(range(at.offset, known.end)) - set(known.incomplete)


def offset(at: Position | None) -> int:
    assert at is not None
    return at.offset


def test_nothing_received_is_nothing_to_commit(ledger: Ledger) -> None:
    """The assignment began at what is committed already."""
    assert ledger.to_commit() is None


def test_the_commit_waits_for_the_lowest_open_offset(ledger: Ledger) -> None:
    """What is done above it has to wait."""
    first, second, third = (entered(ledger, offset) for offset in (10, 11, 12))
    second.release()
    assert offset(ledger.to_commit()) == 10
    first.release()
    assert ledger.to_commit() == Position(12)
    third.release()
    assert ledger.to_commit() == Position(13)


def test_an_offset_is_open_until_its_last_delivery_lets_go(ledger: Ledger) -> None:
    """One hold for whoever entered it, one for each Delivery."""
    entry = entered(ledger, 10)
    entry.hold()
    entry.hold()
    for _ in range(2):
        entry.release()
        assert ledger.to_commit() is None
    entry.release()
    assert ledger.to_commit() == Position(11)


def test_gaps_are_not_waited_for(ledger: Ledger) -> None:
    """Offsets that never come: compaction, transaction markers."""
    first, second = entered(ledger, 1_000), entered(ledger, 5_000)
    assert offset(ledger.to_commit()) == 1_000
    first.release()
    assert ledger.to_commit() == Position(5_000)
    second.release()
    assert ledger.to_commit() == Position(5_001)


def test_an_offset_received_again_is_passed_over(ledger: Ledger) -> None:
    """It was below the base, or is in the ledger already."""
    entered(ledger, 10)
    assert ledger.enter(10, 1) is None
    assert ledger.enter(9, 1) is None
    assert ledger.enter(11, 1) is not None


def test_an_answer_ends_what_there_is_to_commit(ledger: Ledger) -> None:
    """An older one that comes late is no news."""
    entered(ledger, 10).release()
    entered(ledger, 11).release()
    ledger.answered(Position(12))
    assert ledger.to_commit() is None
    ledger.answered(Position(11))
    assert ledger.to_commit() is None
    assert ledger.committed == 12


def test_a_commit_tells_what_is_done_above_it(ledger: Ledger) -> None:
    """Settled offsets and gaps; nothing at all where nothing is done above."""
    entries = {number: entered(ledger, number) for number in (10, 11, 12, 13, 16)}
    entries[12].release()
    entries[11].release()
    told = ledger.to_commit()
    assert (offset(told), done(told)) == (10, {11, 12, 14, 15})
    entries[10].release()
    entries[16].release()
    told = ledger.to_commit()
    assert (offset(told), done(told)) == (13, {14, 15, 16})
    entries[13].release()
    assert ledger.to_commit() == Position(17)


def test_more_done_above_the_same_offset_is_news_until_it_was_accepted(ledger: Ledger) -> None:
    """From as many on as are asked for; an older answer does not count for a newer commit."""
    entries = [entered(ledger, number) for number in range(10, 16)]
    entries[1].release()
    assert ledger.to_commit(least=2) is None
    first = ledger.to_commit()
    assert first is not None
    entries[2].release()
    second = ledger.to_commit(least=2)
    assert second is not None
    ledger.answered(first)
    assert ledger.is_news(2)
    ledger.answered(second)
    assert not ledger.is_news()
    assert ledger.to_commit() is None
    assert ledger.to_commit(force=True) == second
    entries[3].release()
    assert ledger.is_news()
    assert not ledger.is_news(2)


def test_what_an_earlier_assignment_had_settled_is_passed_over(tally: Tally) -> None:
    """Each open offset comes once more, no other; what is known is carried on from the first."""
    known = offsets.Known(20, [10, 13, 17])
    ledger = Ledger(PARTITION, 10, 4, tally, known)
    assert ledger.to_commit() is None
    first = entered(ledger, 10)
    assert ledger.enter(11, 1) is None
    first.release()
    told = ledger.to_commit()
    assert (offset(told), done(told)) == (12, {12, 14, 15, 16, 18, 19})
    assert ledger.enter(12, 1) is None
    assert ledger.to_commit() is not None
    thirteenth = entered(ledger, 13)
    assert (ledger.committable, ledger.depth, ledger.open) == (13, 1, 1)
    assert ledger.enter(18, 1) is None  # 14 to 17 are gone: nothing waits for them
    thirteenth.release()
    told = ledger.to_commit()
    assert (offset(told), done(told)) == (19, {19})
    entered(ledger, 20)
    assert ledger.committable == 20


def test_a_first_record_beyond_what_was_known_is_like_any_other(tally: Tally) -> None:
    """Kafka has deleted all that the commit told of."""
    ledger = Ledger(PARTITION, 10, 4, tally, offsets.Known(20, [10, 13]))
    entered(ledger, 30)
    assert ledger.to_commit() is not None
    assert (ledger.committable, ledger.done_above) == (30, 0)


def test_no_metadata_is_longer_than_allowed(ledger: Ledger) -> None:
    """What does not fit is left out from the top."""
    entries = [entered(ledger, number) for number in range(10, 3000)]
    for entry in entries[1::2]:
        entry.release()
    told = ledger.to_commit(limit=100)
    assert told is not None
    assert 0 < len(told.metadata) <= 100
    assert done(told) == {number for number in range(11, max(done(told)) + 1) if number % 2}


def test_a_closed_ledger_commits_nothing(ledger: Ledger, tally: Tally) -> None:
    """Late settles change nothing; what was open is given back to the source, once."""
    done, late = entered(ledger, 10, size=5), entered(ledger, 11, size=7)
    done.release()
    ledger.close()
    assert (tally.records, tally.size) == (2, 12)
    late.release()
    ledger.close()
    assert (tally.records, tally.size) == (2, 12)
    assert ledger.to_commit() is None
    assert ledger.draining


def test_a_draining_ledger_still_commits(ledger: Ledger) -> None:
    """What is under way may end."""
    entry = entered(ledger, 10)
    ledger.drain()
    entry.release()
    assert ledger.draining
    assert ledger.to_commit() == Position(11)


def test_a_partition_is_spelt_with_its_number() -> None:
    """As in logs and messages."""
    assert str(PARTITION) == "orders[0]"
