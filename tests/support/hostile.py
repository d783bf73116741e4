"""Receivers that misbehave, one row for each way: what they do, and what must come of it.

`ROWS` is the table; `Stage` runs all of them on loopback. `page` is the same table as documentation
shows it (docs/security.md), and a test holds the two together.
"""

import asyncio
import gzip
import socketserver
import ssl
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from tempfile import NamedTemporaryFile
from threading import Thread
from types import TracebackType
from typing import Final, Self

import trustme

from tests.support.receivers import Call, Mode, Receiver, closed_port
from thorn_stream.core.deliveries import Kind, Outcome

__all__ = ["DEADLINE", "RETRY_AFTER", "ROWS", "Row", "Stage", "page"]

DEADLINE: Final = 0.25
"""Seconds given to each of them."""

_OK, _STATUS, _TIMEOUT = Kind.OK, Kind.STATUS, Kind.TIMEOUT
_CONNECT, _TLS, _PROTOCOL = Kind.CONNECT, Kind.TLS, Kind.PROTOCOL


@dataclass(frozen=True)
class Row:
    """One misbehaviour and its verdict.

    `where` names the server of the `Stage`, `does` what it does there. `httpx` is the detail of the
    httpx transport where its words are others. `late`: it ends by the deadline alone. `large`: the
    request has a body beyond all socket buffers. `times`: so many requests, the last one counts.
    """

    name: str
    kind: Kind
    status: int | None = None
    detail: str = ""
    settled: str = "retry"
    does: Mode | None = None
    where: str = "plain"
    httpx: str | None = None
    late: bool = False
    large: bool = False
    times: int = 1

    @property
    def verdict(self) -> str:
        """As an operator reads it: what it came to, and what follows."""
        error = Outcome(self.kind, self.status, self.detail).error
        return error if self.settled in error else f"{error}, {self.settled}"


def _says(*parts: bytes, closes: bool = False) -> Mode:
    """Write these, and then wait (or close)."""

    async def mode(call: Call) -> None:
        for part in parts:
            await call.write(part)
        if closes:
            call.close()
        else:
            await call.gone()

    return mode


def _every(seconds: float, head: bytes, part: bytes) -> Mode:
    """Write the head at once, then the part again and again."""

    async def mode(call: Call) -> None:
        await call.write(head)
        while True:
            await call.write(part)
            await asyncio.sleep(seconds)

    return mode


def _one_by_one(seconds: float, text: bytes) -> Mode:
    """A byte at a time."""

    async def mode(call: Call) -> None:
        for byte in text:
            await call.write(bytes([byte]))
            await asyncio.sleep(seconds)
        await call.gone()

    return mode


async def _reset(call: Call) -> None:
    call.reset()


async def _resets_in_the_body(call: Call) -> None:
    await call.write(b"HTTP/1.1 500 No\r\nContent-Length: 100\r\n\r\nhello")
    call.reset()


async def _once(call: Call) -> None:
    """Answer the first request of a connection, close at the second."""
    if call.request.headers["x-on-connection"] == "1":
        await call.answer(200, b"ok")
    else:
        call.close()


def _head(status: str, *lines: str) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def _redirect(status: int) -> Row:
    target = "Location: http://169.254.169.254/latest/meta-data/"
    answer = _head(f"{status} Elsewhere", target, "Content-Length: 0")
    return Row(f"redirect {status}", _STATUS, status, does=_says(answer))


def _answer(status: int, settled: str = "retry") -> Row:
    answer = _head(f"{status} No", "Content-Length: 0")
    return Row(f"status {status}", _STATUS, status, settled=settled, does=_says(answer))


def _bomb() -> Mode:
    """10 MiB of zeroes in some 10 KB, again and again: 64 KiB hold 60 MiB."""
    bomb = gzip.compress(bytes(10 << 20))
    return _every(0, _head("200 OK", "Content-Encoding: gzip"), bomb)


def _unreadable(name: str, first: bytes, detail: str = "not HTTP/1.1", **more: str) -> Row:
    return Row(name, _PROTOCOL, None, detail, does=_says(first), **more)  # type: ignore[arg-type]  # only `httpx`


_LENGTHS: Final = (
    ("negative", "-1"),
    ("no number", "five"),
    ("beyond 64 bits", "9" * 30),
)
_BODY: Final = _head("200 OK", "Content-Length: 1000")
_ERROR: Final = _head("500 No", "Content-Length: 1000")

ROWS: Final = (
    # --- no answer
    Row("refused", _CONNECT, None, "refused", where="nobody"),
    Row("accepts and is silent", _TIMEOUT, does=_says(), late=True),
    Row("never reads", _TIMEOUT, where="deaf", late=True),
    Row("never reads a large body", _TIMEOUT, where="deaf", late=True, large=True),
    Row("closes without an answer", _CONNECT, None, "closed", does=_says(closes=True)),
    Row("resets", _CONNECT, None, "reset", does=_reset),
    Row("closes an idle connection", _OK, 200, settled="delivered", does=_once, times=2),
    # --- slow
    Row("slow head", _TIMEOUT, does=_every(0.05, b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), late=True),
    Row(
        "1 byte each 100 ms",
        _TIMEOUT,
        does=_one_by_one(0.1, b"HTTP/1.1 200 OK\r\n"),
        late=True,
    ),
    Row(
        "slow body of a 2xx",
        _OK,
        200,
        settled="delivered",
        does=_every(0.05, _BODY, b"x"),
        late=True,
    ),
    Row("slow body of an error", _TIMEOUT, 500, "body", does=_every(0.05, _ERROR, b"x"), late=True),
    Row(
        "a 1xx each 100 ms",
        _TIMEOUT,
        does=_every(0.1, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        late=True,
    ),
    # --- endless
    Row(
        "endless body of a 2xx",
        _OK,
        200,
        settled="delivered",
        does=_every(0, _head("200 OK"), b"x" * 8192),
    ),
    Row("endless body of an error", _STATUS, 500, does=_every(0, _head("500 No"), b"x" * 8192)),
    Row(
        "endless chunks",
        _OK,
        200,
        settled="delivered",
        does=_every(0, _head("200 OK", "Transfer-Encoding: chunked"), b"1\r\nx\r\n" * 1000),
    ),
    Row(
        "endless headers",
        _PROTOCOL,
        None,
        "head too long",
        does=_every(0, b"HTTP/1.1 200 OK\r\n", b"X-Filler: " + b"x" * 1000 + b"\r\n"),
    ),
    Row(
        "one endless header",
        _PROTOCOL,
        None,
        "head too long",
        does=_every(0, b"HTTP/1.1 200 OK\r\nX: ", b"x" * 8192),
    ),
    Row(
        "endless reason",
        _PROTOCOL,
        None,
        "head too long",
        does=_every(0, b"HTTP/1.1 200 ", b"x" * 8192),
    ),
    Row(
        "endless trailers",
        _OK,
        200,
        settled="delivered",
        does=_every(0, _head("200 OK", "Transfer-Encoding: chunked") + b"0\r\n", b"X: y\r\n" * 500),
    ),
    Row(
        "1xx flood",
        _PROTOCOL,
        None,
        "too many 1xx",
        does=_every(0, b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
        httpx="head too long",
    ),
    Row("gzip bomb", _OK, 200, settled="delivered", does=_bomb()),
    # --- no HTTP/1.1
    _unreadable("another protocol", b"SSH-2.0-OpenSSH_9.6\r\n"),
    _unreadable("HTTP/0.9", b"<html>hello</html>"),
    _unreadable("HTTP/2 unasked", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    _unreadable("status of letters", b"HTTP/1.1 abc OK\r\n\r\n"),
    _unreadable("status of two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
    _unreadable("status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
    _unreadable("status below 100", b"HTTP/1.1 099 No\r\n\r\n", "not a status"),
    _unreadable("no status", b"HTTP/1.1\r\n\r\n"),
    _unreadable("header without a colon", _head("200 OK", "nonsense")),
    _unreadable("space before the colon", _head("200 OK", "Content-Length : 0")),
    _unreadable("NUL in a header", _head("200 OK", "X: a\0b", "Content-Length: 0")),
    _unreadable(
        "switches protocols",
        _head("101 Switching Protocols", "Connection: upgrade", "Upgrade: chat") + b"hello",
        "switches protocols unasked",
    ),
    Row(
        "head cut short",
        _PROTOCOL,
        None,
        "head cut short",
        does=_says(b"HTTP/1.1 200 OK\r\nContent-Le", closes=True),
    ),
    # --- lengths
    *(
        _unreadable(f"content length {what}", _head("200 OK", f"Content-Length: {value}"))
        for what, value in _LENGTHS
    ),
    _unreadable(
        "two content lengths", _head("200 OK", "Content-Length: 5", "Content-Length: 6") + b"hello"
    ),
    Row(
        "content length too large",
        _OK,
        200,
        settled="delivered",
        does=_says(_BODY + b"hello", closes=True),
    ),
    Row(
        "content length too small",
        _OK,
        200,
        settled="delivered",
        does=_says(_head("200 OK", "Content-Length: 5") + b"hello world"),
    ),
    Row(
        "closes in the body of a 2xx",
        _OK,
        200,
        settled="delivered",
        does=_says(_BODY + b"x", closes=True),
    ),
    Row("closes in the body of an error", _STATUS, 500, does=_says(_ERROR + b"x", closes=True)),
    Row("resets in the body of an error", _STATUS, 500, does=_resets_in_the_body),
    Row(
        "chunked garbage after a 2xx",
        _OK,
        200,
        settled="delivered",
        does=_says(_head("200 OK", "Transfer-Encoding: chunked") + b"zz\r\nhello\r\n"),
    ),
    Row(
        "chunked garbage after an error",
        _STATUS,
        500,
        does=_says(_head("500 No", "Transfer-Encoding: chunked") + b"zz\r\nhello\r\n"),
    ),
    Row(
        "chunk longer than any number",
        _STATUS,
        500,
        does=_says(_head("500 No", "Transfer-Encoding: chunked") + b"f" * 40 + b"\r\nhello\r\n"),
    ),
    # --- answers that are none of the kind they say
    Row(
        "204 with a body",
        _OK,
        204,
        settled="delivered",
        does=_says(_head("204 No Content", "Content-Length: 5") + b"hello"),
    ),
    Row(
        "a second answer behind the first",
        _STATUS,
        500,
        does=_says(_head("500 No", "Content-Length: 0") + _head("200 OK", "Content-Length: 0")),
    ),
    *(_redirect(status) for status in (300, 301, 302, 303, 304, 305, 307, 308)),
    _answer(410, "gone"),
    *(_answer(status) for status in (400, 401, 404, 429, 500, 503, 599, 999)),
    # --- TLS
    Row("TLS: expired", _TLS, None, "certificate expired", where="expired"),
    Row("TLS: not yet valid", _TLS, None, "certificate not yet valid", where="early"),
    Row("TLS: wrong name", _TLS, None, "wrong host name", where="named"),
    Row("TLS: wrong address", _TLS, None, "wrong address", where="other"),
    Row("TLS: unknown authority", _TLS, None, "unknown authority", where="stranger"),
    Row("TLS: self-signed", _TLS, None, "self-signed certificate", where="self-signed"),
    Row("TLS: 1.0 alone", _TLS, None, "closed in the handshake", where="old"),
    Row("TLS: silent handshake", _TIMEOUT, None, "handshake", where="deaf-tls", late=True),
    Row("TLS: none, plain HTTP", _TLS, None, "wrong version number", where="blurts"),
)

_NOW: Final = datetime(2026, 11, 1, 12, tzinfo=UTC)
RETRY_AFTER: Final = (
    # what it says; seconds until the retry, where the schedule alone would say 60
    ("0", 60),
    ("59", 60),
    ("61", 61),
    ("120", 120),
    (" 120 ", 120),
    ("0000120", 120),
    ("Sun, 01 Nov 2026 12:02:00 GMT", 120),  # IMF-fixdate
    ("Sunday, 01-Nov-26 12:02:00 GMT", 120),  # RFC 850
    ("Sun Nov  1 12:02:00 2026", 120),  # asctime
    ("Sun, 01 Nov 2026 12:00:00 GMT", 60),
    ("Sun, 06 Nov 1994 08:49:37 GMT", 60),
    ("Fri, 31 Dec 9999 23:59:59 GMT", 7200),
    ("Sun, 32 Nov 2026 12:02:00 GMT", 60),
    ("-1", 60),
    ("-99999999999999999999", 60),
    ("1.5", 60),
    ("1e9", 60),
    ("0x78", 60),
    ("120, 240", 60),
    ("7201", 7200),
    ("99999999999999999999", 7200),
    ("9" * 1000, 7200),
    ("", 60),
    ("soon", 60),
    ("\u0663", 60),
    ("%0d%0aX: y", 60),
    ("Sun, 01 Nov 2026 12:02:00 +99999999999999999999", 60),
)
"""Each form of Retry-After at 2026-11-01 12:00:00 GMT."""
NOW: Final = int(_NOW.timestamp() * 1000)


class Stage:
    """All of them, on loopback. `ca_file` is the authority that a client must trust.

    Names, not addresses, are in the URLs of `named`; who asks for `good.example` is to be told
    127.0.0.1.
    """

    def __init__(self, authority: trustme.CA) -> None:
        self._authority = authority
        self._stack = ExitStack()
        self.servers: dict[str, Receiver] = {}
        self._nobody = closed_port()
        self._blurts = 0

    def __enter__(self) -> Self:
        plain = self._start("plain", Receiver())
        plain.modes.update({str(at): row.does for at, row in enumerate(ROWS) if row.does})
        self._start("deaf", Receiver(reads=False))
        self._blurts = self._stack.enter_context(_blurting())
        for name, context in _contexts(self._authority).items():
            self._start(name, Receiver(tls=context()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _start(self, name: str, receiver: Receiver) -> Receiver:
        self.servers[name] = self._stack.enter_context(receiver)
        return receiver

    def url(self, row: Row) -> str:
        path = f"/{ROWS.index(row)}"
        if row.where == "nobody":
            return f"http://127.0.0.1:{self._nobody}{path}"
        if row.where == "deaf-tls":
            return f"https://127.0.0.1:{self.servers['deaf'].port}{path}"
        if row.where == "blurts":
            return f"https://127.0.0.1:{self._blurts}{path}"
        host = "good.example" if row.where == "named" else "127.0.0.1"
        return self.servers[row.where].url(path, host)


@contextmanager
def _blurting() -> Iterator[int]:
    """A port that answers whatever it is sent, a handshake too, with plain HTTP."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(10)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _contexts(authority: trustme.CA) -> dict[str, Callable[[], ssl.SSLContext]]:
    day = timedelta(days=1)
    now = datetime.now(UTC)

    def certified(certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    def old() -> ssl.SSLContext:
        context = certified(authority.issue_cert("127.0.0.1"))
        context.set_ciphers("DEFAULT@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1
        return context

    return {
        "expired": lambda: certified(authority.issue_cert("127.0.0.1", not_after=now - day)),
        "early": lambda: certified(
            authority.issue_cert("127.0.0.1", not_before=now + day, not_after=now + 2 * day)
        ),
        "named": lambda: certified(authority.issue_cert("other.example")),
        "other": lambda: certified(authority.issue_cert("127.0.0.2")),
        "stranger": lambda: certified(trustme.CA().issue_cert("127.0.0.1")),
        "self-signed": _self_signed,
        "old": old,
    }


def _self_signed() -> ssl.SSLContext:
    """An authority's own certificate, shown as a receiver's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    alone = trustme.CA()
    with NamedTemporaryFile() as chain:
        chain.write(alone.private_key_pem.bytes() + alone.cert_pem.bytes())
        chain.flush()
        context.load_cert_chain(chain.name)
    return context


def page() -> str:
    """The table in Markdown."""
    lines = ["| the receiver | native | httpx |", "|---|---|---|"]
    for row in ROWS:
        other = row if row.httpx is None else replace(row, detail=row.httpx)
        same = "the same" if other.verdict == row.verdict else other.verdict
        lines.append(f"| {row.name} | {row.verdict} | {same} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(page())
