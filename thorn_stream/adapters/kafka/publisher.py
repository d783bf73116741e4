"""`Publisher`: a `KafkaSink` with a thread and a loop of its own, for callers that have neither.

Any thread may publish. What waits is bounded in records and bytes, so that a Kafka that is away
costs its callers memory no further than that.
"""

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from thorn_stream.adapters.kafka.forks import keep_in_children
from thorn_stream.adapters.kafka.sink import KafkaSink, SinkSettings
from thorn_stream.core.records import Headers
from thorn_stream.ports import SendFailed

__all__ = ["Publisher", "QueueFull"]

_RECORDS: Final = 100_000
_KILOBYTES: Final = 32_768
_START: Final = 30.0
_LEAVE: Final = 0.1
_REPORTS: Final = 5.0
_AROUND: Final = 200  # bytes a record takes here beside its payload

Reported: TypeAlias = Callable[[SendFailed | None], None]


class QueueFull(Exception):
    """No room: as many records, or bytes, wait for Kafka as may."""


class _Waiting(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    size: int
    reported: Reported


class Publisher:
    """Writes records from any thread. Raises `ConfigurationError` for what librdkafka refuses.

    `client` is a `kafka:` section; its `queue.buffering.max.messages` and `.kbytes` bound what
    waits. `timeout` in seconds is how long Kafka may take for one record. It works in the process
    that made it alone: after a fork `usable` is False, and the child makes its own.
    """

    def __init__(self, client: Mapping[str, Any], *, timeout: float = 30.0) -> None:
        given = {key.replace("_", "."): value for key, value in client.items()}
        self._most = int(given.get("queue.buffering.max.messages", _RECORDS))
        self._most_bytes = int(given.get("queue.buffering.max.kbytes", _KILOBYTES)) << 10
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: deque[_Waiting] = deque()
        self._waiting = 0
        self._bytes = 0
        self._listeners = 0
        self._awake = False
        self._settings = SinkSettings(client, timeout=timeout)
        self._loop = asyncio.new_event_loop()
        self._sink: KafkaSink | None = None
        self._thread = threading.Thread(target=self._run, name="thorn-publisher", daemon=True)
        self._thread.start()
        made = asyncio.run_coroutine_threadsafe(self._make(), self._loop)
        _living.add(self)
        try:
            made.result(_START)
        except BaseException:
            self._loop.call_soon_threadsafe(self._loop.stop)
            raise

    @property
    def usable(self) -> bool:
        return self._pid == os.getpid()

    @property
    def waiting(self) -> int:
        """Records that Kafka has not answered for."""
        return self._waiting

    def publish(
        self,
        topic: str,
        record: tuple[bytes | None, bytes, Headers],
        reported: Reported,
        *,
        wait: float = 0.0,
    ) -> None:
        """Queue (key, value, headers); `reported` is called once, on the publisher's thread.

        Raises QueueFull when there is no room, after `wait` seconds.
        """
        key, value, headers = record
        size = len(value) + len(key or b"") + _AROUND
        item = _Waiting(topic, key, value, headers, size, reported)
        with self._lock:
            if self._is_full(size) and not (
                wait and self._wait(lambda: not self._is_full(size), wait)
            ):
                raise QueueFull
            self._waiting += 1
            self._bytes += size
            self._queue.append(item)
            sleeping = not self._awake
            self._awake = True
        if sleeping:
            self._loop.call_soon_threadsafe(self._drain)

    def flush(self, timeout: float) -> int:
        """Wait until Kafka has answered for everything; returns how many records it has not."""
        with self._lock:
            self._wait(lambda: self._waiting == 0, timeout)
            return self._waiting

    def close(self, grace: float = _LEAVE) -> int:
        """Flush for so long, then give up the rest (it is reported as failed)."""
        left = self.flush(grace) if grace else self.waiting
        if self._loop.is_closed() or self._sink is None:
            return left
        asyncio.run_coroutine_threadsafe(self._sink.stop(0), self._loop).result(_START)
        self.flush(_REPORTS)  # what is given up is reported within moments
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START)
        return left

    # --- with the lock held ---------------------------------------------------------------------

    def _is_full(self, size: int) -> bool:
        if not self._waiting:
            return False  # one must fit in any case
        return self._waiting >= self._most or self._bytes + size > self._most_bytes

    def _wait(self, until: Callable[[], bool], timeout: float) -> bool:
        self._listeners += 1
        try:
            return self._changed.wait_for(until, timeout)
        finally:
            self._listeners -= 1

    # --- on the publisher's thread --------------------------------------------------------------

    def _run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    async def _make(self) -> None:
        self._sink = KafkaSink(self._settings)

    def _drain(self) -> None:
        assert self._sink is not None
        with self._lock:
            items, self._queue = self._queue, deque()
            self._awake = False
        for item in items:
            self._sink.send(item.topic, (item.key, item.value, item.headers), self._done, item)

    def _done(self, item: _Waiting, failed: SendFailed | None) -> None:
        with self._lock:
            self._waiting -= 1
            self._bytes -= item.size
            if self._listeners:
                self._changed.notify_all()
        item.reported(failed)


_living: Final[weakref.WeakSet[Publisher]] = weakref.WeakSet()

keep_in_children(_living)
