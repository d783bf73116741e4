"""Which connections httpx may use again: a pool for each origin, for a while.

httpcore's connections without its pool, which gives several requests the same connection at once,
lets all but one of them try again, and so starves some where many are under way; and which closes
what is too old only when it is asked for something. Here a connection is taken by one request at a
time (or shared, once it has spoken HTTP/2), and a look each second closes what nobody uses. A pool
that was not used for 20 s is closed, and one that is 60 s old takes no more requests, so that a
name's addresses are looked up and judged again.
"""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeAlias

import httpcore
import httpx

from thorn_stream.adapters.http.httpx_ways import Way, proxy_of
from thorn_stream.adapters.http.targets import Origin

__all__ = ["Pool", "Pools", "factory_for"]

_Connection: TypeAlias = httpcore.AsyncConnectionInterface

_IDLE: Final = 20.0
_LIFETIME: Final = 60.0
_TIDY: Final = 1.0


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes], closed: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._closed = closed

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        close: Callable[[], Awaitable[None]] | None = getattr(self._stream, "aclose", None)
        try:
            if close is not None:
                await close()
        finally:
            await self._closed()


class Pool(httpx.AsyncBaseTransport):
    """The connections of one origin; errors are httpcore's. `users` counts exchanges under way.

    `factory` makes connections and keeps none. `idle` are those that no request uses, the one used
    last at the end. Moments are of `time.monotonic`.
    """

    def __init__(self, factory: httpcore.AsyncConnectionPool, http2: bool, now: float) -> None:
        self.users = 0
        self.expires = now + _LIFETIME
        self.used = now
        self.retired = False
        self.idle: list[_Connection] = []
        self._factory = factory
        self._all: set[_Connection] = set()
        self._busy: Counter[_Connection] = Counter()  # requests under way, of those that have any
        # Requests may join the connection made last until it has proved not to speak HTTP/2.
        self._may_share = http2
        self._proved = False
        self._shared: _Connection | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The extension `target` is the request target as it is to be sent.

        It is not handed on: httpcore would send it to a proxy in place of the proxy's own.
        """
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.extensions["target"],
        )
        asked = httpcore.Request(
            request.method, url, headers=request.headers.raw, content=request.stream
        )
        while True:
            connection = await self._take(url.origin)
            self._busy[connection] += 1
            try:
                answer = await connection.handle_async_request(asked)
            except httpcore.ConnectionNotAvailable:
                self._not_available(connection)
            except BaseException:
                await self._give_back(connection)
                raise
            else:
                break
        self._proved = answer.extensions.get("http_version") == b"HTTP/2"
        self._may_share = self._may_share and self._proved
        assert isinstance(answer.stream, AsyncIterable)
        body = _Body(answer.stream, partial(self._give_back, connection))
        return httpx.Response(answer.status, headers=answer.headers, stream=body)

    async def _take(self, origin: httpcore.Origin) -> _Connection:
        if self._may_share and self._shared is not None:
            shared = self._shared
            if shared.is_available() and not shared.has_expired():
                if shared in self.idle:
                    self.idle.remove(shared)
                return shared
        while self.idle:
            connection = self.idle.pop()
            if connection.is_available() and not connection.has_expired():
                self._shared = connection
                return connection
            await self.close(connection)
        connection = self._factory.create_connection(origin)
        self._all.add(connection)
        self._shared = connection
        return connection

    def _not_available(self, connection: _Connection) -> None:
        """It closed before it was asked; or it is busy, since it speaks HTTP/1.1 after all."""
        self._is_left(connection)
        if connection.is_closed():
            self._all.discard(connection)
        elif not self._proved:
            self._may_share = False
        if self._shared is connection:
            self._shared = None

    async def _give_back(self, connection: _Connection) -> None:
        """A request is over.

        One that was cancelled while httpcore took a lock leaves its connection in no state that
        anything would ever end: neither closed nor fit for another request.
        """
        if not self._is_left(connection):
            return
        if connection.is_closed():
            self._all.discard(connection)
        elif not connection.is_idle():
            await self.close(connection)
        elif connection not in self.idle:
            self.idle.append(connection)

    def _is_left(self, connection: _Connection) -> bool:
        """One request less; True when that was the last one under way on it."""
        self._busy[connection] -= 1
        if self._busy[connection]:
            return False
        del self._busy[connection]
        return True

    async def close(self, connection: _Connection) -> None:
        """Close one that is idle."""
        self._all.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        await connection.aclose()

    async def aclose(self) -> None:
        self.idle.clear()
        while self._all:
            await self._all.pop().aclose()


def factory_for(
    origin: Origin,
    way: Way,
    backend: httpcore.AsyncNetworkBackend,
    proxy_context: ssl.SSLContext | None,
) -> httpcore.AsyncConnectionPool:
    """What makes the connections to one origin: httpcore's pool, of which no more is used.

    `proxy_context` is for the way to a proxy whose URL is https.
    """
    http2 = way.http2 and origin.context is not None
    if way.proxy is None:
        return httpcore.AsyncConnectionPool(
            ssl_context=origin.context,
            keepalive_expiry=_IDLE,
            http2=http2,
            network_backend=backend,
        )
    proxy = proxy_of(way.proxy)
    return httpcore.AsyncHTTPProxy(
        httpcore.URL(
            scheme=proxy.url.raw_scheme,
            host=proxy.url.raw_host,
            port=proxy.url.port,
            target=b"/",
        ),
        proxy_auth=proxy.raw_auth,
        proxy_ssl_context=proxy_context,
        ssl_context=origin.context,
        keepalive_expiry=_IDLE,
        http2=http2,
        network_backend=backend,
    )


class Pools:
    """One for each origin in use, and those that serve one request apart from the others."""

    def __init__(
        self, make: Callable[[Origin], httpcore.AsyncConnectionPool], *, http2: bool
    ) -> None:
        self._make = make
        self._http2 = http2
        self._pools: dict[Origin, Pool] = {}  # the one idle for longest first
        self._closing: set[asyncio.Task[None]] = set()
        self._tidying: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> int:
        """Open connections that no request uses."""
        return sum(len(pool.idle) for pool in self._pools.values())

    def take(self, origin: Origin, *, apart: bool) -> Pool:
        """The pool for one exchange; `apart`: one of its own, with no connection yet."""
        now = time.monotonic()
        if apart:
            pool = self._new(origin, now)
            pool.retired = True
        else:
            pool = self._of(origin, now)
        pool.users += 1
        return pool

    def _new(self, origin: Origin, now: float) -> Pool:
        return Pool(self._make(origin), self._http2 and origin.context is not None, now)

    def _of(self, origin: Origin, now: float) -> Pool:
        pool = self._pools.get(origin)
        if pool is not None and pool.expires <= now:
            self._retire(origin, pool)
            pool = None
        if pool is None:
            pool = self._pools[origin] = self._new(origin, now)
            if self._tidying is None:
                self._tidying = asyncio.get_running_loop().call_later(_TIDY, self._tidy)
        return pool

    def give_back(self, origin: Origin, pool: Pool, *, whole: bool) -> None:
        """The exchange is over.

        `whole` is False when an answer of HTTP/2 was left unread: what still comes of it would
        eat up the connection's window, so nothing new is asked of that connection.
        """
        pool.users -= 1
        pool.used = time.monotonic()
        if self._pools.get(origin) is pool:
            if whole:
                self._pools[origin] = self._pools.pop(origin)  # to the end: used last
                return
            self._retire(origin, pool)
        elif pool.retired and not pool.users:
            self._soon(pool.aclose())

    async def make_room(self) -> bool:
        """Close the connection that has been idle for longest; False when none is idle."""
        for pool in self._pools.values():
            if pool.idle:
                await pool.close(pool.idle[0])
                return True
        return False

    async def close(self) -> None:
        """Close all of them."""
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None
        for origin, pool in list(self._pools.items()):
            pool.users = 0
            self._retire(origin, pool)
        while self._closing:
            await asyncio.wait(self._closing)

    def _retire(self, origin: Origin, pool: Pool) -> None:
        del self._pools[origin]
        pool.retired = True
        if not pool.users:
            self._soon(pool.aclose())

    def _soon(self, closing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _tidy(self) -> None:
        self._tidying = None
        now = time.monotonic()
        for origin, pool in list(self._pools.items()):
            if not pool.users and (pool.expires <= now or now - pool.used >= _IDLE):
                self._retire(origin, pool)
                continue
            for connection in list(pool.idle):
                if connection.has_expired():  # too old, or closed by the other side
                    pool.idle.remove(connection)
                    self._soon(pool.close(connection))
        if self._pools:
            self._tidying = asyncio.get_running_loop().call_later(_TIDY, self._tidy)
