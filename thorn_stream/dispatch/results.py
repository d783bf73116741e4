"""Writes result events: best effort, beside everything else.

A result says again what a Settlement has decided already, so nothing ever waits for one: a
delivery whose receiver has answered would be repeated for want of a note about it. So a result is
written once, without the Ledger knowing, by a Sink of its own (a hand-over never queues behind
results), and what Kafka is too slow for is left out and counted.
"""

from collections.abc import Callable
from typing import Final

from thorn_stream.core.deliveries import Delivery, Outcome, Settlement
from thorn_stream.core.results import encode_result
from thorn_stream.ports import Clock, Observer, SendFailed, Sink

__all__ = ["Results"]

_KIND: Final = "result"
_MOST: Final = 10_000
_MOST_BYTES: Final = 8_388_608
_AROUND: Final = 300  # bytes a record takes on its way beside its value
_FULL: Final = "left out: Kafka takes them too slowly"


class Results:
    """`every` Attempt's result, or of those events alone that ask for it.

    `make` gives the Sink, when the first one is written.
    """

    def __init__(
        self, topic: str, make: Callable[[], Sink], observer: Observer, clock: Clock, *, every: bool
    ) -> None:
        self.every = every
        self._topic = topic
        self._make = make
        self._observer = observer
        self._clock = clock
        self._sink: Sink | None = None
        self._count = 0
        self._size = 0

    @property
    def under_way(self) -> int:
        """Results that Kafka has not answered for."""
        return self._count

    def tell(self, delivery: Delivery, outcome: Outcome, settlement: Settlement) -> None:
        """Write one. Never raises: the delivery it is about goes on, whatever becomes of it."""
        if self._count >= _MOST or self._size >= _MOST_BYTES:
            self._observer.handed_over(_KIND, _FULL)
            return
        try:
            record = encode_result(delivery, outcome, settlement, self._clock.wall())
            if self._sink is None:
                self._sink = self._make()
        except Exception as error:  # noqa: BLE001 - see above
            self._observer.handed_over(_KIND, f"{type(error).__name__}: {error}")
            return
        size = len(record[1]) + _AROUND
        self._count += 1
        self._size += size
        self._sink.send(self._topic, record, self._answered, size)

    def _answered(self, size: int, failed: SendFailed | None) -> None:
        self._count -= 1
        self._size -= size
        self._observer.handed_over(_KIND, None if failed is None else failed.error)

    async def stop(self, grace: float) -> None:
        """Give what is under way so many seconds; the rest is given up."""
        if self._sink is not None:
            await self._sink.stop(grace)
