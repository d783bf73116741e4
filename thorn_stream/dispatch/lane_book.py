"""Which Lanes there are: made for the first Delivery, let go when nobody needs them any more."""

from collections.abc import Callable, Container, Iterator
from itertools import islice
from typing import Final

from thorn_stream.core.deliveries import Delivery
from thorn_stream.core.overrides import Overrides
from thorn_stream.core.rates import Bucket
from thorn_stream.core.schedule import RetryPolicy, policy_with
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.circuits import Circuits
from thorn_stream.dispatch.lane import Lane, LaneSettings
from thorn_stream.ports import Clock, Transport

__all__ = ["LaneBook"]

_MOST_PASSING: Final = 1000
_TIDIED_AT_ONCE: Final = 500
"""Lanes looked at before the loop has other things to do: tens of thousands may go at once."""


class LaneBook:
    """Lanes by the id of their Subscriber; of one that came with an event, by its definition."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        prepare: Callable[[Subscriber], LaneSettings],
        circuits: Circuits,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._prepare = prepare
        self._circuits = circuits
        self._lanes: dict[str, Lane] = {}
        self._passing: dict[str, None] = {}  # those of Subscribers that came with events, by age
        self._gone: dict[str, None] = {}  # names of Lanes whose Subscribers are not known any more

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def get(self, name: str) -> Lane | None:
        return self._lanes.get(name)

    def of(self, delivery: Delivery) -> Lane:
        """The Lane of a Delivery that was offered."""
        return self._lanes[delivery.definition or delivery.subscriber.id]

    def lane(self, delivery: Delivery) -> Lane:
        """The Subscriber's Lane; made anew, with what it holds, when the Subscriber has changed.

        One that came with an event has the Lane of its definition: whatever id it has chosen, it
        shares nothing with another.
        """
        subscriber = delivery.subscriber
        lane = self._lanes.get(delivery.definition or subscriber.id)
        if lane is None:
            return self.make(subscriber, delivery.definition)
        if lane.subscriber is not subscriber:
            if lane.subscriber != subscriber:  # else only read again: its connections are kept
                self._change(lane, subscriber)
            lane.subscriber = subscriber
        return lane

    def make(self, subscriber: Subscriber, definition: str = "") -> Lane:
        """A Lane for a Subscriber that has none."""
        settings = self._prepare(subscriber)
        lane = Lane(subscriber, settings, self._transport.target(subscriber))
        self._set_rate(lane, subscriber)
        self._lanes[definition or subscriber.id] = lane
        if definition:
            self._passing[definition] = None
            self._let_one_pass()
        return lane

    def _change(self, lane: Lane, subscriber: Subscriber) -> None:
        """Another receiver is not judged by what the one before it has done."""
        if (lane.subscriber.url, lane.subscriber.tls) != (subscriber.url, subscriber.tls):
            self._circuits.forget(lane)
        lane.settings = self._prepare(subscriber)
        lane.target = self._transport.target(subscriber)
        self._set_rate(lane, subscriber)

    def _set_rate(self, lane: Lane, subscriber: Subscriber) -> None:
        if subscriber.rate_limit is None:
            lane.bucket = None
        elif lane.bucket is None:
            lane.bucket = Bucket(self._clock.monotonic())

    def policy(self, delivery: Delivery) -> RetryPolicy:
        """The policy in force, of a Delivery that was sent: it may have changed in the meantime."""
        lane = self.of(delivery)
        own: Overrides | None = delivery.envelope.own
        policy = lane.settings.policy
        return policy if own is None else policy_with(own, lane.subscriber, policy)

    # --- who goes --------------------------------------------------------------------------------

    def keep(self, known: Container[str]) -> None:
        """Let go of the Lanes of Subscribers that are not known any more, when they are idle."""
        passing = self._passing
        self._gone = {
            name: None for name in self._lanes if name not in known and name not in passing
        }
        self.tidy()

    def tidy(self) -> None:
        """Let go of the Lanes of those who are gone, some at a time, as they become idle."""
        for name in list(islice(self._gone, _TIDIED_AT_ONCE)):
            del self._gone[name]
            lane = self._lanes[name]
            if lane.in_flight or lane.depth:
                self._gone[name] = None  # its turn comes again
            else:
                self._forget(name)

    def _let_one_pass(self) -> None:
        """Bound the Lanes of Subscribers that came with events: the oldest goes, when idle."""
        if len(self._passing) <= _MOST_PASSING:
            return
        name = next(iter(self._passing))
        lane = self._lanes[name]
        if lane.in_flight or lane.depth:
            del self._passing[name]
            self._passing[name] = None  # its turn comes again
        else:
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._circuits.forget(self._lanes.pop(name))
        self._passing.pop(name, None)
