"""`Handle`: what `send()` gives back, and how long one may wait for it."""

import asyncio
import os
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final, Self

from thorn_stream.core.errors import EventNotSent

if TYPE_CHECKING:
    from thorn_stream.events.request import Request

__all__ = ["Handle"]

_PATIENCE: Final = 30.0
_lock = threading.Lock()
"""One for all: it is held for the few instructions in which a waiter is entered."""


def _in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread of the parent may have held it during the fork
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Handle:
    """One event on its way. `wait()` for it, or `await` it; or forget it.

    `id` is the event's id, `event` its name. `requests` are the HTTP requests that were made for
    it, with the dispatcher `inline` alone.
    """

    __slots__ = ("_done", "_error", "_waiters", "event", "id", "requests")

    def __init__(self, event: str, event_id: str) -> None:
        self.event = event
        self.id = event_id
        self.requests: tuple[Request, ...] = ()
        self._done = False
        self._error: str | None = None
        self._waiters: list[Callable[[], None]] | None = None

    @property
    def done(self) -> bool:
        """Whether it is decided: acknowledged, or failed."""
        return self._done

    @property
    def error(self) -> str | None:
        """Why it was not sent; None while that is open, and when it was."""
        return self._error

    def settle(self, error: str | None = None) -> None:
        """Decide it, once; later calls change nothing."""
        with _lock:
            if self._done:
                return
            self._error = error
            self._done = True
            waiters, self._waiters = self._waiters, None
        for wake in waiters or ():
            wake()

    def wait(self, timeout: float = _PATIENCE) -> Self:
        """Block until Kafka has acknowledged it. Raises EventNotSent, also after `timeout` s."""
        if not self._done:
            woken = threading.Event()
            if self._enter(woken.set) and not woken.wait(timeout):
                raise self._late(timeout)
        return self._answer()

    def __await__(self) -> Generator[Any, None, Self]:
        return self._awaited(_PATIENCE).__await__()

    def __repr__(self) -> str:
        state = "on its way" if not self._done else self._error or "sent"
        return f"<Handle {self.event} {self.id}: {state}>"

    async def _awaited(self, timeout: float) -> Self:  # noqa: ASYNC109 - the word of `wait`
        if not self._done:
            loop = asyncio.get_running_loop()
            news = asyncio.Event()

            def wake() -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(news.set)

            if self._enter(wake):
                try:
                    await asyncio.wait_for(news.wait(), timeout)
                except TimeoutError:
                    raise self._late(timeout) from None
        return self._answer()

    def _enter(self, wake: Callable[[], None]) -> bool:
        """False when it has been decided meanwhile."""
        with _lock:
            if self._done:
                return False
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(wake)
            return True

    def _answer(self) -> Self:
        if self._error is not None:
            raise EventNotSent(f"{self.event} was not sent: {self._error}")
        return self

    def _late(self, timeout: float) -> EventNotSent:
        return EventNotSent(
            f"{self.event} is not acknowledged after {timeout:g} s; it may still be sent"
        )
