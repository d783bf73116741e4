"""Connections that nobody waits for any more when they are made."""

import asyncio
import time
from collections.abc import Callable
from ipaddress import ip_address

import pytest
import uvloop

from tests.support.receivers import Receiver
from thorn_stream.adapters.http.connection import LONGEST_RESPONSE, Connection
from thorn_stream.adapters.http.dialling import Dialler, Waiting
from thorn_stream.adapters.http.targets import Origin, Target
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.core.deliveries import Attempt
from thorn_stream.core.validators import Guard


class Pool:
    """Cancels whoever dials in the moment a connection is made, as a deadline may."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(LONGEST_RESPONSE))
        self.task: asyncio.Task[Connection] | None = None
        self.alive: set[Connection] = set()
        self.made_once = False

    def made(self, connection: Connection) -> None:
        self.made_once = True
        self.alive.add(connection)
        assert self.task is not None
        self.task.cancel()

    def closed(self, connection: Connection) -> None:
        self.alive.discard(connection)

    def freed(self, connection: Connection, now: float, reusable: bool) -> None:
        raise AssertionError("it served nobody")

    def replay(self, connection: Connection, attempt: Attempt) -> None:
        raise AssertionError("it served nobody")

    def drop(self, connection: Connection) -> None:
        raise AssertionError("nothing was said on it")


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_dial_cancelled_when_it_is_made_leaves_nothing_open(
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """A deadline in the very moment of the connection: it is closed, and counted no longer."""

    async def main(receiver: Receiver) -> None:
        pool = Pool()
        guard = Guard.from_names([], ["127.0.0.0/8"])
        dialler = Dialler(
            guard, Resolver(), lambda origin, text: Connection(pool, origin, text, 60.0)
        )
        target = Target(Origin("127.0.0.1", receiver.port, ip_address("127.0.0.1")), b"")
        now = time.monotonic()
        pool.task = asyncio.create_task(dialler.open(Waiting(None, target, now, now + 5.0)))
        with pytest.raises(asyncio.CancelledError):
            await pool.task
        assert pool.made_once
        async with asyncio.timeout(5):
            while pool.alive or receiver.open or not receiver.connections:  # noqa: ASYNC110 -- no event tells it
                await asyncio.sleep(0.01)

    with Receiver() as receiver, asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(receiver))
