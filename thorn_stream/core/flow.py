"""When a partition is paused and intake held back; what a stall means.

Pure functions of state and time; the state itself is kept by dispatch.
"""

from dataclasses import dataclass
from typing import Final

from thorn_stream.core import offsets

__all__ = [
    "HOLD_FOR",
    "LATE_FOR_LANE",
    "METADATA_FULL",
    "STALL",
    "Hold",
    "Limits",
    "ahead",
    "is_crowded",
    "may_be_held",
    "may_come",
    "patience",
    "should_pause",
    "should_resume",
    "stalled",
    "takes_too_much",
]

HOLD_FOR: Final = 0.05
"""Seconds a full Lane may hold back intake. A Lane of 1,000 that empties faster than that takes
20,000 a second: it is a burst on a good receiver, and parking would cost more than waiting. One
that is slower is parked from, so what it can delay others by is bounded by this."""

METADATA_FULL: Final = offsets.LIMIT * 3 // 4
"""Characters of commit metadata from which on a partition is read no further. The last quarter is
for what is on its way already."""

LATE_FOR_LANE: Final = 1.0
"""Seconds that a due retry may be late for a place in its full Lane. Many that are due at once find
one within that on any receiver that keeps up; writing them to a tier would cost its whole wait."""

STALL: Final = 2.0
"""Seconds in which the loop did not turn after which the group may have given our partitions to
others without our knowing: the whole process may have stood still. Below any usual session (6 s and
more). The same for a commit without an answer where nobody knows how long the session is."""

_LEAST_AHEAD: Final = 16_384


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that bound a process. Waits in seconds, sizes in bytes."""

    max_in_flight: int = 256
    max_connections: int = 1000
    lane_size: int = 1000
    lane_wait_max: float = 5.0
    window: int = 100_000
    lookahead: int = 2000
    memory: int = 268_435_456
    commit_interval: float = 0.2
    commit_count: int = 1000
    commit_patience: float = STALL  # see `patience`
    unknown_grace: float = 600.0
    max_event_age: float | None = None
    park_max: float = 259_200.0


def should_pause(depth: int, incomplete: int, held: int, limits: Limits, noted: int = 0) -> bool:
    """A partition is read no further when its window, look-ahead or commit metadata is full.

    `depth` counts the offsets from the committable one on, `incomplete` those that are not done,
    `noted` the characters that a note takes from the metadata.
    """
    return (
        depth >= limits.window
        or held >= limits.lookahead
        or offsets.is_longer(METADATA_FULL - noted, incomplete, depth)
    )


def is_crowded(depth: int, incomplete: int, window: int) -> bool:
    """From three quarters of window or metadata on, what waits in Lanes is parked at once."""
    return depth * 4 >= window * 3 or offsets.is_longer(METADATA_FULL * 3 // 4, incomplete, depth)


def should_resume(depth: int, incomplete: int, held: int, limits: Limits, noted: int = 0) -> bool:
    """Half of all is free again; between this and `should_pause` nothing changes."""
    return (
        depth <= limits.window // 2
        and held <= limits.lookahead // 2
        and not offsets.is_longer((METADATA_FULL - noted) // 2, incomplete, depth)
    )


def takes_too_much(held: int, total: int, budget: int, partitions: int) -> bool:
    """Whether what one partition holds, in bytes, might keep the others from being read.

    While half of the `budget` is free nobody does; after that who holds more than an even part of
    the used half, so that the rest is for the others, whatever waits longest.
    """
    return 2 * total > budget and 2 * partitions * held > budget


def ahead(budget: int) -> int:
    """Bytes of retries that may be on their way from Kafka before we have looked at them.

    Little of the `budget`: a tier is stopped only when what came of it has been looked at, so this
    is what it can take beyond its share. Enough for what is due at once after an outage: some
    hundred records for each time that the loop comes round.
    """
    return max(_LEAST_AHEAD, budget // 64)


def may_be_held(budget: int) -> int:
    """Of the bytes for retries, those that what is not due yet may take."""
    return budget - budget // 4


def may_come(open_size: int, held: int, budget: int) -> int:
    """How many bytes of retries may be on their way right now.

    Of `budget` so many are in memory (`open_size`), of which `held` are not due yet. A quarter is
    for those that are being tried, whatever is held, though then a few at a time: what waits for
    hours does not keep what is due in seconds from being read.

    A partition is paused only when it holds something, so many partitions of large records exceed
    the `budget` by as much as all of them bring. At half of it beyond nothing comes any more,
    whatever it is, until something ends: memory comes before being on time.
    """
    most = ahead(budget)
    own = max(_LEAST_AHEAD, most // 4)
    own = min(own, budget // 4 - (open_size - held), budget + budget // 2 - open_size)
    return max(0, own, min(most, budget - open_size))


def patience(session: float, heartbeat: float) -> float:
    """How long a commit may stay unanswered before somebody else may own our partitions (seconds).

    The group gives them away a `session` after the last heartbeat it took, and that may be one
    interval older than the commit. No sooner than needed: while a classic group waits for a member
    that died, it answers nobody's commits, though all the others are members as before.
    """
    return max(0.3 * session, min(0.7 * session, session - heartbeat))


def stalled(seconds: float, limit: float = STALL) -> bool:
    """Whether somebody else may own our partitions after so long without a sign of life."""
    return seconds > limit


class Hold:
    """After a stall nothing new is delivered until Kafka has taken a commit: one per Source.

    What was read before the stall may be another member's by now, and records come out of the
    client before it learns that. A commit is what proves the membership, and only one that was
    sent after the stall: an older answer may have waited in a socket all the time.
    """

    __slots__ = ("_asked", "on")

    def __init__(self) -> None:
        self.on = False
        self._asked = False

    def begin(self) -> None:
        self.on = True
        self._asked = False

    def asked(self) -> None:
        """A commit has been sent."""
        self._asked = self.on

    def answered(self) -> bool:
        """A commit was accepted; True when that ends the hold."""
        ended = self._asked
        if ended:
            self.end()
        return ended

    def end(self) -> None:
        """Nothing is left that was ours before the stall."""
        self.on = self._asked = False
