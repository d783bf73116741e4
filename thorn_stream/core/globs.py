"""One part of a name against one part of a pattern, as `fnmatch` matches a file's name.

In one pass from left to right: each piece between two stars is taken where it first fits, which
is always right, since what follows has most room then. Nothing is tried again.
"""

from collections.abc import Sequence
from typing import TypeAlias

__all__ = ["Glob", "ranges"]

# A character of a part: itself, any, or one of a class (negated, ranges).
_Class: TypeAlias = tuple[bool, tuple[tuple[str, str], ...]]
_Piece: TypeAlias = str | tuple[str | _Class | None, ...]


class Glob:
    """A part with wildcards inside."""

    __slots__ = ("_length", "_pieces")

    def __init__(self, symbols: Sequence[str]) -> None:
        self._pieces = _pieces(symbols)
        self._length = sum(map(len, self._pieces))

    @property
    def prefix(self) -> str:
        """The plain characters it begins with."""
        return _runs(self._pieces[0])[0]

    @property
    def suffix(self) -> str:
        """The plain characters it ends with."""
        return _runs(self._pieces[-1])[-1]

    @property
    def longest(self) -> str:
        """The longest run of plain characters in it."""
        return max((run for piece in self._pieces for run in _runs(piece)), key=len)

    def matches(self, part: str) -> bool:
        pieces = self._pieces
        first = pieces[0]
        if len(pieces) == 1:
            return len(part) == self._length and _fits(first, part, 0)
        last = pieces[-1]
        at, end = len(first), len(part) - len(last)
        if len(part) < self._length or not (_fits(first, part, 0) and _fits(last, part, end)):
            return False
        for piece in pieces[1:-1]:
            at = _find(piece, part, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True


def _pieces(symbols: Sequence[str]) -> tuple[_Piece, ...]:
    """What stands between the stars, and before the first and after the last of them."""
    pieces: list[list[str | _Class | None]] = [[]]
    for symbol in symbols:
        if symbol == "*":
            pieces.append([])
        elif symbol == "?":
            pieces[-1].append(None)
        elif len(symbol) > 1:
            negated = symbol[1] == "!"
            pieces[-1].append((negated, ranges(symbol[2 if negated else 1 : -1])))
        else:
            pieces[-1].append(symbol)
    return tuple(map(_joined, pieces))


def _joined(piece: Sequence[str | _Class | None]) -> _Piece:
    """A piece of plain characters alone is a string: those are found fastest."""
    plain = [one for one in piece if isinstance(one, str)]
    return "".join(plain) if len(plain) == len(piece) else tuple(piece)


def _runs(piece: _Piece) -> list[str]:
    """Its runs of plain characters, with an empty one for a wildcard at either end."""
    if isinstance(piece, str):
        return [piece]
    return "".join(one if isinstance(one, str) else "\0" for one in piece).split("\0")


def _fits(piece: _Piece, part: str, at: int) -> bool:
    if isinstance(piece, str):
        return part.startswith(piece, at)
    for index, wanted in enumerate(piece, at):
        if wanted is None:
            continue
        char = part[index]
        if isinstance(wanted, str):
            if char != wanted:
                return False
        elif any(low <= char <= high for low, high in wanted[1]) == wanted[0]:
            return False
    return True


def _find(piece: _Piece, part: str, at: int, end: int) -> int:
    if isinstance(piece, str):
        return part.find(piece, at, end)
    for start in range(at, end - len(piece) + 1):
        if _fits(piece, part, start):
            return start
    return -1


def ranges(members: str) -> tuple[tuple[str, str], ...]:
    """First and last character of each range between two brackets; often the same one."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(members):
        if members[at + 1 : at + 2] == "-" and at + 2 < len(members):
            found.append((members[at], members[at + 2]))
            at += 3
        else:
            found.append((members[at], members[at]))
            at += 1
    return tuple(found)
