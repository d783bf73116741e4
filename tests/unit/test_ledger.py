"""The ledger, step by step; its rules at large are in tests/property."""

import pytest

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


def test_nothing_received_is_nothing_to_commit(ledger: Ledger) -> None:
    """The assignment began at what is committed already."""
    assert ledger.to_commit() is None


def test_the_commit_waits_for_the_lowest_open_offset(ledger: Ledger) -> None:
    """What is done above it has to wait."""
    first, second, third = (entered(ledger, offset) for offset in (10, 11, 12))
    second.release()
    assert ledger.to_commit() is None
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
    assert ledger.to_commit() == Position(1_000)
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
    ledger.answered(12)
    assert ledger.to_commit() is None
    ledger.answered(11)
    assert ledger.to_commit() is None
    assert ledger.committed == 12


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


def test_reading_stops_at_the_window_and_goes_on_at_half(ledger: Ledger) -> None:
    """Between the two nothing changes, so that it does not flutter."""
    entries = [entered(ledger, offset) for offset in range(10, 13)]
    assert (ledger.depth, ledger.full, ledger.has_room) == (3, False, False)
    entries.append(entered(ledger, 13))
    assert (ledger.depth, ledger.full, ledger.has_room) == (4, True, False)
    entries[0].release()
    assert (ledger.full, ledger.has_room) == (False, False)
    entries[1].release()
    assert (ledger.depth, ledger.full, ledger.has_room) == (2, False, True)


def test_a_partition_is_spelt_with_its_number() -> None:
    """As in logs and messages."""
    assert str(PARTITION) == "orders[0]"
