"""httpx's way to the network: httpcore's streams, opened only to addresses that were checked.

httpcore asks a network backend for each connection and lets nothing of the request through to it,
so the `Exchange` under way is found by a context variable. Errors that an Outcome has words for
leave from here as `DialFailedError` and `AnswerRefusedError`, which httpcore and httpx pass on
untouched.
"""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextvars import ContextVar
from ipaddress import ip_address
from socket import gaierror
from typing import Any, Final

import httpcore

from thorn_stream.adapters.http.connection import LONGEST_RESPONSE
from thorn_stream.adapters.http.dialling import Resolver
from thorn_stream.adapters.http.failures import DialFailedError, failure_of
from thorn_stream.core.addresses import IPAddress
from thorn_stream.core.deliveries import Attempt, Kind
from thorn_stream.core.validators import Guard

__all__ = ["CURRENT", "AnswerRefusedError", "Backend", "Exchange", "checked_addresses", "origin_of"]

_FIRST_WORD: Final = b"HTTP/1."


class AnswerRefusedError(Exception):
    """What was read is no answer, or too long a head; never leaves this package."""


class Exchange:
    """One Attempt under way. `mark` is what its stream had read before, in bytes.

    `phase` is what a timeout is put down to: queue, look-up, connect, handshake, or nothing while
    the answer is waited for. Only addresses that `guard` passes are dialled; None: any.
    """

    __slots__ = (
        "address",
        "attempt",
        "body",
        "deadline",
        "ended",
        "guard",
        "mark",
        "passed_over",
        "phase",
        "retry_after",
        "reused",
        "started",
        "status",
        "stream",
        "task",
        "timer",
    )

    def __init__(self, attempt: Any, guard: Guard | None, started: float, deadline: float) -> None:
        self.attempt: Attempt = attempt
        self.guard = guard
        self.started = started
        self.deadline = deadline
        self.phase = "queue"
        self.address: str | None = None
        self.status: int | None = None
        self.retry_after: str | None = None
        self.body: bytes | None = None
        self.stream: Stream | None = None
        self.mark = 0
        self.reused = self.ended = self.passed_over = False
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    @property
    def unanswered(self) -> bool:
        """Whether its connection has said nothing since the request was written to it."""
        return self.stream is not None and self.stream.received == self.mark


CURRENT: Final[ContextVar[Exchange]] = ContextVar("exchange")


async def checked_addresses(
    resolver: Resolver, guard: Guard | None, host: str, deadline: float
) -> Sequence[IPAddress]:
    """All addresses of a name (or the one that it is), every one of them passed by the guard.

    Raises `DialFailedError`.
    """
    addresses: Sequence[IPAddress]
    try:
        addresses = (ip_address(host),)
    except ValueError:
        try:
            addresses = await resolver.resolve(host, max(deadline - time.monotonic(), 0.0))
        except gaierror as error:
            raise DialFailedError(*failure_of(error)) from None
        except TimeoutError:
            raise DialFailedError(Kind.TIMEOUT, "look-up") from None
    for address in addresses:
        _refuse_or_pass(guard, address)
    if not addresses:
        raise DialFailedError(Kind.DNS, "no address")
    return addresses


def _refuse_or_pass(guard: Guard | None, address: IPAddress) -> None:
    refusal = None if guard is None else guard.address(address)
    if refusal is not None:
        raise DialFailedError(Kind.BLOCKED, refusal.rule, str(address))


def origin_of(error: BaseException) -> OSError | None:
    """The socket's or TLS's own error, behind what anyio, httpcore and httpx made of it."""
    found: OSError | None = None
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and (seen.errno or isinstance(seen, ssl.SSLError)):
            found = seen
        # httpcore raises on `from None`, which hides the cause from people, not from us
        seen = seen.__cause__ or seen.__context__
    return found


class Backend(httpcore.AsyncNetworkBackend):
    """Opens connections for httpcore, by address.

    Without `guarded` any address is dialled: the way to a proxy, which the operator chose.
    `make_room` is awaited before `most` would be exceeded. `open` counts the connections open or
    being opened, `connects` those that were made, `dialled` the sockets told to connect.
    """

    def __init__(
        self,
        resolver: Resolver,
        *,
        guarded: bool,
        most: int,
        make_room: Callable[[], Awaitable[bool]],
    ) -> None:
        self.open = 0
        self.connects = 0
        self.dialled = 0
        self._resolver = resolver
        self._guarded = guarded
        self._most = most
        self._make_room = make_room
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 -- httpcore's signature
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that takes one; raises `DialFailedError`."""
        exchange = CURRENT.get()
        self.open += 1
        try:
            while self.open > self._most and await self._make_room():
                pass
            return await self._connect(exchange, host, port)
        except DialFailedError as failed:
            self.open -= 1
            if self._guarded:
                raise
            raise DialFailedError(failed.kind, f"proxy {failed.detail}") from None
        except BaseException:
            self.open -= 1
            raise

    async def _connect(self, exchange: Exchange, host: str, port: int) -> "Stream":
        if not self._guarded:
            return await self._first(exchange, None, host, port)
        if exchange.guard is None:
            raise DialFailedError(Kind.BLOCKED, "url")  # fails closed: nobody may dial unjudged
        return await self._first(exchange, exchange.guard, host, port)

    async def _first(
        self, exchange: Exchange, guard: Guard | None, host: str, port: int
    ) -> "Stream":
        exchange.phase = "look-up"
        addresses = await checked_addresses(self._resolver, guard, host, exchange.deadline)
        exchange.phase = "connect"
        failed = DialFailedError(Kind.DNS, "no address")
        for place, address in enumerate(addresses):
            remaining = exchange.deadline - time.monotonic()
            left = len(addresses) - place
            try:
                # An address that swallows packets leaves their share of the time to the others.
                async with asyncio.timeout(remaining / left if left > 1 else None):
                    return await self._dial(exchange, address, host, port)
            except (OSError, httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                source = error if isinstance(error, TimeoutError) else origin_of(error)
                failed = DialFailedError(*failure_of(source), str(address))
        self._resolver.forget(host)
        raise failed

    async def _dial(self, exchange: Exchange, address: IPAddress, host: str, port: int) -> "Stream":
        text = str(address)
        if self._guarded:
            # the last gate, whoever brought the address here
            _refuse_or_pass(exchange.guard, address)
            exchange.address = text
        self.dialled += 1
        inner = await self._inner.connect_tcp(text, port)
        self.connects += 1
        return Stream(inner, self, host, text if self._guarded else None)

    def closed(self) -> None:
        """A connection is gone."""
        self.open -= 1

    def forget(self, host: str) -> None:
        """Its addresses do not serve: ask anew next time."""
        self._resolver.forget(host)

    async def refuses(self, address: IPAddress, guard: Guard) -> bool:
        """Really ask for a connection to this address: True when no socket was told to connect."""
        dialled = self.dialled
        now = time.monotonic()
        token = CURRENT.set(Exchange(None, guard, now, now + 1.0))
        try:
            stream = await self.connect_tcp(str(address), 80)
        except DialFailedError as failed:
            return failed.kind is Kind.BLOCKED and self.dialled == dialled
        finally:
            CURRENT.reset(token)
        await stream.aclose()
        return False


class Stream(httpcore.AsyncNetworkStream):
    """One connection: counts what is read, bounds what an answer may take, knows its address.

    Over HTTP/2 (`multiplexed`) several exchanges read from it, so bytes are not counted against
    one of them; there the transport bounds the body, and the h2 package the head.
    """

    def __init__(
        self, inner: httpcore.AsyncNetworkStream, backend: Backend, host: str, address: str | None
    ) -> None:
        self.received = 0
        self.multiplexed = False
        self._inner = inner
        self._backend = backend
        self._host = host
        self._address = address
        self._mark = 0
        self._open = True

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """At most `LONGEST_RESPONSE` bytes for one exchange; raises `AnswerRefusedError`."""
        if self.multiplexed:
            data = await self._inner.read(max_bytes, timeout)
        else:
            room = LONGEST_RESPONSE - (self.received - self._mark)
            if room <= 0:
                raise AnswerRefusedError("head too long")
            data = await self._inner.read(min(max_bytes, room), timeout)
            # A parser that waits for a whole head would wait on a banner until the deadline.
            if self.received == self._mark and not data.startswith(_FIRST_WORD[: len(data)]):
                raise AnswerRefusedError("not HTTP/1.1")
        self.received += len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        exchange = CURRENT.get(None)
        if exchange is not None and exchange.stream is not self:
            if exchange.deadline <= time.monotonic():
                # the process stood still: what would be sent may be somebody else's turn by now
                raise httpcore.WriteTimeout
            exchange.stream = self
            exchange.mark = self._mark = self.received
            exchange.reused = self.received > 0
            exchange.phase = ""
            exchange.address = self._address
        await self._inner.write(buffer, timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 -- httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        """Raises `DialFailedError`."""
        CURRENT.get().phase = "handshake"
        try:
            inner = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except (OSError, httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            await self.aclose()
            self._backend.forget(self._host)
            kind, detail = failure_of(origin_of(error))
            if kind is Kind.CONNECT:
                kind, detail = Kind.TLS, f"{detail} in the handshake"
            raise DialFailedError(kind, detail, self._address) from None
        except BaseException:
            await self.aclose()
            raise
        self._open = False  # it is the new stream's to close
        stream = Stream(inner, self._backend, self._host, self._address)
        tls = inner.get_extra_info("ssl_object")
        stream.multiplexed = tls is not None and tls.selected_alpn_protocol() == "h2"
        return stream

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            self._backend.closed()
            await self._inner.aclose()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
