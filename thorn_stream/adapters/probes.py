"""A small HTTP server for /livez, /readyz and /metrics: for kubelets and Prometheus, no more.

It may face a network: a request's head is bounded in size, an exchange in time, connections in
number, and the making of /metrics in its part of the loop. When all connections are taken the
oldest gives way, so that idle ones cannot keep a probe out.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from thorn_stream.core.errors import LocalError

__all__ = ["Probes"]

_LARGEST_HEAD: Final = 8192
_PAUSES: Final = 4  # times the CPU that making /metrics took, until it is made anew
_LONGEST_PAUSE: Final = 1.0
_TEXT: Final = "text/plain; charset=utf-8"
_log = logging.getLogger(__name__)


class _Answer(NamedTuple):
    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT


class Probes:
    """Answers GET and HEAD, one request per connection.

    `reasons` says in one line each why the process is not ready; none: it is. `metrics` gives the
    exposition and its content type. `timeout` in seconds covers a whole exchange.
    """

    def __init__(
        self,
        reasons: Callable[[], Sequence[str]],
        metrics: Callable[[], tuple[bytes, str]],
        *,
        timeout: float = 5.0,
        max_connections: int = 64,
    ) -> None:
        self._reasons = reasons
        self._metrics = metrics
        self._timeout = timeout
        self._max_connections = max_connections
        self._open: dict[asyncio.Task[None], None] = {}  # oldest first
        self._server: asyncio.Server | None = None
        self._stopped = False
        self._exposed = _Answer(HTTPStatus.OK, b"")
        self._exposed_until = 0.0

    @property
    def open(self) -> int:
        """Connections open now; never more than `max_connections`."""
        return len(self._open)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (of 0, the one that was free). Raises `LocalError`."""
        self._stopped = False
        try:
            self._server = await asyncio.start_server(
                self._accept, host, port, limit=_LARGEST_HEAD, backlog=self._max_connections
            )
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise LocalError(
                f"cannot listen on {host}:{port}: {why}; set http.port (THORN_HTTP__PORT) to a "
                "free port, or http.host (THORN_HTTP__HOST) to an address of this machine"
            ) from error
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        """Close the port and every connection."""
        self._stopped = True
        if self._server is not None:
            self._server.close()
        tasks = tuple(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._stopped:  # it was accepted in the moment the port was closed
            writer.transport.abort()
            return
        if len(self._open) >= self._max_connections:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.cancel()
        task = asyncio.get_running_loop().create_task(self._exchange(reader, writer))
        self._open[task] = None

        def ended(task: asyncio.Task[None]) -> None:
            self._open.pop(task, None)
            writer.transport.abort()  # also of one that was cancelled before it began

        task.add_done_callback(ended)

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                answer, with_body = await self._answer(reader)
                writer.write(_head(answer))
                if with_body:  # by itself: so the same bytes serve all who read slowly
                    writer.write(answer.body)
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            return  # the client's own doing: too slow, or gone

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[_Answer, bool]:
        """Read one request's head; the answer, and whether its body is to be sent."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            return _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), True
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _plain(HTTPStatus.BAD_REQUEST), True
        method, target, _ = words
        page = self._page(target.partition(b"?")[0])
        if page is None:
            return _plain(HTTPStatus.NOT_FOUND), method != b"HEAD"
        if method not in {b"GET", b"HEAD"}:
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED), True
        try:
            return page(), method == b"GET"
        except Exception:  # noqa: BLE001 - a gauge that fails must not take /livez along
            _log.exception("%s failed", target.decode("latin-1"))
            return _plain(HTTPStatus.INTERNAL_SERVER_ERROR), method == b"GET"

    def _page(self, path: bytes) -> Callable[[], _Answer] | None:
        pages = {b"/livez": self._livez, b"/readyz": self._readyz, b"/metrics": self._exposition}
        return pages.get(path)

    def _livez(self) -> _Answer:
        return _plain(HTTPStatus.OK)  # that the loop came round to it is the answer

    def _readyz(self) -> _Answer:
        reasons = self._reasons()
        if not reasons:
            return _plain(HTTPStatus.OK)
        text = "".join(" ".join(reason.split()) + "\n" for reason in reasons)
        return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, text.encode())

    def _exposition(self) -> _Answer:
        """Made for a fifth of the time at most: who asks more often is shown the last one."""
        if time.monotonic() >= self._exposed_until:
            began = time.thread_time()
            self._exposed = _Answer(HTTPStatus.OK, *self._metrics())
            cost = time.thread_time() - began
            self._exposed_until = time.monotonic() + min(_PAUSES * cost, _LONGEST_PAUSE)
        return self._exposed


def _plain(status: HTTPStatus) -> _Answer:
    text = "ok" if status is HTTPStatus.OK else status.phrase
    return _Answer(status, text.encode() + b"\n")


def _head(answer: _Answer) -> bytes:
    allow = "Allow: GET, HEAD\r\n" if answer.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    return (
        f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        f"{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    ).encode("latin-1")
