"""`rate_limit`: so many requests per second to one Subscriber, by all processes of a group.

Nobody is asked: each process takes the part that follows from the partitions it has, and no
partition has two owners, so the parts never add up to more than the whole.
"""

from dataclasses import dataclass
from typing import Final

__all__ = ["Bucket", "Shares", "share"]

_LIVE: Final = 0.75
_OTHERS: Final = 0.25
_BURST: Final = 0.04
"""Seconds of its rate that a Bucket holds: two ticks of the loop, which is how exactly requests are
timed; but a whole token and a tick's at least. As much less is filled in per second, so that no
second sees more than the rate, not even the one after a pause."""


def share(ours: int, total: int) -> float:
    """Of `total` partitions so many are ours; 0 while the total is not known."""
    return ours / max(ours, total) if total else 0.0


@dataclass(frozen=True, slots=True)
class Shares:
    """Which part, 0 to 1, of the group's main and of its other (tier, parked) partitions is ours.

    They stand for first attempts and for later ones; as one Bucket serves both, what either kind
    leaves unused serves the other.
    """

    main: float = 0.0
    others: float = 0.0

    def of(self, rate: float) -> float:
        """This process's part of a group's rate."""
        return rate * (_LIVE * self.main + _OTHERS * self.others)


class Bucket:
    """Tokens of one Lane: one for each request. It begins empty, so a restart gains nothing.

    `rate` is this process's part, per second. Below 25 per second it holds one token, and what
    comes in between two ticks: two requests are then about 1/rate apart.
    """

    __slots__ = ("_at", "tokens")

    def __init__(self, now: float) -> None:
        self._at = now
        self.tokens = 0.0

    def refill(self, now: float, rate: float) -> None:
        """Fill in for the time since the last call."""
        passed, self._at = max(0.0, now - self._at), max(now, self._at)
        burst = rate * _BURST
        if burst >= 1.0:
            held = max(burst, 1.0 + burst / 2)  # what comes in at the tick before one can be taken
            self.tokens = min(held, self.tokens + passed * (rate - held))
        else:
            self.tokens = min(1.0 + burst, self.tokens + passed * rate)

    def take(self) -> None:
        """For one request; there has to be a token."""
        self.tokens -= 1.0

    @property
    def empty(self) -> bool:
        return self.tokens < 1.0
