"""Dead letters: which are wanted, what they say of themselves, how they are printed."""

import json
from typing import Any

import pytest

from thorn_stream.core.errors import UsageError
from thorn_stream.core.records import Record
from thorn_stream.ops.dead import Listing, row, wanted
from thorn_stream.ops.dead_text import as_json, lines, listed
from thorn_stream.ops.moments import moment, shown

NOW = 1_790_000_000_000
DELIVERY = "db3e3e77-4ec0-5c60-8317-73f557a7fea2"
HEADERS: list[tuple[str, bytes | None]] = [
    ("x-shop", "blå".encode()),
    ("thorn-delivery", DELIVERY.encode()),
    ("thorn-subscriber", b"billing"),
    ("thorn-attempt", b"4"),
    ("thorn-first", b"1789999000000"),
    ("thorn-error", b"status:503"),
    ("thorn-origin", b"orders:2:77"),
    ("thorn-reason", b"exhausted"),
]


def letter(
    value: bytes | None = b'{"event": "order.paid", "data": {"n": 1}}',
    headers: list[tuple[str, bytes | None]] = HEADERS,
    key: bytes | None = b"billing",
) -> Record:
    return Record("thorn.dead", 3, 17, key, value, headers, NOW)


def asked(**given: Any) -> Any:
    options: dict[str, Any] = dict.fromkeys(("reason", "event", "subscriber", "since"))
    options |= {"limit": 10} | given
    return wanted(**{**options, "since": (options["since"], NOW)})


def test_a_row_says_what_the_headers_say() -> None:
    """Every field of `dead list --json`; times in unix milliseconds."""
    assert row(letter()) == {
        "reason": "exhausted",
        "event": "order.paid",
        "subscriber": "billing",
        "delivery": DELIVERY,
        "attempts": 4,
        "error": "status:503",
        "first": 1_789_999_000_000,
        "dead_at": NOW,
        "topic": "thorn.dead",
        "partition": 3,
        "offset": 17,
    }


def test_what_a_letter_does_not_say_is_null() -> None:
    """An undecodable record has no delivery; a stranger's garbage has nothing at all."""
    headers: list[tuple[str, bytes | None]] = [("thorn-reason", b"undecodable")]
    told = row(letter(b"\xff\x00", headers))
    assert told["reason"] == "undecodable"
    assert {name for name in told if told[name] is None} == {
        "event",
        "subscriber",
        "delivery",
        "attempts",
        "error",
        "first",
    }
    garbled = row(letter(None, [("thorn-attempt", b"many"), ("thorn-reason", None)]))
    assert (garbled["attempts"], garbled["reason"], garbled["event"]) == (None, None, None)


@pytest.mark.parametrize(
    ("options", "admitted"),
    [
        ({}, True),
        ({"reason": "exhausted"}, True),
        ({"reason": "gone"}, False),
        ({"subscriber": "billing"}, True),
        ({"subscriber": "bill"}, False),
        ({"event": "order.*"}, True),
        ({"event": "user.*"}, False),
        ({"event": "order.*", "reason": "gone"}, False),
    ],
)
def test_filters_hold_together(options: dict[str, str], admitted: bool) -> None:
    """A letter is listed when each filter that is given admits it."""
    assert asked(**options).admits(letter()) is admitted


def test_a_letter_without_an_event_matches_no_name() -> None:
    """Not even `*`."""
    assert not asked(event="*").admits(letter(b"no json"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"reason": "died"}, "--reason died: there is exhausted, gone"),
        ({"event": "a[."}, "--event: pattern 'a[.'"),
        ({"since": "yesterday"}, "--since yesterday: write how long ago"),
    ],
)
def test_a_filter_that_is_none_is_refused(options: dict[str, str], told: str) -> None:
    """With the option, and what may be written."""
    with pytest.raises(UsageError) as refused:
        asked(**options)
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("45s", NOW - 45_000),
        ("30m", NOW - 1_800_000),
        ("1h", NOW - 3_600_000),
        ("2d", NOW - 172_800_000),
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T01:00:01+01:00", 1000),
        ("1970-01-01T00:00:01", 1000),
        ("1970-01-02", 86_400_000),
    ],
)
def test_moments(text: str, expected: int) -> None:
    """How long ago, or ISO 8601; without a zone it is UTC."""
    assert moment(text, "--since", NOW) == expected


@pytest.mark.parametrize("text", ["", "1", "h", "1w", "-1h", "1.5h", "2026-13-01", "99999999999d"])
def test_moments_that_are_none(text: str) -> None:
    """Refused with the option's name."""
    with pytest.raises(UsageError, match="--since"):
        moment(text, "--since", NOW)


def test_times_for_people() -> None:
    """UTC to the second; what no calendar holds as a number."""
    assert shown(0) == "1970-01-01T00:00:00Z"
    assert shown(None) == "-"
    assert shown(10**18) == str(10**18)


def test_a_list_for_people() -> None:
    """One line each, beginning with what `dead show` takes."""
    head, line = listed(Listing([row(letter())], 1))
    assert head.split()[:2] == ["dead", "letter"]
    assert line.split() == [
        "thorn.dead-3-17",
        shown(NOW),
        "exhausted",
        "order.paid",
        "billing",
        "4",
        "status:503",
    ]
    assert listed(Listing()) == ["no dead letters"]


def test_one_letter_for_people() -> None:
    """What became of it, every header, and the value set out as JSON."""
    told = list(lines(letter()))
    assert told[0] == "thorn.dead-3-17"
    assert f"  delivery    {DELIVERY}" in told
    assert "  origin      orders:2:77" in told
    assert "  x-shop: blå" in told
    assert told[-6:] == [
        "  {",
        '    "event": "order.paid",',
        '    "data": {',
        '      "n": 1',
        "    }",
        "  }",
    ]


def test_bytes_that_are_no_text_are_escaped() -> None:
    """Nothing that is printed can move the cursor of a terminal."""
    evil = b"\x1b[2J\xff\x9b"
    headers: list[tuple[str, bytes | None]] = [("x\x1b", evil), ("thorn-reason", evil)]
    for value in (evil, b'{"event": "a", "data": "\xc2\x9b31m\xe2\x80\xae"}', None):
        told = list(lines(letter(value, headers, evil)))
        assert all(line.isprintable() for line in told), told
        assert all(line.isprintable() for line in listed(Listing([row(letter(value, headers))], 1)))
    assert r"\x1b[2J\xff" in "\n".join(lines(letter(evil)))


def test_a_value_that_was_left_out_is_said() -> None:
    """Too large for Kafka: there is nothing to show, and a reader should know why."""
    assert list(lines(letter(None)))[-1].startswith("no value: it was left out")


def test_one_letter_for_programs() -> None:
    """The fields of a row, then key, headers and value; bytes that are no JSON in base64."""
    told = as_json(letter())
    assert row(letter()).items() <= told.items()
    assert told["key"] == "billing"
    assert told["headers"][0] == ["x-shop", "blå"]
    assert as_json(letter(key=b"a\nb\xff"))["key"] == "a\nb\\xff"
    assert told["value"] == {"event": "order.paid", "data": {"n": 1}}
    assert "value_base64" not in told
    for value, base64 in ((b"\xff", "/w=="), (b"NaN", "TmFO"), (b"[" * 5000 + b"]" * 5000, None)):
        told = as_json(letter(value))
        assert told["value"] is None
        assert base64 is None or told["value_base64"] == base64
        json.dumps(told, indent=2)
    assert "value_base64" not in as_json(letter(None))
