"""Cursors as records: written, read back, and which of them hold."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thorn_stream.core.cursors import (
    Cursor,
    CursorKey,
    Ground,
    epoch_in,
    found,
    note_of,
    read,
    written,
)

KEY = CursorKey(3, 7, "billing")
FULL = Cursor(10, "v1:AAAA", 5, 90, 1_700_000_000_000, "status:503", '{"url":"http://a"}', 17)

unhurried = settings(deadline=None)
"""Tests never time anything: a deadline per example fails on a busy machine."""

whole = st.integers(0, 2**62)
cursors = st.builds(
    Cursor,
    next=whole,
    done=st.text(max_size=20),
    count=whole,
    through=whole,
    oldest=whole,
    error=st.text(max_size=20),
    definition=st.text(max_size=20),
    unknown_since=whole,
    topic=st.text(max_size=20),
)


def pair(key: CursorKey, cursor: Cursor | None) -> tuple[bytes, bytes | None]:
    return key.encoded(), None if cursor is None else written(cursor)


@unhurried
@given(cursors)
def test_a_cursor_is_read_back_as_it_was_written(cursor: Cursor) -> None:
    """Whatever its texts hold."""
    assert read(*pair(KEY, cursor)) == (KEY, cursor)


def test_what_is_not_known_is_not_written() -> None:
    """A cursor that says no more than where it is."""
    assert written(Cursor(10)) == b'{"next":10}'
    assert read(*pair(KEY, Cursor(10))) == (KEY, Cursor(10))
    assert read(*pair(KEY, None)) == (KEY, None)


@unhurried
@given(st.binary(max_size=40) | st.none(), st.binary(max_size=40) | st.none())
def test_reading_never_raises(key: bytes | None, value: bytes | None) -> None:
    """Anything may stand in a topic."""
    told = read(key, value)
    assert told is None or told[0].partition >= 0


@pytest.mark.parametrize(
    "value",
    [b"", b"[]", b"{}", b'{"next":-1}', b'{"next":"1"}', b'{"next":true}', b'{"next":1,"done":2}'],
)
def test_a_garbled_value_is_no_cursor(value: bytes) -> None:
    """It is counted, and holds for nobody."""
    assert read(KEY.encoded(), value) is None
    assert found([(KEY.encoded(), value)], 3, 0).garbled == 1


@pytest.mark.parametrize(
    "key",
    [
        *(b"", b"3/7", b"3/7/", b"x/7/a", b"-1/7/a", b"3/-7/a", b"\xff/1/a"),
        *(b"+3/7/a", b" 3/7/a", b"3/0_7/a", b"\xef\xbc\x93/7/a", b"3/" + b"9" * 19 + b"/a"),
    ],
)
def test_a_garbled_key_is_no_cursor(key: bytes) -> None:
    """Partition, epoch and subscriber are needed."""
    assert read(key, b'{"next":1}') is None


def test_a_subscriber_may_have_any_name() -> None:
    """The key is read from the left."""
    odd = CursorKey(0, 1, "url:a/b/c")
    assert read(*pair(odd, FULL)) == (odd, FULL)


def test_an_epoch_that_no_note_could_tell_is_none() -> None:
    """Else all epochs after it would be, and no owner could be told from those before it."""
    garbled = (f"3/{10**18}/a".encode(), written(FULL))
    known = found([pair(KEY, FULL), garbled], 3, 7)
    assert (known.live, known.epoch, known.garbled) == ({"billing": FULL}, 8, 1)
    highest = found([(f"3/{10**18 - 2}/a".encode(), written(FULL))], 3, 7).epoch
    assert epoch_in(note_of(highest)) == highest


def test_the_epoch_of_a_note() -> None:
    """0 for what is none, whoever wrote it."""
    assert epoch_in(note_of(12)) == 12
    for text in ("", "12", "epoch=", "epoch=x", "epoch=-1", "epoch=" + "9" * 30, "heads=[]"):
        assert epoch_in(text) == 0


def test_of_younger_epochs_the_youngest_holds() -> None:
    """Somebody had begun to write everything anew, and did not finish."""
    old, new = CursorKey(0, 4, "a"), CursorKey(0, 5, "a")
    left = CursorKey(0, 4, "b")
    known = found([pair(old, Cursor(1)), pair(left, Cursor(2)), pair(new, Cursor(3))], 0, 4)
    assert known.live == {"a": Cursor(3), "b": Cursor(2)}
    assert known.epoch == 6
    assert known.stale == [old, left, new]


def test_below_the_committed_epoch_nothing_holds() -> None:
    """Its owner had written all that was live: what stands there is left over, or came late."""
    late = CursorKey(0, 3, "a")
    known = found([pair(late, Cursor(1))], 0, 4)
    assert known.live == {}
    assert (known.epoch, known.stale) == (5, [late])


def test_beyond_the_end_of_the_partition_nothing_holds() -> None:
    """It is garbled, or of a topic that was made anew: what stands below it is not done."""
    old, new = CursorKey(0, 4, "a"), CursorKey(0, 5, "a")
    both = [pair(old, Cursor(1)), pair(new, Cursor(8))]
    assert found(both, 0, 4, Ground(8)).live == {"a": Cursor(8)}
    known = found(both, 0, 4, Ground(7))
    assert (known.live, known.garbled) == ({"a": Cursor(1)}, 1)
    assert (known.epoch, known.stale) == (6, [old, new])


def test_of_a_topic_that_was_made_anew_nothing_holds() -> None:
    """However far it reaches: offsets of the old one say nothing about the new one's."""
    old, ours, bare = Cursor(5, count=3, topic="one"), Cursor(6, topic="two"), Cursor(7)
    names = [CursorKey(0, 4, name) for name in ("a", "b", "c")]
    known = found(map(pair, names, [old, ours, bare]), 0, 0, Ground(100, "two"))
    assert known.live == {"b": ours, "c": bare}
    assert known.gone == {"a": old}
    assert (known.epoch, known.stale, known.garbled) == (5, names, 0)


def test_where_the_topic_is_not_known_every_cursor_holds() -> None:
    """A broker without ids, or an older cursor: it is judged by the end of the partition alone."""
    told = [pair(CursorKey(0, 4, "a"), Cursor(5, topic="one"))]
    assert set(found(told, 0, 0, Ground(100)).live) == {"a"}
    assert set(found(told, 0, 0, Ground(100, "one")).live) == {"a"}
    assert found(told, 0, 0, Ground(4)).garbled == 1


def test_of_another_topic_the_younger_cursor_counts() -> None:
    """The older one has been replaced by it; what is below the committed epoch is left over."""
    old, new = CursorKey(0, 4, "a"), CursorKey(0, 5, "a")
    both = [pair(old, Cursor(1, topic="two")), pair(new, Cursor(8, topic="one"))]
    known = found(both, 0, 4, Ground(100, "two"))
    assert (known.live, known.gone) == ({}, {"a": Cursor(8, topic="one")})
    known = found(both, 0, 6, Ground(100, "two"))
    assert (known.live, known.gone, known.stale) == ({}, {}, [old, new])


def test_what_a_younger_cursor_tells_of_is_not_gone() -> None:
    """A takeover cut short left the old one beside the new: what waits is counted once, as live."""
    old, new = CursorKey(0, 4, "a"), CursorKey(0, 5, "a")
    ours, copied = Cursor(8, topic="two"), Cursor(8, topic="three")
    both = [pair(old, Cursor(9, topic="one")), pair(new, ours)]
    known = found(both, 0, 4, Ground(100, "two"))
    assert (known.live, known.gone, known.stale) == ({"a": ours}, {}, [old, new])
    both = [pair(old, Cursor(9, topic="one")), pair(new, copied)]
    known = found(both, 0, 4, Ground(100, "two", begun=9))
    assert (known.live, known.gone) == ({"a": copied}, {})


def test_what_was_passed_over_is_kept_though_its_topic_is_another() -> None:
    """Committed offsets that were carried over with their topic: nothing below them comes again.

    What is done above the cursor, and how many wait, is doubted.
    """
    copied = Cursor(5, done="v1:AAAA", count=3, through=9, error="x", topic="one")
    told = [pair(CursorKey(0, 4, "a"), copied)]
    known = found(told, 0, 4, Ground(100, "two", begun=6))
    assert known.live["a"] == Cursor(5, through=9, error="x", topic="one")
    assert found(told, 0, 4, Ground(100, "two", begun=5)).gone["a"].next == 5


def test_a_late_deletion_hides_nothing() -> None:
    """Of the older key; the younger one holds."""
    late, new = CursorKey(0, 3, "a"), CursorKey(0, 4, "a")
    assert found([pair(new, Cursor(9)), pair(late, None)], 0, 4).live == {"a": Cursor(9)}


def test_cursors_of_other_partitions_are_theirs() -> None:
    """They may stand side by side."""
    other = CursorKey(1, 9, "a")
    known = found([pair(other, Cursor(1))], 0, 0)
    assert (known.live, known.stale, known.epoch) == ({}, [], 1)
