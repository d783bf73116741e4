"""The only way to the network: look up, check every answer, dial the address that was checked.

A name any of whose addresses is refused is refused as a whole, so it does not matter which of them
a system would prefer. The socket is given the checked address, never a name.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from thorn_stream.adapters.http.connection import Connection
from thorn_stream.adapters.http.failures import DialFailedError, failure_of
from thorn_stream.adapters.http.targets import Origin, Target
from thorn_stream.core.addresses import IPAddress
from thorn_stream.core.deliveries import Attempt, Kind
from thorn_stream.core.validators import Guard

__all__ = ["Dialler", "Resolver", "Waiting"]


class Resolver(Protocol):
    """Names to addresses; literal addresses never reach it."""

    async def resolve(self, name: str, seconds: float) -> Sequence[IPAddress]:
        """All addresses. Raises `socket.gaierror`, and TimeoutError after `seconds`."""

    def forget(self, name: str) -> None:
        """Its addresses did not answer: ask anew next time."""

    def stop(self) -> None: ...


class Waiting:
    """A request that has no connection yet, and how far it has come on the way to one.

    `phase` is what a timeout is put down to: queue, look-up, connect, handshake. `guard` is asked
    beside the transport's own, when the request has one.
    """

    __slots__ = (
        "address",
        "attempt",
        "deadline",
        "ended",
        "guard",
        "phase",
        "started",
        "target",
        "task",
    )

    def __init__(self, attempt: Any, target: Any, started: float, deadline: float) -> None:
        self.attempt: Attempt = attempt
        self.target: Target = target
        self.guard: Guard | None = None if attempt is None else attempt.guard
        self.started = started
        self.deadline = deadline
        self.ended = False
        self.phase = "queue"
        self.address: str | None = None
        self.task: asyncio.Task[None] | None = None


class Dialler:
    """Opens connections. `dialled` counts the sockets that were told to connect."""

    def __init__(
        self, guard: Guard, resolver: Resolver, connection: Callable[[Origin, str], Connection]
    ) -> None:
        self.dialled = 0
        self._guard = guard
        self._resolver = resolver
        self._connection = connection

    async def open(self, waiting: Waiting) -> Connection:
        """Open a connection to the first address that takes one; raises `DialFailedError`."""
        origin = waiting.target.origin
        waiting.phase = "look-up"
        addresses = await self._checked_addresses(waiting)
        failed = DialFailedError(Kind.DNS, "no address")
        for place, address in enumerate(addresses):
            remaining = waiting.deadline - time.monotonic()
            left = len(addresses) - place
            try:
                # An address that swallows packets leaves their share of the time to the others.
                async with asyncio.timeout(remaining / left if left > 1 else None):
                    return await self._dial(waiting, address)
            except OSError as error:
                kind, detail = failure_of(error)
                if kind is Kind.CONNECT and waiting.phase == "handshake":
                    kind, detail = Kind.TLS, f"{detail} in the handshake"
                failed = DialFailedError(kind, detail, str(address))
        self._resolver.forget(origin.host)
        raise failed

    async def refuses(self, address: IPAddress) -> bool:
        """Really ask for a connection to this address: True when no socket was told to connect."""
        target = Target(Origin(str(address), 80, address), b"")
        dialled = self.dialled
        now = time.monotonic()
        try:
            connection = await self.open(Waiting(None, target, now, now + 1.0))
        except DialFailedError as failed:
            return failed.kind is Kind.BLOCKED and self.dialled == dialled
        connection.abort()
        return False

    async def _checked_addresses(self, waiting: Waiting) -> Sequence[IPAddress]:
        origin = waiting.target.origin
        addresses: Sequence[IPAddress]
        if origin.address is not None:
            addresses = (origin.address,)
        else:
            try:
                addresses = await self._resolver.resolve(
                    origin.host, max(waiting.deadline - time.monotonic(), 0.0)
                )
            except socket.gaierror as error:
                raise DialFailedError(*failure_of(error)) from None
            except TimeoutError:
                raise DialFailedError(Kind.TIMEOUT, "look-up") from None
        for address in addresses:
            self._refuse_or_pass(address, waiting.guard)
        return addresses

    def _refuse_or_pass(self, address: IPAddress, more: Guard | None) -> None:
        refusal = self._guard.address(address)
        if refusal is None and more is not None:
            refusal = more.address(address)
        if refusal is not None:
            raise DialFailedError(Kind.BLOCKED, refusal.rule, str(address))

    async def _dial(self, waiting: Waiting, address: IPAddress) -> Connection:
        # the last gate, whoever brought the address here
        self._refuse_or_pass(address, waiting.guard)
        origin = waiting.target.origin
        loop = asyncio.get_running_loop()
        waiting.phase = "connect"
        waiting.address = text = str(address)
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        dialled = socket.socket(family, socket.SOCK_STREAM)
        connection = self._connection(origin, text)
        try:
            dialled.setblocking(False)
            self.dialled += 1
            await loop.sock_connect(dialled, (text, origin.port))
            if origin.context is not None:
                waiting.phase = "handshake"
            await loop.create_connection(
                lambda: connection,
                sock=dialled,
                ssl=origin.context,
                server_hostname=None if origin.context is None else origin.host,
            )
        except BaseException:
            connection.forsake()
            dialled.close()
            raise
        return connection
