"""Hand-overs: a Delivery carried on by a record in a topic of our own.

The record is written, acknowledged by every replica, and only then is the Delivery let go of. A
refused one is written again until Kafka has it: the partition waits, nothing is passed over.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from thorn_stream.core import handover
from thorn_stream.core.deliveries import Dead, Reason, Retry
from thorn_stream.core.handover import Held
from thorn_stream.core.ledger import Entry
from thorn_stream.core.records import Headers, Record
from thorn_stream.dispatch.context import Context
from thorn_stream.ports import SendFailed, Sink

__all__ = ["Settler", "Topics"]

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics that hand-overs go to."""

    dead: str
    retry: Callable[[float], str]


@dataclass(slots=True, eq=False)
class _HandOver:
    """One record on its way, and what it lets go of when Kafka has it."""

    kind: str
    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    entry: Entry
    acknowledged: Callable[[], None]
    stub: Callable[[], Headers]
    failures: int = field(default=0)


class Settler:
    """Writes retry and dead-letter records and marks the Ledger when they are acknowledged."""

    def __init__(self, sink: Sink, topics: Topics, context: Context) -> None:
        self._sink = sink
        self._topics = topics
        self._tiers = context.tiers
        self._clock = context.clock
        self._observer = context.observer
        self.failing = 0  # hand-overs that were refused and wait to be written again
        self.last_error: str | None = None

    def retry(self, held: Held, settlement: Retry, entry: Entry) -> None:
        """Into the tier's topic; due at `held.due`."""
        self._carry_on(held, settlement.tier, entry, "retry")

    def park(self, held: Held, entry: Entry) -> None:
        """It cannot be tried now: into the smallest tier, its attempts unchanged."""
        self._carry_on(held, self._tiers.smallest, entry, "parked")

    def wait_on(self, held: Held, entry: Entry) -> None:
        """A further round, in the tier that covers what remains until it is due."""
        remaining = (held.due - self._clock.wall()) / 1000
        self._carry_on(held, self._tiers.covering(remaining), entry, "retry")

    def dead(self, held: Held, settlement: Dead, entry: Entry) -> None:
        reason = settlement.reason
        self._begin(
            _HandOver(
                kind="dead",
                topic=self._topics.dead,
                key=held.subscriber.encode(),
                value=held.envelope.record.value,
                headers=handover.dead_letter_headers(held, reason),
                entry=entry,
                acknowledged=lambda: self._observer.dead(reason),
                stub=lambda: handover.dead_letter_headers(held, Reason.TOO_LARGE),
            )
        )

    def undecodable(self, record: Record, why: str, entry: Entry) -> None:
        """The Record itself, its bytes whole, under its own key."""
        made = handover.undecodable_headers(record, why)
        self._begin(
            _HandOver(
                kind="dead",
                topic=self._topics.dead,
                key=record.key,
                value=record.value,
                headers=made,
                entry=entry,
                acknowledged=lambda: self._observer.dead(Reason.UNDECODABLE),
                stub=lambda: made,
            )
        )

    def _carry_on(self, held: Held, tier: float, entry: Entry, kind: str) -> None:
        self._begin(
            _HandOver(
                kind=kind,
                topic=self._topics.retry(tier),
                key=held.delivery.encode(),
                value=held.envelope.record.value,
                headers=handover.headers(held),
                entry=entry,
                acknowledged=lambda: None,
                stub=lambda: handover.dead_letter_headers(held, Reason.TOO_LARGE),
            )
        )

    def _begin(self, it: _HandOver) -> None:
        it.entry.ledger.busy += 1
        self._write(it)

    def _write(self, it: _HandOver) -> None:
        self._sink.send(it.topic, (it.key, it.value, it.headers), self._answered, it)

    def _answered(self, it: _HandOver, failed: SendFailed | None) -> None:
        self._observer.handed_over(it.kind, failed.error if failed else None)
        if it.failures:
            self.failing -= 1
        if failed is None:
            self.last_error = None if not self.failing else self.last_error
            it.acknowledged()
            it.entry.ledger.busy -= 1
            it.entry.release()
        elif it.entry.ledger.closed:
            it.entry.ledger.busy -= 1  # the next owner of the partition repeats it
        elif failed.too_large and it.value is not None:
            self._without_body(it)
        else:
            self._again(it, failed)

    def _without_body(self, it: _HandOver) -> None:
        """Kafka will never take it: a dead letter that says where the event stands."""
        it.kind, it.topic, it.value, it.failures = "dead", self._topics.dead, None, 0
        it.headers = it.stub()
        it.acknowledged = lambda: self._observer.dead(Reason.TOO_LARGE)
        self._write(it)

    def _again(self, it: _HandOver, failed: SendFailed) -> None:
        pause = min(_FIRST_PAUSE * 2**it.failures, _LONGEST_PAUSE)
        it.failures = min(it.failures + 1, 16)
        self.failing += 1
        self.last_error = failed.error
        asyncio.get_running_loop().call_later(pause, self._write, it)
