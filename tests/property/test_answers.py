"""Answers of strangers: whatever bytes come back, each request ends once, as an Outcome."""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.envelope import Envelope
from thorn_stream.core.ledger import Entry, Ledger, Tally
from thorn_stream.core.records import Partition, Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import Guard

GUARD: Final = Guard.from_names([["block_internal_ips"]], ["127.0.0.1/32"])
PATIENCE: Final = 60.0

_LINES: Final = (
    *("HTTP/1.1 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.1 410 Gone", "HTTP/1.0 200 OK"),
    *("HTTP/1.1 503 Busy", "HTTP/1.1 100 Continue", "HTTP/1.1 103 Early Hints", "HTTP/1.1 101 X"),
    *("HTTP/1.1 000 No", "HTTP/1.1 999 No", "HTTP/1.1 99999999999 No", "HTTP/1.1 -1 No"),
    *("HTTP/2.0 200 OK", "HTTP/0.9 200 OK", "HTTP/1.1", "HTTP/1.1 20", "http/1.1 200 ok", ""),
    *("SSH-2.0-OpenSSH_9.6", "\x16\x03\x01\x02", "GET / HTTP/1.1", "HTTP/1.1\t200\tOK"),
)
_HEADERS: Final = (
    *("Content-Length: 0", "Content-Length: 2", "Content-Length: 10", "Content-Length: -1"),
    *("Content-Length: 18446744073709551616", "Content-Length: 2, 2", "Content-Length: 0x2"),
    *("Transfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: x"),
    *("Connection: close", "Connection: keep-alive", "Connection: upgrade", "Upgrade: websocket"),
    *(
        "Retry-After: 5",
        "Retry-After: 99999999999999999999",
        "Retry-After: \xff\x00",
        "Retry-After:",
    ),
    *("Location: http://169.254.169.254/", "Content-Encoding: gzip", "Set-Cookie: a=b"),
    *("X: " + "a" * 9000, "no colon", ": no name", " folded: yes", "X\x00: 1", "X : 1", "\xe9: 1"),
)
_BODIES: Final = (
    *(
        b"",
        b"ok",
        b"0\r\n\r\n",
        b"2\r\nok\r\n0\r\n\r\n",
        b"zz\r\nok\r\n",
        b"FFFFFFFFFFFFFFFFF\r\nok",
    ),
    *(b"2;x=" + b"y" * 5000 + b"\r\nok\r\n", b"a" * 70_000, b"\x1f\x8b\x08\x00" + b"\x00" * 50),
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
)


@st.composite
def answers(draw: st.DrawFn) -> list[bytes]:
    """Pieces of an answer, as they are written one after another."""
    text = bytearray()
    for _ in range(draw(st.integers(1, 3))):
        line = draw(st.sampled_from(_LINES))
        headers = draw(st.lists(st.sampled_from(_HEADERS), max_size=4))
        end = draw(st.sampled_from(["\r\n", "\r\n", "\r\n", "\n", "\r"]))
        text += end.join([line, *headers, "", ""]).encode("latin-1")
        text += draw(st.sampled_from(_BODIES))
    for _ in range(draw(st.sampled_from([0, 0, 1, 3]))):  # bent somewhere
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=4))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    return [bytes(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


class Bench:
    """A transport and a receiver on one loop: the receiver writes what it is told, and closes."""

    def __init__(self, kind: Any, *, keep: bool) -> None:
        self.errors: list[dict[str, Any]] = []
        self.runner = asyncio.Runner()
        self.runner.get_loop().set_exception_handler(lambda _, told: self.errors.append(told))
        self.keep = keep
        self.pieces: list[bytes] = []
        self.server = self.runner.run(self._listen())
        self.transport = self.runner.run(self._make(kind))
        port = self.server.sockets[0].getsockname()[1]
        self.subscriber = Subscriber(id="one", event=("*",), url=f"http://127.0.0.1:{port}/")

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _make(self, kind: Any) -> Any:
        return kind(GUARD, Resolver(), max_connections=10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n{}")
            for piece in self.pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _post(self) -> list[Outcome]:
        told: list[Outcome] = []
        done = asyncio.Event()

        def ended(_: Attempt, outcome: Outcome) -> None:
            told.append(outcome)
            done.set()

        record = Record("orders", 0, 0, None, b"{}", [], 0)
        entry = Entry(Ledger(Partition("orders", 0), 0, 100, Tally()), 0, 1)
        delivery = Delivery(Envelope("a.b", "1", record), self.subscriber, "d", entry)
        target = self.transport.target(self.subscriber)
        self.transport.send(Attempt(delivery, target, b"", b"{}", PATIENCE, self.keep, ended, None))
        async with asyncio.timeout(PATIENCE * 2):
            await done.wait()
        for _ in range(3):  # a second end would come with what is left on the loop
            await asyncio.sleep(0)
        return told

    def post(self, pieces: list[bytes]) -> Outcome:
        self.pieces = pieces
        (outcome,) = self.runner.run(self._post())
        return outcome

    def close(self) -> None:
        self.runner.run(self.transport.stop())
        assert self.transport.open == 0
        self.server.close()
        self.runner.close()
        assert self.errors == []


@pytest.fixture(scope="module", params=["native", "httpx"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    one = Bench(NativeTransport if request.param == "native" else HttpxTransport, keep=True)
    yield one
    one.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(answers())
@example([b""])
@example([b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 70_000])
@example([b"HTTP/1.1 100 Continue\r\n\r\n" * 100])
@example([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" * 3])
def test_every_answer_is_an_outcome(bench: Bench, pieces: list[bytes]) -> None:
    """Once, within its time, with a status that was there, and whatever was read forgotten."""
    outcome = bench.post(pieces)
    assert outcome.kind in {Kind.OK, Kind.STATUS, Kind.PROTOCOL, Kind.CONNECT}
    assert outcome.duration < PATIENCE
    assert outcome.body is None
    if outcome.kind is Kind.OK:
        assert outcome.status is not None
        assert 200 <= outcome.status < 300
    if outcome.kind is Kind.STATUS:
        assert outcome.status is not None
        assert outcome.status >= 300
    if outcome.status is None:
        assert outcome.detail
    assert len(outcome.retry_after or "") <= 128
    assert outcome.detail.isprintable()
