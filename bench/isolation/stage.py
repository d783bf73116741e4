"""One stage per load: a topic, a receiver, a dispatcher, all new; and how much of everything."""

import itertools
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.isolation.parts import Dispatcher, Events, Receiver, folder, wait_until
from thorn_stream.adapters.kafka import TopicSpec, create_topics

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Seconds of a phase, in so many turns, and of an outage; events per second; records with crawling
    ones among them; retries; backlog; partitions; large records; subscribers.
    """

    phase: float
    turns: int
    outage: float
    rate: int
    crawl: int
    storm: int
    backlog: int
    partitions: int
    large: int
    subscribers: int


TINY = Scale(1.5, 1, 2.0, 200, 2_000, 200, 2_000, 8, 5, 50)
SHORT = Scale(30.0, 3, 30.0, 2000, 60_000, 20_000, 1_000_000, 200, 400, 10_000)
LONG = Scale(600.0, 1, 300.0, 2000, 300_000, 100_000, 10_000_000, 1_000, 1_000, 10_000)


@dataclass(frozen=True)
class Bench:
    """What all loads have in common."""

    servers: str
    scale: Scale


@dataclass
class Stage:
    """Receiver, dispatcher and events of one load. `lost` are numbers that never arrived."""

    receiver: Receiver
    events: Events
    addresses: list[tuple[str, int]]
    folder: Path
    settings: dict[str, Any]
    dispatcher: Dispatcher = field(init=False)
    lost: int = 0

    def start(self) -> None:
        self.dispatcher = Dispatcher(self.folder, self.settings)

    def settle(self, numbers: range, within: float = 180.0) -> None:
        """Wait until each of these has been answered with success; count what was not."""
        last_count, quiet_since = -1, time.monotonic()

        def all_there() -> bool:
            nonlocal last_count, quiet_since
            count = self.receiver.count
            if count != last_count:
                last_count, quiet_since = count, time.monotonic()
            enough = count >= len(numbers) and time.monotonic() > quiet_since + 0.5
            return enough and not self.receiver.missing(numbers)

        wait_until(all_there, within)
        self.lost += self.receiver.missing(numbers)


@contextmanager
def stage(
    bench: Bench,
    subscribers: Sequence[Mapping[str, Any]],
    *,
    hosts: int = 1,
    partitions: int = 4,
    start: bool = True,
    **settings: Any,
) -> Iterator[Stage]:
    """`subscribers` without URLs: the i-th is called at /i, on host i modulo `hosts`."""
    group = f"isolation{os.getpid()}-{next(_numbers)}"
    topic = f"{group}.in"
    create_topics(
        {"bootstrap.servers": bench.servers}, {topic: TopicSpec(partitions=partitions)}, 30
    )
    with ExitStack() as stack:
        place = stack.enter_context(folder())
        receiver = Receiver(place)
        stack.callback(receiver.stop)
        names = [f"127.0.0.{number}" for number in range(1, hosts + 1)]
        addresses = [(name, receiver.listen(name)) for name in names]
        made = []
        for number, each in enumerate(subscribers):
            name, port = addresses[number % hosts]
            made.append({"id": f"s{number}", "url": f"http://{name}:{port}/{number}", **each})
        one = Stage(
            receiver,
            Events(bench.servers, topic),
            addresses,
            place,
            {
                "kafka": {"bootstrap_servers": bench.servers},
                "group": group,
                "topics": [topic],
                "subscribers": made,
                **settings,
            },
        )
        if start:
            one.start()
        try:
            yield one
        finally:
            if hasattr(one, "dispatcher"):
                one.dispatcher.stop()
