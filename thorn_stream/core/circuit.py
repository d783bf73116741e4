"""How much of a Lane may be in flight: the one controller of its concurrency.

Additive increase, multiplicative decrease, as TCP does it (RFC 5681, section 3.1): one more for
each window of successes, half as much when the receiver shows that it is too much: when more than a
quarter of what it was sent lately came to that. A single loss tells TCP of congestion; here it need
not: some keys may never be answered while all others are, and to slow those down would only make
them wait behind the ones that hang. Failures in a row, of whatever kind, bring it to zero: the
circuit is open, and one probe after each pause asks whether the receiver is there again. After a
success it begins at one, so recovery is gentle.

A Lane has none of this before its first failure, and none again when it is back at its most: a
receiver in good health is given `max_in_flight` from its first delivery on, and costs nothing here.
"""

from dataclasses import dataclass
from typing import Final

from thorn_stream.core.deliveries import Kind, Outcome

__all__ = ["Circuit", "CircuitRules", "is_overload", "probes_within"]

_SLOW_DOWN: Final = frozenset({429, 503})
_LATELY: Final = 32
"""Outcomes over which the share of overload is smoothed (exponentially)."""
_TOO_MUCH: Final = 0.25
"""A tenth that always fails stays four deviations below it; ten failures in a row exceed it."""
_NOTHING: Final = 0.01
"""A share that is worth no memory any more."""


@dataclass(frozen=True, slots=True)
class CircuitRules:
    """`failures` in a row open it; pauses in seconds, doubled from the first to the longest."""

    failures: int = 10
    open_for: float = 5.0
    open_for_max: float = 300.0


def is_overload(outcome: Outcome) -> bool:
    """Whether it says that less at once would be better: timeout, no connection, 429, 503."""
    return outcome.kind in (Kind.TIMEOUT, Kind.CONNECT) or outcome.status in _SLOW_DOWN


def probes_within(seconds: float, rules: CircuitRules) -> int:
    """The most probes that one process makes in an outage of so many seconds."""
    probes, pause, at = 0, rules.open_for, rules.open_for
    while at <= seconds:
        probes += 1
        pause = min(2 * pause, rules.open_for_max)
        at += pause
    return probes


class Circuit:
    """Of a Lane whose receiver has failed lately. Times are seconds that never go back.

    `most` is the Lane's `max_in_flight` of now. `held_until` is when a receiver that answered
    with Retry-After wants to be called again. `error` is the last failure's.
    """

    __slots__ = (
        "_cut_at",
        "_limit",
        "_pause",
        "_strain",
        "_succeeded_at",
        "_successes",
        "error",
        "failures",
        "held_until",
        "open",
        "opened_at",
        "probe_at",
        "probes",
        "probing",
    )

    def __init__(self, most: int) -> None:
        self._limit = most
        self._successes = 0
        self._strain = 0.0  # the share of overload lately
        self._cut_at = self._succeeded_at = float("-inf")
        self._pause = 0.0
        self.failures = 0
        self.error = ""
        self.held_until = float("-inf")
        self.open = False
        self.opened_at = 0.0
        self.probe_at = 0.0
        self.probes = 0
        self.probing = False

    def limit(self, most: int) -> int:
        """What may be in flight now."""
        return 0 if self.open else min(self._limit, most)

    def is_well(self, most: int, now: float) -> bool:
        """Nothing of it is left to remember."""
        whole = self._limit >= most and not self.failures and self._strain < _NOTHING
        return whole and not self.open and self.held_until <= now

    def succeeded(self, most: int, now: float) -> bool:
        """A success; True when it closes the circuit.

        Whichever Attempt it was, probe or not: the receiver is there.
        """
        self.failures = 0
        self._succeeded_at = now
        if self.open:
            self.open = self.probing = False
            self._limit, self._successes, self._strain = 1, 0, 0.0
            return True
        self._strain -= self._strain / _LATELY
        self._successes += 1
        if self._successes >= self._limit < most:
            self._limit += 1
            self._successes = 0
        return False

    def failed(self, outcome: Outcome, most: int, now: float, rules: CircuitRules) -> bool:
        """A failure of an Attempt that was no probe; True when it opens the circuit.

        What was begun before the limit was last cut says nothing about the smaller one: so a
        burst of failures cuts it once. Nor does what was begun before the last success say that
        nobody is there: when all places are taken by keys that hang, they time out in a row.
        """
        self.error = outcome.error
        if self.open:
            return False
        began = now - outcome.duration
        if began >= self._succeeded_at:
            self.failures += 1
        if self.failures >= rules.failures:
            self.open = True
            self.opened_at = now
            self.probes = 0
            self._pause = rules.open_for
            self.probe_at = now + self._pause
            return True
        if is_overload(outcome) and began > self._cut_at:
            self._strain += (1.0 - self._strain) / _LATELY
            if self._strain > _TOO_MUCH:
                self._cut(most, now)
        return False

    def _cut(self, most: int, now: float) -> None:
        self._limit = max(1, min(self._limit, most) // 2)
        self._successes, self._strain = 0, 0.0
        self._cut_at = now

    def may_probe(self, now: float) -> bool:
        """Whether the next Delivery that is offered is to be the probe."""
        return self.open and not self.probing and now >= max(self.probe_at, self.held_until)

    def begin_probe(self) -> None:
        self.probing = True
        self.probes += 1

    def probe_failed(self, outcome: Outcome, now: float, rules: CircuitRules) -> None:
        """Wait twice as long until the next one. Closed in the meantime, it is closed."""
        self.probing = False
        if self.open:
            self.error = outcome.error
            self._pause = min(2 * self._pause, rules.open_for_max)
            self.probe_at = now + self._pause

    def hold(self, until: float) -> None:
        """The receiver has asked for silence until then."""
        self.held_until = max(self.held_until, until)
