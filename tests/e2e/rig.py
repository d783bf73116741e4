"""Dispatchers as processes, and plain Kafka clients around them, for end-to-end tests."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

from tests.support.receivers import closed_port

__all__ = ["Dispatcher", "committed", "dispatcher", "envelope", "produce", "read_all", "until"]

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition; AssertionError saying `what` did not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"after {seconds} s still not: {what}"
        time.sleep(0.02)


def envelope(event: str, **data: Any) -> bytes:
    return json.dumps({"event": event, "ref": None, "sender": 1, "data": data}).encode()


def produce(servers: str, topic: str, values: list[bytes | None], **more: Any) -> None:
    """Write with a plain producer, and wait until Kafka has all of it."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 5})
    for value in values:
        producer.produce(topic, value, **more)
    assert producer.flush(30) == 0


def read_all(servers: str, topic: str) -> list[Message]:
    """Everything a topic holds now, partition by partition."""
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "reads-all", "enable.auto.commit": False}
    )
    try:
        told = consumer.list_topics(topic, timeout=10).topics[topic]
        ends = {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
            for number in told.partitions
        }
        wanted = sum(high - low for low, high in ends.values())
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in ends])
        read: list[Message] = []
        end = time.monotonic() + 20
        while len(read) < wanted and time.monotonic() < end:
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                read.append(message)
        return read
    finally:
        consumer.close()


def committed(servers: str, group: str, topic: str) -> tuple[int, int]:
    """Sum of a group's committed offsets in a topic, and of its ends."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": group})
    try:
        numbers = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = consumer.committed([TopicPartition(topic, n) for n in numbers], timeout=10)
        done = sum(max(0, place.offset) for place in places)
        ends = [
            consumer.get_watermark_offsets(TopicPartition(topic, n), timeout=10) for n in numbers
        ]
        return done, sum(high for _, high in ends)
    finally:
        consumer.close()


class Dispatcher:
    """`thorn-stream run` in a process of its own."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.port = closed_port()
        self.folder = folder
        self.settings = {"http": {"host": "127.0.0.1", "port": self.port}, **settings}
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "thorn.yaml"
        self.config.write_text(yaml.safe_dump(self.settings))
        self.log = folder / "log"
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        environ = {k: v for k, v in os.environ.items() if not k.startswith("THORN_")}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "thorn_stream", "run", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self.folder,
            )

    def get(self, path: str) -> tuple[int, str]:
        """Status and text; 0 while nobody listens yet."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as told:
                return told.status, told.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def ready(self, seconds: float = 30) -> "Dispatcher":
        until(lambda: self.get("/readyz")[0] == 200 or self.ended, seconds, "ready")
        assert not self.ended, self.said()
        return self

    def metric(self, name: str, **labels: str) -> float:
        """Sum of the samples of this name that have these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            wanted = all(f'{key}="{text}"' in sample for key, text in labels.items())
            if sample.partition("{")[0] == name and wanted:
                total += float(value)
        return total

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def stop(self, seconds: float = 40) -> int:
        """SIGTERM, and wait for the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


@contextmanager
def dispatcher(folder: Path, settings: dict[str, Any]) -> Iterator[Dispatcher]:
    """A dispatcher that is gone afterwards, however the test ends."""
    one = Dispatcher(folder, settings)
    try:
        yield one
    finally:
        if not one.ended:
            one.process.send_signal(signal.SIGCONT)
            one.kill()
