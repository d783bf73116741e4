"""A small DNS server (RFC 1035, UDP) on loopback, and a look-up that asks it.

    with NameServer({"a.example": [["8.8.8.8"], ["127.0.0.1"]]}) as server:
        server.look_up("a.example")     # ["8.8.8.8"]; the next time ["127.0.0.1"]

Each name has a list of answers, one for each look-up; the last one is given from then on. An
answer is a list of addresses; `=other.example` in it makes those that follow belong to that alias.
A name that is in `silent` is never answered; one that is not known does not exist. `asked` counts
the look-ups of each name. What it tells may be kept 0 seconds.
"""

import itertools
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Final, Self

__all__ = ["NameServer"]

_A: Final = 1
_CNAME: Final = 5
_AAAA: Final = 28
_HEADER: Final = struct.Struct("!6H")
_RECORD: Final = struct.Struct("!2HIH")
_NO_SUCH_NAME: Final = 3


def _encoded(name: str) -> bytes:
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def _name(message: bytes, at: int) -> tuple[str, int]:
    """The name that begins there, and where it ends; pointers are followed."""
    labels: list[str] = []
    end = 0
    while message[at]:
        if message[at] >= 0xC0:
            end = end or at + 2
            at = struct.unpack_from("!H", message, at)[0] & 0x3FFF
            continue
        labels.append(message[at + 1 : at + 1 + message[at]].decode("ascii").lower())
        at += 1 + message[at]
    return ".".join(labels), end or at + 1


class NameServer:
    """Answers on a thread of its own. `patience` is how long a look-up waits, in seconds."""

    def __init__(
        self, answers: Mapping[str, Sequence[Sequence[str]]] | None = None, patience: float = 30.0
    ) -> None:
        self.answers = dict(answers or {})
        self.silent: set[str] = set()
        self.asked: Counter[str] = Counter()
        self.patience = patience
        self._given: Counter[tuple[str, int]] = Counter()
        self._closed = False
        self._ids = itertools.count(1)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True  # whoever still waits for an answer is let go
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join(30)
        self._socket.close()

    # --- the server ----------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            query, asker = self._socket.recvfrom(4096)
            if not query:
                return
            name, end = _name(query, _HEADER.size)
            kind = struct.unpack_from("!H", query, end)[0]
            if kind == _A:
                self.asked[name] += 1
            if name not in self.silent:
                self._socket.sendto(self._answer(query, name, kind, end + 4), asker)

    def _answer(self, query: bytes, name: str, kind: int, end: int) -> bytes:
        question = query[_HEADER.size : end]
        number = struct.unpack_from("!H", query)[0]
        known = self.answers.get(name)
        if known is None:
            return _HEADER.pack(number, 0x8180 | _NO_SUCH_NAME, 1, 0, 0, 0) + question
        turn = self._given[name, kind]
        self._given[name, kind] += 1
        records: list[bytes] = []
        owner = _encoded(name)
        for text in known[min(turn, len(known) - 1)]:
            if text.startswith("="):
                alias = _encoded(text[1:])
                records.append(owner + _RECORD.pack(_CNAME, 1, 0, len(alias)) + alias)
                owner = alias
                continue
            address = ip_address(text)
            if kind == (_A if address.version == 4 else _AAAA):
                packed = address.packed
                records.append(owner + _RECORD.pack(kind, 1, 0, len(packed)) + packed)
        return _HEADER.pack(number, 0x8180, 1, len(records), 0, 0) + question + b"".join(records)

    # --- who asks it ---------------------------------------------------------------------------

    def look_up(self, name: str) -> list[str]:
        """All addresses of a name, as the system's look-up gives them; raises `gaierror`."""
        return [address for kind in (_A, _AAAA) for address in self._ask(name, kind)]

    def _received(self, asker: socket.socket) -> bytes:
        end = time.monotonic() + self.patience
        while time.monotonic() < end and not self._closed:
            with suppress(TimeoutError):
                return asker.recv(4096)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    def _ask(self, name: str, kind: int) -> list[str]:
        number = next(self._ids) & 0xFFFF
        query = _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + _encoded(name)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(0.05)
            asker.sendto(query + struct.pack("!2H", kind, 1), ("127.0.0.1", self.port))
            message = self._received(asker)
        given, flags, _, count, *_ = _HEADER.unpack_from(message)
        assert given == number
        if flags & 0xF:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        at = _name(message, _HEADER.size)[1] + 4
        found: list[str] = []
        for _ in range(count):
            at = _name(message, at)[1]
            record_kind, _, _, length = _RECORD.unpack_from(message, at)
            at += _RECORD.size
            if record_kind == kind:
                found.append(str(ip_address(message[at : at + length])))
            at += length
        return found
