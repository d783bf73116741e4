"""Percentiles, and numbers as a reader likes them."""

import math
from collections.abc import Sequence

__all__ = ["count", "duration", "percentile"]


def percentile(values: Sequence[float], share: float) -> float | None:
    """Nearest rank: the smallest value that at least this share of them does not exceed."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def count(number: int, noun: str = "") -> str:
    """`1,204`; with a noun `1 event`, `1,204 events`."""
    if not noun:
        return f"{number:,}"
    if number != 1:
        noun = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun}"


def duration(milliseconds: float | None) -> str:
    """At most six characters: `8 ms`, `512 ms`, `12.4 s`, `184 s`; a dash for None."""
    if milliseconds is None:
        return "-"
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 99_950:
        return f"{milliseconds / 1000:.1f} s"
    return f"{milliseconds / 1000:.0f} s"
