"""The probes: what they answer, and that no client can keep others out."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from thorn_stream.adapters.probes import Probes
from thorn_stream.core.errors import LocalError

GET = "GET {} HTTP/1.1\r\nHost: a\r\n\r\n"


def failing() -> tuple[bytes, str]:
    raise ZeroDivisionError


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request; the status, the headers and the body of the answer, read to its end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.split(": ", 1) for line in rest), body


def serve(
    test: Callable[[int], Awaitable[None]],
    *,
    reasons: Sequence[str] = (),
    metrics: Callable[[], tuple[bytes, str]] = lambda: (b"thorn 1\n", "text/x"),
    timeout: float = 5.0,
    max_connections: int = 64,
) -> None:
    """Run the test against probes on a free port, and stop them."""

    async def run() -> None:
        probes = Probes(
            reasons=lambda: reasons,
            metrics=metrics,
            timeout=timeout,
            max_connections=max_connections,
        )
        port = await probes.start("127.0.0.1", 0)
        try:
            await test(port)
        finally:
            await probes.stop()

    asyncio.run(run())


@asynccontextmanager
async def connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def cut_off(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side has closed; True when it did so before a whole answer."""
    try:
        answer = await asyncio.wait_for(reader.read(), 10)
    except ConnectionResetError:
        return True
    head, _, body = answer.partition(b"\r\n\r\n")
    return f"Content-Length: {len(body)}\r\n".encode() not in head


@pytest.mark.parametrize(
    ("path", "reasons", "status", "body"),
    [
        ("/livez", ["no broker"], 200, b"ok\n"),
        ("/readyz", [], 200, b"ok\n"),
        ("/readyz", ["no broker", "topic x\nis missing"], 503, b"no broker\ntopic x is missing\n"),
        ("/readyz?verbose=1", [], 200, b"ok\n"),
        ("/metrics", [], 200, b"thorn 1\n"),
        ("/", [], 404, b"Not Found\n"),
        ("/livez/", [], 404, b"Not Found\n"),
    ],
)
def test_each_page_has_its_answer(path: str, reasons: list[str], status: int, body: bytes) -> None:
    """Liveness ignores Kafka, readiness has one line per reason, and nothing else is served."""

    async def test(port: int) -> None:
        got, headers, text = await ask(port, GET.format(path).encode())
        assert (got, text) == (status, body)
        assert int(headers["Content-Length"]) == len(body)
        assert headers["Connection"] == "close"

    serve(test, reasons=reasons)


def test_metrics_keep_the_content_type_of_the_exposition() -> None:
    """A scraper is told which format it gets."""

    async def test(port: int) -> None:
        _, headers, _ = await ask(port, GET.format("/metrics").encode())
        assert headers["Content-Type"] == "text/x"

    serve(test)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /livez HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 405),
        (b"DELETE /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET /livez\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_get_of_a_page_is_refused(request_: bytes, status: int) -> None:
    """Other methods, garbage and heads over 8 KiB get the status that says so."""

    async def test(port: int) -> None:
        got, headers, _ = await ask(port, request_)
        assert got == status
        assert ("Allow" in headers) == (status == 405)

    serve(test)


def test_head_is_answered_without_a_body() -> None:
    """The headers are those of a GET, its length too; no body follows."""

    async def test(port: int) -> None:
        status, headers, body = await ask(port, b"HEAD /readyz HTTP/1.1\r\n\r\n")
        assert (status, headers["Content-Length"], body) == (503, "10", b"")
        status, _, body = await ask(port, b"HEAD /nothing HTTP/1.1\r\n\r\n")
        assert (status, body) == (404, b"")

    serve(test, reasons=["no broker"])


def test_a_page_that_fails_is_a_500_and_the_server_goes_on() -> None:
    """A gauge that raises breaks one scrape, not the probes."""

    async def test(port: int) -> None:
        status, _, body = await ask(port, GET.format("/metrics").encode())
        assert (status, body) == (500, b"Internal Server Error\n")
        assert (await ask(port, GET.format("/livez").encode()))[0] == 200

    serve(test, metrics=failing)


@pytest.mark.parametrize("sent", [b"", b"GET /livez HT"])
def test_a_client_that_does_not_send_is_cut_off(sent: bytes) -> None:
    """Who has not sent a whole head when the time is up is closed without an answer."""

    async def test(port: int) -> None:
        async with connected(port) as (reader, writer):
            writer.write(sent)
            assert await cut_off(reader)

    serve(test, timeout=0.05)


def test_a_client_that_does_not_read_is_cut_off() -> None:
    """An answer that is read too slowly ends when the time is up, wherever it was."""
    size = 64 << 20

    async def test(port: int) -> None:
        got = 0
        async with connected(port) as (reader, writer):
            writer.write(GET.format("/metrics").encode())
            with suppress(ConnectionResetError):
                while chunk := await reader.read(1 << 16):
                    got += len(chunk)
                    await asyncio.sleep(0.001)  # 1,000 of these are 20 times the time allowed
        assert 0 < got < size

    serve(test, timeout=0.05, metrics=lambda: (b"x" * size, "text/plain"))


def test_idle_connections_do_not_keep_a_probe_out() -> None:
    """With every place taken by silent clients, the oldest gives way and the probe is answered."""

    async def test(port: int) -> None:
        async with connected(port) as oldest, connected(port), connected(port) as newest:
            for _ in range(2):
                assert (await ask(port, GET.format("/livez").encode()))[0] == 200
            assert await cut_off(oldest[0])
            newest[1].write(GET.format("/livez").encode())
            assert not await cut_off(newest[0])

    serve(test, max_connections=3, timeout=30)


def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    """Closing before or in the middle of a request is no error, and the next one is served."""

    async def test(port: int) -> None:
        for sent in (b"", b"GET /liv"):
            async with connected(port) as (_, writer):
                writer.write(sent)
        assert (await ask(port, GET.format("/livez").encode()))[0] == 200

    serve(test)


def test_a_port_that_is_taken_is_named_with_its_setting() -> None:
    """The one-line error says host, port, setting and variable."""

    async def run(port: int) -> None:
        probes = Probes(reasons=list, metrics=failing)
        await probes.start("127.0.0.1", port)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(LocalError) as raised:
            asyncio.run(run(port))
    text = str(raised.value)
    assert f"127.0.0.1:{port}" in text
    assert "http.port" in text
    assert "THORN_HTTP__PORT" in text
    assert "\n" not in text


def test_stopping_closes_the_port_and_what_is_open() -> None:
    """After `stop` nobody is connected and nobody can connect; stopping unstarted is nothing."""

    async def run() -> None:
        probes = Probes(reasons=list, metrics=failing)
        await probes.stop()
        port = await probes.start("127.0.0.1", 0)
        async with connected(port) as (reader, writer):
            writer.write(b"GET")
            assert (await ask(port, GET.format("/livez").encode()))[0] == 200
            await probes.stop()
            assert await cut_off(reader)
        with pytest.raises(OSError, match=r"refused|Connect"):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(run())
