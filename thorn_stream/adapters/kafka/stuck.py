"""Partitions that stand still without a word: Kafka has records, and the client hands none over.

librdkafka has had faults of this kind after changes of leaders (its issues 2933, 5153), and so have
brokers. Whether there is anything to read is not asked of the client that may be at fault: another
one, of no group, has to have read the very record that does not come. So neither the markers of
transactions, which count as offsets, nor anything else that no client would be given is an alarm.
"""

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.positions import watermarks
from thorn_stream.adapters.kafka.settings import SourceSettings, common, make
from thorn_stream.core.records import Partition

__all__ = ["Stuck"]

_ANSWER: Final = 0.2  # seconds that the owner thread waits for an answer about one partition
_READ_WITHIN: Final = 10.0
_POLL: Final = 0.1
_SOONER: Final = 6  # what is suspected is looked at so many times as often
_READING: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "fetch.max.bytes": 1_048_576,
    "queued.min.messages": 1,
}

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Quiet:
    """A partition of which nothing has come: the offset that is next, and when it was looked at."""

    following: int
    asked: float
    suspected: float | None = None


class Stuck:
    """Part of the owner thread; only the proof is found by a thread of its own.

    `look` is to be called about once a second.
    """

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._after = settings.stuck_after
        self._quiet: dict[Partition, _Quiet] = {}
        self._proof: threading.Thread | None = None
        self._proven: dict[Partition, int] = {}  # replaced as a whole by the other thread
        self._told: dict[Partition, int] = {}

    def look(
        self, consumer: Consumer, reading: Mapping[Partition, int], emptied: float
    ) -> tuple[set[Partition], set[Partition]]:
        """Which stand still now, and which of them were found to just now.

        `reading` maps those that should be read to the offset that is next, `emptied` is when the
        client last had nothing at all to hand over (seconds): before that, it may only be slow.
        """
        now = time.monotonic()
        self._quiet = {
            p: quiet
            if (quiet := self._quiet.get(p)) is not None and quiet.following == following
            else _Quiet(following, now)
            for p, following in reading.items()
        }
        self._told = {p: at for p, at in self._told.items() if reading.get(p) == at}
        proven, self._proven = self._proven, {}
        found = {p for p, at in proven.items() if reading.get(p) == at}
        self._told |= {p: proven[p] for p in found}
        self._ask(consumer, now, emptied)
        return set(self._told), found

    def _ask(self, consumer: Consumer, now: float, emptied: float) -> None:
        """Ask about the one that has been quiet for longest."""
        if not self._quiet:
            return
        partition = min(self._quiet, key=lambda p: self._due(self._quiet[p]))
        quiet = self._quiet[partition]
        if now < self._due(quiet):
            return
        quiet.asked = now
        try:
            _, high = watermarks(consumer, partition, _ANSWER)
        except (KafkaException, TimeoutError):
            return  # that nothing answers is another trouble
        if high <= quiet.following:
            quiet.suspected = None
        elif quiet.suspected is None:
            quiet.suspected = now
        elif emptied > quiet.suspected:
            self._prove(partition, quiet.following)

    def _due(self, quiet: _Quiet) -> float:
        return quiet.asked + self._after / (1 if quiet.suspected is None else _SOONER)

    def _prove(self, partition: Partition, offset: int) -> None:
        if self._proof is not None and self._proof.is_alive():
            return
        self._proof = threading.Thread(
            target=self._read, args=(partition, offset), name="kafka-proof", daemon=True
        )
        self._proof.start()

    def _read(self, partition: Partition, offset: int) -> None:
        """The other thread: whether another client is given a record from there on."""
        group = {"group.id": self._settings.group}  # a name only: it joins nothing
        try:
            consumer = make(Consumer, common(self._settings.client) | _READING | group)
            consumer.assign([TopicPartition(partition.topic, partition.number, offset)])
            if _is_there(consumer):
                self._proven = {partition: offset}
            consumer.close()
        except Exception:  # noqa: BLE001 - it is looked at again
            _log.exception("looking for records of %s failed", partition)


def _is_there(consumer: Consumer) -> bool:
    end = time.monotonic() + _READ_WITHIN
    while time.monotonic() < end:
        message = consumer.poll(_POLL)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return True
        if error.code() == codes.PARTITION_EOF:
            return False
    return False
