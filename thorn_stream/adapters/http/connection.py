"""One connection to a receiver: a request is written, its answer is read within limits.

A `BufferedProtocol` reading into one buffer that all connections share: what is read is parsed
before the call returns. (With `Protocol`, uvloop maps and unmaps 256 KiB for each read.)

An answer is whole when its head and body are. Of an answer whose head is complete the status
counts, whatever becomes of the body in time; only a body that comes too late makes a timeout of
what is not 2xx.
"""

import asyncio
import re
import time
from typing import Any, Final, Protocol

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserUpgrade,
    HttpResponseParser,
)

from thorn_stream.adapters.http.failures import Failure, failure_of
from thorn_stream.adapters.http.targets import Origin
from thorn_stream.core.deliveries import Attempt, Kind, Outcome

__all__ = ["LONGEST_RESPONSE", "Connection", "KeepingConnection", "Owner"]

LONGEST_RESPONSE: Final = 65536
"""Bytes read of one response, head included; then the connection is closed."""

_MOST_INFORMATIONAL: Final = 16
_LONGEST_KEPT: Final = 1024
_RETRY_AFTER: Final = re.compile(rb"\r\nretry-after:[ \t]*([^\r\n]{0,128})", re.IGNORECASE)

_OK: Final = Kind.OK
_STATUS: Final = Kind.STATUS

_monotonic = time.monotonic


class Owner(Protocol):
    """The pool, as a connection sees it."""

    buffer: memoryview

    def made(self, connection: "Connection") -> None:
        """It is open."""

    def freed(self, connection: "Connection", now: float, reusable: bool) -> None:
        """Its exchange is over, by the present moment `now`."""

    def replay(self, connection: "Connection", attempt: Attempt) -> None:
        """It died of age before it answered anything: the request may be made once more."""

    def drop(self, connection: "Connection") -> None:
        """It said something unasked while it was idle."""

    def closed(self, connection: "Connection") -> None:
        """Its socket is gone."""


class Connection(asyncio.BufferedProtocol):
    """`expires`, `deadline`, `started` and `idle_since` are moments of `time.monotonic`.

    `gone` says why it ended, when nobody was told by an Outcome.
    """

    __slots__ = (
        "_done",
        "_head",
        "_informational",
        "_owner",
        "_parser",
        "_read",
        "_received",
        "_retry_after",
        "_reusable",
        "_status",
        "_transport",
        "_used",
        "address",
        "attempt",
        "body",
        "deadline",
        "expires",
        "gone",
        "idle_since",
        "origin",
        "started",
    )

    def __init__(self, owner: Owner, origin: Origin, address: str, lifetime: float) -> None:
        self.origin = origin
        self.address = address
        self.attempt: Attempt | None = None
        self.gone: Failure | None = None
        self.started = self.deadline = self.idle_since = 0.0
        self.expires = _monotonic() + lifetime
        self._owner = owner
        # Any: both are None at the end; no check of that is paid for at each request.
        self._transport: Any = None
        self._parser: Any = HttpResponseParser(self)
        self._read: memoryview = owner.buffer[:0]
        self._used = False
        self._forget_answer()

    def _forget_answer(self) -> None:
        self._received = 0
        self._informational = 0
        self._status = 0
        self._head: bytearray | None = None
        self._retry_after: str | None = None
        self._done = False
        self._reusable = False
        self.body: bytes | None = None

    # --- what the pool does --------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether it is open; one that closes is not, a moment before the loop says so."""
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, attempt: Attempt, started: float, deadline: float) -> None:
        """Write the request in one piece; busy until it says `freed` or `replay`."""
        target: Any = attempt.target
        body = attempt.body
        self.attempt = attempt
        self.started = started
        self.deadline = deadline
        if self._used:
            self._forget_answer()
        self._transport.write(
            b"%b%bContent-Length: %d\r\n\r\n%b"
            % (
                target.head if attempt.keep_alive else target.closing_head,
                attempt.headers,
                len(body),
                body,
            )
        )

    def overdue(self) -> None:
        """End the exchange: its time is over."""
        if 200 <= self._status < 300:
            self._settle(_OK, "")
        else:
            self._settle(Kind.TIMEOUT, "body" if self._status else "")

    def ended_by_us(self, why: str) -> None:
        """End the exchange, whose answer nobody waits for any more."""
        self._settle(Kind.CONNECT, why)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def forsake(self) -> None:
        """Nobody waits for it any more, so it goes, if it was made at all.

        Of a connection whose maker is cancelled right after it was made, uvloop does not tell that
        it is lost; counted as open for ever, such ones would use up the room of all others.
        """
        if self._transport is not None:
            self._transport.abort()
            self._owner.closed(self)

    # --- what the loop tells -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._owner.made(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 -- the protocol's signature
        received = self._received
        if received:
            return self._owner.buffer[: LONGEST_RESPONSE - received]
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.attempt is None:
            self.gone = Kind.PROTOCOL, "spoke unasked"
            self._owner.drop(self)
            return
        self._received += nbytes
        self._read = read = self._owner.buffer[:nbytes]
        try:
            self._parser.feed_data(read)
        except HttpParserUpgrade:
            self._broken("switches protocols unasked")
        except HttpParserCallbackError as error:
            self._broken(str(error.__context__))
        except HttpParserError:
            self._broken("not HTTP/1.1")
        else:
            if self._done:
                self._used = True
                # with the whole buffer used up, not even its end could be read any more
                reusable = self._reusable and self._received < LONGEST_RESPONSE
                self._settle(_OK if 200 <= self._status < 300 else _STATUS, "", reusable)
            elif self._received >= LONGEST_RESPONSE:
                self._broken("head too long")
            elif not self._status:
                self._head = self._head or bytearray()
                self._head += read

    def eof_received(self) -> None:
        """Nothing more comes; returning None lets the loop close the connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        attempt = self.attempt
        if attempt is None:
            self.gone = self.gone or failure_of(exc)
        elif self._status:
            self._settle(*self._verdict())
        elif self._received:
            kind, detail = failure_of(exc)
            self._settle(*((Kind.PROTOCOL, "head cut short") if exc is None else (kind, detail)))
        elif self._used:
            self.attempt = None
            self._owner.replay(self, attempt)
        else:
            self._settle(*failure_of(exc))
        self._transport = None
        self._parser = None  # it holds methods of this object: a circle less to collect
        self._owner.closed(self)

    # --- what the parser tells -----------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._done:
            raise ValueError("an answer nobody asked for")

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status >= 200:
            self._status = status
            if status >= 300:
                self._retry_after = _retry_after(
                    bytes(self._head or b"") + self._read, self._informational
                )
            return
        self._informational += 1
        if status < 100:
            raise ValueError("not a status")
        if self._informational > _MOST_INFORMATIONAL:
            raise ValueError("too many 1xx")

    def on_message_complete(self) -> None:
        if self._status:
            self._done = True
            self._reusable = self._parser.should_keep_alive()

    # --- how it ends ---------------------------------------------------------------------------

    def _verdict(self) -> Failure:
        return (_OK, "") if 200 <= self._status < 300 else (_STATUS, "")

    def _broken(self, detail: str) -> None:
        """What was read is no HTTP, or too much of it; a status that is known still counts."""
        self._settle(*(self._verdict() if self._status else (Kind.PROTOCOL, detail)))

    def _settle(self, kind: Kind, detail: str, reusable: bool = False) -> None:
        """Give the connection back first, so that whoever is told can use it at once."""
        attempt = self.attempt
        assert attempt is not None
        self.attempt = None
        now = _monotonic()
        outcome = Outcome(
            kind,
            self._status or None,
            detail,
            self._retry_after,
            now - self.started,
            self.address,
            self.body,
        )
        self._owner.freed(self, now, reusable and attempt.keep_alive)
        attempt.ended(attempt, outcome)


def _retry_after(read: bytes, informational: int) -> str | None:
    """The header's text, out of a head that the parser has accepted.

    Searched for only where it counts: a parser that reports every header costs each good answer
    more than all else that is done with it.
    """
    head = read.split(b"\r\n\r\n", informational + 1)[informational]
    found = _RETRY_AFTER.search(head)
    return found[1].decode("latin-1") if found else None


class KeepingConnection(Connection):
    """Keeps the beginning of each response body; only one that wants it pays for `on_body`."""

    __slots__ = ()

    def on_body(self, body: bytes) -> None:
        kept = self.body or b""
        self.body = kept + body[: _LONGEST_KEPT - len(kept)]
