"""The receiver: a process that answers as it is told to, and writes each request down.

Subscriber i is called at /i. One JSON command per line on standard input, one answer per line on
standard output: `listen` (host, port), `close` (port; its connections as well), `behave`
({i: behaviour}), `count`, `write` (a file). A behaviour is [kind, argument, marked]: `ok`; `slow`,
answered after so many seconds; `silent`; `cut`, the connection is closed; `status`; `later`, 500
and a Retry-After that ends at so many unix seconds. `marked`: for events that have the mark, all
others are answered.

Each request is a row: number, sent (unix ns), arrived (unix ns), subscriber, status; 0 is for what
was not answered. Those answered late have their row when they are answered.
"""

import asyncio
import json
import os
import sys
import time
from array import array
from functools import partial
from typing import Any, cast

import uvloop

_OK = b"HTTP/1.1 204 No Content\r\n\r\n"
_FAILED = b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n"
_LATER = b"HTTP/1.1 500 Later\r\nRetry-After: %d\r\nContent-Length: 0\r\n\r\n"
_MARK = b'"m": "'
COLUMNS = "qqqIH"


class Rows:
    """What has been seen, in columns."""

    def __init__(self) -> None:
        self.columns: list[array[int]] = [array(kind) for kind in COLUMNS]
        self.good = 0

    def add(self, seen: tuple[int, int, int, int], status: int) -> None:
        for column, value in zip(self.columns, (*seen, status), strict=True):
            column.append(value)
        self.good += 200 <= status < 300


class Receiver(asyncio.Protocol):
    """Understands what our own client sends: a head with Content-Length, then the body."""

    rows = Rows()
    behaviours: dict[int, tuple[str, float, bool]] = {}  # noqa: RUF012 - one for all connections

    def __init__(self, fellows: set["Receiver"]) -> None:
        self.fellows = fellows

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.fellows.add(self)
        self.buffer = bytearray()
        self.needs = 0

    def connection_lost(self, _: Exception | None) -> None:
        self.fellows.discard(self)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer
        buffer += data
        while len(buffer) >= max(self.needs, 1):
            head = buffer.find(b"\r\n\r\n")
            if head < 0:
                return
            at = buffer.find(b"Content-Length: ", 0, head) + 16
            self.needs = head + 4 + int(buffer[at : buffer.find(b"\r", at)])
            if len(buffer) < self.needs:
                return
            self._take(bytes(buffer[: head + 600]), head)
            del buffer[: self.needs]
            self.needs = 0

    def _take(self, text: bytes, head: int) -> None:
        who = int(text[6 : text.index(b" ", 6)])
        at = text.find(_MARK, head) + len(_MARK)  # twelve digits, nineteen, and one
        number, sent, marked = int(text[at : at + 12]), int(text[at + 13 : at + 32]), text[at + 33]
        seen = (number, sent, time.time_ns(), who)
        kind, argument, only_marked = self.behaviours.get(who, ("ok", 0.0, False))
        if kind == "ok" or (only_marked and marked == ord("0")):
            self._answer(seen, 204, _OK)
        elif kind == "slow":
            loop = asyncio.get_running_loop()
            loop.call_later(argument, self._answer, seen, 204, _OK)
        elif kind == "status":
            self._answer(seen, int(argument), _FAILED % int(argument))
        elif kind == "later":
            wait = int(argument) - int(time.time())
            late = wait <= 0
            self._answer(seen, 204 if late else 500, _OK if late else _LATER % wait)
        else:
            self.rows.add(seen, 0)
            if kind == "cut":
                self.transport.abort()

    def _answer(self, seen: tuple[int, int, int, int], status: int, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.rows.add(seen, status)
            self.transport.write(answer)


class Control:
    """Obeys what comes on standard input."""

    def __init__(self) -> None:
        self.servers: dict[int, tuple[asyncio.Server, set[Receiver]]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.text = b""
        asyncio.get_running_loop().add_reader(0, self.read)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def read(self) -> None:
        found = os.read(0, 1 << 20)
        if not found:
            self.ended.set_result(None)
            asyncio.get_running_loop().remove_reader(0)
        *lines, self.text = (self.text + found).split(b"\n")
        for line in lines:
            task = asyncio.get_running_loop().create_task(self.obey(*json.loads(line)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def obey(self, command: str, *words: Any) -> None:
        answer: Any = None
        if command == "listen":
            answer = await self.listen(*words)
        elif command == "close":
            server, connections = self.servers.pop(words[0])
            server.close()
            for each in list(connections):
                each.transport.abort()
        elif command == "behave":
            Receiver.behaviours |= {int(who): tuple(how) for who, how in words[0].items()}
        elif command == "count":
            answer = Receiver.rows.good
        elif command == "write":
            await asyncio.get_running_loop().run_in_executor(None, partial(_write, words[0]))
        print(json.dumps(answer), flush=True)

    async def listen(self, host: str, port: int) -> int:
        connections: set[Receiver] = set()
        made = await asyncio.get_running_loop().create_server(
            lambda: Receiver(connections), host, port, backlog=4096
        )
        port = made.sockets[0].getsockname()[1]
        self.servers[port] = made, connections
        return port


def _write(path: str) -> None:
    rows = Receiver.rows
    count = len(rows.columns[-1])
    with open(path, "wb") as file:  # noqa: PTH123 - array.tofile wants a real one
        file.write(count.to_bytes(8, "little"))
        for column in rows.columns:
            column[:count].tofile(file)


async def main() -> None:
    await Control().ended


if __name__ == "__main__":
    try:
        uvloop.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
