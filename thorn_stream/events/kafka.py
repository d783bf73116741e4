"""`dispatcher: kafka`: events go to the input topic, and a dispatcher takes them from there."""

import threading
from typing import TYPE_CHECKING, Final

from thorn_stream.adapters.kafka.publisher import Publisher, QueueFull
from thorn_stream.adapters.metrics.producing import count_sent
from thorn_stream.core.errors import EventNotSent
from thorn_stream.events.outgoing import Dispatcher, Outgoing
from thorn_stream.events.state import finish_with_process
from thorn_stream.ops.publish import client_settings, input_topic
from thorn_stream.ports import SendFailed

if TYPE_CHECKING:
    from thorn_stream.events.app import Thorn

__all__ = ["Kafka"]

_BLOCK: Final = 30.0
"""Seconds that `on_full: block` waits: as long as Kafka may take for a record, so room has come."""


class Kafka(Dispatcher):
    """Writes to Kafka. Its client is made by the first event, in the process that sends it."""

    name = "kafka"
    runs_functions = False
    calls_back = False

    def __init__(self, app: "Thorn") -> None:
        self._app = app
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._topic = ""

    def publish(self, outgoing: Outgoing, *, patiently: float = 0.0) -> None:
        publisher = self._publisher
        if publisher is None or not publisher.usable:
            publisher = self._made()
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

    def flush(self, timeout: float) -> int:
        publisher = self._publisher
        if publisher is None or not publisher.usable:
            return 0
        return publisher.flush(timeout)

    def close(self) -> None:
        with self._lock:
            publisher, self._publisher = self._publisher, None
        if publisher is not None and publisher.usable:
            publisher.close(0)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._publisher = None
