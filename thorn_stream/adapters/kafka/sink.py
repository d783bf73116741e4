"""`KafkaSink`: writes records, and says of each whether every replica has it."""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

from confluent_kafka import (
    TIMESTAMP_LOG_APPEND_TIME,
    KafkaError,
    KafkaException,
    Message,
    Producer,
)

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.settings import make, producer_settings
from thorn_stream.adapters.kafka.trouble import wording
from thorn_stream.core.clocks import skew
from thorn_stream.core.records import Headers, Partition
from thorn_stream.ports import SendFailed

__all__ = ["KafkaSink", "SinkSettings"]

_POLL: Final = 0.1
_ANY: Final = -1
"""librdkafka chooses the partition by the key."""
_ASK_TIME: Final = 1.0  # seconds between looks at Kafka's clock
_OF_THE_MOCK: Final = 1234  # what librdkafka's mock cluster says of each record: it has no clock

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SinkSettings:
    """How a `KafkaSink` writes.

    `client` is the user's `kafka:` section. `batch_size` in bytes has to be below the smallest
    `max.message.bytes` of the topics written: a batch above it is refused whole. `timeout` in
    seconds is how long Kafka may take for a record before it is reported as failed.
    """

    client: Mapping[str, Any]
    batch_size: int = 900_000
    timeout: float = 30.0


class _Sending(NamedTuple):
    """One record on its way."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    done: Callable[[Any, SendFailed | None], None]
    token: Any
    partition: int = _ANY


class _KafkaTime:
    """Kafka's clock against ours, by one of the records sent each second.

    Only topics that Kafka times itself (LogAppendTime) say what its clock is.
    """

    def __init__(self, wall: Callable[[], int]) -> None:
        self.skew: float | None = None
        self._wall = wall
        self._asked_at = -_ASK_TIME

    def sent(self) -> int | None:
        """A record is sent now; unix milliseconds when this is one to look at."""
        now = time.monotonic()
        if now - self._asked_at < _ASK_TIME:
            return None
        self._asked_at = now
        return self._wall()

    def reported(self, sent: int, message: Message) -> None:
        kind, appended = message.timestamp()
        if kind == TIMESTAMP_LOG_APPEND_TIME and appended > _OF_THE_MOCK:
            self.skew = skew(sent, appended, self._wall())


class _Line:
    """A producer with the thread that polls it; reports go to the loop in batches."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        reported: Callable[["_Line", list[tuple[_Sending, KafkaError | None]]], None],
        loop: asyncio.AbstractEventLoop,
        kafka_time: _KafkaTime,
    ) -> None:
        self._reported = reported
        self._time = kafka_time
        self._loop = loop
        self._reports: list[tuple[_Sending, KafkaError | None]] = []
        self._closing = False
        self.broken = False
        self._producer: Producer = make(Producer, settings)
        self._thread = threading.Thread(target=self._run, name="kafka-sink", daemon=True)
        self._thread.start()

    def produce(self, sending: _Sending) -> None:
        """Queue it. Raises `BufferError` when there is no room, else `KafkaException`."""
        sent = self._time.sent()

        def report(error: KafkaError | None, message: Message) -> None:
            self._reports.append((sending, error))
            if sent is not None and error is None:
                self._time.reported(sent, message)

        self._producer.produce(
            sending.topic,
            value=sending.value,
            key=sending.key,
            partition=sending.partition,
            headers=cast("list[tuple[str, str | bytes | None]]", sending.headers),
            on_delivery=report,
        )

    def close(self) -> None:
        """Give up what is queued or under way (it is reported as failed) and end the thread."""
        self._closing = True

    def _run(self) -> None:
        while not self._closing:
            self._poll(_POLL)
        self._producer.purge(blocking=False)
        self._poll(0)
        self._poll(_POLL)
        self._producer.close()

    def _poll(self, timeout: float) -> None:
        try:
            self._producer.poll(timeout)
        except KafkaException as error:  # a fatal error is raised here, and told nowhere else
            self.broken = self.broken or codes.is_fatal(error.args[0])
            _log.error("the producer failed: %s", wording(error.args[0]))
        if not self._reports:
            return
        reports, self._reports = self._reports, []
        try:
            self._loop.call_soon_threadsafe(self._reported, self, reports)
        except RuntimeError:  # the loop is closed: nobody waits for reports
            self._closing = True


class KafkaSink:
    """Writes to Kafka (`ports.Sink`). Made and used on the event loop.

    Idempotent, acknowledged by every replica. It keeps the order of the records it is given, but
    for those that are sent again alone. Raises `ConfigurationError` when it is made with
    settings that librdkafka does not take. `wall` gives unix milliseconds.
    """

    def __init__(
        self,
        settings: SinkSettings,
        wall: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._settings = settings
        self._time = _KafkaTime(wall)
        self._loop = asyncio.get_running_loop()
        self._line = self._make()
        self._alone: _Line | None = None
        self._overflow: deque[_Sending] = deque()
        self._waiting = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def waiting(self) -> int:
        """Records that were sent and not reported on yet."""
        return self._waiting

    @property
    def skew(self) -> float | None:
        """Seconds that Kafka's clock is ahead of ours; None while it has not told its time."""
        return self._time.skew

    def send(
        self,
        topic: str,
        record: tuple[bytes | None, bytes | None, Headers],
        done: Callable[[Any, SendFailed | None], None],
        token: Any,
    ) -> None:
        self._send(_Sending(topic, *record, done, token))

    def send_to(
        self,
        partition: Partition,
        record: tuple[bytes | None, bytes | None, Headers],
        done: Callable[[Any, SendFailed | None], None],
        token: Any,
    ) -> None:
        """To a partition that the caller chooses (`ports.PlacedSink`)."""
        self._send(_Sending(partition.topic, *record, done, token, partition.number))

    def _send(self, sending: _Sending) -> None:
        self._waiting += 1
        self._idle.clear()
        if self._overflow or not self._produced(self._main(), sending):
            self._overflow.append(sending)

    async def stop(self, grace: float) -> int:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace)
        if self._waiting:
            _log.warning("%d records were not acknowledged in %s s", self._waiting, grace)
        self._line.close()
        if self._alone is not None:
            self._alone.close()
        return self._waiting

    def _make(self, **more: Any) -> _Line:
        settings = producer_settings(
            self._settings.client, self._settings.batch_size, self._settings.timeout
        )
        return _Line(settings | more, self._reported, self._loop, self._time)

    def _main(self) -> _Line:
        """The producer; another one when it broke for good (its records come back as failed)."""
        if self._line.broken:
            _log.warning("the producer broke for good and is made anew")
            self._line.close()
            self._line = self._make()
        return self._line

    def _produced(self, line: _Line, sending: _Sending) -> bool:
        """Hand it to librdkafka; False when there is no room just now."""
        try:
            line.produce(sending)
        except BufferError:
            return False
        except KafkaException as error:
            if codes.is_fatal(error.args[0]) and line is self._line and not line.broken:
                line.broken = True
                return self._produced(self._main(), sending)
            self._loop.call_soon(self._judge, line, sending, error.args[0], True)
        except (TypeError, ValueError) as error:  # a record that cannot be a Kafka record
            self._loop.call_soon(self._end, sending, SendFailed(str(error)))
        return True

    def _reported(self, line: _Line, reports: list[tuple[_Sending, KafkaError | None]]) -> None:
        for sending, error in reports:
            if error is None:
                self._end(sending, None)
            else:
                self._judge(line, sending, error, line is self._alone)
        while self._overflow and self._produced(self._main(), self._overflow[0]):
            self._overflow.popleft()

    def _judge(self, line: _Line, sending: _Sending, error: KafkaError, final: bool) -> None:
        """One record too large fails its whole batch, so each is sent again alone first."""
        if codes.is_fatal(error):
            line.broken = True
        too_large = error.code() == KafkaError.MSG_SIZE_TOO_LARGE
        if too_large and not final:
            if self._alone is not None and self._alone.broken:
                self._alone.close()  # what it has under way is reported as failed
                self._alone = None
            if self._alone is None:
                self._alone = self._make(**{"batch.num.messages": 1})
            if self._produced(self._alone, sending):
                return
            too_large = False  # no room to find out now: the caller sends it again
        self._end(sending, SendFailed(wording(error, sending.topic), too_large))

    def _end(self, sending: _Sending, failed: SendFailed | None) -> None:
        self._waiting -= 1
        if not self._waiting:
            self._idle.set()
        try:
            sending.done(sending.token, failed)
        except Exception as error:  # noqa: BLE001 - the other reports of the batch are told all the same
            what = f"telling that a record for {sending.topic} was written, or not"
            self._loop.call_exception_handler({"message": what, "exception": error})
