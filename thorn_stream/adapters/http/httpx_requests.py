"""A Subscriber's URL and an Attempt, in httpx's words."""

from typing import Any

import httpx

from thorn_stream.adapters.http.failures import Failure
from thorn_stream.adapters.http.httpx_ways import Way
from thorn_stream.adapters.http.targets import Origin, Targets
from thorn_stream.core.deliveries import Attempt, Kind
from thorn_stream.core.subscribers import Subscriber

__all__ = ["HttpxTarget", "Requests"]


class HttpxTarget:
    """Where requests go, prepared once; or why they cannot go.

    `text` is the Subscriber's URL as written, `target` the request target as it is sent.
    """

    __slots__ = ("headers", "origin", "refused", "target", "text", "url")

    def __init__(self, origin: Origin, refused: Failure | None) -> None:
        self.origin = origin
        self.refused = refused
        self.url = httpx.URL()
        self.target = b""
        self.text = ""
        self.headers: list[tuple[bytes, bytes]] = []


class Requests:
    """Makes targets, and requests to them."""

    def __init__(self, targets: Targets, way: Way) -> None:
        self._targets = targets
        self._way = way

    def target(self, subscriber: Subscriber) -> HttpxTarget:
        """Never raises: the target knows why it cannot be called."""
        made = self._targets.make(subscriber)
        target = HttpxTarget(made.origin, made.refused)
        url = made.url
        if url is None:
            target.refused = made.refused or (Kind.BLOCKED, "url")
            return target
        if self._way.own is not None and subscriber.tls is not None:
            target.refused = Kind.TLS, "tls files do not reach a transport of your own"
        host = f"[{url.host}]" if ":" in url.host else url.host
        try:
            target.url = httpx.URL(f"{url.scheme}://{host}:{url.port}{url.target}")
        except httpx.InvalidURL:
            target.refused = Kind.BLOCKED, "url"
        else:
            if target.url.raw_host.decode("ascii") != url.host:  # pragma: no cover - none is known
                target.refused = Kind.BLOCKED, "url"
        target.target = url.target.encode("ascii")
        target.text = url.text
        target.headers = [
            (b"Host", url.authority.encode("ascii")),
            (b"Accept-Encoding", b"identity"),
        ]
        return target

    def make(self, attempt: Attempt, target: HttpxTarget) -> httpx.Request:
        """One request, its headers complete: given a stream, httpx adds none of its own."""
        headers = list(target.headers)
        if not attempt.keep_alive and not self._way.http2:  # not a header of HTTP/2
            headers.append((b"Connection", b"close"))
        for line in attempt.headers.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b":")
            headers.append((name, value.strip(b" ")))
        headers.append((b"Content-Length", b"%d" % len(attempt.body)))
        extensions: dict[str, Any] = {"target": target.target}
        if self._way.own is not None:
            extensions = {"timeout": httpx.Timeout(attempt.timeout).as_dict()}
        return httpx.Request(
            "POST",
            target.url,
            headers=headers,
            stream=httpx.ByteStream(attempt.body),
            extensions=extensions,
        )
