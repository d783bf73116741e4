"""The port for probes, with clients that want to use it up: it answers /livez all the same."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from thorn_stream.adapters.probes import Probes

MOST = 16
WITHIN = 30.0
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
PAGE = b"x" * (1 << 20)

Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _loris(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 10_000:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.01)


async def _long_line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /")
    while True:
        writer.write(b"x" * 1000)
        await writer.drain()


async def _long_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /livez HTTP/1.1\r\n")
    while True:
        writer.write(b"X: y\r\n" * 100)
        await writer.drain()


async def _pipelining(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(LIVEZ * 1000)
    await writer.drain()
    await reader.read()


async def _not_reading(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    await asyncio.sleep(WITHIN)


async def _endless_post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"POST /livez HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"5\r\nhello\r\n" * 100)
        await writer.drain()


CLIENTS = {
    "idle": _idle,
    "slow loris": _loris,
    "a request line without end": _long_line,
    "a head without end": _long_head,
    "a thousand requests at once": _pipelining,
    "a page that is not read": _not_reading,
    "a body without end": _endless_post,
}


async def _again_and_again(port: int, client: Client) -> None:
    """A client that comes back as soon as it is turned away."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await client(reader, writer)
            finally:
                writer.transport.abort()
        await asyncio.sleep(0.1)


@asynccontextmanager
async def besieged(probes: Probes, client: Client) -> AsyncIterator[int]:
    """Twice as many clients as it takes connections."""
    port = await probes.start("127.0.0.1", 0)
    clients = [asyncio.create_task(_again_and_again(port, client)) for _ in range(2 * MOST)]
    try:
        yield port
    finally:
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)
        await probes.stop()


async def _livez(port: int) -> bytes:
    """One answer; who is turned away for a place tries again, as a kubelet does."""
    async with asyncio.timeout(WITHIN):
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(LIVEZ)
                answer = await reader.read()
                writer.transport.abort()
                if answer:
                    return answer
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("who", CLIENTS)
def test_livez_is_answered_whoever_besieges_the_port(who: str) -> None:
    """Again and again, with never more connections open than are allowed."""

    async def run() -> None:
        probes = Probes(
            reasons=list,
            metrics=lambda: (PAGE, "text/plain"),
            timeout=1.0,
            max_connections=MOST,
        )
        async with besieged(probes, CLIENTS[who]) as port:
            for _ in range(3):
                assert (await _livez(port)).startswith(b"HTTP/1.1 200 OK\r\n")
                assert probes.open <= MOST
                await asyncio.sleep(0.05)
        assert probes.open == 0

    asyncio.run(run())


def test_pipelined_requests_have_one_answer() -> None:
    """The connection is closed after it; the rest is not even looked at."""

    async def run() -> None:
        probes = Probes(reasons=list, metrics=lambda: (PAGE, "text/plain"))
        port = await probes.start("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LIVEZ * 3)
        answer = b""
        with suppress(ConnectionResetError):  # what was not read may make a reset of the close
            while part := await asyncio.wait_for(reader.read(65536), WITHIN):
                answer += part
        writer.transport.abort()
        await probes.stop()
        assert answer.count(b"HTTP/1.1 ") == 1

    asyncio.run(run())


def test_scrapes_without_a_pause_do_not_take_the_loop() -> None:
    """/metrics is made anew for a fifth of the time at most, however often it is asked for."""
    made = 0
    cost = 0.02

    def costly() -> tuple[bytes, str]:
        nonlocal made
        made += 1
        began = time.thread_time()
        while time.thread_time() - began < cost:
            pass
        return b"thorn %d\n" % made, "text/plain"

    async def run() -> float:
        probes = Probes(reasons=list, metrics=costly)
        port = await probes.start("127.0.0.1", 0)
        began = time.monotonic()
        seen = set()
        for _ in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
            seen.add((await asyncio.wait_for(reader.read(), WITHIN)).rpartition(b"\r\n")[2])
            writer.transport.abort()
        took = time.monotonic() - began
        await probes.stop()
        assert len(seen) == made
        return took

    took = asyncio.run(run())
    # each time it takes `cost`, or longer, and four times that is let go by before the next
    assert made <= took / (5 * cost) + 1
