"""`KafkaReplay`: one more Consumer, of no group, that reads any partition from any offset.

Owned by one thread, as every Consumer. It reads what is asked for, one slice at a time; where a
slice goes on where the last one ended, what was fetched ahead is used.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, cast

from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.intake import record_of
from thorn_stream.adapters.kafka.positions import watermarks
from thorn_stream.adapters.kafka.settings import common, make
from thorn_stream.adapters.kafka.trouble import wording
from thorn_stream.core.records import Partition, Record
from thorn_stream.ports import Ask, Slice

__all__ = ["KafkaReplay", "ReplaySettings"]

_SLICE: Final = 1.0  # seconds
_POLL: Final = 0.05
_ANSWER: Final = 2.0  # seconds for the question how far a partition reaches
_NO_ID: Final = "AAAAAAAAAAAAAAAAAAAAAA"
"""What a broker that gives topics no ids tells of one: 16 zero bytes."""
_BATCH: Final = 500
_READING: Final[dict[str, Any]] = {
    "fetch.queue.backoff.ms": 5,
    "queued.max.messages.kbytes": 4_096,
    "queued.min.messages": 1_000,
    "fetch.max.bytes": 4_194_304,
}
_FIXED: Final[dict[str, Any]] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # anything else passes over lost records without a word
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
}

_HARMLESS: Final = frozenset({codes.GROUP_FORBIDDEN, *codes.PASSING, *codes.NO_ANSWER})
"""No group is needed, and what may pass is waited for."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """`client` is the user's `kafka:` section; `group` only a name that Kafka's client wants."""

    client: Mapping[str, Any]
    group: str
    embedded: bool = False


class KafkaReplay:
    """Reads again what was read before (`ports.Replay`). Made and used on the event loop.

    Raises `ConfigurationError` for settings that librdkafka does not take.
    """

    def __init__(self, settings: ReplaySettings) -> None:
        fetching = {"fetch.wait.max.ms": 10} if settings.embedded else {}
        given = common(settings.client)
        self._loop = asyncio.get_running_loop()
        self._asked: SimpleQueue[tuple[Ask, Callable[[Ask, Slice], None]] | None] = SimpleQueue()
        self._settings = settings
        self._admin: AdminClient | None = None  # only while it is asked
        self._at: tuple[Partition, int] | None = None  # what is fetched, and read next
        self._ended = asyncio.Event()
        own = {"group.id": settings.group, **_FIXED}
        self._consumer: Consumer = make(Consumer, _READING | fetching | given | own)
        self._thread = threading.Thread(target=self._run, name="kafka-drain", daemon=True)
        self._thread.start()

    def read(self, ask: Ask, done: Callable[[Ask, Slice], None]) -> None:
        self._asked.put((ask, done))

    async def stop(self, grace: float) -> bool:
        self._asked.put(None)
        try:
            await asyncio.wait_for(self._ended.wait(), grace)
        except TimeoutError:
            return False
        return True

    # --- the thread ----------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                asked = self._asked.get(timeout=_SLICE)
            except Empty:
                self._idle()
                continue
            if asked is None:
                break
            ask, done = asked
            if not self._on_loop(done, ask, self._slice(ask)):
                break
        self._consumer.close()
        self._on_loop(self._ended.set)

    def _idle(self) -> None:
        """Nobody wants anything: fetch nothing ahead, and let librdkafka's callbacks run."""
        if self._at is not None:
            self._consumer.unassign()
            self._at = None
        self._admin = None
        self._consumer.poll(0)

    def _slice(self, ask: Ask) -> Slice:
        try:
            return self._read(ask)
        except KafkaException as error:
            self._at = None
            return Slice(error=wording(error.args[0], ask.partition.topic))
        except TimeoutError as error:
            return Slice(error=str(error))
        except Exception as error:  # noqa: BLE001 - a thread that ends would stop the drain unseen
            _log.exception("reading %s again failed", ask.partition)
            self._at = None
            return Slice(error=f"{type(error).__name__}, a fault in thorn_stream: see the log")

    def _read(self, ask: Ask) -> Slice:
        topic = self._identity(ask.partition.topic) if ask.identify else ""
        low, high = watermarks(self._consumer, ask.partition, _ANSWER)
        begin = max(ask.begin, low)
        end = high if ask.end is None else min(ask.end, high)
        if begin >= end:
            return Slice(next=max(begin, ask.begin), low=low, high=high, topic=topic)
        if self._at != (ask.partition, begin):
            self._consumer.assign([TopicPartition(*ask.partition, begin)])
            self._at = (ask.partition, begin)
        reading = _Reading(ask, end)
        until = time.monotonic() + _SLICE
        while not reading.full and time.monotonic() < until:
            first = self._consumer.poll(_POLL)
            if first is None:
                continue
            following = self._take([first], reading)
            if following and not reading.full:
                self._take(self._consumer.consume(_BATCH, 0), reading)
        at = begin if reading.next is None else reading.next
        if self._at is not None:
            self._at = (ask.partition, at) if reading.whole else None
        return Slice(reading.records, at, low, high, topic=topic)

    def _identity(self, topic: str) -> str:
        """Kafka's id of a topic; nothing where it does not tell. Without an answer it raises."""
        if self._settings.embedded:
            return ""  # it deletes no topics and describes none
        if self._admin is None:
            self._admin = make(AdminClient, common(self._settings.client))
        asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_ANSWER)
        try:
            told = str(asked[topic].result(timeout=2 * _ANSWER).topic_id)
        except TimeoutError:
            raise TimeoutError(f"no answer about the topic {topic}") from None
        except KafkaException as error:
            if error.args[0].code() in codes.NO_ANSWER:
                raise
            return ""
        return "" if told == _NO_ID else told

    def _take(self, messages: list[Message], reading: "_Reading") -> bool:
        """Take in what came; False when that was no record."""
        for message in messages:
            if (error := message.error()) is not None:
                self._failed(error, message, reading)
                if error.code() != codes.PARTITION_EOF:
                    return False
            else:
                reading.take(message)
        return True

    def _failed(self, error: KafkaError, message: Message, reading: "_Reading") -> None:
        code = error.code()
        if code == codes.PARTITION_EOF:
            reading.reached(cast("int", message.offset()))
        elif code == codes.OFFSET_RESET:  # deleted meanwhile: the next slice begins behind it
            self._at = None
            reading.full = True
        elif code not in _HARMLESS:
            raise KafkaException(error)

    def _on_loop(self, function: Callable[..., object], *args: object) -> bool:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed
            return False
        return True


class _Reading:
    """A slice that is being read. `whole`: nothing that came was left unread."""

    def __init__(self, ask: Ask, end: int) -> None:
        self.records: list[Record] = []
        self.next: int | None = None
        self.full = False
        self.whole = True
        self._ask = ask
        self._end = end
        self._size = 0

    def take(self, message: Message) -> None:
        """Records of others are passed over before anything of them is made."""
        offset = cast("int", message.offset())
        if self.full or offset >= self._end:
            self.full = True
            self.whole = False
            return
        self.next = offset + 1
        wanted = self._ask.wanted
        if wanted is None or offset >= wanted.get(message.key(), self._end):
            record = record_of(message)
            self.records.append(record)
            self._size += record.size
        self.full = (
            self.next >= self._end
            or len(self.records) >= self._ask.records
            or self._size >= self._ask.size
        )

    def reached(self, offset: int) -> None:
        """The end of the partition: what is not there below it will never come."""
        self.next = max(offset, self.next or 0)
        self.full = self.full or self.next >= self._end
