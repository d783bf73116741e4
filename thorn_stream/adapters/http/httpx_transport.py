"""The same port over httpx: slower, for proxies, HTTP/2 and a transport of the user's own.

What decides a verdict is the same as in `transport`, and one contract suite holds both to it. Here
a request is a task, and httpcore keeps the connections. `httpx.AsyncClient` is left out: it follows
redirects, keeps cookies, reads the environment and expands bodies, and costs more than all the
rest; `handle_async_request` of its transports does none of that.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Any, Final

import httpcore
import httpx

from thorn_stream.adapters.http.connection import LONGEST_RESPONSE
from thorn_stream.adapters.http.dialling import Resolver
from thorn_stream.adapters.http.failures import Failure
from thorn_stream.adapters.http.httpx_backend import (
    CURRENT,
    AnswerRefusedError,
    Backend,
    Exchange,
    checked_addresses,
)
from thorn_stream.adapters.http.httpx_failures import failure_of_exchange
from thorn_stream.adapters.http.httpx_pools import Pools, factory_for
from thorn_stream.adapters.http.httpx_requests import HttpxTarget, Requests
from thorn_stream.adapters.http.httpx_ways import Way, proxy_of
from thorn_stream.adapters.http.targets import Origin, Targets
from thorn_stream.core.deliveries import Attempt, Kind, Outcome
from thorn_stream.core.errors import SecurityError
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.urls import Refusal
from thorn_stream.core.validators import Guard

__all__ = ["HttpxTransport"]

_LATE: Final = 0.1
_ONCE_MORE: Final = 0.02
_CLOSING: Final = 1.0
_LONGEST_KEPT: Final = 1024
_LONGEST_RETRY_AFTER: Final = 128
_HEADER_OVERHEAD: Final = 4  # ": " and CRLF
_PROBES: Final = tuple(
    ip_address(text) for text in ("127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254")
)

_log = logging.getLogger("thorn_stream.transport")
_monotonic = time.monotonic


class HttpxTransport:
    """`ports.Transport` over httpx, for one event loop.

    At most `max_connections` requests are under way and as many connections open; more requests
    wait their turn inside their own deadline. `way` says what stands between us and receivers:
    with a proxy, or a transport of the user's own, the guard judges the URL and the addresses that
    we find ourselves, not those that are dialled. `ca_file`, `keep_response`: as in
    `NativeTransport`. Raises `ConfigurationError`.
    """

    def __init__(
        self,
        guard: Guard,
        resolver: Resolver,
        *,
        max_connections: int,
        ca_file: str | None = None,
        keep_response: bool = False,
        way: Way = Way(),  # noqa: B008 -- frozen
    ) -> None:
        way.check(ca_file)
        self._guard = guard
        self._resolver = resolver
        self._way = way
        self._keep_response = keep_response
        self._targets = Targets(guard, ca_file)
        self._requests = Requests(self._targets, way)
        self._pools = Pools(self._factory(), http2=way.http2)
        self._backend = Backend(
            resolver,
            guarded=way.covered,
            most=max_connections,
            make_room=self._pools.make_room,
        )
        self._room = asyncio.Semaphore(max_connections)
        self._under_way: set[Exchange] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    # --- the port ------------------------------------------------------------------------------

    def target(self, subscriber: Subscriber) -> HttpxTarget:
        """Prepare a Subscriber's URL; never raises."""
        return self._requests.target(subscriber)

    def send(self, attempt: Attempt) -> None:
        """Start one request; `attempt.ended` follows once, never from inside this call."""
        target: Any = attempt.target  # made by `target`
        loop = asyncio.get_running_loop()
        refused: Failure | None = target.refused
        guard = self._guard
        if refused is None and attempt.guard is not None:
            guard = guard.plus(attempt.guard.validators)
            judged = attempt.guard.url(target.text)
            refused = (Kind.BLOCKED, judged.rule) if isinstance(judged, Refusal) else None
        if refused is not None or self._stopped:
            kind, detail = refused or (Kind.CONNECT, "stopped")
            loop.call_soon(attempt.ended, attempt, Outcome(kind, detail=detail))
            return
        now = _monotonic()
        exchange = Exchange(attempt, guard, now, now + attempt.timeout)
        exchange.timer = loop.call_later(attempt.timeout, self._overdue, exchange)
        exchange.task = loop.create_task(self._run(exchange, target))
        self._under_way.add(exchange)
        self._tasks.add(exchange.task)
        exchange.task.add_done_callback(self._tasks.discard)

    def under_way(self) -> Iterator[Attempt]:
        """Those that wait for their turn are among them."""
        return (exchange.attempt for exchange in self._under_way)

    def abort(self, which: Callable[[Attempt], bool]) -> None:
        """End those that `which` picks as `connect`, `aborted`; their connections are closed."""
        for exchange in list(self._under_way):
            if which(exchange.attempt):
                self._cut(exchange, Kind.CONNECT, "aborted")

    async def stop(self) -> None:
        """Close every connection; requests under way end as `connect`, `stopped`."""
        self._stopped = True
        for exchange in list(self._under_way):
            self._cut(exchange, Kind.CONNECT, "stopped")
        self._resolver.stop()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_CLOSING)
        await self._pools.close()
        if self._way.own is not None:
            try:
                async with asyncio.timeout(_CLOSING):
                    await self._way.own.aclose()
            except Exception as error:  # noqa: BLE001 -- the user's own; we are about to go
                _log.warning("the transport did not close: %s", type(error).__name__)

    async def self_test(self) -> None:
        """Ask for loopback and cloud metadata, which must all be refused.

        What the settings let through on purpose is left out. Raises `SecurityError` when one is
        not refused. Where others dial, only our own look-up can be tested, and a warning says so.
        """
        for address in _PROBES:
            if not self._guard.refuses(address):
                continue
            if self._way.covered:
                refused = await self._backend.refuses(address, self._guard)
            else:
                refused = self._guard.address(address) is not None
            if not refused:
                raise SecurityError(
                    f"self-test: {address} would be dialled although the validators refuse it; "
                    "nothing is delivered until that is mended"
                )
        if not self._way.covered:
            _log.warning(
                "recipient validators see URLs and our own look-ups only: what is dialled is up to "
                "%s",
                "the proxy" if self._way.own is None else "the transport of your own",
            )

    # --- counters ------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """Connections open or being opened; of a transport of the user's own none is known."""
        return self._backend.open

    @property
    def idle(self) -> int:
        """Open connections that no request uses."""
        return self._pools.idle

    @property
    def connects(self) -> int:
        """The connections made."""
        return self._backend.connects

    # --- one request ---------------------------------------------------------------------------

    async def _run(self, exchange: Exchange, target: HttpxTarget) -> None:
        CURRENT.set(exchange)
        try:
            async with self._room:
                exchange.phase = ""
                try:
                    await self._once_or_twice(exchange, target)
                except Exception as error:  # noqa: BLE001 -- each is an Outcome; none may be lost
                    self._failed(exchange, error)
                else:
                    self._settle(exchange, *_verdict(exchange.status))
        except asyncio.CancelledError:
            self._settle(exchange, Kind.CONNECT, "stopped")  # unless its end is told already
            raise

    async def _once_or_twice(self, exchange: Exchange, target: HttpxTarget) -> None:
        """A kept connection that died of age costs one replay, on a fresh one.

        A request with rules of its own gets a fresh one, too: it was not judged for the others.
        """
        attempt = exchange.attempt
        apart = not attempt.keep_alive or attempt.guard is not None
        if not self._way.covered:
            exchange.phase = "look-up"
            await checked_addresses(
                self._resolver, exchange.guard, target.origin.host, exchange.deadline
            )
            exchange.phase = ""
        if self._way.own is not None:
            await self._exchange(exchange, target, self._way.own)
            return
        try:
            await self._pooled(exchange, target, apart=apart)
        except Exception:
            aged = exchange.reused and exchange.unanswered and exchange.status is None
            if not aged:
                raise
            exchange.stream = None
            await self._pooled(exchange, target, apart=True)

    async def _pooled(self, exchange: Exchange, target: HttpxTarget, *, apart: bool) -> None:
        pool = self._pools.take(target.origin, apart=apart)
        whole = False
        try:
            whole = await self._exchange(exchange, target, pool)
        finally:
            stream = exchange.stream
            one_by_one = stream is None or not stream.multiplexed
            self._pools.give_back(target.origin, pool, whole=whole or one_by_one)

    async def _exchange(
        self, exchange: Exchange, target: HttpxTarget, transport: httpx.AsyncBaseTransport
    ) -> bool:
        """Make the request and read the answer; True when it was read to its end."""
        response = await transport.handle_async_request(
            self._requests.make(exchange.attempt, target)
        )
        stream = getattr(response, "stream", None)
        if not isinstance(stream, httpx.AsyncByteStream):
            raise AnswerRefusedError("no answer that can be read")
        try:
            return await self._read(exchange, response, stream)
        finally:
            await stream.aclose()

    async def _read(
        self, exchange: Exchange, response: httpx.Response, stream: httpx.AsyncByteStream
    ) -> bool:
        status = response.status_code
        if status < 200:
            unasked = status == 101
            raise AnswerRefusedError("switches protocols unasked" if unasked else "not a status")
        used = exchange.stream
        if used is not None and not used.multiplexed and exchange.unanswered:
            # It was left over, behind the answer before: httpcore does not look.
            raise AnswerRefusedError("an answer nobody asked for")
        exchange.status = status
        raw = response.headers.raw
        if status >= 300:
            exchange.retry_after = _retry_after(raw)
        size = sum(len(name) + len(value) + _HEADER_OVERHEAD for name, value in raw)
        async for chunk in stream:
            if self._keep_response and chunk:
                kept = exchange.body or b""
                exchange.body = kept + chunk[: _LONGEST_KEPT - len(kept)]
            size += len(chunk)
            if size >= LONGEST_RESPONSE:
                return False
        return True

    def _factory(self) -> Callable[[Origin], httpcore.AsyncConnectionPool]:
        proxy = self._way.proxy
        secure = proxy is not None and proxy_of(proxy).url.scheme == "https"
        proxy_context = self._targets.context(None) if secure else None
        return lambda origin: factory_for(origin, self._way, self._backend, proxy_context)

    # --- how it ends ---------------------------------------------------------------------------

    def _failed(self, exchange: Exchange, error: Exception) -> None:
        """A status that is known counts, whatever became of the body."""
        if exchange.status is not None:
            self._settle(exchange, *_verdict(exchange.status))
        else:
            self._settle(exchange, *failure_of_exchange(exchange, error))

    def _overdue(self, exchange: Exchange) -> None:
        """Its time is over; an answer that came while the loop was held up is read first."""
        late = _monotonic() - exchange.deadline
        loop = asyncio.get_running_loop()
        if late < 0:  # uvloop counts in whole milliseconds
            exchange.timer = loop.call_later(0.001 - late, self._overdue, exchange)
        elif late > _LATE and not exchange.passed_over:
            exchange.passed_over = True
            exchange.timer = loop.call_later(_ONCE_MORE, self._overdue, exchange)
        elif exchange.status is None:
            self._cut(exchange, Kind.TIMEOUT, exchange.phase)
        elif 200 <= exchange.status < 300:
            self._cut(exchange, Kind.OK, "")
        else:
            self._cut(exchange, Kind.TIMEOUT, "body")

    def _cut(self, exchange: Exchange, kind: Kind, detail: str) -> None:
        """End it now; what httpx does to let go of its connection is not waited for."""
        assert exchange.task is not None
        exchange.task.cancel()
        self._settle(exchange, kind, detail)

    def _settle(self, exchange: Exchange, kind: Kind, detail: str) -> None:
        """Tell the end of an Attempt, once."""
        if exchange.ended:
            return
        exchange.ended = True
        self._under_way.discard(exchange)
        assert exchange.timer is not None
        exchange.timer.cancel()
        outcome = Outcome(
            kind,
            exchange.status,
            detail,
            exchange.retry_after,
            _monotonic() - exchange.started,
            exchange.address,
            exchange.body,
        )
        exchange.attempt.ended(exchange.attempt, outcome)


def _verdict(status: int | None) -> Failure:
    return (Kind.OK, "") if status is not None and status < 300 else (Kind.STATUS, "")


def _retry_after(headers: list[tuple[bytes, bytes]]) -> str | None:
    for name, value in headers:
        if name.lower() == b"retry-after":
            return value[:_LONGEST_RETRY_AFTER].decode("latin-1")
    return None
