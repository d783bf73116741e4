"""Commit metadata: what is written is read back, and nothing else is ever believed."""

import base64
import random
import zlib

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.property.strategies import offset_patterns
from thorn_stream.core import offsets
from thorn_stream.core.offsets import LIMIT, Known, decode, encode

BASES = st.integers(0, 2**63)


def told(metadata: str, base: int) -> set[int]:
    """Which offsets it calls done."""
    known = decode(metadata, base)
    assert known is not None
    return set(range(base, known.end)) - set(known.incomplete)


def lower_part(done: set[int], read: set[int]) -> set[int]:
    highest = max(read, default=-1)
    return {offset for offset in done if offset <= highest}


@given(base=BASES, pattern=offset_patterns())
@example(base=0, pattern=(200_000, [0]))
@example(base=2**63, pattern=(20_000, list(range(0, 20_000, 2))))
def test_what_is_written_is_read_back(base: int, pattern: tuple[int, list[int]]) -> None:
    """I4: exactly, where the bound says that it fits; elsewhere the lower part of it."""
    span, steps = pattern
    incomplete = [base + step for step in steps]
    done = set(range(base, base + span)) - set(incomplete)
    metadata = encode(base, base + span, incomplete)
    assert len(metadata) <= LIMIT
    read = told(metadata, base)
    if offsets.size(len(steps), span) <= LIMIT:
        assert read == done
        assert len(metadata) <= offsets.size(len(steps), span)
    else:
        assert read == lower_part(done, read)


@given(pattern=offset_patterns(), limit=st.integers(0, LIMIT))
def test_no_text_is_longer_than_its_limit(pattern: tuple[int, list[int]], limit: int) -> None:
    """What is left out is left out from the top."""
    span, steps = pattern
    metadata = encode(7, 7 + span, [7 + step for step in steps], limit)
    assert len(metadata) <= limit
    done = set(range(7, 7 + span)) - {7 + step for step in steps}
    read = told(metadata, 7)
    assert read == lower_part(done, read)


@given(pattern=offset_patterns(), seed=st.integers(0, 1 << 32))
def test_what_fits_now_fits_whichever_settle(pattern: tuple[int, list[int]], seed: int) -> None:
    """The bound never rises while nothing is received, so it is enough to stop reading in time."""
    span, steps = pattern
    dice = random.Random(seed)
    bound = offsets.size(len(steps), span)
    for _ in range(4):
        share = dice.random()
        steps = [step for step in steps if dice.random() < share]
        first = steps[0] if steps else span
        span, steps = span - first, [step - first for step in steps]
        assert offsets.size(len(steps), span) <= bound
        assert len(encode(0, span, steps)) <= bound
        bound = offsets.size(len(steps), span)


@given(span=st.integers(0, 200_000), share=st.floats(0, 1), limit=st.integers(100, LIMIT))
@example(span=23_800, share=0.5, limit=LIMIT)
def test_the_quick_question_has_the_answer_of_the_slow_one(
    span: int, share: float, limit: int
) -> None:
    """`is_longer` is `size` compared, whatever it takes as settled."""
    incomplete = int(span * share)
    slow = offsets.size(incomplete, span) > limit
    assert offsets.is_longer(limit, incomplete, span) == slow


@given(base=BASES, other=BASES, pattern=offset_patterns(longest=300))
def test_metadata_of_another_offset_is_ignored(
    base: int, other: int, pattern: tuple[int, list[int]]
) -> None:
    """An offset was set by hand, or by a tool that keeps the metadata of others."""
    span, steps = pattern
    metadata = encode(base, base + span, [base + step for step in steps])
    if metadata and other != base:
        assert decode(metadata, other) is None


@given(text=st.text() | st.binary().map(lambda some: "v1:" + base64.b64encode(some).decode()))
@example(text="v1:" + base64.b64encode(bytes(20)).decode())
@example(text="v1:" + "A" * 4092)
@example(text="v1")
def test_no_text_raises_or_is_believed(text: str) -> None:
    """I5: what was not written here calls nothing done."""
    known = decode(text, 0)
    assert known is None or (text == "" and known == Known(0, ()))


@st.composite
def _damaged(draw: st.DrawFn) -> tuple[str, str]:
    span, steps = draw(offset_patterns(longest=500).filter(lambda some: some[0] > 1))
    whole = encode(5, 5 + span, [5 + step for step in steps])
    place = draw(st.integers(0, max(0, len(whole) - 1)))
    piece = draw(st.text("AZaz09+/=v:1 \n\x00é", max_size=3))
    return whole, whole[:place] + piece + whole[place + draw(st.integers(0, 4)) :]


@given(texts=_damaged())
def test_damaged_metadata_is_ignored(texts: tuple[str, str]) -> None:
    """A character changed, lost or added anywhere."""
    whole, damaged = texts
    known = decode(damaged, 5)
    assert known is None or damaged in (whole, "")


@given(
    span=st.integers(0, 2**32 - 1),
    count=st.integers(0, 2**32 - 1),
    body=st.binary(max_size=40),
)
@example(span=0, count=0, body=b"")
@example(span=2**32 - 1, count=2**32 - 1, body=b"")
@example(span=8, count=0, body=b"\xff")
@example(span=9, count=0, body=b"\xff\xff")
@example(span=64, count=2, body=b"\xc0\x40")
def test_a_right_checksum_alone_is_not_believed(span: int, count: int, body: bytes) -> None:
    """Only what this code itself would have written, for the same counts, is."""
    payload = (0).to_bytes(8) + span.to_bytes(4) + count.to_bytes(4) + body
    whole = payload + zlib.crc32(payload).to_bytes(4)
    text = "v1:" + base64.b64encode(whole).decode()
    known = decode(text, 0)
    if known is not None:
        assert encode(0, known.end, known.incomplete) == text


@settings(max_examples=max(20, settings().max_examples // 10))
@given(seed=st.integers(0, 1 << 32), share=st.floats(0, 0.02))
def test_the_widest_window_fits_with_two_thousand_incomplete(seed: int, share: float) -> None:
    """200,000 offsets, of which as many as a tier's look-ahead are open anywhere: all is told."""
    count = max(1, min(2_000, int(200_000 * share)))
    steps = sorted({0, *random.Random(seed).sample(range(199_999), count)})
    metadata = encode(0, 200_000, steps)
    assert 0 < len(metadata) <= LIMIT
    assert told(metadata, 0) == set(range(200_000)) - set(steps)
