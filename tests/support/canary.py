"""A canary: it listens wherever loopback can be reached, and sees every socket told to connect.

    with Canary() as canary:
        ...                             # http://127.0.0.1:{canary.port}/ in every spelling
    canary.connections                  # accepted
    canary.dialled                      # addresses that `connect` was called with, in this process

One listener on `::` that takes IPv4 as well is behind every form of this machine's own address:
127.0.0.0/8, 0.0.0.0, ::1, ::ffff:127.0.0.1 and its network cards'. The hook on `connect` (PEP 578)
sees what sockets of Python's are told; what libuv dials by itself only the listener sees.
"""

import socket
import sys
import threading
from contextlib import suppress
from typing import Any, Final, Self

__all__ = ["LOOPBACK_FORMS", "Canary"]

LOOPBACK_FORMS: Final = (
    "127.0.0.1",
    "127.0.0.2",
    "127.1.2.3",
    "127.255.255.254",
    "0.0.0.0",
    "::1",
    "::",
    "::ffff:127.0.0.1",
    "::ffff:127.0.0.2",
)
"""Forms that lead to this very machine; those of IPv6 only where it has that."""

_watching: list["Canary"] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "socket.connect":
        address = arguments[1]
        for canary in _watching:
            canary.told(address)


class Canary:
    """Counts from `with` to the end of it."""

    _hooked = False

    def __init__(self) -> None:
        self.connections = 0
        self.dialled: list[str] = []
        self.ipv6 = True
        try:
            self._listener = socket.socket(socket.AF_INET6)
            self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            self._listener.bind(("::", 0))
        except OSError:
            self.ipv6 = False
            self._listener = socket.socket(socket.AF_INET)
            self._listener.bind(("0.0.0.0", 0))
        self._listener.listen(128)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def told(self, address: object) -> None:
        """Called by the hook: a socket was told to connect."""
        if isinstance(address, tuple):
            self.dialled.append(str(address[0]))

    def __enter__(self) -> Self:
        if not Canary._hooked:  # a hook stays for the life of the process
            Canary._hooked = True
            sys.addaudithook(_hook)
        self._thread.start()
        _watching.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _watching.remove(self)
        self.settle()
        self._listener.close()

    def settle(self) -> None:
        """Count everything that had connected until now, and listen no more."""
        if not self._thread.is_alive():
            return
        family = socket.AF_INET6 if self.ipv6 else socket.AF_INET
        with socket.socket(family) as last:
            # accepted in order: when this one is, all before it are counted
            last.bind(("::1" if self.ipv6 else "127.0.0.1", 0))
            self._last = last.getsockname()[1]
            last.connect(("::1" if self.ipv6 else "127.0.0.1", self.port))
            self._thread.join(30)

    _last = 0

    def _accept(self) -> None:
        while True:
            with suppress(OSError):
                accepted, peer = self._listener.accept()
                accepted.close()
                if peer[1] == self._last:
                    return
                self.connections += 1
