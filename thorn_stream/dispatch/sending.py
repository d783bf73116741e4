"""A Delivery becomes an Attempt, on its way to its receiver."""

import asyncio
from collections.abc import Callable
from typing import Final

from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.overrides import Overrides, timeout_with
from thorn_stream.dispatch.lane import Lane
from thorn_stream.ports import Clock, Transport

__all__ = ["Sender"]

_UNMADE: Final = "the request could not be made"


class Sender:
    """`ended` is called once for each, later, whatever became of it."""

    def __init__(
        self, transport: Transport, clock: Clock, ended: Callable[[Attempt, Outcome], None]
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._ended = ended

    def send(self, lane: Lane, delivery: Delivery) -> None:
        """Make the request and give it to the Transport."""
        wall = self._clock.wall()
        if delivery.first is None:
            delivery.first = wall
        settings = lane.settings
        attempt = Attempt(
            delivery,
            lane.target,
            b"",
            b"",
            settings.timeout,
            settings.keep_alive,
            self._ended,
        )
        delivery.entry.ledger.busy += 1
        if delivery.envelope.own is not None:
            self._apply(delivery.envelope.own, lane, attempt)
            if delivery.envelope.own.sealed:
                self._end_unsent(attempt, Kind.BLOCKED, "thorn-validators")
                return
        try:
            attempt.headers, attempt.body = settings.requests.build(
                delivery.envelope, delivery.id, delivery.attempts + 1, wall // 1000
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, the Delivery is accounted for
            self._end_unsent(attempt, Kind.PROTOCOL, f"{_UNMADE}: {type(error).__name__}")
            return
        self._transport.send(attempt)

    def _end_unsent(self, attempt: Attempt, kind: Kind, detail: str) -> None:
        outcome = Outcome(kind, detail=detail)
        asyncio.get_running_loop().call_soon(self._ended, attempt, outcome)

    @staticmethod
    def _apply(own: Overrides, lane: Lane, attempt: Attempt) -> None:
        """What the event itself asks for."""
        attempt.timeout = timeout_with(own, lane.subscriber.timeout, attempt.timeout)
        attempt.guard = own.guard
        if own.keep_alive is not None:
            attempt.keep_alive = own.keep_alive
