"""Real HTTP receivers on loopback, well behaved and not: the other end of every delivery test.

    with Receiver() as receiver:
        receiver.url("/ok")             # http://127.0.0.1:PORT/ok
        receiver.url("/status/503")
        receiver.count("/ok")           # requests read whole, by path
        receiver.connections            # connections accepted

The first part of the path names the mode (see `MODES`), the parts after it are its arguments.
`receiver.modes["orders"] = my_mode` adds or replaces one, also while it runs. A receiver runs on a
thread and a loop of its own, so tests of any kind can use it; what it counts may be read at any
time.
"""

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias
from weakref import WeakSet

__all__ = ["MODES", "Call", "Mode", "Received", "Receiver", "closed_port", "wait_until"]


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a condition; AssertionError when it does not come true in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come true"
        time.sleep(0.002)


def closed_port() -> int:
    """A loopback port nobody listens on (and nobody is given soon)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@dataclass(frozen=True, slots=True)
class Received:
    """One request as read; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int


class Call:
    """One request in the hands of a mode, with the raw stream to answer on."""

    def __init__(
        self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.request = request
        self.arguments = request.path.split("?", 1)[0].strip("/").split("/")[1:]
        self.keep = request.headers.get("connection", "").lower() != "close"
        self._reader = reader
        self._writer = writer

    async def gone(self) -> None:
        """Wait until the other side has closed."""
        while await self._reader.read(65536):
            pass
        self.close()

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
        await asyncio.sleep(0)  # so that an endless answer learns that the other side has gone

    async def answer(self, status: int = 200, body: bytes = b"", *headers: str) -> None:
        lines = [f"HTTP/1.1 {status:03} {_reason(status)}", *headers]
        if status not in {204, 304}:
            lines.append(f"Content-Length: {len(body)}")
        await self.write("\r\n".join([*lines, "", ""]).encode() + body)

    def reset(self) -> None:
        """Close so that the other side gets a RST."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.keep = False


Mode: TypeAlias = Callable[[Call], Awaitable[None]]


def _reason(status: int) -> str:
    return {200: "OK", 204: "No Content", 410: "Gone"}.get(status, "Whatever")


async def _ok(call: Call) -> None:
    await call.answer(200, b"ok")


async def _no_content(call: Call) -> None:
    await call.answer(204)


async def _status(call: Call) -> None:
    """/status/503"""
    await call.answer(int(call.arguments[0]), b"no")


async def _not_found(call: Call) -> None:
    await call.answer(404)


async def _redirect(call: Call) -> None:
    """/redirect/307"""
    await call.answer(int(call.arguments[0]), b"", "Location: /ok")


async def _retry_after(call: Call) -> None:
    """/retry-after/503/120"""
    await call.answer(int(call.arguments[0]), b"", f"Retry-After: {call.arguments[1]}")


async def _drip(call: Call) -> None:
    """/drip/503/120: as `retry-after`, after an answer of 1xx, a few bytes at a time."""
    answer = (
        "HTTP/1.1 103 Early Hints\r\nRetry-After: 1\r\n\r\n"
        f"HTTP/1.1 {call.arguments[0]} Drip\r\nContent-Length: 20\r\n"
        f"RETRY-AFTER:{call.arguments[1]}\r\n\r\n\r\nRetry-After: 999\r\n"
    ).encode()
    for start in range(0, len(answer), 7):
        await call.write(answer[start : start + 7])
        await asyncio.sleep(0.001)


async def _chunked(call: Call) -> None:
    await call.write(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    )


async def _until_close(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil it closes")
    call.close()


async def _slow(call: Call) -> None:
    """/slow/0.2: a whole answer, after so many seconds."""
    await asyncio.sleep(float(call.arguments[0]))
    await call.answer(200, b"late")


async def _slow_head(call: Call) -> None:
    """/slow-head: one byte each 50 ms, never complete in time."""
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000:
        await call.write(bytes([byte]))
        await asyncio.sleep(0.05)


async def _slow_body(call: Call) -> None:
    """/slow-body/500: a head at once, a body that does not end."""
    head = f"HTTP/1.1 {call.arguments[0]} Slow\r\nContent-Length: 1000\r\nRetry-After: 7\r\n\r\n"
    await call.write(head.encode())
    for _ in range(1000):
        await call.write(b"x")
        await asyncio.sleep(0.05)


async def _silent(call: Call) -> None:
    await call.gone()


async def _close(call: Call) -> None:
    call.close()


async def _reset(call: Call) -> None:
    call.reset()


async def _garbage(call: Call) -> None:
    await call.write(b"SSH-2.0-OpenSSH_9.6\r\n")
    await call.gone()


async def _old(call: Call) -> None:
    """HTTP/0.9: a body and nothing else."""
    await call.write(b"<html>hello</html>")
    call.close()


async def _header_flood(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        await call.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")


async def _endless_body(call: Call) -> None:
    """/endless-body/200"""
    await call.write(f"HTTP/1.1 {call.arguments[0]} Endless\r\n\r\n".encode())
    while True:
        await call.write(b"x" * 8192)


async def _informational(call: Call) -> None:
    await call.write(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    await call.answer(200, b"ok")


async def _informational_flood(call: Call) -> None:
    while True:
        await call.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _switching(call: Call) -> None:
    await call.write(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\nhello"
    )
    await call.gone()


async def _pipelined(call: Call) -> None:
    """A 500, and behind it a second answer that nobody asked for."""
    await call.write(
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    )


async def _surplus(call: Call) -> None:
    """A 204 with a body, which it must not have."""
    await call.write(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello")


async def _unsolicited(call: Call) -> None:
    """A good answer, and 50 ms later bytes nobody asked for."""
    await call.answer(200, b"ok")
    await asyncio.sleep(0.05)
    await call.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def _closes_after(call: Call) -> None:
    """A good answer that promises to keep the connection, which is then closed."""
    await call.answer(200, b"ok")
    call.close()


async def _once(call: Call) -> None:
    """A good answer to the first request of a connection; at the second it closes without one."""
    if call.request.headers["x-on-connection"] == "1":
        await call.answer(200, b"ok")
    else:
        call.close()


async def _short_body(call: Call) -> None:
    """/short-body/500: promises ten bytes, sends five."""
    head = f"HTTP/1.1 {call.arguments[0]} Short\r\nContent-Length: 10\r\n\r\nhello"
    await call.write(head.encode())
    call.close()


async def _bad_chunk(call: Call) -> None:
    """/bad-chunk/500"""
    head = f"HTTP/1.1 {call.arguments[0]} Bad\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n"
    await call.write(head.encode())
    await call.gone()


async def _half_head(call: Call) -> None:
    await call.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    call.close()


MODES: dict[str, Mode] = {
    "ok": _ok,
    "no-content": _no_content,
    "status": _status,
    "redirect": _redirect,
    "retry-after": _retry_after,
    "drip": _drip,
    "chunked": _chunked,
    "until-close": _until_close,
    "slow": _slow,
    "slow-head": _slow_head,
    "slow-body": _slow_body,
    "silent": _silent,
    "close": _close,
    "reset": _reset,
    "garbage": _garbage,
    "old": _old,
    "header-flood": _header_flood,
    "endless-body": _endless_body,
    "informational": _informational,
    "informational-flood": _informational_flood,
    "switching": _switching,
    "pipelined": _pipelined,
    "surplus": _surplus,
    "unsolicited": _unsolicited,
    "closes-after": _closes_after,
    "once": _once,
    "short-body": _short_body,
    "bad-chunk": _bad_chunk,
    "half-head": _half_head,
}


class Receiver:
    """A server on 127.0.0.1; `tls` makes it speak TLS, `reads=False` accepts and reads nothing."""

    def __init__(self, tls: ssl.SSLContext | None = None, *, reads: bool = True) -> None:
        self.modes = dict(MODES)
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        self.port = 0
        self._tls = tls
        self._reads = reads
        self._paths: Counter[str] = Counter()
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: WeakSet[asyncio.StreamWriter] = WeakSet()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(60), "the receiver did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(40)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{host}:{self.port}{path}"

    def count(self, path: str) -> int:
        """How many requests for exactly this path were read whole."""
        return self._paths[path]

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_only_bugs)
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        ours = {asyncio.current_task()}
        begun: set[asyncio.Task[object]] = set()
        # A connection whose transport is made after `close` is lost sight of (CPython 3.11).
        while new := asyncio.all_tasks() - ours - begun:
            begun |= new
            await asyncio.sleep(0)
        server.close()
        # Who was accepted in this very moment has no task yet, but the loop's own that makes one.
        while others := asyncio.all_tasks() - ours:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(others, timeout=0.2)
            for task in others - self._tasks:
                task.cancel()  # a handshake that nobody goes on with
        for writer in list(self._writers):  # also what was closed and could not all be sent
            writer.transport.abort()
        for _ in range(10):  # aborted connections are closed in the loop's next rounds
            await asyncio.sleep(0.001)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        task = asyncio.create_task(self._talk(reader, writer, self.connections))
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(task, writer))

    def _ended(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        """Also of one that was cancelled before it began: nothing in it was run then."""
        self._tasks.discard(task)
        self.open -= 1
        if task.cancelled():
            writer.transport.abort()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> None:
        try:
            if not self._reads:
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # typed as write-only
                await asyncio.sleep(3600)
            number = 0
            while request := await _read(reader, connection, number := number + 1):
                self.requests.append(request)
                self._paths[request.path] += 1
                call = Call(request, reader, writer)
                mode = request.path.strip("/").split("/")[0].split("?")[0]
                await self.modes.get(mode, _not_found)(call)
                if not call.keep:
                    break
            await writer.drain()
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()


def _only_bugs(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Failed handshakes and broken connections are what these receivers are for."""
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


async def _read(reader: asyncio.StreamReader, connection: int, number: int) -> Received | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, path, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, value in (ln.split(":", 1) for ln in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    headers["x-on-connection"] = str(number)
    return Received(method, path, headers, body, connection)
