"""Lanes: each Subscriber's queue and limits, and whose turn it is.

A Lane sends at once while it has room, queues up to its size, and beyond that says so to whoever
offers: a short burst on a fast receiver holds intake back for a moment, anything else is parked.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator

from thorn_stream.core.circuit import Circuit
from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.flow import HOLD_FOR, is_crowded
from thorn_stream.core.rates import Shares
from thorn_stream.core.schedule import RetryPolicy
from thorn_stream.core.sharing import (
    Place,
    for_later_ones,
    may_connect,
    place,
    takes_too_many_bytes,
)
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.circuits import Circuits
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.lane import Lane, LaneSettings
from thorn_stream.dispatch.lane_book import LaneBook
from thorn_stream.dispatch.sending import Sender
from thorn_stream.ports import Transport

__all__ = ["Lanes"]


class Lanes:
    """All Lanes of a process, and the connections they share.

    `look` is called before anything queued is begun: whoever it is looks for a stall. `shares` is
    this process's part of the group, for `rate_limit`; `own_shares` that of ordered Subscribers,
    by id, in groups of their own. `again_in_flight` counts those that are no first attempts.
    """

    def __init__(
        self,
        transport: Transport,
        context: Context,
        prepare: Callable[[Subscriber], LaneSettings],
        ended: Callable[[Attempt, Outcome], None],
    ) -> None:
        self._limits = context.limits
        self._clock = context.clock
        self._circuits = Circuits(context)
        self._book = LaneBook(transport, context.clock, prepare, self._circuits)
        self._lane = self._book.lane
        self._depart = Sender(transport, context.clock, ended).send
        self._queued: dict[Lane, None] = {}  # those with a queue, the oldest first: few of many
        self._turns: deque[Lane] = deque()
        self._holding: set[Lane] = set()
        self._aside: list[Delivery] = []  # of a Source that is on hold
        self._connections = context.limits.max_connections
        self._for_later_ones = for_later_ones(self._connections)
        self._busy = 0  # Lanes with anything in flight
        self._size = 0  # bytes queued
        self.look: Callable[[], None] = lambda: None
        self.shares = Shares()
        self.own_shares: dict[str, float] = {}
        self.in_flight = 0
        self.again_in_flight = 0

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._book)

    @property
    def queued(self) -> Iterable[Lane]:
        """Those with anything queued."""
        return self._queued

    def policy(self, delivery: Delivery) -> RetryPolicy:
        """The policy in force, of a Delivery that was sent: it may have changed in the meantime."""
        return self._book.policy(delivery)

    def keep(self, known: Container[str]) -> None:
        """Let go of the Lanes of Subscribers that are not known any more, when they are idle."""
        self._book.keep(known)

    # --- what is offered -----------------------------------------------------------------------

    def offer(self, delivery: Delivery) -> str | None:
        """Send or queue it; else the cause to park it by: `lane`, `circuit`, `rate`."""
        lane = self._lane(delivery)
        if (
            lane.circuit is None
            and lane.bucket is None
            and not lane.depth
            and lane.in_flight < lane.settings.max_in_flight
            and 2 * self.in_flight < self._connections
        ):  # nearly always
            self._send(lane, delivery)
            return None
        return self._find_place(lane, delivery)

    def _find_place(self, lane: Lane, delivery: Delivery) -> str | None:
        now = self._clock.monotonic()
        if lane.circuit is not None and lane.circuit.open:
            return self._probe(lane, lane.circuit, delivery, now)
        slow = self._is_slow(lane, now)
        room = not slow and self._has_room(lane)
        if room and not lane.depth and self._is_let(delivery):
            self._send(lane, delivery)
            return None
        limits = self._limits
        full = lane.is_full(limits.lane_size, again=delivery.again) or takes_too_many_bytes(
            lane.size, self._size, limits.memory, len(self._queued)
        )
        found = place(lane.head_waited(now), full=full, slow=slow, later=delivery.again)
        if found is Place.PARK:
            return "rate" if slow else "lane"
        if found is Place.HOLD:
            self._holding.add(lane)
        delivery.queued_at = now
        self._push(lane, delivery)
        self._queued[lane] = None
        if not slow:
            self._queue_up(lane)
        if room:  # there may be more of it than when the others were queued
            self._take_turns()
        return None

    def _probe(self, lane: Lane, circuit: Circuit, delivery: Delivery, now: float) -> str | None:
        """The one Delivery that is tried after each pause of an open circuit."""
        if not circuit.may_probe(now) or self.in_flight >= self._connections:
            return "circuit"
        if self._is_slow(lane, now):
            return "circuit"
        circuit.begin_probe()
        lane.probe = delivery
        self._send(lane, delivery)
        return None

    def may_drain(self, subscriber: Subscriber, definition: str = "") -> int:
        """How many parked deliveries of this Subscriber may be offered right now.

        They have at most half of what its Lane may have in flight, so that new events keep theirs;
        one when a probe of its open circuit is due. When it has a rate, one may wait for its turn.
        `definition` is that of a Subscriber that came with an event.
        """
        if subscriber.state != "enabled" or self.again_in_flight >= self._for_later_ones:
            return 0
        lane = self._book.get(definition or subscriber.id)
        if lane is None:
            return 1  # which will make it
        now = self._clock.monotonic()
        if lane.circuit is not None and lane.circuit.open:
            due = lane.circuit.may_probe(now) and self.in_flight < self._connections
            return int(due and not self._is_slow(lane, now))
        most = max(1, lane.limit // 2) - lane.drained
        if lane.circuit is not None and lane.circuit.held_until > now:
            most = 0
        if lane.bucket is not None:
            self._refill(lane, now)
            most = min(most, int(lane.bucket.tokens) + (not lane.again_depth))
        if lane.is_full(self._limits.lane_size, again=True):
            most = 0
        return max(0, most)

    def is_full(self, name: str) -> bool:
        """Whether this Lane, by its Subscriber's id or definition, has no place for a retry."""
        lane = self._book.get(name)
        return lane is not None and lane.is_full(self._limits.lane_size, again=True)

    def why_open(self, name: str) -> str:
        """The last error of a Lane whose circuit is open here; nothing for any other."""
        lane = self._book.get(name)
        circuit = None if lane is None else lane.circuit
        return circuit.error if circuit is not None and circuit.open else ""

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

    # --- what has ended ------------------------------------------------------------------------

    def answered(self, delivery: Delivery, outcome: Outcome) -> bool:
        """What an Attempt tells about its receiver; True for a probe that failed."""
        if outcome.kind is Kind.OK and not self._circuits.troubled:
            return False
        return self._circuits.answered(self._book.of(delivery), delivery, outcome)

    def freed(self, delivery: Delivery) -> None:
        """An Attempt has ended: whoever is next has its place."""
        lane = self._book.of(delivery)
        lane.in_flight -= 1
        self.in_flight -= 1
        if delivery.again:
            lane.later_ended(delivery)
            self.again_in_flight -= 1
        if not lane.in_flight:
            self._busy -= 1
        if lane.depth:
            self._queue_up(lane)
        if self._turns:
            self._take_turns()

    # --- as time goes by -----------------------------------------------------------------------

    def tick(self) -> None:
        """Who has got room since has a turn: tokens, others' connections, the end of a hold."""
        for lane in self._queued:
            self._queue_up(lane)
        if self._turns:
            self._take_turns()
        self._book.tidy()

    def overdue(self) -> list[tuple[Delivery, str]]:
        """Take out, with the cause to park it by, what cannot wait in its Lane any longer.

        It has waited too long, or holds a crowded partition back, or its circuit is open. What is
        of a partition that is about to go is forgotten: it was not begun.
        """
        now = self._clock.monotonic()
        oldest, burst = now - self._limits.lane_wait_max, now - HOLD_FOR
        taken: list[tuple[Delivery, str]] = []
        for lane in list(self._queued):
            cause = "circuit" if lane.is_open else "rate" if self._is_slow(lane, now) else "lane"
            for queue in lane.queues():
                while queue:
                    head = queue[0]
                    ledger = head.entry.ledger
                    if ledger.draining:
                        self._drop(lane, queue)
                    elif ledger.tally.hold.on:
                        self._aside.append(self._drop(lane, queue))
                    elif (
                        cause == "circuit"
                        or head.queued_at < oldest
                        or (
                            head.queued_at < burst  # a fast receiver's queue holds nobody back
                            and is_crowded(ledger.depth, ledger.open, ledger.window)
                        )
                    ):
                        taken.append((self._drop(lane, queue), cause))
                    else:
                        break
            self._rest(lane)
        return taken

    def take_out(self, lane: Lane, *, leaving: bool = False) -> list[Delivery]:
        """All that a Lane has queued; or what of it is of partitions that are about to go."""
        queued = [self._drop(lane, queue) for queue in lane.queues() for _ in range(len(queue))]
        taken = []
        for delivery in queued:
            if leaving and not delivery.entry.ledger.draining:
                self._push(lane, delivery)
            else:
                taken.append(delivery)
        self._rest(lane)
        return taken

    def take_all(self, *, leaving: bool = False) -> list[Delivery]:
        """The same of every Lane; what was set aside during a hold is forgotten with it."""
        if not leaving:
            self._aside.clear()
        return [one for lane in list(self._queued) for one in self.take_out(lane, leaving=leaving)]

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

    def _push(self, lane: Lane, delivery: Delivery) -> None:
        lane.push(delivery)
        self._size += delivery.entry.size

    def _drop(self, lane: Lane, queue: deque[Delivery]) -> Delivery:
        delivery = lane.drop(queue)
        self._size -= delivery.entry.size
        return delivery

    def _rest(self, lane: Lane) -> None:
        if not lane.depth:
            self._queued.pop(lane, None)
            lane.rest()

    # --- whose turn it is ----------------------------------------------------------------------

    def _has_room(self, lane: Lane) -> bool:
        """Whether it may have one more in flight, and a connection for it."""
        return lane.in_flight < lane.limit and may_connect(
            lane.in_flight, self.in_flight, self._connections, self._busy
        )

    def _is_let(self, delivery: Delivery) -> bool:
        """Some connections are kept for first attempts."""
        return not delivery.again or self.again_in_flight < self._for_later_ones

    def _is_slow(self, lane: Lane, now: float) -> bool:
        """Whether it has to wait, whatever room there is: for its rate, or as it has asked to."""
        if lane.circuit is not None and lane.circuit.held_until > now:
            return True
        if lane.bucket is None:
            return False
        self._refill(lane, now)
        return lane.bucket.empty

    def _refill(self, lane: Lane, now: float) -> None:
        bucket, rate = lane.bucket, lane.subscriber.rate_limit
        if bucket is None or rate is None:
            return
        own = self.own_shares.get(lane.subscriber.id)
        bucket.refill(now, self.shares.of(rate) if own is None else rate * own)

    def _queue_up(self, lane: Lane) -> None:
        if not lane.in_turn and lane.depth and lane.has_room:
            lane.in_turn = True
            self._turns.append(lane)

    def _take_turns(self) -> None:
        """One each, in turn, while there are connections."""
        self.look()
        turns = self._turns
        while turns and self.in_flight < self._connections:
            lane = turns.popleft()
            lane.in_turn = False
            if self._take_turn(lane):
                self._queue_up(lane)

    def _take_turn(self, lane: Lane) -> bool:
        """Send the next of this Lane; False when it has to wait for more than its turn."""
        free = lane.circuit is None and lane.bucket is None
        if not free and (lane.is_open or self._is_slow(lane, self._clock.monotonic())):
            return False
        while self._has_room(lane):
            delivery = lane.pop(later_ones=self.again_in_flight < self._for_later_ones)
            if delivery is None:
                return False
            self._size -= delivery.entry.size
            ledger = delivery.entry.ledger
            if ledger.tally.hold.on:
                self._aside.append(delivery)
            elif not ledger.draining:
                self._send(lane, delivery)
                return True
        return False

    def _send(self, lane: Lane, delivery: Delivery) -> None:
        if not lane.in_flight:
            self._busy += 1
        lane.in_flight += 1
        self.in_flight += 1
        if delivery.again:
            lane.later_begun(delivery)
            self.again_in_flight += 1
        if lane.bucket is not None:
            lane.bucket.take()
        self._depart(lane, delivery)
