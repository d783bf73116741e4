"""Lanes: each Subscriber's queue and limits, and whose turn it is.

A Lane sends at once while it has room, queues up to its size, and beyond that says so to whoever
offers: a short burst on a fast receiver holds intake back for a moment, anything else is parked.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Container, Iterator
from typing import Final

from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.flow import HOLD_FOR, Choice, choose, is_crowded
from thorn_stream.core.overrides import Overrides, timeout_with
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.schedule import RetryPolicy, policy_with
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.context import Context
from thorn_stream.ports import Transport

__all__ = ["Lane", "LaneSettings", "Lanes"]

_UNMADE: Final = "the request could not be made"
_MOST_PASSING: Final = 1000


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
    """One Subscriber's: what is queued, what is in flight."""

    __slots__ = ("in_flight", "in_turn", "queue", "settings", "subscriber", "target")

    def __init__(self, subscriber: Subscriber, settings: LaneSettings, target: object) -> None:
        self.subscriber = subscriber
        self.settings = settings
        self.target = target
        self.in_flight = 0
        self.in_turn = False
        self.queue: deque[Delivery] | None = None  # made when first needed: most stay idle

    @property
    def depth(self) -> int:
        return len(self.queue) if self.queue else 0

    @property
    def has_room(self) -> bool:
        return self.in_flight < self.settings.max_in_flight

    def head_waited(self, now: float) -> float:
        """Seconds the oldest queued Delivery has waited; 0 when none is queued."""
        return now - self.queue[0].queued_at if self.queue else 0.0


class Lanes:
    """All Lanes of a process, and the connections they share.

    `look` is called before anything queued is begun: whoever it is looks for a stall.
    """

    def __init__(
        self,
        transport: Transport,
        context: Context,
        prepare: Callable[[Subscriber], LaneSettings],
        ended: Callable[[Attempt, Outcome], None],
    ) -> None:
        self._transport = transport
        self._limits = context.limits
        self._clock = context.clock
        self._prepare = prepare
        self._ended = ended
        self._lanes: dict[str, Lane] = {}
        self._passing: dict[str, None] = {}  # those of Subscribers that came with events, by age
        self._queued: set[Lane] = set()  # those with a queue: few of many
        self._turns: deque[Lane] = deque()
        self._holding: set[Lane] = set()
        self._gone: set[str] = set()  # names of Lanes whose Subscribers are not known any more
        self._aside: list[Delivery] = []  # of a Source that is on hold
        self.look: Callable[[], None] = lambda: None
        self.in_flight = 0

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def lane(self, delivery: Delivery) -> Lane:
        """The Subscriber's Lane; made anew, with what it holds, when the Subscriber has changed.

        One that came with an event has the Lane of its definition: whatever id it has chosen, it
        shares nothing with another.
        """
        subscriber = delivery.subscriber
        lane = self._lanes.get(delivery.definition or subscriber.id)
        if lane is None:
            settings = self._prepare(subscriber)
            lane = Lane(subscriber, settings, self._transport.target(subscriber))
            self._lanes[delivery.definition or subscriber.id] = lane
            if delivery.definition:
                self._passing[delivery.definition] = None
                self._let_one_pass()
        elif lane.subscriber is not subscriber:
            if lane.subscriber != subscriber:  # else only read again: its connections are kept
                lane.settings = self._prepare(subscriber)
                lane.target = self._transport.target(subscriber)
            lane.subscriber = subscriber
        return lane

    def policy(self, delivery: Delivery) -> RetryPolicy:
        """The policy in force, of a Delivery that was sent: it may have changed in the meantime."""
        lane = self._lanes[delivery.definition or delivery.subscriber.id]
        own = delivery.envelope.own
        policy = lane.settings.policy
        return policy if own is None else policy_with(own, lane.subscriber, policy)

    def keep(self, known: Container[str]) -> None:
        """Let go of the Lanes of Subscribers that are not known any more, when they are idle."""
        gone = {name for name in self._lanes if name not in known}
        self._gone = gone.difference(self._passing)
        self.tidy()

    def tidy(self) -> None:
        """Let go of the Lanes of those who are gone, as far as they have become idle."""
        for name in list(self._gone):
            lane = self._lanes[name]
            if not lane.in_flight and not lane.queue:
                self._gone.discard(name)
                self._forget(name)

    def _let_one_pass(self) -> None:
        """Bound the Lanes of Subscribers that came with events: the oldest goes, when idle."""
        if len(self._passing) <= _MOST_PASSING:
            return
        name = next(iter(self._passing))
        lane = self._lanes[name]
        if lane.in_flight or lane.queue:
            del self._passing[name]
            self._passing[name] = None  # its turn comes again
        else:
            self._forget(name)

    def _forget(self, name: str) -> None:
        del self._lanes[name]
        self._passing.pop(name, None)

    def offer(self, delivery: Delivery) -> str | None:
        """Send or queue it; else the cause to park it by: `lane`, `circuit`, `rate`."""
        lane = self.lane(delivery)
        room = lane.has_room and self.in_flight < self._limits.max_connections
        if room and not lane.queue:
            self._send(lane, delivery)
            return None
        now = self._clock.monotonic()
        choice = choose(lane.depth, self._limits.lane_size, lane.head_waited(now), has_room=room)
        if choice is Choice.PARK:
            return "lane"
        if choice is Choice.HOLD:
            self._holding.add(lane)
        if lane.queue is None:
            lane.queue = deque()
        delivery.queued_at = now
        lane.queue.append(delivery)
        self._queued.add(lane)
        self._queue_up(lane)
        if room:  # there may be more of it than when the others were queued
            self._take_turns()
        return None

    def may_drain(self, subscriber: Subscriber) -> int:
        """How many parked deliveries of this Subscriber may be offered right now.

        They have at most half of what its Lane may have in flight, so that new events keep theirs;
        one when a probe of its open circuit is due.
        """
        if subscriber.state != "enabled":
            return 0
        lane = self._lanes.get(subscriber.id)
        if lane is None:
            return max(1, (subscriber.max_in_flight or self._limits.max_in_flight) // 2)
        return max(0, max(1, lane.settings.max_in_flight // 2) - lane.in_flight - lane.depth)

    def is_full(self, name: str) -> bool:
        """Whether this Lane, by its Subscriber's id or definition, has no place in its queue."""
        lane = self._lanes.get(name)
        return lane is not None and lane.depth >= self._limits.lane_size

    def freed(self, delivery: Delivery) -> None:
        """An Attempt has ended: whoever is next has its place."""
        lane = self._lanes[delivery.definition or delivery.subscriber.id]
        lane.in_flight -= 1
        self.in_flight -= 1
        if lane.queue:
            self._queue_up(lane)
        if self._turns:
            self._take_turns()

    @property
    def holding(self) -> bool:
        """A burst is on its way into a full Lane: intake had better wait a moment."""
        if not self._holding:
            return False
        now = self._clock.monotonic()
        enough = self._limits.lane_size * 3 // 4
        self._holding = {
            lane
            for lane in self._holding
            if lane.depth > enough and lane.head_waited(now) <= HOLD_FOR
        }
        return bool(self._holding)

    def overdue(self) -> list[Delivery]:
        """Take out what has waited too long in its Lane, or holds a crowded partition back.

        What is of a partition that is about to go is forgotten: it was not begun.
        """
        oldest = self._clock.monotonic() - self._limits.lane_wait_max
        taken: list[Delivery] = []
        for lane in list(self._queued):
            queue = lane.queue
            while queue:
                head = queue[0]
                ledger = head.entry.ledger
                if ledger.draining:
                    queue.popleft()
                elif ledger.tally.hold.on:
                    self._aside.append(queue.popleft())
                elif head.queued_at < oldest or is_crowded(
                    ledger.depth, ledger.open, ledger.window
                ):
                    taken.append(queue.popleft())
                else:
                    break
            if not queue:
                self._queued.discard(lane)
        return taken

    def off_hold(self) -> list[Delivery]:
        """Take out what was set aside while its Source was on hold, and may go on now."""
        if not self._aside:
            return []
        aside, self._aside = self._aside, []
        free: list[Delivery] = []
        for delivery in aside:
            ledger = delivery.entry.ledger
            if not ledger.draining:
                (self._aside if ledger.tally.hold.on else free).append(delivery)
        return free

    def abandon(self) -> None:
        """Forget all that is queued; nothing of it was begun, so the next owner repeats it."""
        self._aside.clear()
        for lane in self._queued:
            if lane.queue:
                lane.queue.clear()

    def _queue_up(self, lane: Lane) -> None:
        if not lane.in_turn and lane.has_room:
            lane.in_turn = True
            self._turns.append(lane)

    def _take_turns(self) -> None:
        """One each, in turn, while there are connections."""
        self.look()
        turns = self._turns
        while turns and self.in_flight < self._limits.max_connections:
            lane = turns.popleft()
            lane.in_turn = False
            while lane.queue and lane.has_room:
                delivery = lane.queue.popleft()
                ledger = delivery.entry.ledger
                if ledger.tally.hold.on:
                    self._aside.append(delivery)
                elif not ledger.draining:
                    self._send(lane, delivery)
                    break
            if lane.queue:
                self._queue_up(lane)

    def _send(self, lane: Lane, delivery: Delivery) -> None:
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
        lane.in_flight += 1
        self.in_flight += 1
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
