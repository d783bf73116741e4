"""A note in the commit's metadata, beside the offsets that are done."""

from thorn_stream.core import notes, offsets
from thorn_stream.core.ledger import Ledger, Tally
from thorn_stream.core.records import Partition, Position

PARTITION = Partition("parked", 0)


def ledger(note: str = "") -> Ledger:
    return Ledger(PARTITION, 10, 1000, Tally(), note=note)


def test_text_and_note_come_apart_again() -> None:
    """Whichever of the two is empty."""
    for text in ("", "v1:AAAA"):
        for note in ("", "epoch=7", "a|b"):
            assert notes.split(notes.joined(text, note)) == (text, note)


def test_a_note_that_does_not_fit_is_left_out() -> None:
    """What spares repeats is worth more, and Kafka refuses what is too long."""
    assert notes.joined("x" * 10, "y" * 10, 21) == "x" * 10 + "|" + "y" * 10
    assert notes.joined("x" * 10, "y" * 10, 20) == "x" * 10


def test_a_new_note_is_news_until_kafka_has_it() -> None:
    """Also when no offset has moved."""
    one = ledger()
    assert not one.is_news()
    one.note = "epoch=1"
    position = one.to_commit()
    assert position == Position(10, "|epoch=1")
    assert one.is_news()
    assert one.noted == ""
    one.answered(position)
    assert not one.is_news()
    assert one.noted == "epoch=1"


def test_a_note_that_was_given_is_written_again() -> None:
    """A commit that only moves the offset must not take it away."""
    one = ledger("epoch=3")
    assert not one.is_news()
    entry = one.enter(10, 1)
    assert entry is not None
    entry.release()
    assert one.to_commit() == Position(11, "|epoch=3")


def test_done_offsets_and_note_stand_side_by_side() -> None:
    """Within the limit that both share."""
    one = ledger("n" * 3000)
    entries = [one.enter(offset, 1) for offset in range(10, 20_010)]
    for entry in entries[1::2]:
        assert entry is not None
        entry.release()
    position = one.to_commit()
    assert position is not None
    assert len(position.metadata) <= offsets.LIMIT
    text, note = notes.split(position.metadata)
    assert note == "n" * 3000
    known = offsets.decode(text, position.offset)
    assert known is not None
    assert known.end > 10 + 3000  # the highest were left out, most are there
