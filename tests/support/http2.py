"""A real HTTP/2 receiver on loopback, by the h2 package, over TLS with ALPN.

    async with Http2Receiver(context) as receiver:
        receiver.requests        # (headers by name, body), in the order they were complete

Paths: `/ok` answers 200, `/status/503` that status, `/silent` never, `/endless` a body without end,
`/goes` closes the connection instead of an answer, `/once` does so but for its first request.
"""

import asyncio
import ssl
from contextlib import suppress
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from tests.support.loop_server import LoopServer

__all__ = ["Http2Receiver"]

_CHUNK = b"x" * 8192


class Http2Receiver(LoopServer):
    def __init__(self, context: ssl.SSLContext) -> None:
        context.set_alpn_protocols(["h2"])
        super().__init__(context)
        self.requests: list[tuple[dict[str, str], bytes]] = []

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Talk(self, reader, writer).run()


class _Talk:
    """One connection."""

    def __init__(
        self, receiver: Http2Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._receiver = receiver
        self._reader = reader
        self._writer = writer
        self._state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self._open: dict[int, tuple[dict[str, str], bytearray]] = {}
        self._endless: set[int] = set()
        self._answered = 0

    async def run(self) -> None:
        with suppress(OSError, h2.exceptions.ProtocolError):
            try:
                self._state.initiate_connection()
                await self._flush()
                while data := await self._reader.read(65536):
                    for event in self._state.receive_data(data):
                        self._handle(event)
                    self._pour()
                    await self._flush()
            finally:
                self._writer.transport.abort()

    async def _flush(self) -> None:
        self._writer.write(self._state.data_to_send())
        await self._writer.drain()

    def _handle(self, event: Any) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers = {name.decode(): value.decode() for name, value in event.headers or ()}
            self._open[event.stream_id or 0] = (headers, bytearray())
        elif isinstance(event, h2.events.DataReceived):
            stream = event.stream_id or 0
            self._open[stream][1].extend(event.data or b"")
            self._state.acknowledge_received_data(event.flow_controlled_length or 0, stream)
        elif isinstance(event, h2.events.StreamEnded):
            self._complete(event.stream_id or 0)

    def _complete(self, stream: int) -> None:
        headers, body = self._open.pop(stream)
        self._receiver.requests.append((headers, bytes(body)))
        mode, *arguments = headers[":path"].strip("/").split("/")
        self._answered += 1
        if mode == "silent":
            return
        if mode == "goes" or (mode == "once" and self._answered > 1):
            self._writer.transport.abort()
            return
        status = arguments[0] if mode == "status" else "200"
        self._state.send_headers(stream, [(":status", status), ("retry-after", "7")])
        if mode == "endless":
            self._endless.add(stream)
        else:
            self._state.send_data(stream, b"ok", end_stream=True)

    def _pour(self) -> None:
        """As much of the endless bodies as the other side's window takes."""
        for stream in self._endless:
            while self._state.local_flow_control_window(stream) >= len(_CHUNK):
                self._state.send_data(stream, _CHUNK)
