"""`KafkaSource`: the loop's side of a consumer group handle."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from thorn_stream.adapters.kafka.handover import Credit, Outbox
from thorn_stream.adapters.kafka.reader import Reader
from thorn_stream.adapters.kafka.settings import SourceSettings
from thorn_stream.core.records import Partition, Position
from thorn_stream.ports import SourceEvent

__all__ = ["KafkaSource"]


class KafkaSource:
    """Reads a group's topics in a thread of its own (`ports.Source`).

    Made and used on the event loop. Raises `ConfigurationError` at once for settings that
    librdkafka does not take; whether Kafka answers shows later, as `Trouble`.
    """

    def __init__(self, settings: SourceSettings) -> None:
        self._settings = settings
        self._credit = Credit(settings.records, settings.size, settings.enough)
        self._reader = Reader(settings, self._credit, Outbox(self._hand_over))
        self._thread = threading.Thread(
            target=self._run, name=f"kafka-{settings.group}", daemon=True
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: Callable[[Sequence[SourceEvent]], None] | None = None
        self._left = asyncio.Event()
        self._seen = 0  # number of the last batch the loop has been given

    @property
    def group(self) -> str:
        return self._settings.group

    @property
    def ends(self) -> Mapping[Partition, int]:
        """The offset after the last record of each partition that is ours, some seconds old."""
        return self._reader.ends

    @property
    def total(self) -> int:
        """Partitions of the group's topics, some seconds old; 0 while Kafka has not told."""
        return self._reader.total

    @property
    def ids(self) -> Mapping[str, str]:
        """Kafka's own id of each topic read; a topic that is made again has another."""
        return self._reader.ids

    def start(self, handle: Callable[[Sequence[SourceEvent]], None]) -> None:
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._reader.subscribe()
        self._thread.start()

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        self._command(partial(self._reader.commit, dict(positions), self._seen))

    def pause(self, partitions: Sequence[Partition]) -> None:
        self._command(partial(self._reader.pause, list(partitions), self._seen))

    def resume(self, partitions: Sequence[Partition]) -> None:
        self._command(partial(self._reader.resume, list(partitions), self._seen))

    def credit(self, records: int, size: int) -> None:
        self._credit.given_records += records
        self._credit.given_size += size

    async def stop(self, grace: float) -> bool:
        """Leave the group; a `Revoked` comes in between and wants its answer.

        False when Kafka has not let go within `grace` seconds: the thread is left behind, and
        ends with the process.
        """
        if self._loop is None:
            return True
        self._command(self._reader.leave)
        try:
            await asyncio.wait_for(self._left.wait(), grace)
        except TimeoutError:
            return False
        return True

    def _command(self, command: Callable[[], None]) -> None:
        self._reader.commands.put(command)

    def _run(self) -> None:
        try:
            self._reader.run()
        finally:
            self._on_loop(self._left.set)

    def _hand_over(self, events: list[SourceEvent], number: int) -> bool:
        return self._on_loop(self._arrived, events, number)

    def _on_loop(self, function: Callable[..., object], *args: object) -> bool:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed
            return False
        return True

    def _arrived(self, events: list[SourceEvent], number: int) -> None:
        assert self._handle is not None
        self._seen = number
        self._handle(events)
