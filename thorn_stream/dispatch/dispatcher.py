"""A Record in, Settlements out: consume, decode, match, deliver, settle; the Ledger commits."""

from collections.abc import Callable, Sequence

from thorn_stream.core import handover, ids
from thorn_stream.core.deliveries import (
    Attempt,
    Dead,
    Delivered,
    Delivery,
    Outcome,
    Parked,
    Reason,
    Retry,
    Settlement,
)
from thorn_stream.core.directory import Directory
from thorn_stream.core.envelope import Envelope, Tombstone, Undecodable, decode
from thorn_stream.core.handover import Held
from thorn_stream.core.ledger import Entry
from thorn_stream.core.records import Record
from thorn_stream.core.schedule import settlement
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.lanes import Lanes, LaneSettings
from thorn_stream.dispatch.settler import Settler
from thorn_stream.ports import Transport

__all__ = ["Dispatcher"]


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

    def use(self, directory: Directory) -> None:
        """From now on these are the Subscribers; Lanes that nobody needs any more are let go."""
        self.directory = directory
        self.lanes.keep({subscriber.id for subscriber in directory})

    # --- the straight way ----------------------------------------------------------------------

    def consume(self, record: Record, entry: Entry) -> int:
        """Begin everything that one Record asks for; returns how many Deliveries it became."""
        envelope = decode(record)
        if not isinstance(envelope, Envelope):
            return self._not_an_envelope(envelope, record, entry)
        if envelope.ignored_id:
            self._observer.ignored("thorn-id")
        if self._too_old(record):
            self._observer.dropped("too_old")
            entry.release()
            return 0
        subscribers = self.match(envelope)
        for subscriber in subscribers:
            entry.hold()
            delivery = ids.delivery_id(envelope.id, subscriber.id)
            self.deliver(Delivery(envelope, subscriber, delivery, entry))
        entry.release()
        return len(subscribers)

    def match(self, envelope: Envelope) -> Sequence[Subscriber]:
        """Who gets it, now."""
        subscribers = self.directory.recipients(envelope)
        if not subscribers:
            self._observer.unmatched()
        return subscribers

    def deliver(self, delivery: Delivery) -> None:
        """Offer it to its Subscriber's Lane; park what cannot be tried now."""
        if delivery.subscriber.state != "enabled":
            self.park(delivery, "paused")
        elif not self.lanes.offer(delivery):
            self.park(delivery, "lane")

    def ended(self, attempt: Attempt, outcome: Outcome) -> None:
        """An Attempt has come back: classify it, settle the Delivery, give its place to the next.

        Of an assignment that is over, nothing may change but the figures.
        """
        delivery = attempt.delivery
        delivery.attempts += 1
        entry = delivery.entry
        try:
            if entry.ledger.closed:
                self._observer.late_outcome()
            else:
                self.settle(delivery, outcome)
        finally:  # its place is free, whatever went wrong in settling
            entry.ledger.busy -= 1
            self.lanes.freed(delivery)

    def settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Classify what came back, and let go of the Delivery or hand it over."""
        now = self._clock.wall()
        policy = self.lanes.policy(delivery)
        decided = settlement(outcome, policy, delivery.attempts, now, self._dice(), self._tiers)
        self._observer.attempted(delivery, outcome, decided)
        self._observer.settled(decided)
        if isinstance(decided, Delivered):
            delivery.entry.release()
            return
        delivery.error = outcome.error
        self._hand_over(delivery, decided, now)

    def park(self, delivery: Delivery, cause: str) -> None:
        """It cannot be tried now: it waits elsewhere, and its offset may be committed."""
        decided = Parked(cause)
        self._observer.settled(decided)
        self._hand_over(delivery, decided, self._clock.wall())

    # --- the waiting way -----------------------------------------------------------------------

    def resume(self, held: Held, entry: Entry) -> None:
        """A held Delivery is due: look its Subscriber up again, as it is now, and deliver."""
        subscriber = self.directory.get(held.subscriber)
        if subscriber is None:
            self._unknown(held, entry)
            return
        self.deliver(
            Delivery(
                held.envelope,
                subscriber,
                held.delivery,
                entry,
                attempts=held.attempts,
                first=held.first,
                error=held.error,
            )
        )

    def tick(self) -> None:
        """Park what has waited too long in its Lane; write again what Kafka has refused."""
        for delivery in self.lanes.off_hold():
            self.deliver(delivery)
        for delivery in self.lanes.overdue():
            self.park(delivery, "lane")
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

    def _hand_over(self, delivery: Delivery, decided: Settlement, now: int) -> None:
        entry = delivery.entry
        if isinstance(decided, Retry):
            held = handover.held(delivery, due=decided.due, now=now)
            self.settler.retry(held, decided, entry)
        elif isinstance(decided, Dead):
            self.settler.dead(handover.held(delivery, due=now, now=now), decided, entry)
        else:
            due = now + int(self._tiers.smallest * 1000)
            self.settler.park(handover.held(delivery, due=due, now=now), entry)

    def _unknown(self, held: Held, entry: Entry) -> None:
        """Not known to this process: a reload may bring it back; after the grace it is dead."""
        now = self._clock.wall()
        grace = self._limits.unknown_grace
        if held.unknown_since is None:
            held.unknown_since = now
        remaining = held.unknown_since + int(1000 * grace) - now
        if remaining <= 0:
            decided = Dead(Reason.UNSUBSCRIBED)
            self._observer.settled(decided)
            self.settler.dead(held, decided, entry)
            return
        held.due = now + min(remaining, int(1000 * max(grace / 10, self._tiers.smallest)))
        self.settler.wait_on(held, entry)
