"""The demo's own part in Kafka: events out, dead letters in, topics of its own."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

from thorn_stream.adapters.kafka import (
    KafkaSink,
    KafkaSource,
    SinkSettings,
    SourceSettings,
    TopicSpec,
    create_topics,
    delete_topics,
    describe,
)
from thorn_stream.config import load_settings
from thorn_stream.core.records import Record, header
from thorn_stream.ops.demo.account import Books, DeadLetter
from thorn_stream.ops.demo.cast import Happening, wire
from thorn_stream.ports import Records, Revoked, SendFailed, SourceEvent

__all__ = ["Cluster", "DeadLetters", "kafka_variables", "login_from", "produce"]

_PARTITIONS: Final = 4
_REACHED_WITHIN: Final = 5.0
_TAKEN_WITHIN: Final = 10.0
_UNDER_WAY: Final = 10_000

_KAFKA: Final = "THORN_KAFKA__"
_ADDRESS: Final = "THORN_KAFKA__BOOTSTRAP_SERVERS"

T = TypeVar("T")


def kafka_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The THORN_KAFKA__ variables but the address, which `--kafka` gives."""
    return {n: text for n, text in environ.items() if n.startswith(_KAFKA) and n != _ADDRESS}


def login_from(environ: Mapping[str, str]) -> dict[str, str]:
    """What these variables tell a client, secrets looked up; no settings file is read.

    Raises ConfigurationError naming the variable.
    """
    others = {n: text for n, text in environ.items() if not n.startswith("THORN_")}
    loaded = load_settings(Path(os.devnull), others | kafka_variables(environ))
    return loaded.settings.librdkafka()


@dataclass(frozen=True, slots=True)
class Cluster:
    """The broker the demo runs on, and the names it uses there: all begin with `group`.

    `login` is what a client is told besides its address: user, password, TLS.
    """

    servers: str
    group: str
    embedded: bool
    login: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def client(self) -> dict[str, str]:
        return {**self.login, "bootstrap.servers": self.servers}

    @property
    def events(self) -> str:
        return f"{self.group}.events"

    @property
    def dead(self) -> str:
        return f"{self.group}.dead"

    async def create_input(self) -> None:
        """Make the input topic, as a user would. Raises `KafkaError` when it cannot be."""
        topics = {self.events: TopicSpec(_PARTITIONS)}
        await _aside(lambda: create_topics(self.client, topics, _REACHED_WITHIN))

    async def topics(self) -> list[str]:
        """Names of all the topics the demo has there now."""
        known = await _aside(lambda: describe(self.client, _REACHED_WITHIN))
        return sorted(name for name in known.topics if name.startswith(f"{self.group}."))

    async def delete_topics(self) -> tuple[list[str], list[str]]:
        """Delete all of them, with what they hold; names of those deleted, and of those left.

        Raises `KafkaError` when that cannot be.
        """
        names = await self.topics()
        deleted = await _aside(lambda: delete_topics(self.client, names, _REACHED_WITHIN))
        return deleted, [name for name in names if name not in deleted]


async def produce(
    cluster: Cluster, happenings: Iterable[Happening], rate: float, books: Books
) -> None:
    """Send events at so many a second, without key and header, and wait for Kafka to have them.

    What Kafka does not take is in the books afterwards.
    """
    sink = KafkaSink(SinkSettings(cluster.client, timeout=_TAKEN_WITHIN))
    news = asyncio.Event()

    def done(number: int, failed: SendFailed | None) -> None:
        news.set()
        if failed is not None:
            books.refused(number, failed.error)

    grace = 0.0
    try:
        began = time.monotonic()
        for happening in happenings:
            ahead = began + happening.number / rate - time.monotonic()
            if ahead > 0 or happening.number % 50 == 0:
                await asyncio.sleep(max(0.0, ahead))
            while sink.waiting > _UNDER_WAY:
                news.clear()
                await news.wait()
            books.produced(happening.number, happening.name)
            value = wire(happening, time.time_ns() // 1_000_000)
            sink.send(cluster.events, (None, value, []), done, happening.number)
        grace = _TAKEN_WITHIN + 1.0
    finally:
        await sink.stop(grace)


class DeadLetters:
    """Reads the dead-letter topic, with a group of its own, for as long as the demo runs."""

    def __init__(self, cluster: Cluster, found: Callable[[DeadLetter], None]) -> None:
        self._found = found
        self._source = KafkaSource(
            SourceSettings(
                cluster.client,
                group=f"{cluster.group}.watch",
                topics=(cluster.dead,),
                embedded=cluster.embedded,
            )
        )

    def start(self) -> None:
        self._source.start(self._handle)

    async def stop(self, grace: float) -> None:
        await self._source.stop(grace)

    def _handle(self, events: Sequence[SourceEvent]) -> None:
        for event in events:
            if isinstance(event, Revoked):
                event.answer({})
            elif isinstance(event, Records):
                self._source.credit(len(event.records), sum(one.size for one in event.records))
                for record in event.records:
                    self._found(dead_letter(record))


def dead_letter(record: Record) -> DeadLetter:
    """What a dead letter says of itself, and which event its value is."""
    try:
        event: int | None = int(json.loads(record.value or b"")["data"]["number"])
    except (ValueError, KeyError, TypeError):
        event = None
    return DeadLetter(
        subscriber=(header(record.headers, "thorn-subscriber") or b"").decode("ascii", "replace"),
        reason=(header(record.headers, "thorn-reason") or b"none").decode("ascii", "replace"),
        event=event,
    )


async def _aside(call: Callable[[], T]) -> T:
    """Run what waits for Kafka in a thread that nobody has to wait for at the end."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(setter: Callable[[Any], None], value: Any) -> None:
        if not answer.done():
            setter(value)

    def run() -> None:
        told: tuple[Callable[[Any], None], Any]
        try:
            told = answer.set_result, call()
        except Exception as error:  # noqa: BLE001 - raised again where it is awaited
            told = answer.set_exception, error
        with suppress(RuntimeError):  # the demo has ended: nobody wants to know
            loop.call_soon_threadsafe(tell, *told)

    threading.Thread(target=run, name="kafka-aside", daemon=True).start()
    return await answer
