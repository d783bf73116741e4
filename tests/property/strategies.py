"""Hypothesis strategies that several properties share."""

import json
import random
import string
from typing import Any

from hypothesis import strategies as st

from thorn_stream.core.deliveries import Kind, Outcome
from thorn_stream.core.records import Headers, Record
from thorn_stream.core.schedule import RetryPolicy, Tiers

# --- names and patterns ------------------------------------------------------------------------
# A small alphabet, so that names and patterns meet often.

_LETTERS = "abAé-"


def event_names() -> st.SearchStrategy[str]:
    part = st.text(_LETTERS + "*[]", min_size=1, max_size=5)
    return st.lists(part, min_size=1, max_size=5).map(".".join)


def _glob_parts() -> st.SearchStrategy[str]:
    piece = st.one_of(
        st.text(_LETTERS, min_size=1, max_size=3),
        st.sampled_from(["?", "*", "[ab]", "[!a]", "[a-b]", "[!A-a]", "[]a]", "[*]", "[-a]"]),
    )
    # `**` alone is another thing, and more than eight wildcards are refused.
    return (
        st.lists(piece, min_size=1, max_size=5)
        .map("".join)
        .filter(lambda part: part != "**" and sum(map(part.count, "*?[")) <= 8)
    )


def _plain_parts() -> st.SearchStrategy[str]:
    return st.text(_LETTERS, min_size=1, max_size=3)


def _braced(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(part, min_size=1, max_size=3).map(lambda some: "{" + ",".join(some) + "}")


def patterns() -> st.SearchStrategy[str]:
    """Patterns of all kinds that are accepted."""
    part = st.one_of(
        _plain_parts(),
        _plain_parts(),
        st.sampled_from(["*", "**"]),
        _glob_parts(),
        _braced(_glob_parts() | st.sampled_from(["a.b", "*", "**", "a.*"])),
        st.builds(str.__add__, _plain_parts(), _braced(_plain_parts())),
    )
    # With three times three alternatives in each, four parts would be over the limit of 64.
    return st.lists(part, min_size=1, max_size=4).map(".".join).filter(lambda p: p.count(",") <= 6)


# --- records -----------------------------------------------------------------------------------


def texts(longest: int) -> st.SearchStrategy[str]:
    """Of characters that mean something to somebody, and of each width in UTF-8."""
    return st.text('ab1é€😀 "\\\n\r\x00%&=+:/\u2028', max_size=longest)


def json_values() -> st.SearchStrategy[Any]:
    leaves = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts(8)
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts(4), inner, max_size=3),
        max_leaves=6,
    )


def valid_names() -> st.SearchStrategy[str]:
    part = st.text(string.ascii_letters + string.digits + "_-é", min_size=1, max_size=8)
    return st.lists(part, min_size=1, max_size=4).map(".".join)


@st.composite
def envelope_values(draw: st.DrawFn) -> bytes:
    """Values of Records that are envelopes."""
    fields: dict[str, Any] = {"event": draw(valid_names())}
    for name, values in (
        ("ref", st.none() | texts(20)),
        ("sender", json_values()),
        ("data", json_values()),
        ("further", json_values()),
    ):
        if draw(st.booleans()):
            fields[name] = draw(values)
    return json.dumps(fields, ensure_ascii=draw(st.booleans())).encode("utf-8", "replace")


_HEADER_NAMES = (
    *("trace", "traceparent", "content-type", "thorn-id", "thorn-timeout", "thorn-http-X-A"),
    *("thorn-http-Host", "thorn-due", "thorn-attempt", "thorn-other", "thorn-key"),
)


def input_headers() -> st.SearchStrategy[Headers]:
    """Headers of an input topic: the user's, those with a meaning, and `thorn-` ones without."""
    name = st.sampled_from(_HEADER_NAMES)
    value = st.none() | st.binary(max_size=12) | st.just(b"abc-1")
    return st.lists(st.tuples(name, value), max_size=6)


def records(
    values: st.SearchStrategy[bytes | None], headers: st.SearchStrategy[Headers] | None = None
) -> st.SearchStrategy[Record]:
    return st.builds(
        Record,
        topic=st.sampled_from(["orders", "thorn.events", "a-b_c"]),
        partition=st.integers(0, 2**31 - 1),
        offset=st.integers(0, 2**53),
        key=st.none() | st.binary(max_size=8),
        value=values,
        headers=input_headers() if headers is None else headers,
        timestamp=st.integers(-1, 2**53),
    )


# --- outcomes and policies ---------------------------------------------------------------------


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    """Every kind; a status where there is one; Retry-After of all sorts."""
    kind = draw(st.sampled_from(list(Kind)))
    status = None
    if kind is Kind.OK:
        status = draw(st.integers(200, 299))
    elif kind is Kind.STATUS:
        status = draw(st.integers(300, 599))
    dates = st.text("0123456789 :,-+GMTWedSunNov", max_size=32)
    asked = st.none() | st.integers(0, 100_000).map(str) | dates
    return Outcome(kind, status, retry_after=draw(asked) if status else None)


def policies() -> st.SearchStrategy[RetryPolicy]:
    seconds = st.floats(0, 20_000)
    return st.builds(
        RetryPolicy,
        retry=st.booleans(),
        retry_max=st.integers(0, 20),
        delay=seconds,
        backoff=st.floats(1, 10),
        delay_max=seconds,
        schedule=st.none() | st.lists(seconds, max_size=8).map(tuple),
        jitter=st.floats(0, 1),
        retry_after_max=seconds,
        dead_on=st.frozensets(st.integers(300, 599), max_size=3),
    )


def tiers() -> st.SearchStrategy[Tiers]:
    waits = st.lists(st.integers(1, 10_000), min_size=1, max_size=6, unique=True)
    return waits.map(lambda some: Tiers(tuple(map(float, sorted(some)))))


def dice() -> st.SearchStrategy[float]:
    return st.floats(0, 1, exclude_max=True)


# --- offsets -----------------------------------------------------------------------------------


@st.composite
def offset_patterns(draw: st.DrawFn, longest: int = 60_000) -> tuple[int, list[int]]:
    """A span of offsets, and those of them (counted from its first) that are incomplete.

    Sparse, dense, in runs, or any of these one after another, as receivers make them.
    """
    incomplete: list[int] = []
    span = 0
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.one_of(st.integers(1, 40), st.integers(1, longest // 4)))
        if draw(st.booleans()):
            share = draw(st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.5, 0.9]))
            dice = random.Random(draw(st.integers(0, 1 << 32)))
            incomplete += sorted(dice.sample(range(span, span + length), int(length * share)))
        else:
            run = draw(st.integers(0, min(length, 5_000)))
            incomplete += range(span, span + run)
        span += length
    if incomplete:  # a commit begins at the lowest of them
        incomplete = [step - incomplete[0] for step in incomplete]
    return span, incomplete
