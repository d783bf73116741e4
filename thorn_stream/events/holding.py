"""Holding events back until a transaction has been committed.

Whoever connects models to a database says in which transaction a change was made, by `holding`;
the event is made at once, of the values as they are then, and published by what `holding` was
given. Nothing is published when that is never called: after a rollback.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

__all__ = ["Hold", "held", "holding"]

Hold: TypeAlias = Callable[[Callable[[], None]], object]
"""Takes what publishes an event, and calls it after the commit."""

_hold: ContextVar[Hold | None] = ContextVar("thorn_hold", default=None)


def held() -> Hold | None:
    """What takes events now; None where they go at once."""
    return _hold.get()


@contextmanager
def holding(hold: Hold | None) -> Iterator[None]:
    """Events sent inside are given to `hold`."""
    token = _hold.set(hold)
    try:
        yield
    finally:
        _hold.reset(token)
