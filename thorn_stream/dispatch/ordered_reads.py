"""The reads of all ordered subscribers: groups are joined and left as subscribers come and go."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, TypeAlias

from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import KafkaError
from thorn_stream.core.rates import share
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.intake import Intake
from thorn_stream.dispatch.ordered import OrderedRead
from thorn_stream.ports import Source

__all__ = ["Open", "OrderedReads"]

Open: TypeAlias = Callable[[Subscriber, int], Awaitable[tuple[str, Source]]]
"""Sees to it that the group of a Subscriber begins where it should; returns its name and a Source
with so many bytes of credit. Raises `KafkaError`."""

_AGAIN: Final = 2.0
"""Seconds until a group that could not be begun is begun again."""
_LOOK: Final = 0.05
_LOOKS: Final = 40
_LEAVE_WITHIN: Final = 12.0


class OrderedReads:
    """One read for each Subscriber with `ordering: key`. They share `size` bytes evenly.

    `make` makes a read of a Source that `open_` has opened.
    """

    def __init__(
        self,
        open_: Open,
        make: Callable[[Subscriber, tuple[str, Source]], OrderedRead],
        size: int,
    ) -> None:
        self.look: Callable[[], None] = lambda: None
        self._open = open_
        self._make = make
        self._size = size
        self._wanted: Mapping[str, Subscriber] = {}
        self._reads: dict[str, OrderedRead] = {}
        self._leaving: dict[str, OrderedRead] = {}
        self._shares: dict[str, int] = {}  # bytes of credit that each was given
        self._changing: dict[str, asyncio.Task[None]] = {}
        self._wrong: dict[str, str] = {}
        self._started = False

    # --- coming and going ----------------------------------------------------------------------

    async def begin(self, directory: Directory) -> None:
        """Open those of the start, before anything is read. Raises `KafkaError`."""
        self._wanted = directory.ordered
        await asyncio.gather(*(self._join(name) for name in self._wanted))

    def start(self) -> None:
        """Join the groups."""
        self._started = True
        for read in self._reads.values():
            read.intake.start()

    def use(self, directory: Directory) -> None:
        """These are the Subscribers from now on."""
        self._wanted = directory.ordered
        for name, subscriber in self._wanted.items():
            if name in self._reads:
                self._reads[name].use(subscriber)
        for name in dict.fromkeys((*self._wanted, *self._reads)):
            if (name in self._wanted) != (name in self._reads) and name not in self._changing:
                self._changing[name] = asyncio.get_running_loop().create_task(self._change(name))

    async def _change(self, name: str) -> None:
        """Leave or join, until it is as is wanted."""
        try:
            while (name in self._wanted) != (name in self._reads):
                if name in self._reads:
                    await self._leave(name)
                    continue
                try:
                    await self._join(name)
                except KafkaError as error:
                    self._wrong[name] = str(error)
                    await asyncio.sleep(_AGAIN)
        finally:
            self._wrong.pop(name, None)
            del self._changing[name]

    async def _join(self, name: str) -> None:
        subscriber = self._wanted[name]
        share = self._share_evenly()
        read = self._make(subscriber, await self._open(subscriber, share))
        read.intake.look = self.look
        self._reads[name], self._shares[name] = read, share
        self._share_evenly()
        read.use(self._wanted.get(name, subscriber))
        if self._started:
            read.intake.start()

    def _share_evenly(self) -> int:
        """Give each its part of the bytes, or take it back; returns the part of one."""
        share = self._size // max(1, len(self._wanted))
        for name, read in self._reads.items():
            if (more := share - self._shares[name]) != 0:
                read.source.credit(0, more)
                self._shares[name] = share
        return share

    async def _leave(self, name: str) -> None:
        """What is not settled stays the group's: whoever has the Subscriber again goes on."""
        read = self._leaving[name] = self._reads.pop(name)
        del self._shares[name]
        read.intake.stop_taking()
        for ledger in read.intake.ledgers.values():
            ledger.drain()
        for _ in range(_LOOKS):  # what takes longer is cut off when the partitions are given back
            if read.intake.busy:
                await asyncio.sleep(_LOOK)
        await read.intake.stop(_LEAVE_WITHIN)
        del self._leaving[name]
        self._share_evenly()

    def stop(self) -> None:
        """Nobody comes or goes any more."""
        for task in self._changing.values():
            task.cancel()

    # --- as time goes by, and how it is --------------------------------------------------------

    def tick(self) -> None:
        for read in self._reads.values():
            read.tick()

    @property
    def intakes(self) -> list[Intake]:
        return [read.intake for read in (*self._reads.values(), *self._leaving.values())]

    @property
    def shares(self) -> dict[str, float]:
        """Which part, 0 to 1, of each one's partitions is ours: so much of its rate as well."""
        return {
            name: share(len(read.intake.ledgers), read.intake.total)
            for name, read in self._reads.items()
        }

    def __iter__(self) -> Iterator[OrderedRead]:
        return iter(self._reads.values())

    def get(self, name: str) -> OrderedRead | None:
        return self._reads.get(name)

    @property
    def reasons(self) -> list[str]:
        """A line for each group that could not be joined yet."""
        return [f"ordered subscriber {name}: {why}" for name, why in self._wrong.items()]
