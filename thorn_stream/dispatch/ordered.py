"""An ordered subscriber's own read of the topics: one delivery at a time of each key.

A Record that it wants joins the chain of its key. The head of a chain is tried in place, by the
schedule, until it is over; then the next is the head. Nothing is parked: what cannot be tried now
waits here, and when there is no room for more the partition is read no further, so its backlog is
plain lag of a consumer group. What was tried in vain is told in the commits (`core.ordering`), so
that a successor makes the right Attempt.
"""

from collections import deque
from dataclasses import replace
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, TypeAlias

from thorn_stream.core import handover, ids
from thorn_stream.core.deliveries import (
    Attempt,
    Dead,
    Delivered,
    Delivery,
    Retry,
    Settlement,
)
from thorn_stream.core.envelope import Envelope
from thorn_stream.core.ledger import Entry, Ledger
from thorn_stream.core.ordering import Chains, Stuck, note, read_note
from thorn_stream.core.records import Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.dispatcher import Dispatcher
from thorn_stream.dispatch.intake import Intake
from thorn_stream.ports import Source, Transport

__all__ = ["OrderedRead"]

_Key: TypeAlias = tuple[Ledger, bytes | int]

_NOTE_EVERY: Final = 0.2
"""Seconds between looks at which heads are to be noted: as often as commits are sent."""


class OrderedRead:
    """The read of one Subscriber, whose group is `group`.

    `longest` is the most seconds that a request may take: an Attempt has ended before the group
    can have given its partition to another member.
    """

    def __init__(
        self,
        subscriber: Subscriber,
        source: tuple[str, Source],
        dispatcher: Dispatcher,
        transport: Transport,
        context: Context,
        longest: float,
    ) -> None:
        self.subscriber = subscriber
        self.source = source[1]
        self.intake = Intake(*source, self._consume, context)
        self.intake.assigned = self._assigned
        self.intake.forgot = self._forgot
        self.longest = longest
        self._dispatcher = dispatcher
        self._transport = transport
        self._limits = context.limits
        self._clock = context.clock
        self._chains: Chains[_Key, tuple[Envelope, Entry]] = Chains()
        self._ready: deque[Delivery] = deque()  # heads that may be tried now
        self._timers: list[tuple[int, int, Delivery]] = []  # heads by when they are due again
        self._order = count()
        self._offered: set[Delivery] = set()  # heads in the Lane, or under way
        self._giving = False
        self._failed: dict[Ledger, dict[int, Stuck]] = {}
        self._told: dict[Ledger, dict[int, Stuck]] = {}  # by an earlier owner
        self._matched_to: dict[Ledger, int] = {}  # of a disabled Subscriber: see `_is_matched`
        self._changed: set[Ledger] = set()  # whose note is to be written anew
        self._noted_at = 0.0
        self._blocked: set[Delivery] = set()
        # when each that is pending was written, by offset: the first is the lowest
        self._pending: dict[Ledger, dict[int, int]] = {}

    # --- in ------------------------------------------------------------------------------------

    def _assigned(self, ledger: Ledger) -> None:
        heads, matched_to = read_note(ledger.note)
        if heads:
            self._told[ledger] = heads
            self._failed[ledger] = dict(heads)  # told on, until they are over
        if matched_to is not None:
            self._matched_to[ledger] = matched_to
        self._changed.add(ledger)

    def _consume(self, record: Record, entry: Entry) -> int:
        """Into the chain of its key; what it does not want is done with."""
        envelope = self._dispatcher.wanted(record, self.subscriber)
        if envelope is None or not self._is_matched(entry):
            self._forget_head(entry)
            entry.release()
            return 0
        own = envelope.own
        if own is not None and own.timeout is not None and own.timeout > self.longest:
            envelope.own = replace(own, timeout=self.longest)
        written = record.timestamp if record.timestamp >= 0 else self._clock.wall()
        self._pending.setdefault(entry.ledger, {})[entry.offset] = written
        if self._chains.add(_key(envelope, entry), (envelope, entry)):
            self._head(envelope, entry)
        return 1

    def _is_matched(self, entry: Entry) -> bool:
        """A disabled Subscriber is matched no more; what it was matched with before waits on.

        From which offset on it was not is kept in the note, so that a successor knows as well.
        """
        ledger = entry.ledger
        if self.subscriber.state != "disabled":
            return True
        return entry.offset < self._matched_to.get(ledger, entry.offset)

    def _head(self, envelope: Envelope, entry: Entry) -> None:
        """It is the head of its chain now: its clock starts, where no earlier owner started it."""
        delivery = Delivery(
            envelope,
            self.subscriber,
            ids.delivery_id(envelope.id, self.subscriber.id),
            entry,
            put_back=self._put_back,
            follow=self._follow,
        )
        told = self._told.get(entry.ledger, {}).pop(entry.offset, None)
        if told is None:
            self._ready.append(delivery)
            self._give()
        else:
            delivery.attempts, delivery.first = told.attempts, told.first
            self._wait(delivery, told.due)

    # --- out -----------------------------------------------------------------------------------

    @property
    def _may_give(self) -> bool:
        return self.subscriber.state == "enabled" and self.intake.taking and not self.intake.hold.on

    def _give(self) -> None:
        """Offer heads to the Lane, as many as it may have in flight; one put back ends it."""
        if self._giving or not self._ready:
            return
        self._giving = True
        try:
            self.intake.look()
            most = self.subscriber.max_in_flight or self._limits.max_in_flight
            while self._giving and self._ready and len(self._offered) < most and self._may_give:
                delivery = self._ready.popleft()
                if delivery.entry.ledger.draining:
                    continue  # its next owner's
                delivery.subscriber = self.subscriber
                self._offered.add(delivery)
                self._dispatcher.deliver(delivery)
        finally:
            self._giving = False

    def _put_back(self, delivery: Delivery, cause: str) -> None:
        """It cannot be tried now, whatever the cause: it stays the head, and is offered again."""
        del cause
        self._giving = False  # no other could be, either
        self._offered.discard(delivery)
        if not delivery.entry.ledger.draining:
            self._ready.appendleft(delivery)

    def _follow(self, delivery: Delivery, decided: Settlement) -> None:
        """An Attempt has ended: the head is over, or stays and is tried again."""
        self._offered.discard(delivery)
        if isinstance(decided, Delivered):
            delivery.entry.release()
            self._over(delivery)
        elif isinstance(decided, Retry):
            policy = self._dispatcher.lanes.policy(delivery)
            if delivery.attempts > policy.retries:
                self._blocked.add(delivery)
            self._wait(delivery, decided.due)
        elif isinstance(decided, Dead):
            now = self._clock.wall()
            held = handover.held(delivery, due=now, now=now)
            then = partial(self._over, delivery)
            self._dispatcher.settler.dead(held, decided, delivery.entry, then)

    def _wait(self, delivery: Delivery, due: int) -> None:
        entry = delivery.entry
        ledger, first = entry.ledger, delivery.first
        assert first is not None
        stuck = Stuck(entry.offset, delivery.attempts, first, due)
        self._failed.setdefault(ledger, {})[entry.offset] = stuck
        self._changed.add(ledger)
        if ledger.draining:
            self._note_changes()  # the last commit may be sent any moment
        else:
            heappush(self._timers, (due, next(self._order), delivery))

    def _over(self, delivery: Delivery) -> None:
        """Settled for good: the next of its key is the head."""
        entry = delivery.entry
        ledger = entry.ledger
        if ledger.closed:
            return
        self._blocked.discard(delivery)
        self._pending[ledger].pop(entry.offset, None)
        self._forget_head(entry)
        follower = self._chains.done(_key(delivery.envelope, entry))
        if follower is not None and not ledger.draining:
            self._head(*follower)
        elif self._ready:
            self._give()

    def _forget_head(self, entry: Entry) -> None:
        failed = self._failed.get(entry.ledger)
        if failed and failed.pop(entry.offset, None) is not None:
            self._changed.add(entry.ledger)

    # --- as time goes by -----------------------------------------------------------------------

    def tick(self) -> None:
        """Offer what is due, and what found no place before."""
        if self._may_give:
            now = self._clock.wall()
            while self._timers and self._timers[0][0] <= now:
                _, _, delivery = heappop(self._timers)
                if not delivery.entry.ledger.draining:
                    self._ready.append(delivery)
            self._give()
        if self._changed and self._clock.monotonic() >= self._noted_at + _NOTE_EVERY:
            self._note_changes()

    def _note_changes(self) -> None:
        self._noted_at = self._clock.monotonic()
        for ledger in self._changed:
            if not ledger.closed:
                failed = self._failed.get(ledger, {}).values()
                heads = [head for head in failed if head.offset >= ledger.committable]
                ledger.note = note(heads, self._matched_to.get(ledger))
        self._changed.clear()

    def use(self, subscriber: Subscriber) -> None:
        """It is like this from now on."""
        before, self.subscriber = self.subscriber.state, subscriber
        if subscriber.state != before:
            for ledger in self.intake.ledgers.values():
                if subscriber.state == "disabled":
                    self._matched_to.setdefault(ledger, ledger.next)
                else:
                    self._matched_to.pop(ledger, None)
                self._changed.add(ledger)

    def _forgot(self) -> None:
        """Partitions are gone: so is all that stood in them, and no request of theirs goes on."""
        self._transport.abort(self._is_fenced)
        self._chains.drop(lambda key: key[0].closed)
        self._ready = deque(d for d in self._ready if not d.entry.ledger.closed)
        self._timers = [timer for timer in self._timers if not timer[2].entry.ledger.closed]
        self._timers.sort()
        self._offered = {d for d in self._offered if not d.entry.ledger.closed}
        self._blocked = {d for d in self._blocked if not d.entry.ledger.closed}
        kept: tuple[dict[Ledger, Any], ...]
        kept = (self._failed, self._told, self._matched_to, self._pending)
        for by_ledger in kept:
            for ledger in [ledger for ledger in by_ledger if ledger.closed]:
                del by_ledger[ledger]
        self._changed = {ledger for ledger in self._changed if not ledger.closed}

    def _is_fenced(self, attempt: Attempt) -> bool:
        return attempt.delivery in self._offered and attempt.delivery.entry.ledger.closed

    # --- how it is -----------------------------------------------------------------------------

    @property
    def blocked(self) -> int:
        """Chains whose head has used up its retries, and stays (`on_exhausted: block`)."""
        return len(self._blocked)

    @property
    def oldest(self) -> int | None:
        """When the oldest event that was read and is pending was written, unix milliseconds."""
        return min((next(iter(p.values())) for p in self._pending.values() if p), default=None)


def _key(envelope: Envelope, entry: Entry) -> _Key:
    """What has no key has a chain to itself."""
    key = envelope.record.key
    return entry.ledger, entry.offset if key is None else key
