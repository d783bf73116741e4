"""Which connections httpx may use again: a pool for each origin, for a while.

httpcore's pool looks at every connection it has for each request, so each origin has a small one.
It closes what is too old only when it is asked for something: a look each second does that for it.
A pool that was not used for 20 s is closed, and one that is 60 s old takes no more requests, so
that a name's addresses are looked up and judged again.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Final

import httpcore
import httpx

from thorn_stream.adapters.http.httpx_ways import Way, proxy_of
from thorn_stream.adapters.http.targets import Origin

__all__ = ["Pool", "Pools", "pool_for"]

_IDLE: Final = 20.0
_LIFETIME: Final = 60.0
_TIDY: Final = 1.0


class _Body(httpx.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        close: Callable[[], Awaitable[None]] | None = getattr(self._stream, "aclose", None)
        if close is not None:
            await close()


class Pool(httpx.AsyncBaseTransport):
    """The connections of one origin. `users` counts the exchanges under way in it.

    `httpx.AsyncHTTPTransport` takes no network backend, so this stands in its place. Errors are
    httpcore's. Moments are of `time.monotonic`.
    """

    def __init__(self, pool: httpcore.AsyncConnectionPool, now: float) -> None:
        self._pool = pool
        self.users = 0
        self.expires = now + _LIFETIME
        self.used = now
        self.retired = False

    @property
    def idle(self) -> list[httpcore.AsyncConnectionInterface]:
        return [connection for connection in self._pool.connections if connection.is_idle()]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The extension `target` is the request target as it is to be sent.

        It is not handed on: httpcore would send it to a proxy in place of the proxy's own.
        """
        url = request.url
        answer = await self._pool.handle_async_request(
            httpcore.Request(
                request.method,
                httpcore.URL(
                    scheme=url.raw_scheme,
                    host=url.raw_host,
                    port=url.port,
                    target=request.extensions["target"],
                ),
                headers=request.headers.raw,
                content=request.stream,
            )
        )
        assert isinstance(answer.stream, AsyncIterable)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer.stream))

    async def aclose(self) -> None:
        await self._pool.aclose()


def pool_for(
    origin: Origin,
    way: Way,
    backend: httpcore.AsyncNetworkBackend,
    proxy_context: ssl.SSLContext | None,
) -> httpcore.AsyncConnectionPool:
    """httpcore's own for one origin; how many connections there may be is the backend's to say.

    `proxy_context` is for the way to a proxy whose URL is https.
    """
    http2 = way.http2 and origin.context is not None
    if way.proxy is None:
        return httpcore.AsyncConnectionPool(
            ssl_context=origin.context,
            max_connections=None,
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
        max_connections=None,
        keepalive_expiry=_IDLE,
        http2=http2,
        network_backend=backend,
    )


class Pools:
    """One for each origin in use, and those that serve one request apart from the others."""

    def __init__(self, make: Callable[[Origin], httpcore.AsyncConnectionPool]) -> None:
        self._make = make
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
            pool = Pool(self._make(origin), now)
            pool.retired = True
        else:
            pool = self._of(origin, now)
        pool.users += 1
        return pool

    def _of(self, origin: Origin, now: float) -> Pool:
        pool = self._pools.get(origin)
        if pool is not None and pool.expires <= now:
            self._retire(origin, pool)
            pool = None
        if pool is None:
            pool = self._pools[origin] = Pool(self._make(origin), now)
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
            self._close(pool)

    async def make_room(self) -> bool:
        """Close the connection that has been idle for longest; False when none is idle."""
        for pool in self._pools.values():
            for connection in pool.idle:
                await connection.aclose()
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
            self._close(pool)

    def _close(self, one: Pool | httpcore.AsyncConnectionInterface) -> None:
        task = asyncio.get_running_loop().create_task(one.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _tidy(self) -> None:
        self._tidying = None
        now = time.monotonic()
        for origin, pool in list(self._pools.items()):
            if not pool.users and (pool.expires <= now or now - pool.used >= _IDLE):
                self._retire(origin, pool)
                continue
            for connection in pool.idle:
                if connection.has_expired():  # too old, or closed by the other side
                    self._close(connection)
        if self._pools:
            self._tidying = asyncio.get_running_loop().call_later(_TIDY, self._tidy)
