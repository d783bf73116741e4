"""One Subscriber's Lane: what is queued, what is in flight, and which is next.

First attempts and later ones (retries, parked ones) queue apart: when both wait, first attempts
have three turns of four, and a quarter of the queue and of what is in flight is kept for them. So a
flood of retries delays no new event for long, and is not starved by new events either.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from thorn_stream.core.circuit import Circuit
from thorn_stream.core.deliveries import Delivery
from thorn_stream.core.rates import Bucket
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.schedule import RetryPolicy
from thorn_stream.core.subscribers import Subscriber

__all__ = ["Lane", "LaneSettings"]

_TURNS: Final = 3
"""First attempts that go before a later one, when both wait."""


class LaneSettings:
    """What a Lane needs to know of its Subscriber, worked out once."""

    __slots__ = ("keep_alive", "max_in_flight", "policy", "requests", "timeout")

    def __init__(
        self,
        requests: RequestFactory,
        policy: RetryPolicy,
        timeout: float,
        max_in_flight: int,
        *,
        keep_alive: bool,
    ) -> None:
        self.requests = requests
        self.policy = policy
        self.timeout = timeout
        self.max_in_flight = max_in_flight
        self.keep_alive = keep_alive


class Lane:
    """What is queued and what is in flight, of one Subscriber.

    `depth` counts what is queued, `size` its bytes; `again_depth` and `again_in_flight` those that
    are no first attempts; `drained` those that were parked, queued and in flight.

    `circuit` is there while the receiver has failed lately, `bucket` when there is a `rate_limit`;
    `probe` is the Delivery that asks whether an open circuit may close.
    """

    __slots__ = (
        "_again",
        "_first",
        "_turns",
        "again_depth",
        "again_in_flight",
        "bucket",
        "circuit",
        "depth",
        "drained",
        "in_flight",
        "in_turn",
        "probe",
        "settings",
        "size",
        "subscriber",
        "target",
    )

    def __init__(self, subscriber: Subscriber, settings: LaneSettings, target: object) -> None:
        self.subscriber = subscriber
        self.settings = settings
        self.target = target
        self.circuit: Circuit | None = None
        self.bucket: Bucket | None = None
        self.probe: Delivery | None = None
        self.in_flight = 0
        self.again_in_flight = 0
        self.depth = 0
        self.again_depth = 0
        self.size = 0
        self.drained = 0
        self.in_turn = False
        self._turns = 0
        # made when first needed, and let go of by `rest`: most Lanes are idle
        self._first: deque[Delivery] | None = None
        self._again: deque[Delivery] | None = None

    @property
    def limit(self) -> int:
        """What it may have in flight now."""
        most = self.settings.max_in_flight
        return most if self.circuit is None else self.circuit.limit(most)

    @property
    def is_open(self) -> bool:
        """Whether its circuit is: nothing is sent but probes."""
        return self.circuit is not None and self.circuit.open

    @property
    def has_room(self) -> bool:
        return self.in_flight < self.limit

    def is_full(self, size: int, *, again: bool) -> bool:
        """Whether one more finds no place; a quarter of the places is kept for first attempts."""
        return self.depth >= size or (again and self.again_depth >= max(1, size * 3 // 4))

    def head_waited(self, now: float) -> float:
        """Seconds the oldest queued Delivery has waited; 0 when none is queued."""
        waited = 0.0
        if self._first:
            waited = now - self._first[0].queued_at
        if self._again:
            waited = max(waited, now - self._again[0].queued_at)
        return waited

    def push(self, delivery: Delivery) -> None:
        """Queue it, behind those of its kind."""
        self.depth += 1
        self.size += delivery.entry.size
        if not delivery.again:
            if self._first is None:
                self._first = deque()
            self._first.append(delivery)
            return
        if self._again is None:
            self._again = deque()
        self._again.append(delivery)
        self.again_depth += 1
        if delivery.put_back is not None:
            self.drained += 1

    def pop(self, *, later_ones: bool) -> Delivery | None:
        """Take out the next; None when only later attempts wait, and they may not go now."""
        first, again = self._first, self._again
        if again and (later_ones or not first):
            if not first:
                return self.drop(again) if later_ones else None
            if self._turns >= _TURNS and self.again_in_flight * 4 < self.limit * 3:
                self._turns = 0
                return self.drop(again)
            self._turns += 1
        return self.drop(first) if first else None

    def queues(self) -> Iterator[deque[Delivery]]:
        """Those that hold something; `drop` takes out the head of one."""
        for queue in (self._first, self._again):
            if queue:
                yield queue

    def drop(self, queue: deque[Delivery]) -> Delivery:
        """Take out the head of one of its queues."""
        delivery = queue.popleft()
        self.depth -= 1
        self.size -= delivery.entry.size
        if delivery.again:
            self.again_depth -= 1
            if delivery.put_back is not None:
                self.drained -= 1
        return delivery

    def later_begun(self, delivery: Delivery) -> None:
        """One that is no first attempt is in flight."""
        self.again_in_flight += 1
        if delivery.put_back is not None:
            self.drained += 1

    def later_ended(self, delivery: Delivery) -> None:
        """It is not any more."""
        self.again_in_flight -= 1
        if delivery.put_back is not None:
            self.drained -= 1

    def rest(self) -> None:
        """Nothing is queued: an empty deque alone would take more than half a KiB."""
        self._first = self._again = None
