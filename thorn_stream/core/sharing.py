"""How Lanes share what a process has: connections and bytes. Pure functions of a few counts.

The rule is the same for both: up to a mark anybody may take what is free; beyond it each only an
even part, so that there is always some for the others, however slow the greedy ones are.
"""

from enum import Enum

from thorn_stream.core.flow import HOLD_FOR, takes_too_much

__all__ = ["Place", "for_later_ones", "may_connect", "place", "takes_too_many_bytes"]


class Place(Enum):
    """What becomes of a Delivery that cannot be sent at once."""

    QUEUE = "queue"
    HOLD = "hold"  # queue this one, and hold intake back until there is room
    PARK = "park"


def for_later_ones(connections: int) -> int:
    """Of so many connections the most for retries and parked ones: a quarter is for new events."""
    return max(1, connections * 3 // 4)


def may_connect(lane: int, total: int, connections: int, busy: int) -> bool:
    """Whether a Lane with `lane` requests in flight may have one more connection.

    `total` are in flight in all Lanes, of which `busy` have any. The last quarter is in even parts.
    """
    if 4 * total < 3 * connections:
        return True
    return total < connections and lane < max(1, connections // (4 * max(1, busy)))


def takes_too_many_bytes(lane: int, total: int, memory: int, queued: int) -> bool:
    """Whether a Lane that queues `lane` bytes of `total`, in `queued` Lanes, has to stop there.

    Of `memory` half is for what is live, and so for Lanes.
    """
    return lane > 0 and takes_too_much(lane, total, memory // 2, max(1, queued))


def place(waited: float, *, full: bool, slow: bool, later: bool) -> Place:
    """Decide for one Delivery that has to wait; `waited` is how long the Lane's oldest has.

    A full Lane whose oldest has just come is a burst on a good receiver, worth a moment of
    everybody's. One that is known to be slow (held, or at its rate) is not, nor is it worth that
    for retries (`later`).
    """
    if not full:
        return Place.QUEUE
    return Place.PARK if slow or later or waited > HOLD_FOR else Place.HOLD
