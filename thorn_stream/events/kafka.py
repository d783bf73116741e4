"""`dispatcher: kafka`: events go to the input topic, and a dispatcher takes them from there."""

import threading
import time
from typing import TYPE_CHECKING, Final

from thorn_stream.adapters.kafka.publisher import Publisher, QueueFull
from thorn_stream.adapters.kafka.tail import Tail
from thorn_stream.adapters.metrics.producing import count_sent
from thorn_stream.core.errors import EventNotSent, KafkaError
from thorn_stream.events.callbacks import Callbacks
from thorn_stream.events.outgoing import Dispatcher, Outgoing
from thorn_stream.events.results import Waiting
from thorn_stream.events.state import finish_with_process
from thorn_stream.ops.publish import client_settings, input_topic
from thorn_stream.ports import SendFailed

if TYPE_CHECKING:
    from thorn_stream.events.app import Thorn

__all__ = ["Kafka"]

_START: Final = 10.0
"""Seconds that the first send with a callback may take, while Kafka is asked where results are."""
_AGAIN: Final = 10.0
"""Seconds for which that is not tried again: callers must not queue up to wait for a Kafka that is
away. They are told the same."""
_ASK: Final = ("thorn-results", b"true")
_BLOCK: Final = 30.0
"""Seconds that `on_full: block` waits: as long as Kafka may take for a record, so room has come."""


class Kafka(Dispatcher):
    """Writes to Kafka. Its client is made by the first event, in the process that sends it."""

    name = "kafka"
    runs_functions = False

    def __init__(self, app: "Thorn") -> None:
        self._app = app
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._topic = ""
        self._waiting = Waiting()
        self._tail: Tail | None = None
        self._unread: tuple[float, KafkaError] | None = None

    def publish(self, outgoing: Outgoing, *, patiently: float = 0.0) -> None:
        publisher = self._publisher
        if publisher is None or not publisher.usable:
            publisher = self._made()
        if outgoing.callbacks is not None:
            self._wait_for_results(outgoing, outgoing.callbacks)
        on_full = self._app.settings.on_full
        wait = max(patiently, _BLOCK if on_full == "block" else 0.0)
        handle = outgoing.handle

        def reported(failed: SendFailed | None) -> None:
            count_sent("kafka", "ok" if failed is None else "error")
            handle.settle(None if failed is None else failed.error)

        record = (outgoing.key, outgoing.value, outgoing.headers)
        try:
            publisher.publish(self._topic, record, reported, wait=wait)
        except QueueFull:
            why = "the queue is full: Kafka is slow or away (on_full says what to do then)"
            count_sent("kafka", "dropped" if on_full == "drop" else "full")
            self._waiting.forget(handle.id)
            handle.settle(why)
            if on_full != "drop":
                raise EventNotSent(f"{outgoing.name} was not sent: {why}") from None

    def _made(self) -> Publisher:
        with self._lock:
            if self._publisher is None or not self._publisher.usable:
                settings = self._app.settings
                self._topic = input_topic(settings, None)
                client = client_settings(settings, chosen=self._app.broker_chosen)
                self._publisher = Publisher(client)
                finish_with_process(self._app)
            return self._publisher

    def _wait_for_results(self, outgoing: Outgoing, callbacks: Callbacks) -> None:
        """Ask for results, with a reader that is there before the event: none may be missed."""
        tail = self._tail
        if tail is None or not tail.usable:
            try:
                self._read_results()
            except KafkaError as error:
                outgoing.handle.settle(str(error))
                count_sent("kafka", "error")
                raise EventNotSent(
                    f"{outgoing.name} was not sent: on_success, on_error and on_timeout need the "
                    f"results of its requests: {error}"
                ) from None
        self._waiting.add(outgoing, callbacks)
        outgoing.headers.append(_ASK)

    def _read_results(self) -> None:
        with self._lock:
            if self._tail is not None and self._tail.usable:
                return
            if self._unread is not None and time.monotonic() < self._unread[0]:
                raise self._unread[1]
            settings = self._app.settings
            client = client_settings(settings, chosen=self._app.broker_chosen)
            group = f"{settings.group}.callbacks"
            tail = Tail(client, group, settings.results_topic, self._waiting.take)
            try:
                tail.start(_START)
            except KafkaError as error:
                self._unread = time.monotonic() + _AGAIN, error
                raise
            self._tail = tail

    def flush(self, timeout: float) -> int:
        publisher = self._publisher
        if publisher is None or not publisher.usable:
            return 0
        return publisher.flush(timeout)

    def close(self) -> None:
        with self._lock:
            publisher, self._publisher = self._publisher, None
            tail, self._tail = self._tail, None
        if publisher is not None and publisher.usable:
            publisher.close(0)
        if tail is not None and tail.usable:
            tail.stop()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._publisher = None
        self._waiting = Waiting()  # what the parent waits for is told to the parent
        self._tail = None
