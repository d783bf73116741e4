"""A Record in, Settlements out: consume, decode, match, deliver, settle; the Ledger commits."""

from collections.abc import Callable
from typing import Final

from thorn_stream.core import handover, ids
from thorn_stream.core.deliveries import (
    IN_PLACE,
    Attempt,
    Dead,
    Delivered,
    Delivery,
    Kind,
    Outcome,
    Parked,
    Reason,
    Retry,
    Settlement,
)
from thorn_stream.core.directory import Directory
from thorn_stream.core.envelope import Envelope, Tombstone, Undecodable, decode
from thorn_stream.core.extra import Extra, extra_recipients, recipient_from
from thorn_stream.core.handover import Held
from thorn_stream.core.ledger import Entry
from thorn_stream.core.overrides import read_overrides
from thorn_stream.core.records import Record
from thorn_stream.core.request import event_parts
from thorn_stream.core.schedule import settlement
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.lane import LaneSettings
from thorn_stream.dispatch.lanes import Lanes
from thorn_stream.dispatch.settler import Settler
from thorn_stream.ports import Transport

__all__ = ["Dispatcher"]

_DELIVERED: Final = Delivered()


class Dispatcher:
    """Takes live Records and retries that are due, and sees each Delivery to its Settlement."""

    def __init__(
        self,
        directory: Directory,
        transport: Transport,
        settler: Settler,
        prepare: Callable[[Subscriber], LaneSettings],
        context: Context,
    ) -> None:
        self.directory = directory
        self.lanes = Lanes(transport, context, prepare, self.ended)
        self.settler = settler
        self._limits = context.limits
        self._tiers = context.tiers
        self._clock = context.clock
        self._observer = context.observer
        self._dice = context.dice
        self._rules = context.rules
        self._results = context.results
        self._tells_all = context.results is not None and context.results.every

    def use(self, directory: Directory) -> None:
        """From now on these are the Subscribers; Lanes that nobody needs any more are let go."""
        self.directory = directory
        self.lanes.keep(directory)
        for lane in list(self.lanes.queued):
            known = directory.get(lane.subscriber.id)
            if known is not None and known.state != "enabled" and known.url == lane.subscriber.url:
                for delivery in self.lanes.take_out(lane):
                    self.park(delivery, "paused")

    # --- the straight way ----------------------------------------------------------------------

    def consume(self, record: Record, entry: Entry) -> int:
        """Begin everything that one Record asks for; returns how many Deliveries it became."""
        envelope = decode(record)
        if not isinstance(envelope, Envelope):
            return self._not_an_envelope(envelope, record, entry)
        if record.headers:
            self._read_own(envelope)
        if self._too_old(record):
            self._observer.dropped("too_old")
            entry.release()
            return 0
        subscribers = self.directory.recipients(envelope)
        for subscriber in subscribers:
            entry.hold()
            delivery = ids.delivery_id(envelope.id, subscriber.id)
            self.deliver(Delivery(envelope, subscriber, delivery, entry))
        count = len(subscribers)
        if record.headers:
            count += self._deliver_extra(envelope, entry)
        if not count:
            self._observer.unmatched()
        entry.release()
        return count

    def wanted(self, record: Record, subscriber: Subscriber) -> Envelope | None:
        """The event of a Record, if this ordered Subscriber wants it.

        What else is to be done with the Record, and told of it, is the main path's.
        """
        envelope = decode(record)
        if not isinstance(envelope, Envelope) or self._too_old(record):
            return None
        if not self.directory.wants(subscriber, envelope):
            return None
        if envelope.own is not None:
            envelope.own = read_overrides(record.headers, self._rules)
        return envelope

    def deliver(self, delivery: Delivery) -> None:
        """Offer it to its Subscriber's Lane; park what cannot be tried now."""
        if delivery.subscriber.state != "enabled":
            self.park(delivery, "paused")
        elif cause := self.lanes.offer(delivery):
            self.park(delivery, cause)

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """An Attempt has come back: classify it, settle the Delivery, give its place to the next.

        Of an assignment that is over, nothing may change but the figures.
        """
        delivery = attempt.delivery
        delivery.attempts += 1
        entry = delivery.entry
        try:
            in_vain = self.lanes.answered(delivery, outcome)
            if entry.ledger.closed:
                self._observer.late_outcome()
            elif in_vain:
                self._probed_in_vain(delivery, outcome)
            else:
                self.settle(delivery, outcome)
        finally:  # its place is free, whatever went wrong in settling
            entry.ledger.busy -= 1
            self.lanes.freed(delivery)

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Classify what came back, and let go of the Delivery or hand it over."""
        if outcome.kind is Kind.OK:  # nearly always: no policy, clock or dice is asked for it
            self._observer.attempted(delivery, outcome, _DELIVERED)
            self._observer.settled(_DELIVERED)
            if self._tells_all or delivery.envelope.own is not None:
                self._tell(delivery, outcome, _DELIVERED)
            if delivery.follow is None:
                delivery.entry.release()
            else:
                delivery.follow(delivery, _DELIVERED)
            return
        now = self._clock.wall()
        policy = self.lanes.policy(delivery)
        decided = settlement(outcome, policy, delivery.attempts, now, self._dice(), self._tiers)
        if delivery.follow is not None and isinstance(decided, Retry):
            decided = Retry(decided.due, IN_PLACE)
        self._observer.attempted(delivery, outcome, decided)
        self._tell(delivery, outcome, decided)
        self._observer.settled(decided)
        delivery.error, delivery.response = outcome.error, outcome.body
        if delivery.follow is not None:
            delivery.follow(delivery, decided)
        else:
            self._hand_over(delivery, decided, now)

    def _tell(self, delivery: Delivery, outcome: Outcome, decided: Settlement) -> None:
        """Write a result event, when all are wanted, or this one's."""
        own = delivery.envelope.own
        if self._results is not None and (self._tells_all or (own is not None and own.results)):
            self._results.tell(delivery, outcome, decided)

    def _probed_in_vain(self, delivery: Delivery, outcome: Outcome) -> None:
        """A probe that failed is no Attempt of its Delivery: the next one has its number again."""
        self._observer.attempted(delivery, outcome, Parked("circuit"))
        self._tell(delivery, outcome, Parked("circuit"))
        delivery.attempts -= 1
        delivery.error = outcome.error
        self.park(delivery, "circuit")

    def park(self, delivery: Delivery, cause: str) -> None:
        """It cannot be tried now: it waits elsewhere, and its offset may be committed.

        One that stands in a topic already stays there.
        """
        if delivery.put_back is not None:
            delivery.put_back(delivery, cause)
            return
        decided = Parked(cause)
        self._observer.settled(decided)
        self._hand_over(delivery, decided, self._clock.wall())

    def called(self, envelope: Envelope) -> int:
        """How many this event is for, ordered Subscribers left out."""
        count = len(self.directory.recipients(envelope))
        if envelope.own is not None and envelope.own.recipients is not None:
            count += len(extra_recipients(envelope.own.recipients, self._rules))
        return count

    # --- the waiting way -----------------------------------------------------------------------

    def resume(
        self,
        held: Held,
        entry: Entry,
        put_back: Callable[[Delivery, str], None] | None = None,
    ) -> None:
        """A held Delivery is due: look its Subscriber up again, as it is now, and deliver.

        `put_back` is there when it was parked: it takes what cannot be tried now.
        """
        envelope = held.envelope
        if envelope.own is not None:
            envelope.own = read_overrides(envelope.record.headers, self._rules)
        if held.definition:
            if not self._rules.subscribers:
                self.give_up(held, Reason.NOT_ALLOWED, entry)
                return
            subscriber: Subscriber | None = recipient_from(
                held.definition, held.subscriber, self._rules
            )
        else:
            subscriber = self.directory.get(held.subscriber)
        if subscriber is None:
            self._unknown(held, entry)
            return
        self.deliver(
            Delivery(
                envelope,
                subscriber,
                held.delivery,
                entry,
                attempts=held.attempts,
                first=held.first,
                error=held.error,
                definition=held.definition,
                again=True,
                put_back=put_back,
            )
        )

    def tick(self) -> None:
        """Park what has waited too long in its Lane; write again what Kafka has refused."""
        for delivery in self.lanes.off_hold():
            self.deliver(delivery)
        for delivery, cause in self.lanes.overdue():
            self.park(delivery, cause)
        self.lanes.tick()
        self.settler.tick()

    def undecodable(self, record: Record, why: str, entry: Entry) -> None:
        """Into the dead-letter topic with its bytes whole; the partition goes on."""
        self._observer.undecodable(record, why)
        self.settler.undecodable(record, why, entry)

    # --- what is rare --------------------------------------------------------------------------

    def _not_an_envelope(
        self, decoded: Undecodable | Tombstone, record: Record, entry: Entry
    ) -> int:
        if isinstance(decoded, Tombstone):
            self._observer.tombstone()
            entry.release()
        else:
            self.undecodable(record, decoded.why, entry)
        return 0

    def _too_old(self, record: Record) -> bool:
        age = self._limits.max_event_age
        return age is not None and 0 <= record.timestamp < self._clock.wall() - age * 1000

    def _read_own(self, envelope: Envelope) -> None:
        """What the event's headers ask for; what had to be cut or left out is counted, once."""
        if envelope.ignored_id:
            self._observer.ignored("thorn-id")
        if envelope.own is not None:
            envelope.own = read_overrides(envelope.record.headers, self._rules)
            for header in envelope.own.clamped:
                self._observer.clamped(header)
            for what in envelope.own.ignored:
                self._observer.ignored(what)
        for _ in range(event_parts(envelope).ignored):
            self._observer.ignored("thorn-http")

    def _deliver_extra(self, envelope: Envelope, entry: Entry) -> int:
        """To the recipients that came with the event; returns how many there are."""
        if envelope.own is None or envelope.own.recipients is None:
            return 0
        extras = extra_recipients(envelope.own.recipients, self._rules)
        for extra in extras:
            entry.hold()
            self._begin_extra(extra, envelope, entry)
        return len(extras)

    def _begin_extra(self, extra: Extra, envelope: Envelope, entry: Entry) -> None:
        allowed = self._rules.subscribers
        if allowed and self.directory.get(extra.id) is not None:
            extra = extra.refused("its id is that of a subscriber")
        delivery = ids.delivery_id(envelope.id, extra.id)
        if allowed and extra.subscriber is not None:
            one = Delivery(envelope, extra.subscriber, delivery, entry)
            one.definition = extra.definition
            self.deliver(one)
            return
        now = self._clock.wall()
        held = Held(envelope, delivery, extra.id, 0, now, now, definition=extra.definition)
        held.error = f"blocked:{extra.why if allowed else 'allow_event_subscribers is off'}"
        self.give_up(held, Reason.BLOCKED if allowed else Reason.NOT_ALLOWED, entry)

    def give_up(self, held: Held, reason: Reason, entry: Entry) -> None:
        """Given up without an Attempt."""
        decided = Dead(reason)
        self._observer.settled(decided)
        self.settler.dead(held, decided, entry)

    def _hand_over(self, delivery: Delivery, decided: Settlement, now: int) -> None:
        entry = delivery.entry
        if isinstance(decided, Retry):
            held = handover.held(delivery, due=decided.due, now=now)
            self.settler.retry(held, decided, entry)
        elif isinstance(decided, Dead):
            self.settler.dead(handover.held(delivery, due=now, now=now), decided, entry)
        elif isinstance(decided, Parked):
            self.settler.park(handover.held(delivery, due=now, now=now), decided, entry)

    def _unknown(self, held: Held, entry: Entry) -> None:
        """Not known to this process: a reload may bring it back; after the grace it is dead."""
        now = self._clock.wall()
        grace = self._limits.unknown_grace
        if held.unknown_since is None:
            held.unknown_since = now
        remaining = held.unknown_since + int(1000 * grace) - now
        if remaining <= 0:
            self.give_up(held, Reason.UNSUBSCRIBED, entry)
            return
        held.due = now + min(remaining, int(1000 * max(grace / 10, self._tiers.smallest)))
        self.settler.wait_on(held, entry)
