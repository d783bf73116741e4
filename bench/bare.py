"""The floor: a bare uvloop Protocol that writes one fixed request and waits for its answer.

Usage: python -m bench.bare PORT REQUESTS SIZE CONNECTIONS. Prints CPU microseconds per request.
"""

import asyncio
import sys
import time
from typing import cast

import uvloop


class Bare(asyncio.BufferedProtocol):
    """Sends the next as soon as anything came back."""

    left = 0
    open = 0
    buffer = bytearray(65536)

    def __init__(self, request: bytes, done: "asyncio.Future[None]") -> None:
        self.request = request
        self.done = done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        Bare.open += 1
        self.next()

    def get_buffer(self, _: int) -> bytearray:
        return Bare.buffer

    def buffer_updated(self, _: int) -> None:
        self.next()

    def next(self) -> None:
        if Bare.left > 0:
            Bare.left -= 1
            self.transport.write(self.request)
            return
        Bare.open -= 1
        if not Bare.open and not self.done.done():
            self.done.set_result(None)


async def main(port: int, requests: int, size: int, connections: int) -> None:
    body = b"x" * size
    request = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n%s" % (size, body)
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    Bare.left = requests
    before = time.process_time()
    for _ in range(connections):
        await loop.create_connection(lambda: Bare(request, done), "127.0.0.1", port)
    await done
    print((time.process_time() - before) / requests * 1e6)


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:5])))
