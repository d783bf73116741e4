"""The pool: which connection a request gets, how many there may be, when they end.

A request on a warm connection costs no task, timer or future: one sweep each 20 ms, while anything
is under way, ends what is overdue. A request without a connection is a `Waiting` with one task.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Final

from thorn_stream.adapters.http.connection import (
    LONGEST_RESPONSE,
    Connection,
    KeepingConnection,
)
from thorn_stream.adapters.http.dialling import Dialler, Resolver, Waiting
from thorn_stream.adapters.http.failures import DialFailedError, Failure
from thorn_stream.adapters.http.targets import Origin, Target, Targets
from thorn_stream.core.deliveries import Attempt, Kind, Outcome
from thorn_stream.core.errors import SecurityError
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.urls import Refusal
from thorn_stream.core.validators import Guard

__all__ = ["NativeTransport"]

_SWEEP: Final = 0.02
_LATE: Final = 0.1
_TIDY: Final = 1.0
_LIFETIME: Final = 60.0
_IDLE: Final = 20.0
_CLOSING: Final = 1.0
_PROBES: Final = tuple(
    ip_address(text) for text in ("127.0.0.1", "::1", "169.254.169.254", "fd00:ec2::254")
)

_monotonic = time.monotonic


class NativeTransport:
    """`ports.Transport` over HTTP/1.1 and TLS, for one event loop.

    At most `max_connections` are open; idle ones make room, then requests wait their turn inside
    their own deadline. `ca_file` is added to the system's authorities (`ConfigurationError` when
    it cannot be read). `keep_response` keeps the first KiB of each response body. `connects`
    counts the connections made.
    """

    def __init__(
        self,
        guard: Guard,
        resolver: Resolver,
        *,
        max_connections: int,
        ca_file: str | None = None,
        keep_response: bool = False,
    ) -> None:
        self.buffer = memoryview(bytearray(LONGEST_RESPONSE))
        self.connects = 0
        self._guard = guard
        self._resolver = resolver
        self._max = max_connections
        self._targets = Targets(guard, ca_file)
        self._kind = KeepingConnection if keep_response else Connection
        self._dialler = Dialler(guard, resolver, self._connection)
        self._alive: set[Connection] = set()
        self._busy: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # the one idle for longest first
        self._waiting: set[Waiting] = set()
        self._queue: deque[Waiting] = deque()
        self._dialling: set[asyncio.Task[None]] = set()
        self._sweeping = False
        self._swept = 0.0
        self._passed_over = False
        self._tidying: asyncio.TimerHandle | None = None
        self._stopped = False
        self._all_closed = asyncio.Event()

    # --- the port ------------------------------------------------------------------------------

    def target(self, subscriber: Subscriber) -> Target:
        """Prepare a Subscriber's URL; never raises."""
        return self._targets.make(subscriber)

    def send(self, attempt: Attempt) -> None:
        """Start one request; `attempt.ended` follows once, never from inside this call."""
        target: Any = attempt.target  # made by `target`
        now = _monotonic()
        refused = target.refused
        if refused is None and attempt.guard is not None:
            refused = _refused(attempt.guard, target)
        if refused is not None or self._stopped:
            kind, detail = refused or (Kind.CONNECT, "stopped")
            outcome = Outcome(kind, detail=detail)
            asyncio.get_running_loop().call_soon(attempt.ended, attempt, outcome)
            return
        if not self._sweeping:
            self._start_sweeping(now)
        idle = target.origin.idle
        while idle and attempt.keep_alive:
            connection = idle.pop()
            del self._idle[connection]
            if connection.expires > now:  # one that closes this moment is replayed
                self._busy.add(connection)
                connection.begin(attempt, now, now + attempt.timeout)
                return
            connection.abort()
        self._wait(Waiting(attempt, target, now, now + attempt.timeout))

    def under_way(self) -> Iterator[Attempt]:
        """Those with a connection, and those without."""
        for connection in self._busy:
            if connection.attempt is not None:
                yield connection.attempt
        for waiting in self._waiting:
            yield waiting.attempt

    def abort(self, which: Callable[[Attempt], bool]) -> None:
        """End those that `which` picks as `connect`, `aborted`; their connections are closed."""
        for connection in list(self._busy):
            if connection.attempt is not None and which(connection.attempt):
                connection.ended_by_us("aborted")
        for waiting in list(self._waiting):
            if which(waiting.attempt):
                self._end(waiting, Kind.CONNECT, "aborted")

    async def stop(self) -> None:
        """Close every connection; requests under way end as `connect`, `stopped`."""
        self._stopped = True
        for connection in list(self._busy):
            connection.ended_by_us("stopped")
        for connection in list(self._idle):
            self.drop(connection)
        for waiting in list(self._waiting):
            self._end(waiting, Kind.CONNECT, "stopped")
        self._resolver.stop()
        if self._tidying is not None:
            self._tidying.cancel()
        while self._dialling:
            await asyncio.wait(self._dialling)
        if self._alive:
            self._all_closed.clear()
            for connection in self._alive:
                connection.abort()
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    await self._all_closed.wait()

    async def self_test(self) -> None:
        """Ask for connections to loopback and cloud metadata, which must all be refused.

        What the settings let through on purpose is left out. Raises `SecurityError` when one is
        not refused before any packet.
        """
        for address in _PROBES:
            if self._guard.refuses(address) and not await self._dialler.refuses(address):
                raise SecurityError(
                    f"self-test: {address} would be dialled although the validators refuse it; "
                    "nothing is delivered until that is mended"
                )

    # --- counters ------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """Connections open or being opened."""
        return len(self._alive) + len(self._dialling)

    @property
    def idle(self) -> int:
        """Open connections that no request uses."""
        return len(self._idle)

    # --- what connections tell -----------------------------------------------------------------

    def made(self, connection: Connection) -> None:
        self._alive.add(connection)
        self.connects += 1

    def freed(self, connection: Connection, now: float, reusable: bool) -> None:
        self._busy.discard(connection)
        if not reusable or connection.expires <= now or self._stopped:
            connection.abort()
        elif self._queue:
            self._pass_on(connection, now)
        else:
            connection.idle_since = now
            connection.origin.idle.append(connection)
            self._idle[connection] = None
            if self._tidying is None:
                self._tidying = asyncio.get_running_loop().call_later(_TIDY, self._tidy)

    def replay(self, connection: Connection, attempt: Attempt) -> None:
        """Once: the new connection is a fresh one, and only a reused one is replayed."""
        self._busy.discard(connection)
        self._wait(Waiting(attempt, attempt.target, connection.started, connection.deadline))

    def drop(self, connection: Connection) -> None:
        if connection in self._idle:
            del self._idle[connection]
            connection.origin.idle.remove(connection)
        connection.abort()

    def closed(self, connection: Connection) -> None:
        self.drop(connection)
        self._alive.discard(connection)
        if not self._alive:
            self._all_closed.set()
        self._next()

    # --- how a request gets a connection -------------------------------------------------------

    def _connection(self, origin: Origin, address: str) -> Connection:
        return self._kind(self, origin, address, _LIFETIME)

    def _begin(self, connection: Connection, waiting: Waiting) -> None:
        waiting.ended = True
        self._waiting.discard(waiting)
        self._busy.add(connection)
        connection.begin(waiting.attempt, waiting.started, waiting.deadline)

    def _wait(self, waiting: Waiting) -> None:
        self._waiting.add(waiting)
        self._queue.append(waiting)
        self._next()

    def _next(self) -> None:
        """Let the first in the queue dial, as long as there is room or an idle one makes room."""
        queue = self._queue
        while queue:
            if queue[0].ended:
                queue.popleft()
            elif self.open < self._max:
                waiting = queue.popleft()
                task = asyncio.get_running_loop().create_task(self._dial(waiting))
                waiting.task = task
                self._dialling.add(task)
                task.add_done_callback(self._dialled)
            elif self._idle:
                self.drop(next(iter(self._idle)))  # its end calls here again
                return
            else:
                return

    def _pass_on(self, connection: Connection, now: float) -> None:
        """A connection is free while others wait: it serves the first, or makes room for it."""
        queue = self._queue
        while queue:
            first = queue[0]
            if first.ended:
                queue.popleft()
                continue
            if first.target.origin is not connection.origin or not first.attempt.keep_alive:
                connection.abort()
                return
            queue.popleft()
            refusal = first.guard and first.guard.address(ip_address(connection.address))
            if not refusal:
                self._begin(connection, first)
                return
            first.address = connection.address
            loop = asyncio.get_running_loop()
            loop.call_soon(self._end, first, Kind.BLOCKED, refusal.rule)
        self.freed(connection, now, reusable=True)

    async def _dial(self, waiting: Waiting) -> None:
        try:
            connection = await self._dialler.open(waiting)
        except DialFailedError as failed:
            waiting.address = failed.address
            self._end(waiting, failed.kind, failed.detail)
            return
        except Exception as error:
            self._end(waiting, Kind.CONNECT, type(error).__name__)
            raise
        if not connection.usable:
            self._end(waiting, *(connection.gone or (Kind.CONNECT, "closed")))
            return
        if waiting.ended:  # by the sweep, in the very moment the connection was made
            connection.abort()
            return
        if waiting.deadline <= _monotonic():
            # the process stood still: what would be sent now may be somebody else's turn by now
            connection.abort()
            self._end(waiting, Kind.TIMEOUT, waiting.phase)
            return
        self._begin(connection, waiting)

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dialling.discard(task)
        self._next()

    def _end(self, waiting: Waiting, kind: Kind, detail: str) -> None:
        """A request ends that has got no connection."""
        if waiting.ended:
            return
        waiting.ended = True
        self._waiting.discard(waiting)
        attempt = waiting.attempt
        if waiting.task is not None and waiting.task is not asyncio.current_task():
            waiting.task.cancel()
        duration = _monotonic() - waiting.started
        attempt.ended(
            attempt,
            Outcome(kind, detail=detail, duration=duration, address=waiting.address),
        )

    # --- what is overdue -----------------------------------------------------------------------

    def _start_sweeping(self, now: float) -> None:
        self._sweeping = True
        self._swept = now
        asyncio.get_running_loop().call_later(_SWEEP, self._sweep)

    def _sweep(self) -> None:
        """End what is overdue; answers that came while the loop was held up are read first."""
        now = _monotonic()
        try:
            if now - self._swept < _LATE or self._passed_over:
                self._passed_over = False
                self._end_overdue(now)
            else:
                self._passed_over = True
        finally:
            self._sweeping = False
            if self._busy or self._waiting:
                self._start_sweeping(_monotonic())

    def _end_overdue(self, now: float) -> None:
        for connection in [busy for busy in self._busy if busy.deadline <= now]:
            connection.overdue()
        for waiting in [waiting for waiting in self._waiting if waiting.deadline <= now]:
            self._end(waiting, Kind.TIMEOUT, waiting.phase)

    def _tidy(self) -> None:
        """Close idle connections that are too old."""
        self._tidying = None
        now = _monotonic()
        for connection in list(self._idle):
            if connection.expires <= now or now - connection.idle_since >= _IDLE:
                self.drop(connection)
        if self._idle:
            self._tidying = asyncio.get_running_loop().call_later(_TIDY, self._tidy)


def _refused(guard: Guard, target: Target) -> Failure | None:
    """Whether the guard of one request refuses its URL, or where its kept connections lead.

    One of several addresses is enough, as when a name is looked up.
    """
    if target.url is None:
        return Kind.BLOCKED, "url"
    url = guard.url(target.url.text)
    if isinstance(url, Refusal):
        return Kind.BLOCKED, url.rule
    for address in {connection.address for connection in target.origin.idle}:
        refusal = guard.address(ip_address(address))
        if refusal is not None:
            return Kind.BLOCKED, refusal.rule
    return None
