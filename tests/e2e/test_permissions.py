"""Permissions that are withdrawn, and topics that are deleted, while a dispatcher runs.

Each is named in /readyz with what to do; when it is given back the dispatcher goes on by itself,
and nothing is lost.
"""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import pytest
import yaml
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public; its stubs forget to say so
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, committed, dispatcher, envelope, read_all, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver
from thorn_stream.adapters.kafka import delete_topics, describe

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(240)]  # a busy machine waits long

PATIENCE: Final = 60.0
PROTOCOLS: Final = pytest.mark.parametrize(
    "protocol", ["classic", pytest.param("consumer", marks=pytest.mark.long)]
)
QUICK: Final = {"topic_metadata_refresh_interval_ms": 1000, "session_timeout_ms": 6000}


@pytest.fixture
def broker(apache_broker: Broker) -> Broker:
    """Apache Kafka alone: the embedded broker knows no permissions and deletes no topics."""
    return apache_broker


class Granted:
    """The user with a login, who has the rules of `topics plan --acl` and no others."""

    def __init__(self, broker: Broker, folder: Path, settings: dict[str, Any]) -> None:
        self.broker = broker
        self.settings = settings
        self._admin = AdminClient({"bootstrap.servers": broker.real.bootstrap_servers})
        folder.mkdir(parents=True, exist_ok=True)
        for words in commands(folder, settings):
            self._obey(words)

    def _obey(self, words: list[str]) -> None:
        """Do what a `kafka-acls.sh --add` does."""
        given: dict[str, list[str]] = {}
        for name, value in zip(words, [*words[1:], ""], strict=True):
            if name.startswith("--"):
                given.setdefault(name.removeprefix("--"), []).append(value)
        for kind in {"topic", "group"} & given.keys():
            self.broker.allow(
                *(acl_name(operation) for operation in given["operation"]),
                **{kind: given[kind][0]},
                prefixed=given.get("resource-pattern-type") == ["prefixed"],
            )

    def withdraw(self, operation: str | None, *, topic: str = "", group: str = "") -> None:
        """Take away the rules for this name and operation (None: all of them)."""
        kind = ResourceType.TOPIC if topic else ResourceType.GROUP
        asked = AclBindingFilter(
            kind,
            topic or group,
            ResourcePatternType.ANY,
            "User:thorn",
            cast("str", None),  # any host, though the stubs want a name
            AclOperation.ANY if operation is None else AclOperation[operation],
            AclPermissionType.ALLOW,
        )
        for future in self._admin.delete_acls([asked]).values():
            assert future.result(timeout=20)


def acl_name(operation: str) -> str:
    """`DescribeConfigs` as the client spells it: `DESCRIBE_CONFIGS`."""
    return "".join(f"_{c}" if c.isupper() and at else c for at, c in enumerate(operation)).upper()


def commands(folder: Path, settings: dict[str, Any]) -> list[list[str]]:
    """Words of each command for the dispatcher that `topics plan --acl` prints."""
    config = folder / "acl.yaml"
    config.write_text(yaml.safe_dump(settings))
    told = subprocess.run(
        [sys.executable, "-m", "thorn_stream", "topics", "plan", "--acl", "-c", str(config)],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    lines = [shlex.split(line, comments=True) for line in told.stdout.splitlines()]
    return [words for words in lines if "$DISPATCHER" in words]


@pytest.fixture
def make(broker: Broker, settings: Settings, tmp_path: Path) -> Callable[..., Granted]:
    """Make the user of these settings, in a group of this test."""
    broker.topic("in")

    def made(path: str = "/ok", **more: Any) -> Granted:
        given = settings(path, kafka=broker.login | QUICK, **more)
        return Granted(broker, tmp_path / "acl", given)

    return made


def send(broker: Broker, numbers: range) -> None:
    """Publish one event for each number, one partition after the other."""
    for n in numbers:
        broker.produce(broker.name("in"), [envelope("order.paid", n=n)], partition=n % 4)


def come(receiver: Receiver, count: int) -> None:
    """Wait until events with the numbers below `count` have come, each at least once."""
    wanted = set(range(count))
    until(lambda: wanted <= numbers(receiver), PATIENCE, f"events up to {count} come")


def numbers(receiver: Receiver) -> set[int]:
    return {json.loads(request.body)["data"]["n"] for request in list(receiver.requests)}


def named(one: Dispatcher, *texts: str) -> None:
    """Wait until /readyz says no, in a line with all of these texts."""

    def told() -> bool:
        status, lines = one.get("/readyz")
        return status == 503 and any(
            all(text in line for text in texts) for line in lines.splitlines()
        )

    until(told, PATIENCE, f"/readyz says {texts}")


def gone_on(one: Dispatcher) -> None:
    """It is ready again, by itself."""
    until(lambda: one.get("/readyz")[0] == 200, PATIENCE, "ready again")


def ended_well(one: Dispatcher, broker: Broker, group: str, ended: int) -> None:
    """It drains; everything that was published is committed; there was no traceback."""
    assert one.stop() == 0, one.said()
    assert "Traceback" not in one.said()
    told = committed(broker.real.bootstrap_servers, group, broker.name("in"))
    assert told == (ended, ended)


@PROTOCOLS
def test_read_on_the_input(
    make: Callable[..., Granted], receiver: Receiver, tmp_path: Path, protocol: str
) -> None:
    """With the rules of `--acl` it is ready; without Read it says so, with it again it goes on."""
    granted = make(group_protocol=protocol)
    broker, topic = granted.broker, granted.broker.name("in")
    with dispatcher(tmp_path, granted.settings) as one:
        one.ready(PATIENCE)
        send(broker, range(8))
        come(receiver, 8)

        granted.withdraw("READ", topic=topic)  # the topic cannot be seen any more
        named(one, topic, "READ", "topics plan --acl")
        send(broker, range(8, 16))
        broker.allow("READ", topic=topic)
        come(receiver, 16)
        gone_on(one)

        broker.allow("DESCRIBE", topic=topic)
        granted.withdraw("READ", topic=topic)  # it can be seen, not read
        named(one, topic, "READ", "topics plan --acl")
        broker.allow("READ", topic=topic)
        gone_on(one)  # though nothing new is there
        send(broker, range(16, 24))
        come(receiver, 24)
        ended_well(one, broker, granted.settings["group"], 24)


@PROTOCOLS
def test_read_on_the_group(
    make: Callable[..., Granted], receiver: Receiver, tmp_path: Path, protocol: str
) -> None:
    """Without Read on a group it says which; given back, it joins again and nothing is lost."""
    granted = make(group_protocol=protocol)
    broker, group = granted.broker, granted.settings["group"]
    with dispatcher(tmp_path, granted.settings) as one:
        one.ready(PATIENCE)
        send(broker, range(8))
        come(receiver, 8)
        for at, name in ((8, group), (16, f"{group}.retry")):
            granted.withdraw("READ", group=name)
            send(broker, range(at, at + 8))
            named(one, f"group {name}:", "READ", "topics plan --acl")
            broker.allow("READ", group=name)
            come(receiver, at + 8)
            gone_on(one)
        ended_well(one, broker, group, 24)


def test_write_on_own_topics(
    make: Callable[..., Granted], receiver: Receiver, tmp_path: Path
) -> None:
    """What cannot be handed over is named and waits; given back, it is carried on at once."""
    down = True

    async def unwell(call: Call) -> None:
        await call.answer(503 if down else 200)

    receiver.modes["unwell"] = unwell
    granted = make("/unwell")
    broker, group = granted.broker, granted.settings["group"]
    granted.settings["subscribers"].append(
        {"id": "gone", "event": "order.*", "url": receiver.url("/status/410")}
    )
    servers, dead = broker.real.bootstrap_servers, broker.name("dead")
    with dispatcher(tmp_path, granted.settings) as one:
        one.ready(PATIENCE)

        granted.withdraw("WRITE", topic=f"{group}.retry.")
        send(broker, range(4))
        named(one, f"{group}.retry.1s", "hand-overs are refused", "topics plan --acl")
        assert committed(servers, group, broker.name("in"))[0] == 0
        broker.allow("WRITE", topic=f"{group}.retry.", prefixed=True)
        gone_on(one)
        down = False
        until(lambda: len(answered(receiver, "/unwell")) == 4, PATIENCE, "all are tried again")

        until(lambda: len(read_all(servers, dead)) == 4, PATIENCE, "four dead letters")
        granted.withdraw("WRITE", topic=dead)
        send(broker, range(4, 8))
        named(one, dead, "hand-overs are refused", "topics plan --acl")
        broker.allow("WRITE", topic=dead)
        gone_on(one)
        until(lambda: len(read_all(servers, dead)) == 8, PATIENCE, "eight dead letters")
        ended_well(one, broker, group, 8)


def answered(receiver: Receiver, path: str) -> set[str]:
    """Deliveries of which a second or later attempt has come to this path."""
    return {
        request.headers["hook-delivery"]
        for request in list(receiver.requests)
        if request.path == path and request.headers["hook-attempt"] != "1"
    }


def test_an_input_topic_is_deleted_and_made_anew(
    make: Callable[..., Granted], receiver: Receiver, tmp_path: Path
) -> None:
    """It is named while it is away, and the new one is read from its first record."""
    granted = make()
    broker, topic = granted.broker, granted.broker.name("in")
    with dispatcher(tmp_path, granted.settings) as one:
        one.ready(PATIENCE)
        send(broker, range(8))
        come(receiver, 8)
        assert delete_topics(broker.client, [topic], PATIENCE) == [topic]
        named(one, topic, "topics create")
        until(lambda: topic not in describe(broker.client, 20).topics, PATIENCE, "deleted")
        broker.topic("in")
        send(broker, range(8, 24))
        come(receiver, 24)
        gone_on(one)
        ended_well(one, broker, granted.settings["group"], 16)
