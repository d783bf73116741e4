"""Commit metadata: which offsets above the committed one are done already.

`v1:` and base64 of: the committed offset, how many offsets are told of, how many of them are
incomplete, the offsets themselves, a checksum. The offsets are written in the shorter of two
ways: a bitmap of the done ones, or a list of the incomplete ones by their gaps, in Elias-Fano
code. The length of both follows from two counts alone, so a Ledger knows in time, without
encoding anything, whether what it holds still fits; and it can only shrink as offsets settle.
"""

import binascii
import struct
import zlib
from base64 import b64decode, b64encode
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["LIMIT", "Known", "decode", "encode", "is_longer", "size"]

LIMIT: Final = 4000
"""Characters. Kafka's own limit is 4,096 (`offset.metadata.max.bytes`), of which its C client
uses one for a NUL."""

_PREFIX: Final = "v1:"
_COUNTS: Final = struct.Struct(">QII")  # committed offset, offsets told of, incomplete ones
_CHECKSUM: Final = struct.Struct(">I")
_FRAME: Final = _COUNTS.size + _CHECKSUM.size
_OVERHEAD: Final = len(_PREFIX) + _FRAME // 3 * 4 + 8  # characters, not less than what it takes
_MOST: Final = 2**32 - 1

_SHORT: Final = 8
_BITS: Final = [[f"{n:0{width}b}" for n in range(1 << width)] for width in range(_SHORT + 1)]
"""The lower bits of steps, looked up: that is where long lists spend most of their time."""


class Known(NamedTuple):
    """Of the offsets from the committed one up to `end` (not included) all are done but these.

    `incomplete` is in rising order.
    """

    end: int
    incomplete: Sequence[int]


def size(incomplete: int, span: int) -> int:
    """How many characters it takes to say which `incomplete` ones of `span` offsets are not done.

    Exact for the longest that it can be, and never more for fewer offsets of a shorter span: so
    what fits now will fit whichever of them settle.
    """
    return len(_PREFIX) + (_FRAME + (_bits(incomplete, span) + 7) // 8 + 2) // 3 * 4


def is_longer(limit: int, incomplete: int, span: int) -> bool:
    """Whether `size` is above the limit; at little cost, for a bitmap mostly settles it."""
    return span > 6 * (limit - _OVERHEAD) and size(incomplete, span) > limit


def encode(base: int, end: int, incomplete: Sequence[int], limit: int = LIMIT) -> str:
    """Text for a commit of `base`: of the offsets up to `end` these, in rising order, are not done.

    Empty when nothing above `base` is done. What would need more than `limit` characters is left
    out from the top, as if it were not done.
    """
    count, end = _topped(incomplete, min(end, base + _MOST))
    if count and size(count, end - base) > limit:
        fits = range(count)
        too_long = bisect_left(fits, True, key=lambda n: size(n, incomplete[n] - base) > limit)
        count, end = _topped(incomplete, incomplete[max(0, too_long - 1)])
    if end <= base or size(count, end - base) > limit:
        return ""
    steps = [offset - base for offset in incomplete[:count]]
    payload = _COUNTS.pack(base, end - base, count) + _packed(_text(steps, end - base))
    return _PREFIX + b64encode(payload + _CHECKSUM.pack(zlib.crc32(payload))).decode()


def _topped(incomplete: Sequence[int], end: int) -> tuple[int, int]:
    """How many are below `end`, and `end` itself, without those above which nothing is done."""
    count = bisect_left(incomplete, end)
    while count and incomplete[count - 1] == end - 1:
        count -= 1
        end -= 1
    return count, end


def decode(metadata: str, base: int) -> Known | None:
    """Read what was committed with `base`; None for what was not written here, or not for it.

    Never raises. Nothing at all says that nothing above `base` is done.
    """
    if not metadata:
        return Known(base, ())
    try:
        payload = b64decode(metadata.removeprefix(_PREFIX), validate=True)
        _, span, count = _COUNTS.unpack_from(payload)
    except (binascii.Error, struct.error, ValueError):
        return None
    body = payload[_COUNTS.size : -_CHECKSUM.size]
    bits = _bits(count, span)
    if len(body) != (bits + 7) // 8:
        return None
    steps = _steps(f"{int.from_bytes(body):0{8 * len(body)}b}"[:bits], count, span)
    if not all(before < step for before, step in pairwise([-1, *steps, span])):
        return None
    known = Known(base + span, [base + step for step in steps])
    # written anew it must be the same, to the checksum: then every bit of it was understood
    return known if encode(base, known.end, known.incomplete) == metadata else None


# --- the two ways --------------------------------------------------------------------------------
# As text of "0" and "1": Python reads and writes numbers to the base of 2 in linear time. What is
# encoded are steps: offsets counted from the committed one.


def _width(incomplete: int, span: int) -> int:
    """Bits of a step that are written as they are: the code is shortest with these many."""
    return max(1, (span // incomplete).bit_length() - 1) if incomplete else 1


def _bits(incomplete: int, span: int) -> int:
    width = _width(incomplete, span)
    return min(span, incomplete * (width + 1) + (span >> width) + 1)


def _text(steps: Sequence[int], span: int) -> str:
    if _bits(len(steps), span) == span:
        return _marked(span, steps, on="0", off="1")
    width = _width(len(steps), span)
    # upper part: the n-th "1" stands n places beyond the upper bits of the n-th step
    upper = [(step >> width) + n for n, step in enumerate(steps)]
    places = (span >> width) + len(steps) + 1
    mask = (1 << width) - 1
    if width <= _SHORT:
        bits = _BITS[width]
        lower = "".join([bits[step & mask] for step in steps])
    else:
        lower = "".join([f"{step & mask:0{width}b}" for step in steps])
    return _marked(places, upper, on="1", off="0") + lower


def _steps(text: str, count: int, span: int) -> list[int]:
    if len(text) == span:
        return [step for step, bit in enumerate(text) if bit == "0"]
    width = _width(count, span)
    lower = len(text) - count * width
    upper = [place for place, bit in enumerate(text[:lower]) if bit == "1"]
    return [
        (place - n) << width | int(text[lower + n * width : lower + (n + 1) * width], 2)
        for n, place in enumerate(upper[:count])
    ]


def _marked(length: int, places: Sequence[int], *, on: str, off: str) -> str:
    text = bytearray(off.encode()) * length
    mark = ord(on)
    for place in places:
        text[place] = mark
    return text.decode()


def _packed(text: str) -> bytes:
    count = (len(text) + 7) // 8
    return int(text.ljust(8 * count, "0") or "0", 2).to_bytes(count)
