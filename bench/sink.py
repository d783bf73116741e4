"""A receiver that only counts: answers 204 to every request, as cheaply as Python can.

Prints its port; `GET /count` answers how many POSTs it has had.
"""

import asyncio
import sys
from typing import cast

import uvloop

_OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Sink(asyncio.Protocol):
    """Understands just what our own client sends: a head with Content-Length, then the body."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data if self.buffer else data
        answers = 0
        while (head_ends := data.find(b"\r\n\r\n")) >= 0:
            if data.startswith(b"GET"):
                text = b"%d" % Sink.count
                self.transport.write(
                    b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
                )
                data = data[head_ends + 4 :]
                continue
            at = data.find(b"Content-Length: ", 0, head_ends) + 16
            end = head_ends + 4 + int(data[at : data.find(b"\r", at)])
            if len(data) < end:
                break
            data = data[end:]
            answers += 1
        self.buffer = data
        if answers:
            Sink.count += answers
            self.transport.write(_OK * answers)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
