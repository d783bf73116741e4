"""Waiting for what must come true."""

import asyncio
from collections.abc import Callable

__all__ = ["until"]


async def until(condition: Callable[[], object], within: float = 30.0) -> None:
    """Wait for the condition, of any thread; fail when it does not come within so many seconds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - threads and counters set no event
            await asyncio.sleep(0.005)
