"""What may stand between httpx and the receiver: a proxy, HTTP/2, a transport of the user's own.

All of it comes from the settings, and is checked when the transport is made.
"""

import importlib
import importlib.util
from dataclasses import dataclass, field
from typing import Any

import httpx

from thorn_stream.core.errors import ConfigurationError

__all__ = ["Way", "own_transport", "proxy_of"]


@dataclass(frozen=True, slots=True)
class Way:
    """How requests travel. With `proxy` or `own` it is not we who dial the receiver.

    `proxy` is a URL and may hold a user and a password; `own` is used as it is and closed with
    the transport.
    """

    http2: bool = False
    proxy: str | None = field(default=None, repr=False)
    own: httpx.AsyncBaseTransport | None = None

    @property
    def covered(self) -> bool:
        """Whether the address that is checked is the address that is dialled."""
        return self.proxy is None and self.own is None

    def check(self, ca_file: str | None) -> None:
        """ConfigurationError for what cannot work here, or would be ignored."""
        if self.own is not None and ca_file is not None:
            raise ConfigurationError(
                "tls.ca_file: does not reach a transport of your own: remove it, and let the "
                "transport trust what it must"
            )
        if self.http2 and importlib.util.find_spec("h2") is None:
            raise ConfigurationError(
                "http2: the package h2 is not installed: "
                "run pip install 'thorn-stream[http2]', or remove `http2`"
            )
        if self.proxy is not None:
            proxy_of(self.proxy)


def proxy_of(url: str) -> httpx.Proxy:
    """A proxy's URL in its parts; ConfigurationError never says what is in it."""
    try:
        proxy = httpx.Proxy(url)
    except (ValueError, TypeError, httpx.InvalidURL):
        proxy = None
    usable = (
        proxy is not None
        and proxy.url.scheme in {"http", "https"}
        and bool(proxy.url.host)
        and (proxy.url.port is None or 0 < proxy.url.port < 65536)
    )
    if proxy is None or not usable:
        raise ConfigurationError(
            "proxy: is not the URL of a proxy; write it like http://user:password@host:3128"
        )
    return proxy


def own_transport(reference: str, place: str = "transport") -> httpx.AsyncBaseTransport:
    """The transport that `!package.module:name` names.

    The name may be an `httpx.AsyncBaseTransport`, a class of them, or a function that makes one;
    neither is given an argument. ConfigurationError names `place` and says what went wrong.
    """
    module, _, name = reference.removeprefix("!").partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if not isinstance(found, httpx.AsyncBaseTransport) and callable(found):
            found = found()
    except Exception as error:  # noqa: BLE001 -- whatever a module of the user's own does
        raise ConfigurationError(
            f"{place}: {reference} cannot be loaded ({_told(error)}); "
            "name something that this process can import"
        ) from None
    if not isinstance(found, httpx.AsyncBaseTransport):
        raise ConfigurationError(
            f"{place}: {reference} is a {type(found).__name__}; "
            "it must be an httpx.AsyncBaseTransport, a class of them or a function that makes one"
        )
    return found


def _told(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
