"""The other processes, and what goes to and fro: the receiver, a dispatcher, events, figures."""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml
from confluent_kafka import Consumer, Producer, TopicPartition

from bench.isolation.receiver import COLUMNS
from bench.measure import cpu
from tests.support.receivers import closed_port

_PAGE = os.sysconf("SC_PAGE_SIZE")
SCRAPE_EVERY = 5.0
"""Seconds: a scrape takes the dispatcher's loop, as it does in service."""

Whose = Callable[[int], tuple[str, int]]
"""Of an event's number: its name, and whether it has the mark (0, 1)."""


class Row(NamedTuple):
    """One request: times in seconds, `number` of its event, `status` 0 for no answer."""

    number: int
    sent: float
    arrived: float
    who: int
    status: int

    @property
    def good(self) -> bool:
        return 200 <= self.status < 300

    @property
    def wait(self) -> float:
        """Milliseconds from produced to received."""
        return 1000 * (self.arrived - self.sent)


class Receiver:
    """The receiver's process (see `bench.isolation.receiver`)."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.isolation.receiver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._file = folder / "rows"

    def _do(self, *command: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def listen(self, host: str, port: int = 0) -> int:
        return int(self._do("listen", host, port))

    def close(self, port: int) -> None:
        self._do("close", port)

    def behave(self, behaviours: Mapping[int, tuple[str, float, bool]]) -> None:
        self._do("behave", behaviours)

    def heal(self, *subscribers: int) -> None:
        self.behave(dict.fromkeys(subscribers, ("ok", 0.0, False)))

    @property
    def count(self) -> int:
        """Of requests that were answered with success."""
        return int(self._do("count"))

    def rows(self) -> list[Row]:
        columns = self._columns()
        return [
            Row(number, sent / 1e9, arrived / 1e9, who, status)
            for number, sent, arrived, who, status in zip(*columns, strict=True)
        ]

    def missing(self, numbers: range) -> int:
        """How many of these events were not answered with success; for any number of them."""
        seen = bytearray(len(numbers))
        columns = self._columns()
        for number, status in zip(columns[0], columns[4], strict=True):
            if number in numbers and 200 <= status < 300:
                seen[number - numbers.start] = 1
        return seen.count(0)

    def _columns(self) -> list["array[int]"]:
        self._do("write", str(self._file))
        columns: list[array[int]] = [array(kind) for kind in COLUMNS]
        with self._file.open("rb") as file:
            count = int.from_bytes(file.read(8), "little")
            for column in columns:
                column.fromfile(file, count)
        return columns

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


class Dispatcher:
    """A dispatcher's process; `settings` are those that differ from a bench's usual ones."""

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.probes = closed_port()
        self.group = str(settings["group"])
        self.log = folder / "log"
        config = folder / "thorn.yaml"
        usual = {
            "allowed_networks": ["127.0.0.0/8"],
            "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http"]]],
            "hmac_secret": "a-master-secret-for-the-bench",
            "http": {"host": "127.0.0.1", "port": self.probes},
            "log": {"format": "json"},
            "subscriber_files": [],
        }
        config.write_text(yaml.safe_dump({**usual, **settings}))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "thorn_stream", "run", "--config", str(config)], stderr=log
            )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + 90
        while time.monotonic() < until and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.probes}/readyz", timeout=30)
            except OSError:
                time.sleep(0.1)
                continue
            return
        sys.exit(f"the dispatcher is not ready: {self.log.read_text()[-2000:]}")

    def metrics(self) -> dict[str, float]:
        """By sample, as it is written."""
        where = f"http://127.0.0.1:{self.probes}/metrics"
        with urllib.request.urlopen(where, timeout=60) as told:
            lines = [line for line in told.read().decode().splitlines() if line[:1] != "#"]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Of its log, those about `event`."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line[:1] == "{"]
        return [line for line in found if line.get("event") == event]

    @property
    def cpu(self) -> float:
        return cpu(self._process.pid)

    @property
    def rss(self) -> float:
        """MiB now."""
        return int(self._file("statm").split()[1]) * _PAGE / (1 << 20)

    @property
    def peak(self) -> float:
        """The most MiB it has ever had."""
        for line in self._file("status").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def _file(self, name: str) -> str:
        return Path(f"/proc/{self._process.pid}/{name}").read_text()

    def stop(self) -> int:
        """Its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


@dataclass
class Events:
    """Publishes numbered events; a number is never used twice."""

    servers: str
    topic: str
    next: int = 0
    pad: str = ""
    _producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        settings = {"linger.ms": 1, "message.max.bytes": 2_000_000, "log_level": 3}
        self._producer = Producer({"bootstrap.servers": self.servers, **settings})
        if not wait_until(self._has_leaders, 60):
            sys.exit(f"{self.topic}: some partitions have no leader")

    def _has_leaders(self) -> bool:
        found = self._producer.list_topics(self.topic, timeout=30).topics[self.topic].partitions
        return bool(found) and all(each.leader >= 0 for each in found.values())

    def send(self, count: int, whose: Whose, rate: float | None = None) -> range:
        """So many, `rate` per second or as fast as it goes; returns their numbers."""
        numbers = range(self.next, self.next + count)
        self.next += count
        begin = time.monotonic()
        for done, number in enumerate(numbers):
            if rate is not None:
                while (early := begin + done / rate - time.monotonic()) > 0:
                    time.sleep(early)
            self._one(number, *whose(number))
        if self._producer.flush(120):
            sys.exit("the topic could not be filled")
        return numbers

    def _one(self, number: int, name: str, marked: int) -> None:
        key = b"%d" % (number % 997)
        while True:
            mark = f"{number:012d},{time.time_ns():019d},{marked}"
            text = f'{{"event": "{name}", "data": {{"m": "{mark}", "pad": "{self.pad}"}}}}'
            try:
                self._producer.produce(self.topic, text.encode(), key=key)
            except BufferError:
                self._producer.poll(0.05)
                continue
            self._producer.poll(0)
            return


class Watch:
    """RSS (MiB) each second, lag of the main group each scrape, while something goes on."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.rss: list[float] = []
        self.lag: list[float] = []
        self.samples: dict[str, float] = {}
        self._dispatcher = dispatcher
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        group = f'group="{self._dispatcher.group}",'
        for second in itertools.count(1):
            if self._over.wait(1.0):
                return
            self.rss.append(self._dispatcher.rss)
            if second % SCRAPE_EVERY == 0:
                self.samples = self._dispatcher.metrics()
                lags = [v for k, v in self.samples.items() if "consumer_lag" in k and group in k]
                self.lag.append(sum(lags))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def committed(servers: str, group: str, topic: str) -> int:
    """Up to which offset its partition 0 is done, by what Kafka was told."""
    asking = Consumer({"bootstrap.servers": servers, "group.id": group})
    try:
        told = asking.committed([TopicPartition(topic, 0)], timeout=30)
        return max(0, int(told[0].offset))
    finally:
        asking.close()


def percentile(values: Iterable[float], share: float) -> float:
    """Not a number when there are none."""
    ordered = sorted(values)
    return ordered[int(len(ordered) * share)] if ordered else float("nan")


def wait_until(condition: Callable[[], bool], within: float) -> bool:
    """Whether it came true."""
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="thorn-isolation-") as name:
        yield Path(name)


def table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """As Markdown has it, so that it can go into the docs."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_text(cell) for cell in line) + " |" for line in lines)


def _text(cell: object) -> str:
    if not isinstance(cell, float):
        return f"{cell:,}" if isinstance(cell, int) else str(cell)
    return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}"
