"""A real forward proxy on loopback: tunnels by CONNECT, forwards requests in absolute form.

    async with Proxy(user="u:p") as proxy:
        proxy.url                # http://u:p@127.0.0.1:PORT
        proxy.seen               # first lines of the requests it was sent

It runs on the loop of the test and dials what it is asked to: names by `names`, else as they are.
"""

import asyncio
import base64
import ssl
from urllib.parse import urlsplit

from tests.support.loop_server import LoopServer

__all__ = ["Proxy"]


class Proxy(LoopServer):
    """`user` is what it demands, as `name:password`; `refuses` is a status for every request.

    With `tls` it is spoken to by https.
    """

    def __init__(
        self,
        user: str | None = None,
        refuses: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(tls)
        self.names: dict[str, str] = {}
        self.seen: list[str] = []
        self._user = user
        self._refuses = refuses

    @property
    def url(self) -> str:
        user = "" if self._user is None else f"{self._user}@"
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{user}127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._one(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever it was has gone
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        self.seen.append(first)
        headers = {name.lower(): value.strip() for name, value in (x.split(":", 1) for x in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        status = self._refuses or (None if self._admits(headers) else 407)
        if status is not None:
            writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode())
            return
        method, asked, _ = first.split(" ")
        if method == "CONNECT":
            host, _, port = asked.rpartition(":")
            await self._tunnel(host, int(port), reader, writer)
            return
        url = urlsplit(asked)
        kept = [x for x in lines if not x.lower().startswith(("proxy-", "connection:"))]
        target = url._replace(scheme="", netloc="").geturl() or "/"
        request = "\r\n".join([f"{method} {target} HTTP/1.1", *kept, "Connection: close", "", ""])
        there, back = await self._dial(url.hostname or "", url.port or 80)
        try:
            back.write(request.encode("latin-1") + body)
            await _pipe(there, writer)
        finally:
            back.close()

    def _admits(self, headers: dict[str, str]) -> bool:
        if self._user is None:
            return True
        given = headers.get("proxy-authorization", "").removeprefix("Basic ")
        return base64.b64decode(given).decode() == self._user

    async def _dial(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.names.get(host, host), port)

    async def _tunnel(
        self, host: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        there, back = await self._dial(host, port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        ways = [asyncio.create_task(_pipe(reader, back)), asyncio.create_task(_pipe(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
