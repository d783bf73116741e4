"""Events held back until a block ends, so many are there, or so much time has passed."""

import os
import threading
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Final

from thorn_stream.events.outgoing import Dispatcher, Outgoing

if TYPE_CHECKING:
    from thorn_stream.events.app import Thorn

__all__ = ["Buffer", "buffer_events", "buffer_in_force", "enable"]

_PATIENCE: Final = 30.0
"""Seconds that a flush by the clock waits for room: nobody is there to be told."""

_in_force: ContextVar["Buffer | None"] = ContextVar("thorn_buffer", default=None)


def buffer_in_force() -> "Buffer | None":
    """The buffer of this thread (or task), if there is one of this process."""
    buffer = _in_force.get()
    return buffer if buffer is not None and buffer.usable else None


class Buffer:
    """Events of one thread or task, in order.

    `flush_freq`: when it holds so many, they are sent; `flush_timeout`: seconds the first may wait.
    """

    def __init__(
        self, app: "Thorn", flush_freq: int | None = None, flush_timeout: float | None = None
    ) -> None:
        if flush_freq is not None and flush_freq < 1:
            raise ValueError("flush_freq: must be a number of events, at least 1")
        if flush_timeout is not None and flush_timeout <= 0:
            raise ValueError("flush_timeout: must be seconds, more than 0")
        self.app = app
        self.flush_freq = flush_freq
        self.flush_timeout = flush_timeout
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._events: list[tuple[Dispatcher, Outgoing]] = []
        self._timer: threading.Timer | None = None

    def __len__(self) -> int:
        return len(self._events)

    @property
    def usable(self) -> bool:
        """False in a child: what was held at the fork is the parent's to send."""
        return self._pid == os.getpid()

    def add(self, dispatcher: Dispatcher, outgoing: Outgoing) -> None:
        with self._lock:
            self._events.append((dispatcher, outgoing))
            if self.flush_timeout is not None and self._timer is None:
                self._timer = threading.Timer(self.flush_timeout, self.flush, (_PATIENCE,))
                self._timer.daemon = True
                self._timer.start()
        self.maybe_flush()

    def maybe_flush(self) -> None:
        """Send what is held if it is `flush_freq` events (or more)."""
        if self.flush_freq is not None and len(self._events) >= self.flush_freq:
            self.flush()

    def flush(self, patiently: float = 0.0) -> int:
        """Hand all to their dispatchers; returns how many.

        Raises as `send` does; those behind the one that is refused stay.
        """
        sent = 0
        if not self.usable:
            return sent
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            try:
                for dispatcher, outgoing in self._events:
                    sent += 1  # one that is refused has its answer on its handle
                    dispatcher.publish(outgoing, patiently=patiently)
            finally:
                del self._events[:sent]
        return sent


class buffer_events:  # noqa: N801 - Thorn's name
    """`with buffer_events():` holds the events of this thread or task until the block ends.

    Also when it ends by an exception: the events have happened. Gives the `Buffer`.
    """

    def __init__(
        self,
        flush_freq: int | None = None,
        flush_timeout: float | None = None,
        app: "Thorn | None" = None,
    ) -> None:
        self._arguments = (flush_freq, flush_timeout)
        self._app = app
        self._token: Token[Buffer | None] | None = None
        self._buffer: Buffer | None = None

    def __enter__(self) -> Buffer:
        from thorn_stream.events.state import current_app  # noqa: PLC0415 - a circle otherwise

        app = self._app or current_app()
        self._buffer = app.new_buffer(*self._arguments)
        self._token = _in_force.set(self._buffer)
        return self._buffer

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        assert self._buffer is not None
        _in_force.reset(self._token)
        self._buffer.flush()

    async def __aenter__(self) -> Buffer:
        return self.__enter__()

    async def __aexit__(self, *failure: object) -> None:
        self.__exit__(*failure)


def enable(buffer: Buffer | None) -> None:
    """Let this one be in force from now on."""
    _in_force.set(buffer)
