"""Callbacks with Kafka: results of the requests are read back, and told to who waits for them."""

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from thorn_stream.core.records import Record
from thorn_stream.core.results import Result, read_result
from thorn_stream.events.callbacks import Callbacks
from thorn_stream.events.outgoing import Outgoing
from thorn_stream.events.request import Receiver, Request

__all__ = ["Waiting"]

_KEPT: Final = 600.0
_MOST: Final = 10_000
_MOST_BYTES: Final = 33_554_432
_SWEEP: Final = 60.0
_SAID: Final = 30.0  # seconds between lines about the same

_log: Final = logging.getLogger("thorn_stream.events")


@dataclass(slots=True)
class _Entry:
    """One event whose results somebody wants; `until` as the clock says."""

    name: str
    value: bytes
    callbacks: Callbacks
    until: float


class Waiting:
    """Events that were sent with callbacks. Safe to use from any thread.

    An event is waited for 10 minutes after it was sent, after its last result, and after the next
    attempt that was announced is due. At most 10,000 events and 32 MiB of them are waited for; the
    oldest are given up then, and told of in the log. `clock` gives seconds that never go back,
    `wall` unix milliseconds.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = lambda: time.time() * 1000,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # by when they were heard of last
        self._swept = clock()
        self._size = 0
        self._given_up = 0
        self._said = -_SAID

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, outgoing: Outgoing, callbacks: Callbacks) -> None:
        """Wait for the results of this event from now on."""
        handle = outgoing.handle
        entry = _Entry(handle.event, outgoing.value, callbacks, self._clock() + _KEPT)
        with self._lock:
            self._entries[handle.id] = entry
            self._size += len(entry.value)
            self._sweep()
            given_up = 0
            while len(self._entries) > _MOST or (
                self._size > _MOST_BYTES and len(self._entries) > 1
            ):
                self._drop(next(iter(self._entries)))
                given_up += 1
        if given_up:
            self._tell(given_up)

    def forget(self, event_id: str) -> None:
        """It was not sent."""
        with self._lock:
            if event_id in self._entries:
                self._drop(event_id)

    def take(self, record: Record) -> None:
        """A record of the results topic: call back, if its event is one of ours."""
        result = read_result(record.value, record.headers)
        if result is None:
            return
        with self._lock:
            self._sweep()
            entry = self._entries.get(result.event_id)
            if entry is None:
                return
            entry.until = self._clock() + _KEPT + self._announced(result)
            self._entries.move_to_end(result.event_id)
        try:
            entry.callbacks.call(_request(entry, result), result.outcome, result.error or "")
        except Exception:  # noqa: BLE001 - the user's; the next result is told all the same
            _log.exception("a callback of event %s failed", entry.name)

    # --- with the lock held -----------------------------------------------------------------------

    def _announced(self, result: Result) -> float:
        if result.next_due is None:
            return 0.0
        return max(0.0, (result.next_due - self._wall()) / 1000)

    def _sweep(self) -> None:
        """Forget those whose time is over, now and then."""
        now = self._clock()
        if now - self._swept < _SWEEP:
            return
        self._swept = now
        for event_id in [one for one, entry in self._entries.items() if entry.until <= now]:
            self._drop(event_id)

    def _drop(self, event_id: str) -> None:
        self._size -= len(self._entries.pop(event_id).value)

    # ----------------------------------------------------------------------------------------------

    def _tell(self, given_up: int) -> None:
        self._given_up += given_up
        if self._clock() - self._said >= _SAID:
            self._said = self._clock()
            _log.warning(
                "callbacks of %d events will not be called: too many are waited for",
                self._given_up,
            )
            self._given_up = 0


def _request(entry: _Entry, result: Result) -> Request:
    envelope = json.loads(entry.value)
    return Request(
        event=entry.name,
        sender=envelope.get("sender"),
        data=envelope.get("data"),
        id=result.delivery,
        url=result.url,
        status=result.status,
        attempt=result.attempt,
        duration=result.duration_ms / 1000,
        subscriber=Receiver(result.subscriber, result.url),
    )
