"""A receiver that knows when each event was sent: for latency, and where there is no nginx.

Answers 204 to every POST. `GET /count` answers how many there were, `GET /latency` the p50 and the
p99 of the milliseconds since `"sent"` (unix nanoseconds) in the bodies, and forgets them.
"""

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

_OK = b"HTTP/1.1 204 No Content\r\n\r\n"
_SENT = b'"sent": '


class Sink(asyncio.Protocol):
    """Understands just what our own client sends: a head with Content-Length, then the body."""

    count = 0
    waits: list[float] = []  # noqa: RUF012 - one for all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data if self.buffer else data
        answers = 0
        while (head_ends := data.find(b"\r\n\r\n")) >= 0:
            if data.startswith(b"GET"):
                self._tell(data)
                data = data[head_ends + 4 :]
                continue
            at = data.find(b"Content-Length: ", 0, head_ends) + 16
            end = head_ends + 4 + int(data[at : data.find(b"\r", at)])
            if len(data) < end:
                break
            self._note(data, head_ends, end)
            data = data[end:]
            answers += 1
        self.buffer = data
        if answers:
            Sink.count += answers
            self.transport.write(_OK * answers)

    def _note(self, data: bytes, start: int, end: int) -> None:
        at = data.find(_SENT, start, end)
        if at >= 0:
            sent = int(data[at + len(_SENT) : at + len(_SENT) + 19])
            Sink.waits.append((time.time_ns() - sent) / 1e6)

    def _tell(self, data: bytes) -> None:
        text = b"%d" % Sink.count
        if data.startswith(b"GET /latency"):
            waits = sorted(Sink.waits) or [0.0]
            Sink.waits = []
            text = json.dumps([waits[len(waits) // 2], waits[len(waits) * 99 // 100]]).encode()
        head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % len(text) + text)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
