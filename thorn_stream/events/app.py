"""`Thorn`: the settings of a program that publishes events, and how they are sent."""

import importlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Self, TypeAlias

from thorn_stream.config import Loaded, Settings
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.events import buffering
from thorn_stream.events.buffering import Buffer, buffer_events, buffer_in_force
from thorn_stream.events.configuring import load, says_where_kafka_is
from thorn_stream.events.event import Event
from thorn_stream.events.kafka import Kafka
from thorn_stream.events.memory import Memory
from thorn_stream.events.model_event import ModelEvent
from thorn_stream.events.outgoing import Disabled, Dispatcher, Outgoing
from thorn_stream.events.reverse import model_reverser
from thorn_stream.events.state import current_app, enter, set_current_app
from thorn_stream.events.webhooks import webhook_model

__all__ = ["DispatcherLike", "Thorn"]

_log: Final = logging.getLogger("thorn_stream")
_log.addHandler(logging.NullHandler())

DispatcherLike: TypeAlias = Any
"""A name (`kafka`, `inline`, `disabled`, `memory`), a `Dispatcher`, a class of one, or an object
with Thorn's own `send(event, payload, sender, **options)`."""


def _inline(app: "Thorn") -> Dispatcher:
    from thorn_stream.events.inline import Inline  # noqa: PLC0415 - HTTP, for those who use it

    return Inline(app)


_DISPATCHERS: Final[Mapping[str, Callable[["Thorn"], Dispatcher]]] = {
    "kafka": Kafka,
    "inline": _inline,
    "disabled": lambda _: Disabled(),
    "memory": lambda _: Memory(),
}


class Thorn:
    """One program's way to Kafka. Safe to use from any thread, and on both sides of a fork.

        thorn = Thorn(bootstrap_servers="kafka:9092")
        order_paid = thorn.Event("order.paid", timeout=5)
        order_paid.send({"id": 7}, sender=user).wait()

    `config` is a settings file (else config/thorn.yaml, if there is one); the environment's THORN_
    variables beat it, and further arguments, named like settings, beat both. Nothing is read, and
    nothing connected to, before the first event. As a context manager it flushes at the end.
    Settings that are wrong raise `ConfigurationError` when they are first needed.
    """

    def __init__(
        self,
        *,
        bootstrap_servers: str | None = None,
        dispatcher: DispatcherLike = None,
        config: str | Path | None = None,
        set_as_current: bool = True,
        **settings: Any,
    ) -> None:
        self._arguments = dict(settings)
        self._bootstrap_servers = bootstrap_servers
        self._config = None if config is None else Path(config)
        if isinstance(dispatcher, str):
            self._arguments["dispatcher"] = dispatcher
        self._given = None if isinstance(dispatcher, str) else dispatcher
        self._in_force: Any = None
        self._lock = threading.RLock()
        self._named: dict[str, Dispatcher] = {}
        self._buffers: weakref.WeakSet[Buffer] = weakref.WeakSet()
        enter(self)
        if set_as_current:
            set_current_app(self)

    # --- definitions ---------------------------------------------------------------------------

    @cached_property
    def Event(self) -> type[Event]:  # noqa: N802 - a class, as in Thorn
        """`Event`, of this app."""
        return type("Event", (Event,), {"_bound": self, "__doc__": Event.__doc__})

    @cached_property
    def ModelEvent(self) -> type[ModelEvent]:  # noqa: N802 - a class, as in Thorn
        """`ModelEvent`, of this app."""
        return type("ModelEvent", (ModelEvent,), {"_bound": self, "__doc__": ModelEvent.__doc__})

    webhook_model = staticmethod(webhook_model)
    model_reverser = model_reverser

    def reverse(self, view_name: str, *, args: list[Any], kwargs: dict[str, Any]) -> str:
        """The URL of a view, by Django's `reverse`; what `model_reverser` asks.

        Give your own to `Thorn(...)` by setting this attribute: `thorn.reverse = app.url_path_for`.
        """
        try:
            urls = importlib.import_module("django.urls")
        except ImportError:
            raise ConfigurationError(
                f"model_reverser({view_name!r}) needs Django; elsewhere give reverse=function"
            ) from None
        return str(urls.reverse(view_name, args=args, kwargs=kwargs))

    # --- settings ------------------------------------------------------------------------------

    @cached_property
    def loaded(self) -> Loaded:
        """Where the settings came from. Raises ConfigurationError with a line for each mistake."""
        return load(self._arguments, self._bootstrap_servers, self._config)

    @property
    def settings(self) -> Settings:
        """Everything in force."""
        with self._lock:
            return self.loaded.settings

    @property
    def config(self) -> Any:
        """Django's settings, as in Thorn: `THORN_X` in them counts, below the environment."""
        return importlib.import_module("django.conf").settings

    @property
    def broker_chosen(self) -> bool:
        """Whether somebody said where Kafka is: else one of `thorn-stream broker` comes first."""
        arguments = self._bootstrap_servers is not None or "kafka" in self._arguments
        return arguments or self._config is not None or says_where_kafka_is(os.environ)

    # --- sending -------------------------------------------------------------------------------

    @property
    def dispatcher(self) -> Any:
        """How events are sent that name no dispatcher of their own."""
        if self._in_force is None:
            with self._lock:
                if self._in_force is None:
                    self._in_force = self._chosen()
        return self._in_force

    @dispatcher.setter
    def dispatcher(self, dispatcher: DispatcherLike) -> None:
        self._in_force = self.named(dispatcher) if isinstance(dispatcher, str) else dispatcher

    def _chosen(self) -> Any:
        if self._given is None:
            return self.named(self.settings.dispatcher)
        if not isinstance(self._given, type):
            return self._given
        made = self._given()
        made.app = self
        return made

    def named(self, name: str) -> Dispatcher:
        """The dispatcher of this name. Raises ValueError for a name that is none."""
        with self._lock:
            if name not in self._named:
                if name not in _DISPATCHERS:
                    raise ValueError(
                        f"dispatcher: {name!r} is none of {', '.join(_DISPATCHERS)}: name one, or "
                        "give an object with a send method"
                    )
                self._named[name] = _DISPATCHERS[name](self)
            return self._named[name]

    def publish(self, dispatcher: Dispatcher, outgoing: Outgoing) -> None:
        """Hand an event to a dispatcher, or to the buffer that is in force."""
        buffer = buffer_in_force()
        if buffer is not None and buffer.app is self:
            buffer.add(dispatcher, outgoing)
        else:
            dispatcher.publish(outgoing)

    # --- buffers -------------------------------------------------------------------------------

    def new_buffer(
        self, flush_freq: int | None = None, flush_timeout: float | None = None
    ) -> Buffer:
        """A buffer that is flushed at exit at the latest."""
        buffer = Buffer(self, flush_freq, flush_timeout)
        with self._lock:
            self._buffers.add(buffer)
        return buffer

    def buffer_events(
        self, flush_freq: int | None = None, flush_timeout: float | None = None
    ) -> buffer_events:
        """`with thorn.buffer_events():`; see `buffer_events`."""
        return buffer_events(flush_freq, flush_timeout, self)

    def enable_buffer(
        self, flush_freq: int | None = None, flush_timeout: float | None = None
    ) -> None:
        """Hold the events of this thread or task until `flush_buffer` or `disable_buffer`."""
        buffer = self.new_buffer(flush_freq, flush_timeout)
        self._enabled.append(buffer)
        buffering.enable(buffer)

    def disable_buffer(self) -> None:
        """Send what is held, and hold no more."""
        self.flush_buffer()
        buffering.enable(None)

    def flush_buffer(self) -> int:
        """Send what this thread or task holds; returns how many events that were."""
        buffer = buffer_in_force()
        return buffer.flush() if buffer is not None and buffer.app is self else 0

    @cached_property
    def _enabled(self) -> list[Buffer]:
        """Kept until exit: their threads may have ended without a flush."""
        return []

    # --- the end -------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> int:
        """Send what any buffer holds and wait for Kafka; how many events it has not answered for.

        `timeout` in seconds; `flush_timeout` of the settings by default.
        """
        until = time.monotonic() + (self.settings.flush_timeout if timeout is None else timeout)
        for buffer in list(self._buffers):
            buffer.flush(max(0.0, until - time.monotonic()))
        return sum(
            dispatcher.flush(max(0.0, until - time.monotonic()))
            for dispatcher in list(self._named.values())
        )

    def close(self) -> None:
        """Flush, and let go of the connections; they are made anew when they are needed."""
        self.finish()
        for dispatcher in list(self._named.values()):
            dispatcher.close()

    def finish(self) -> None:
        """Flush as at exit: bounded, nothing raised, what is left is told in a line."""
        if not self._named and not self._buffers:
            return
        try:
            left = self.flush()
        except Exception as error:  # noqa: BLE001 - nobody is left to catch it
            _log.error("events were not sent at exit: %s", error)
            return
        if left:
            _log.error("%d events were not acknowledged by Kafka within flush_timeout", left)

    def after_fork(self) -> None:
        """In a child: buffers and clients are the parent's, locks may be held by its threads."""
        self._lock = threading.RLock()
        self._buffers = weakref.WeakSet()
        for dispatcher in self._named.values():
            dispatcher.after_fork()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def __reduce__(self) -> tuple[Any, ...]:
        return current_app, ()  # an app is its process's own: there it is the one that is current

    def set_default(self) -> None:
        """Be the app of events that name none."""
        set_current_app(self)
