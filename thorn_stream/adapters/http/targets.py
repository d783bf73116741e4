"""A Subscriber's URL, prepared once, so that a request parses nothing and looks nothing up."""

import ssl
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from thorn_stream.adapters.http.failures import Failure
from thorn_stream.core.addresses import IPAddress
from thorn_stream.core.deliveries import Kind
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.subscribers import Subscriber, Tls
from thorn_stream.core.urls import RecipientUrl, Refusal
from thorn_stream.core.validators import Guard

if TYPE_CHECKING:
    from thorn_stream.adapters.http.connection import Connection

__all__ = ["Origin", "Target", "Targets"]


class Origin:
    """What connections are shared by: scheme, host, port and TLS identity.

    `idle` are its kept-alive connections, the one used last at the end; each knows the address it
    was opened to.
    """

    __slots__ = ("__weakref__", "address", "context", "host", "idle", "port")

    def __init__(
        self,
        host: str,
        port: int,
        address: IPAddress | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.address = address
        self.context = context
        self.idle: list[Connection] = []


class Target:
    """Where requests go: an origin and the first lines of each request; or why they cannot go."""

    __slots__ = ("closing_head", "head", "origin", "refused", "url")

    def __init__(
        self,
        origin: Origin,
        head: bytes,
        refused: Failure | None = None,
        url: RecipientUrl | None = None,
    ) -> None:
        self.origin = origin
        self.head = head
        self.closing_head = head + b"Connection: close\r\n"
        self.refused = refused
        self.url = url


_NOWHERE = Origin("", 0)


class Targets:
    """Makes Targets; those of one origin and TLS identity share their connections.

    `ca_file` (PEM) is added to the system's authorities. Building a TLS context takes 20 ms and
    most of a megabyte, so there is one for all, and one for each `tls` that a Subscriber has. Of
    files that were replaced, the old one goes with the last Target that was made from them.
    Raises `ConfigurationError` when `ca_file` cannot be used.
    """

    def __init__(self, guard: Guard, ca_file: str | None) -> None:
        self._guard = guard
        self._ca_file = ca_file
        self._shared: ssl.SSLContext | None = None
        self._contexts: WeakValueDictionary[Tls, ssl.SSLContext] = WeakValueDictionary()
        self._origins: WeakValueDictionary[tuple[str, str, int, Tls | None], Origin] = (
            WeakValueDictionary()
        )
        if ca_file is not None:
            try:
                self._shared = _context(None, ca_file)
            except (OSError, ValueError) as error:
                raise ConfigurationError(
                    f"tls.ca_file: {ca_file} cannot be used ({_why(error)}); "
                    "give a PEM file that this process may read"
                ) from None

    def make(self, subscriber: Subscriber) -> Target:
        """Prepare a Subscriber's URL; never raises: the Target knows why it cannot be called."""
        url = self._guard.url(subscriber.url)
        if isinstance(url, Refusal):
            return Target(_NOWHERE, b"", (Kind.BLOCKED, url.rule))
        try:
            origin = self._origin(url, subscriber.tls)
        except (OSError, ValueError) as error:
            return Target(_NOWHERE, b"", (Kind.TLS, f"tls files cannot be used: {_why(error)}"))
        head = (
            f"POST {url.target} HTTP/1.1\r\nHost: {url.authority}\r\nAccept-Encoding: identity\r\n"
        )
        return Target(origin, head.encode("ascii"), url=url)

    def _origin(self, url: RecipientUrl, tls: Tls | None) -> Origin:
        if url.scheme == "http":
            tls = None
        key = (url.scheme, url.host, url.port, tls)
        origin = self._origins.get(key)
        if origin is None:
            context = self.context(tls) if url.scheme == "https" else None
            origin = self._origins[key] = Origin(url.host, url.port, url.address, context)
        return origin

    def context(self, tls: Tls | None) -> ssl.SSLContext:
        """The one of all who have these TLS files; raises OSError and ValueError."""
        if tls is None:
            self._shared = self._shared or _context(None, self._ca_file)
            return self._shared
        context = self._contexts.get(tls)
        if context is None:
            context = self._contexts[tls] = _context(tls, self._ca_file)
        return context


def _context(tls: Tls | None, ca_file: str | None) -> ssl.SSLContext:
    """TLS 1.2 or later, certificates checked by name.

    A Subscriber's own `ca_file` replaces the system's authorities: its receiver is to prove itself
    by that one.
    """
    own = tls.ca_file if tls is not None else None
    context = ssl.create_default_context(cafile=own)
    if own is None and ca_file is not None:
        context.load_verify_locations(ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls is not None and tls.cert_file is not None:
        # A pass phrase would be asked for on the terminal: an empty one makes it an error.
        context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    return context


def _why(error: Exception) -> str:
    """In a few words, without what a file holds."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").lower().replace("_", " ")
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "not PEM"
