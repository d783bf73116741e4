"""Brokers that tests run against: the embedded one, in a process of its own, and Apache Kafka.

Run as a program it is that process: one JSON command per line on standard input, one answer per
line on standard output.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public; its stubs forget to say so
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.support.apache_kafka import ApacheKafka
from thorn_stream.adapters.embedded import EmbeddedBroker
from thorn_stream.adapters.kafka import TopicSpec, create_topics, describe

ROOT: Final = Path(__file__).parents[2]


class EmbeddedProcess:
    """The embedded broker in its own process, so that it can be stalled and killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.brokers"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.bootstrap_servers = str(self._answer())

    @property
    def pid(self) -> int:
        return self._process.pid

    def create_topic(self, name: str, partitions: int) -> None:
        self._do("create_topic", name, partitions)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        self._do("delete_records", topic, partition, before)

    def fail_next(self, request: int, codes: Sequence[int]) -> None:
        self._do("fail_next", request, list(codes))

    def go_down(self) -> None:
        self._do("go_down")

    def come_up(self) -> None:
        self._do("come_up")

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP stalls it like a network that swallows everything; SIGCONT ends that."""
        os.kill(self.pid, number)

    def stop(self) -> None:
        if self._process.poll() is None:
            self.signal(signal.SIGCONT)
            self._process.kill()
        self._process.communicate()

    def _do(self, method: str, *arguments: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([method, arguments]) + "\n")
        self._process.stdin.flush()
        error = self._answer()
        assert error is None, error

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


@dataclass
class Broker:
    """One of the two, as a single test sees it: topics and groups are its own.

    `client` is a `kafka:` section; `real` is what runs behind it.
    """

    real: EmbeddedProcess | ApacheKafka
    prefix: str = field(default_factory=lambda: f"t{uuid.uuid4().hex[:8]}")

    @property
    def embedded(self) -> bool:
        return isinstance(self.real, EmbeddedProcess)

    @property
    def client(self) -> dict[str, Any]:
        return {"bootstrap_servers": self.real.bootstrap_servers}

    def name(self, name: str) -> str:
        return f"{self.prefix}.{name}"

    def topic(self, name: str, partitions: int = 4, config: Mapping[str, str] | None = None) -> str:
        """Make a topic of this test; returns its full name. Only Apache Kafka heeds `config`."""
        full = self.name(name)
        if isinstance(self.real, EmbeddedProcess):
            self.real.create_topic(full, partitions)
        else:
            create_topics(self.client, {full: TopicSpec(partitions, 1, config or {})}, 20)
            until = time.monotonic() + 20
            while full not in describe(self.client, 20).topics:  # brokers hear of it a moment later
                assert time.monotonic() < until
        return full

    def allow(
        self, *operations: str, topic: str = "", group: str = "", prefixed: bool = False
    ) -> None:
        """Grant the user of the listener with login these rights (Apache Kafka only)."""
        kind = ResourceType.TOPIC if topic else ResourceType.GROUP
        pattern = ResourcePatternType.PREFIXED if prefixed else ResourcePatternType.LITERAL
        who = ("User:thorn", "*")
        rules = [
            AclBinding(
                kind,
                topic or group,
                pattern,
                *who,
                AclOperation[operation],
                AclPermissionType.ALLOW,
            )
            for operation in operations
        ]
        admin = AdminClient({"bootstrap.servers": self.real.bootstrap_servers})
        for future in admin.create_acls(rules).values():
            future.result(timeout=20)
        # taken down by the controller; what a broker goes by, it learns a moment later
        asked = AclBindingFilter(
            kind, topic or group, pattern, *who, AclOperation.ANY, AclPermissionType.ANY
        )
        end = time.monotonic() + 20
        while not set(rules) <= set(admin.describe_acls(asked).result(timeout=20)):
            assert time.monotonic() < end, f"{rules} are not in force"
            time.sleep(0.02)

    @property
    def login(self) -> dict[str, Any]:
        """A `kafka:` section of the user that has only the rights given by `allow`."""
        assert isinstance(self.real, ApacheKafka)
        return {
            "bootstrap_servers": self.real.login_servers,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "thorn",
            "sasl_password": "right-password",
        }

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Let records below this offset be gone, as retention does."""
        if isinstance(self.real, EmbeddedProcess):
            self.real.delete_records(topic, partition, before)
            return
        admin = AdminClient({"bootstrap.servers": self.real.bootstrap_servers})
        asked = admin.delete_records([TopicPartition(topic, partition, before)])
        for future in asked.values():
            future.result(timeout=20)

    def produce(
        self, topic: str, values: Sequence[bytes | None], partition: int = 0, **more: Any
    ) -> None:
        """Write records with a client of its own; returns when they are there."""
        producer = Producer({"bootstrap.servers": self.real.bootstrap_servers, "acks": "all"})
        errors: list[Any] = []
        for value in values:
            producer.produce(
                topic,
                value,
                partition=partition,
                on_delivery=lambda error, _: errors.append(error),
                **more,
            )
        left = producer.flush(30)
        assert not left
        assert not any(errors), errors


def numbered(count: int, start: int = 0) -> list[bytes | None]:
    """Make `count` values that say their place."""
    return [b"%d" % i for i in itertools.islice(itertools.count(start), count)]


def _serve() -> None:
    with EmbeddedBroker() as broker:
        print(json.dumps(broker.bootstrap_servers), flush=True)
        for line in sys.stdin:
            method, arguments = json.loads(line)
            try:
                getattr(broker, method)(*arguments)
            except Exception as error:  # noqa: BLE001 - told to the test
                print(json.dumps(repr(error)), flush=True)
            else:
                print("null", flush=True)


if __name__ == "__main__":
    _serve()
