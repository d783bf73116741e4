"""Hand-overs: a Delivery carried on by a record in a topic of our own.

The record is written, acknowledged by every replica, and only then is the Delivery let go of. A
refused one is written again until Kafka has it: the partition waits, nothing is passed over.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Final, NamedTuple

from thorn_stream.core import handover
from thorn_stream.core.deliveries import Dead, Parked, Reason, Retry
from thorn_stream.core.handover import Held
from thorn_stream.core.ledger import Entry
from thorn_stream.core.records import Headers, Record
from thorn_stream.dispatch.context import Context
from thorn_stream.ports import SendFailed, Sink

__all__ = ["Settler", "Topics"]

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_LONGEST_KEY: Final = 128
_LEFT_OUT: Final = "larger than Kafka takes, left out here"
_BARE: Final = frozenset(
    {
        "thorn-attempt",
        "thorn-delivery",
        "thorn-due",
        "thorn-error",
        "thorn-first",
        "thorn-id",
        "thorn-origin",
        "thorn-reason",
        "thorn-subscriber",
        "thorn-timestamp",
    }
)
"""Headers of ours that are short, whatever the event was: what a dead letter cannot do without."""


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics that hand-overs go to."""

    dead: str
    retry: Callable[[float], str]
    parked: str


class _Stub(NamedTuple):
    """The dead letter, without a body, in place of a record that Kafka will never take."""

    reason: Reason
    key: bytes | None
    headers: Headers


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
    instead: Callable[[], "_Stub"]
    then: Callable[[], None] = lambda: None
    failures: int = field(default=0)
    bare: bool = field(default=False)


class Settler:
    """Writes retry and dead-letter records and marks the Ledger when they are acknowledged."""

    def __init__(self, sink: Sink, topics: Topics, context: Context) -> None:
        self._sink = sink
        self._topics = topics
        self._tiers = context.tiers
        self._clock = context.clock
        self._observer = context.observer
        self._refused: list[tuple[float, int, _HandOver]] = []  # by when they are written again
        self._order = count()
        self.failing = 0  # hand-overs that were refused and are not yet in Kafka
        self.last_error: str | None = None

    def retry(self, held: Held, settlement: Retry, entry: Entry) -> None:
        """Into the tier's topic; due at `held.due`."""
        self._wait(held, settlement.tier, entry)

    def park(self, held: Held, settlement: Parked, entry: Entry) -> None:
        """It cannot be tried now: written once, under its receiver's id, its attempts unchanged."""
        held.parked = settlement.cause
        self._carry_on(held, self._topics.parked, held.subscriber.encode(), entry)

    def wait_on(self, held: Held, entry: Entry) -> None:
        """A further round, in the tier that covers what remains until it is due."""
        remaining = (held.due - self._clock.wall()) / 1000
        self._wait(held, self._tiers.covering(remaining), entry)

    def dead(
        self,
        held: Held,
        settlement: Dead,
        entry: Entry,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Into the dead-letter topic; `then` is called when Kafka has it."""
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
                instead=lambda: _too_large(held),
                then=then,
            )
        )

    def undecodable(self, record: Record, why: str, entry: Entry) -> None:
        """The Record itself, its bytes whole, under its own key."""

        def instead() -> _Stub:
            made = handover.undecodable_headers(record, f"{_LEFT_OUT}; {why}")
            return _Stub(Reason.UNDECODABLE, record.key, made)

        self._begin(
            _HandOver(
                kind="dead",
                topic=self._topics.dead,
                key=record.key,
                value=record.value,
                headers=handover.undecodable_headers(record, why),
                entry=entry,
                acknowledged=lambda: self._observer.dead(Reason.UNDECODABLE),
                instead=instead,
            )
        )

    def _wait(self, held: Held, tier: float, entry: Entry) -> None:
        self._carry_on(held, self._topics.retry(tier), held.delivery.encode(), entry)

    def _carry_on(self, held: Held, topic: str, key: bytes, entry: Entry) -> None:
        self._begin(
            _HandOver(
                kind="parked" if held.parked else "retry",
                topic=topic,
                key=key,
                value=held.envelope.record.value,
                headers=handover.headers(held),
                entry=entry,
                acknowledged=lambda: None,
                instead=lambda: _too_large(held),
            )
        )

    def tick(self) -> None:
        """Write again what was refused, when its pause is over."""
        refused = self._refused
        if not refused:
            return
        now = self._clock.monotonic()
        while refused and refused[0][0] <= now:
            _, _, it = heappop(refused)
            if it.entry.ledger.closed:
                self._forget(it)
            else:
                self._write(it)

    def _begin(self, it: _HandOver) -> None:
        it.entry.ledger.busy += 1
        self._write(it)

    def _write(self, it: _HandOver) -> None:
        self._sink.send(it.topic, (it.key, it.value, it.headers), self._answered, it)

    def _answered(self, it: _HandOver, failed: SendFailed | None) -> None:
        self._observer.handed_over(it.kind, failed.error if failed else None)
        if failed is None:
            self._done(it)
        elif it.entry.ledger.closed:
            self._forget(it)
        elif failed.too_large and not it.bare:
            self._smaller(it)
        else:
            self._again(it, failed)

    def _done(self, it: _HandOver) -> None:
        self._forget(it)
        it.entry.release()
        it.acknowledged()
        it.then()

    def _forget(self, it: _HandOver) -> None:
        """Written, or of a partition that has gone: its next owner repeats what was not."""
        it.entry.ledger.busy -= 1
        if it.failures:
            self.failing -= 1
            self.last_error = self.last_error if self.failing else None

    def _smaller(self, it: _HandOver) -> None:
        """Kafka will never take it: a dead letter that says where the event stands.

        Without its body first, then without all that the event brought along.
        """
        it.bare = it.value is None
        stub = it.instead()
        it.key, it.headers = stub.key, stub.headers
        if it.bare:
            it.key = it.key if it.key is not None and len(it.key) <= _LONGEST_KEY else None
            it.headers = [pair for pair in it.headers if pair[0] in _BARE]
        it.kind, it.topic, it.value = "dead", self._topics.dead, None
        it.acknowledged = lambda: self._observer.dead(stub.reason)
        self._write(it)

    def _again(self, it: _HandOver, failed: SendFailed) -> None:
        pause = min(_FIRST_PAUSE * 2**it.failures, _LONGEST_PAUSE)
        if not it.failures:
            self.failing += 1
        it.failures = min(it.failures + 1, 16)
        self.last_error = failed.error
        again_at = self._clock.monotonic() + pause
        heappush(self._refused, (again_at, next(self._order), it))


def _too_large(held: Held) -> _Stub:
    made = handover.dead_letter_headers(held, Reason.TOO_LARGE)
    return _Stub(Reason.TOO_LARGE, held.subscriber.encode(), made)
