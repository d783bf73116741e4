"""The fate of each kind of value."""

import pytest

from thorn_stream.core import ids
from thorn_stream.core.envelope import Envelope, Tombstone, Undecodable, decode, invalid_name
from thorn_stream.core.records import Headers, Record, header


def record(value: bytes | None, headers: Headers | None = None) -> Record:
    return Record("orders", 3, 17, b"key", value, headers or [], 1_700_000_000_000)


def envelope(value: bytes, headers: Headers | None = None) -> Envelope:
    decoded = decode(record(value, headers))
    assert isinstance(decoded, Envelope), decoded
    return decoded


def test_a_null_value_is_a_tombstone() -> None:
    """An empty one is not: it is undecodable."""
    assert isinstance(decode(record(None)), Tombstone)
    assert isinstance(decode(record(b"")), Undecodable)


@pytest.mark.parametrize(
    "value",
    [
        b" ",
        b"\xff\xfe",
        b'{"event":"a.b","data":"\xff"}',
        b"not json",
        b"null",
        b"5",
        b'"a.b"',
        b'["a.b"]',
        b"{}",
        b'{"event":null}',
        b'{"event":5}',
        b'{"event":"a.b"',
        b'{"event":"a.b"} {}',
        b'{"event":"a.b","data":NaN}',
        b'{"event":"a.b","data":01}',
        b'{"event":"a.b","data":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        b'{"event":""}',
        b'{"event":"a..b"}',
        b'{"event":".a"}',
        b'{"event":"a."}',
        b'{"event":"a b"}',
        b'{"event":"a\\nb"}',
        '{"event":"a\u2028b"}'.encode(),
        '{"event":"a\x85b"}'.encode(),
        b'{"event":"' + b"x" * 256 + b'"}',
        b"\xef\xbb\xbf" + b'{"event":"a.b"}',
    ],
)
def test_what_is_no_envelope_is_undecodable(value: bytes) -> None:
    """With a reason in one line of at most 200 characters."""
    decoded = decode(record(value))
    assert isinstance(decoded, Undecodable)
    assert 0 < len(decoded.why) <= 200
    assert len(decoded.why.splitlines()) == 1


@pytest.mark.parametrize(
    ("value", "event"),
    [
        (b'{"event":"a"}', "a"),
        (b'\n { "event" : "a.b" } \n', "a.b"),
        ('{"event":"é.b","data":"ü"}'.encode(), "é.b"),
        (b'{"event":"a.b","event":"c.d"}', "c.d"),
        (b'{"event":"' + b"x" * 255 + b'"}', "x" * 255),
        (b'{"event":"a.b","data":1e999}', "a.b"),
        (b'{"event":"a.b","data":' + b"[" * 100 + b"]" * 100 + b"}", "a.b"),
        (b'{"event":"a.b","data":"' + b"x" * 10_000_000 + b'"}', "a.b"),
    ],
)
def test_what_is_an_envelope(value: bytes, event: str) -> None:
    """Of a duplicate key the last counts, for the name as for the fields."""
    decoded = envelope(value)
    assert decoded.event == event
    assert decoded.fields()["event"] == event
    assert decoded.value is value


def test_fields_that_are_missing_have_defaults() -> None:
    """Null for ref and sender, an empty object for data; further keys pass through."""
    assert envelope(b'{"event":"a"}').fields() == {
        "event": "a",
        "ref": None,
        "sender": None,
        "data": {},
    }
    full = envelope(b'{"event":"a","ref":"r","sender":7,"data":[1],"more":true}')
    assert full.fields() == {"event": "a", "ref": "r", "sender": 7, "data": [1], "more": True}
    assert full.sender == 7


def test_fields_are_parsed_once() -> None:
    """However many subscribers ask."""
    decoded = envelope(b'{"event":"a","data":{"n":1}}')
    assert decoded.fields() is decoded.fields()


def test_numbers_beyond_all_bounds_are_infinite() -> None:
    """In whatever form: they are JSON, and a filter may look at them."""
    huge = b"1" + b"0" * 5_000
    fields = envelope(b'{"event":"a","data":[1e999,-%b,%b]}' % (huge, huge)).fields()
    assert fields["data"] == [float("inf"), float("-inf"), float("inf")]


def test_an_id_is_given_or_derived() -> None:
    """By the record's place and time."""
    assert envelope(b'{"event":"a"}', [("thorn-id", b"order 7!")]).id == "order 7!"
    derived = envelope(b'{"event":"a"}')
    assert derived.id == ids.event_id("orders", 3, 17, 1_700_000_000_000)
    assert not derived.ignored_id


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a\n", b"\xc3\xa9", b"a\x00"])
def test_an_id_that_cannot_be_used_is_ignored(given: bytes) -> None:
    """And said to be, so that it can be counted."""
    decoded = envelope(b'{"event":"a"}', [("thorn-id", given)])
    assert decoded.ignored_id
    assert decoded.id == ids.event_id("orders", 3, 17, 1_700_000_000_000)


def test_an_invalid_name_is_told_why() -> None:
    """In words for the one who sends it."""
    assert invalid_name("order.created") is None
    assert "empty" in (invalid_name("") or "")
    assert "256 characters" in (invalid_name("x" * 256) or "")
    assert "empty part" in (invalid_name("a..b") or "")


def test_the_last_header_of_a_name_counts() -> None:
    """As Kafka's clients read them."""
    headers: Headers = [("a", b"1"), ("b", None), ("a", b"2")]
    assert header(headers, "a") == b"2"
    assert header(headers, "b") is None
    assert header(headers, "c") is None


def test_a_record_knows_its_place_and_its_size() -> None:
    """The place as `thorn-origin` spells it; a record without a byte takes memory as well."""
    one = record(b"12345", [("a", b"x")])
    assert one.origin == "orders:3:17"
    bare = Record("orders", 0, 0, None, None, [], -1).size
    assert 500 < bare < 1000
    assert one.size == bare + 5 + 3 + 200
