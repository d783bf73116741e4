"""The oldest of what is pending, by name, while things come and go in any order."""

from collections.abc import Iterator
from heapq import heappop, heappush

__all__ = ["Oldest"]


class Oldest:
    """Moments per name. Two heaps each: what came, and what has gone but is still in the first.

    What comes and goes costs a handful of steps; asking costs nothing beside.
    """

    __slots__ = ("_came", "_gone")

    def __init__(self) -> None:
        self._came: dict[str, list[int]] = {}
        self._gone: dict[str, list[int]] = {}

    def add(self, name: str, moment: int) -> None:
        heappush(self._came.setdefault(name, []), moment)

    def remove(self, name: str, moment: int) -> None:
        """Take out one that was added: once for each time."""
        came, gone = self._came[name], self._gone.setdefault(name, [])
        heappush(gone, moment)
        while gone and gone[0] == came[0]:
            heappop(came)
            heappop(gone)
        if not came:
            del self._came[name], self._gone[name]

    def clear(self) -> None:
        self._came.clear()
        self._gone.clear()

    def get(self, name: str) -> int | None:
        came = self._came.get(name)
        return came[0] if came else None

    def items(self) -> Iterator[tuple[str, int]]:
        """Each name of which there is something, with its oldest."""
        return ((name, came[0]) for name, came in self._came.items())
