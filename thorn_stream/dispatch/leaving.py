"""What is queued when its partition is about to go: left to the next owner, or parked.

It was not begun, so the next owner may do that. But where others of its Record have been called
already, the next owner would call those again: it is parked, and the Record is done.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Final

from thorn_stream.core.deliveries import Delivery
from thorn_stream.core.envelope import Envelope
from thorn_stream.dispatch.context import Context

__all__ = ["Leaving"]

_WITHIN: Final = 1.2
"""Seconds. A revocation waits little longer, and what is parked has to be acknowledged by then."""
_SLICE: Final = 100
"""Looked at before the loop looks at sockets again."""


class Leaving:
    """Parks, a slice at a time, what `park(delivery, cause)` is then called for.

    `called` tells how many an event is for. Until it is decided, a Delivery counts as under way.
    """

    def __init__(
        self,
        park: Callable[[Delivery, str], None],
        called: Callable[[Envelope], int],
        context: Context,
    ) -> None:
        self._park = park
        self._called = called
        self._clock = context.clock
        # with how many of its Record wait here; 0 when another of them is under way
        self._queue: deque[tuple[Delivery, int]] = deque()
        self._until = 0.0
        self._scheduled = False

    def part(self, queued: Iterable[Delivery]) -> None:
        """These were queued, and their partitions are about to go.

        Later attempts, and those of ordered Subscribers, have a Record of their own each: nobody
        is called twice for their sake.
        """
        first = [one for one in queued if not one.again and one.follow is None]
        here = Counter(one.entry for one in first)
        for one in first:
            entry = one.entry
            entry.ledger.busy += 1
            self._queue.append((one, here[entry] if entry.pending == here[entry] else 0))
        self._until = self._clock.monotonic() + _WITHIN
        if not self._scheduled:
            self._slice()

    def _slice(self) -> None:
        late = self._clock.monotonic() >= self._until
        for _ in range(min(_SLICE, len(self._queue))):
            delivery, waiting = self._queue.popleft()
            ledger = delivery.entry.ledger
            ledger.busy -= 1
            # during a hold the partition may be another's already
            gone = late or ledger.closed or ledger.tally.hold.on
            if not gone and waiting != self._called(delivery.envelope):
                self._park(delivery, "lane")
        self._scheduled = bool(self._queue)
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._slice)
