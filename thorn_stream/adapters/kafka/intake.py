"""Records from a Consumer to the outbox, as many as there is credit for."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError, Message

from thorn_stream.adapters.kafka.assignment import Assignment
from thorn_stream.adapters.kafka.handover import Credit, Outbox
from thorn_stream.core.records import Headers, Partition, Record
from thorn_stream.ports import Records

__all__ = ["Intake", "partition_of", "record_of"]

_POLL: Final = 0.05
_BATCH: Final = 500
_SLICE: Final = 0.005  # seconds between looks at the credit while there is none
_STARVED: Final = 0.5  # seconds without credit before partitions are paused and polling goes on
_STARVED_LONG: Final = 5.0  # after which any credit at all is enough to go on


class Intake:
    """Part of the owner thread.

    `failed` is told of what came in place of a record, `arrived` from which topics records came;
    `idle(seconds)` is how to wait.
    """

    def __init__(
        self,
        credit: Credit,
        assignment: Assignment,
        outbox: Outbox,
        failed: Callable[[Message, KafkaError], None],
        arrived: Callable[[set[str]], None],
        idle: Callable[[float], None],
    ) -> None:
        self._credit = credit
        self._assignment = assignment
        self._outbox = outbox
        self._failed = failed
        self._arrived = arrived
        self._idle = idle
        self._starved_since: float | None = None
        self._starved = False
        self._average = 1_000.0  # bytes per record, of late
        self.emptied = 0.0  # when the client last had nothing to hand over

    def read(self, consumer: Consumer) -> None:
        """Poll once, and drain what is there: a wait for a full batch would cost latency."""
        if self._starved or self._credit.used_up:
            self._wait_for_credit(consumer)
            return
        self._starved_since = None
        first = consumer.poll(_POLL)
        if first is None:
            self.emptied = time.monotonic()
            return
        # out before the drain: what a callback in it tells comes after this record
        self._take([first])
        self._assignment.reassigned.clear()
        drained = consumer.consume(self._room(), 0)
        if self._assignment.reassigned:
            drained = self._without_reassigned(consumer, drained)
        self._take(drained)

    def _room(self) -> int:
        records, size = self._credit.left
        return max(1, min(_BATCH, records, int(size / self._average)))

    def _without_reassigned(self, consumer: Consumer, drained: list[Message]) -> list[Message]:
        """Read partitions assigned in the middle of a drain again, from where they begin.

        Their records in it may be of the assignment before.
        """
        begin = self._assignment.reassigned
        again = {p: begin[p] for m in drained if (p := partition_of(m)) in begin}
        for partition, offset in again.items():
            self._assignment.move(consumer, partition, offset)
        return [m for m in drained if m.error() or partition_of(m) not in again]

    def _take(self, messages: Sequence[Message]) -> None:
        records = []
        following = self._assignment.next
        for message in messages:
            if (error := message.error()) is not None:
                self._failed(message, error)
                continue
            record = record_of(message)
            # a plain tuple is found like the Partition it equals, and made in a third of the time
            partition: Any = (record.topic, record.partition)
            if partition in following:  # else revoked while it was on its way
                following[partition] = record.offset + 1
                records.append(record)
        if not records:
            return
        size = sum(record.size for record in records)
        self._credit.taken_records += len(records)
        self._credit.taken_size += size
        self._average += (size / len(records) + 1 - self._average) / 4
        self._outbox.add(Records(records))
        self._arrived({record.topic for record in records})

    def _wait_for_credit(self, consumer: Consumer) -> None:
        """Wait without polling for a moment; then poll with everything paused.

        Pausing throws away what was fetched, so a short shortage must not cause it; a long one
        must, or the membership in the group would run out.
        """
        now = time.monotonic()
        self._starved_since = self._starved_since or now
        starved_for = now - self._starved_since
        if not self._starved:
            if starved_for < _STARVED:
                self._idle(_SLICE)
                return
            self._starved = True
            self._assignment.starve(consumer, starved=True)
        if (message := consumer.poll(_POLL)) is not None:
            self._take([message])
        enough = starved_for > _STARVED_LONG and not self._credit.used_up
        if enough or self._credit.enough_back:
            self._starved, self._starved_since = False, None
            self._assignment.starve(consumer, starved=False)


def partition_of(message: Message) -> Partition:
    return Partition(cast("str", message.topic()), cast("int", message.partition()))


def record_of(message: Message) -> Record:
    """Make a Record; the casts say what holds for every message that is not an error."""
    kind, timestamp = message.timestamp()
    return Record(
        cast("str", message.topic()),
        cast("int", message.partition()),
        cast("int", message.offset()),
        message.key(),
        message.value(),
        cast("Headers | None", message.headers()) or [],
        timestamp if kind else -1,
    )
