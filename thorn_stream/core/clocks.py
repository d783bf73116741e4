"""How far Kafka's clock is from ours: due times are written by one host and read by another."""

from typing import Final

__all__ = ["SKEW_TOLD", "skew"]

SKEW_TOLD: Final = 5.0
"""Seconds from which on a difference is told to an operator: as much as the shortest tier."""


def skew(sent: int, appended: int, answered: int) -> float:
    """Seconds that Kafka's clock is certainly ahead of ours, negative when behind.

    `appended` is when Kafka says that it took a record, between our `sent` and `answered` (unix
    milliseconds). What lies between those two may be the journey, and counts as none.
    """
    return (appended - min(max(appended, sent), answered)) / 1000
