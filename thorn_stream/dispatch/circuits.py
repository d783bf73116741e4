"""What Attempts tell about receivers: kept in their Lanes, decided in `core.circuit`."""

from typing import Final

from thorn_stream.core.circuit import Circuit
from thorn_stream.core.deliveries import Delivery, Kind, Outcome
from thorn_stream.core.schedule import is_final, retry_after_seconds
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.lane import Lane

__all__ = ["Circuits"]

_HOLDS: Final = frozenset({429, 503})
"""Statuses whose Retry-After holds the whole Lane, and not the one Delivery alone."""


class Circuits:
    """Those of all Lanes. `troubled` counts the receivers that have failed lately."""

    def __init__(self, context: Context) -> None:
        self._rules = context.circuit
        self._clock = context.clock
        self._observer = context.observer
        self.troubled = 0

    def answered(self, lane: Lane, delivery: Delivery, outcome: Outcome) -> bool:
        """Take in how an Attempt ended; True for a probe that failed.

        A status that ends its Delivery at once (410, `dead_on`) is an answer: whoever gives it is
        there. What the validators refuse was never sent: it says nothing about the receiver, and
        a probe that is refused ends as any other Delivery would.
        """
        probe = lane.probe is delivery
        if probe:
            lane.probe = None
        if outcome.kind is Kind.OK or is_final(outcome, lane.settings.policy):
            self._succeeded(lane)
        elif outcome.kind is not Kind.BLOCKED or probe:
            self._failed(lane, outcome, probe=probe)
            return probe and outcome.kind is not Kind.BLOCKED
        return False

    def forget(self, lane: Lane) -> None:
        """What was known is of no use any more: the Lane goes, or its receiver is another."""
        if lane.circuit is not None:
            self.troubled -= 1
            if lane.circuit.open:
                self._tell_closed(lane, lane.circuit)
        lane.circuit = lane.probe = None

    def _succeeded(self, lane: Lane) -> None:
        circuit, most = lane.circuit, lane.settings.max_in_flight
        if circuit is None:
            return
        now = self._clock.monotonic()
        if circuit.succeeded(most, now):
            self._tell_closed(lane, circuit)
        elif lane.probe is None and circuit.is_well(most, now):
            lane.circuit = None
            self.troubled -= 1

    def _failed(self, lane: Lane, outcome: Outcome, *, probe: bool) -> None:
        circuit, most = lane.circuit, lane.settings.max_in_flight
        if circuit is None:
            circuit = lane.circuit = Circuit(most)
            self.troubled += 1
        now = self._clock.monotonic()
        if outcome.retry_after is not None and outcome.status in _HOLDS:
            seconds = retry_after_seconds(outcome.retry_after, self._clock.wall())
            if seconds is not None:
                circuit.hold(now + min(seconds, lane.settings.policy.retry_after_max))
        if probe:
            circuit.probe_failed(outcome, now, self._rules)
        elif circuit.failed(outcome, most, now, self._rules):
            self._observer.circuit_opened(lane.subscriber.id, circuit.failures, circuit.error)

    def _tell_closed(self, lane: Lane, circuit: Circuit) -> None:
        lasted = self._clock.monotonic() - circuit.opened_at
        self._observer.circuit_closed(lane.subscriber.id, lasted, circuit.probes)
