"""Five HTTP servers on loopback that behave as their parts say, and count what they answer."""

import asyncio
import json
import random
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from thorn_stream.core.errors import InvalidSignature, LocalError
from thorn_stream.core.signing import verify
from thorn_stream.ops.demo.account import Account

__all__ = ["Receiver", "Receivers"]

_SEED: Final = 20
_REASONS: Final = {200: "OK", 410: "Gone", 503: "Service Unavailable", 400: "Bad Request"}
_BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class _Call:
    """One request as read; header names in lower case."""

    headers: Mapping[str, str]
    body: bytes

    @property
    def stays(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class Receiver:
    """One of the five. `changed` is called whenever it has counted something."""

    def __init__(self, account: Account, secret: str, changed: Callable[[], None]) -> None:
        self.part = account.part
        self._account = account
        self._secret = secret
        self._changed = changed
        self._dice = random.Random(f"{_SEED} {self.part.id}")  # noqa: S311 - nothing secret
        self._server: asyncio.Server | None = None
        self._talks: set[asyncio.Task[None]] = set()
        # bound, so nobody else is given the port; refused by the system until someone listens
        self._socket = socket.socket()
        try:
            self._socket.bind(("127.0.0.1", 0))
        except OSError as error:
            self._socket.close()
            raise LocalError(f"no port of 127.0.0.1 for a receiver: {error.strerror}") from None
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/hooks/{self.part.id}"

    @property
    def listening(self) -> bool:
        return self._server is not None

    async def listen(self) -> None:
        self._server = await asyncio.start_server(
            self._accepted, sock=self._socket, backlog=_BACKLOG
        )

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()
        for talk in self._talks:
            talk.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.create_task(self._talk(reader, writer))
        self._talks.add(talk)
        talk.add_done_callback(self._talks.discard)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (call := await _read(reader)) is not None:
                status = await self._judged(call)
                if writer.is_closing():
                    break  # the caller has hung up: this was no answer
                writer.write(_response(status, stays=call.stays))
                if status == 200:
                    self._answered(call)
                if not call.stays:
                    break
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # a caller that goes away has its reasons
        finally:
            writer.close()

    async def _judged(self, call: _Call) -> int:
        """The status to answer with, after as long as this part takes."""
        behaviour = self.part.behaviour
        delivery, attempt = call.headers.get("hook-delivery"), call.headers.get("hook-attempt", "")
        if delivery is None or not attempt.isdecimal() or _event(call.body) is None:
            return 400
        if not self._signed(call):
            self._account.forged += 1
        self._account.called(delivery, int(attempt))
        if behaviour.delay:
            await asyncio.sleep(behaviour.delay)
        if delivery not in self._account.deliveries and self._dice.random() < behaviour.failing:
            return 503
        return behaviour.status

    def _signed(self, call: _Call) -> bool:
        try:
            verify(self._secret, call.headers, call.body, now=time.time())
            verify(self._secret, call.headers, call.body, now=time.time(), hook_digest="sha256")
        except InvalidSignature:
            return False
        return True

    def _answered(self, call: _Call) -> None:
        event = _event(call.body)
        assert event is not None  # or it had been answered 400
        number, sent = event
        late = time.time() * 1000 - sent
        self._account.answered(call.headers["hook-delivery"], number, late)
        self._changed()


class Receivers:
    """All five; those with an outage begin to listen when it is over."""

    def __init__(
        self,
        accounts: Sequence[Account],
        secrets: Mapping[str, str],
        changed: Callable[[], None],
    ) -> None:
        self._all = [Receiver(one, secrets[one.part.id], changed) for one in accounts]
        self._began: float | None = None
        self._outages: list[asyncio.Task[None]] = []

    @property
    def urls(self) -> dict[str, str]:
        return {one.part.id: one.url for one in self._all}

    async def start(self) -> None:
        for one in self._all:
            if not one.part.behaviour.outage:
                await one.listen()

    def first_event(self) -> None:
        """From now on an outage is counted."""
        self._began = time.monotonic()
        self._outages = [
            asyncio.create_task(self._after_outage(one)) for one in self._all if not one.listening
        ]

    def down_for(self, subscriber: str) -> float:
        """Seconds until this receiver listens; 0 when it does."""
        one = next(one for one in self._all if one.part.id == subscriber)
        if one.listening:
            return 0.0
        gone = 0.0 if self._began is None else time.monotonic() - self._began
        return max(0.1, one.part.behaviour.outage - gone)

    async def stop(self) -> None:
        for outage in self._outages:
            outage.cancel()
        await asyncio.gather(*self._outages, return_exceptions=True)
        await asyncio.gather(*(one.stop() for one in self._all))

    async def _after_outage(self, one: Receiver) -> None:
        await asyncio.sleep(one.part.behaviour.outage)
        await one.listen()


async def _read(reader: asyncio.StreamReader) -> _Call | None:
    """The next request of a connection; None when there is no other."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return None
    _, *lines = head.decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    with suppress(ValueError):
        return _Call(headers, await reader.readexactly(int(headers.get("content-length", "0"))))
    return None


def _event(body: bytes) -> tuple[int, float] | None:
    """Number of the event, and when it was produced in unix milliseconds."""
    try:
        data: Any = json.loads(body)["data"]
        return int(data["number"]), float(data["sent"])
    except (ValueError, KeyError, TypeError):
        return None


def _response(status: int, *, stays: bool) -> bytes:
    connection = "" if stays else "Connection: close\r\n"
    head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Length: 0\r\n{connection}\r\n"
    return head.encode()
