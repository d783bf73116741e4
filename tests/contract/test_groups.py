"""Consumer groups from outside, on both brokers."""

import asyncio
import contextlib
from collections.abc import Iterator

import pytest
import structlog
from confluent_kafka import Consumer, TopicPartition

from tests.e2e.rig import produce, until
from tests.support.brokers import Broker
from tests.support.receivers import closed_port
from thorn_stream.adapters.kafka import (
    SourceSettings,
    begin_group,
    committed_by,
    delete_groups,
    empty_groups,
    session_seconds,
)
from thorn_stream.config import Settings
from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import KafkaUnreachable
from thorn_stream.core.records import Partition, Position
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ops.ordering import Forgotten, group_of


def source(broker: Broker, group: str, **more: object) -> SourceSettings:
    return SourceSettings(broker.client, group=group, topics=(broker.name("in"),), **more)  # type: ignore[arg-type]  # any of its fields


@contextlib.contextmanager
def outsider(broker: Broker, group: str) -> Iterator[Consumer]:
    one = Consumer({"bootstrap.servers": broker.real.bootstrap_servers, "group.id": group})
    try:
        yield one
    finally:
        one.close()


def commit(broker: Broker, group: str, offsets: dict[int, int]) -> None:
    topic = broker.name("in")
    with outsider(broker, group) as one:
        places = [TopicPartition(topic, number, at) for number, at in offsets.items()]
        one.commit(offsets=places, asynchronous=False)


def written(broker: Broker, each: int) -> int:
    """A topic with so many records in each partition; returns how many those are."""
    topic = broker.topic("in")
    for number in range(4):
        values: list[bytes | None] = [b"{}"] * each
        produce(broker.real.bootstrap_servers, topic, values, partition=number)
    return 4


def test_a_new_group_begins_where_the_other_stands(broker: Broker) -> None:
    """Where that has no commit, at the first record, as it would itself; once, and never again."""
    topic, main, own = broker.name("in"), broker.prefix, f"{broker.prefix}.o.a"
    written(broker, 5)
    commit(broker, main, {0: 3, 1: 5})
    settings = source(broker, own)
    assert begin_group(settings, main, 30)
    expected = {0: 3, 1: 5, 2: 0, 3: 0}
    assert committed_by(settings, 30) == {
        Partition(topic, number): Position(at) for number, at in expected.items()
    }
    commit(broker, main, {0: 4})
    assert not begin_group(settings, main, 30)
    assert committed_by(settings, 30)[Partition(topic, 0)].offset == 3


def test_with_start_latest_it_begins_as_the_other_group_will(broker: Broker) -> None:
    """At the end while that has no commit at all; its commits count once there are any."""
    main = broker.prefix
    written(broker, 5)
    first = source(broker, f"{main}.o.a", start="latest")
    assert begin_group(first, main, 30)
    assert {at.offset for at in committed_by(first, 30).values()} == {5}
    commit(broker, main, {0: 2})
    second = source(broker, f"{main}.o.b", start="latest")
    assert begin_group(second, main, 30)
    assert sorted(at.offset for at in committed_by(second, 30).values()) == [0, 0, 0, 2]


def test_a_group_with_members_is_left_as_it_is(apache_broker: Broker) -> None:
    """They have begun it: where, is told by their commits."""
    broker = apache_broker
    written(broker, 1)
    settings = source(broker, f"{broker.prefix}.o.a")
    with outsider(broker, settings.group) as member:
        member.subscribe([broker.name("in")])

        def has_all() -> bool:
            member.poll(0.1)
            return len(member.assignment()) == 4

        until(has_all, 60, "all partitions")
        assert not begin_group(settings, broker.prefix, 30)
        assert committed_by(settings, 30) == {}


def test_groups_without_members_are_found_and_deleted(apache_broker: Broker) -> None:
    """Only those with the prefix; one that has a member is left."""
    broker = apache_broker
    written(broker, 1)
    prefix = f"{broker.prefix}.o."
    for group in (f"{prefix}a", f"{prefix}b", broker.prefix):
        commit(broker, group, {0: 1})
    assert empty_groups(broker.client, prefix, 30) == [f"{prefix}a", f"{prefix}b"]
    with outsider(broker, f"{prefix}b") as member:
        member.subscribe([broker.name("in")])

        def has_all() -> bool:
            member.poll(0.1)
            return len(member.assignment()) == 4

        until(has_all, 60, "all partitions")
        assert empty_groups(broker.client, prefix, 30) == [f"{prefix}a"]
        assert delete_groups(broker.client, [f"{prefix}a", f"{prefix}b", f"{prefix}c"], 30) == [
            f"{prefix}a"
        ]
    assert committed_by(source(broker, f"{prefix}a"), 30) == {}


def test_how_long_a_session_is(apache_broker: Broker) -> None:
    """What is set, else our default; with the newer protocol the broker's, which is 6 s here."""
    assert session_seconds(source(apache_broker, "g"), 30) == 10
    client = dict(apache_broker.client) | {"session_timeout_ms": "6000"}
    assert session_seconds(SourceSettings(client, "g", ("t",)), 30) == 6
    assert session_seconds(source(apache_broker, "g", protocol="consumer"), 30) == 6
    assert session_seconds(source(apache_broker, "g", embedded=True), 30) == 3


def test_nobody_answers() -> None:
    """Said after the time given, with the group's name."""
    client = {"bootstrap_servers": f"127.0.0.1:{closed_port()}"}
    with pytest.raises(KafkaUnreachable, match=r"thorn\.o\.a"):
        begin_group(SourceSettings(client, "thorn.o.a", ("t",)), "thorn", 0.5)


def test_groups_of_former_subscribers_are_deleted_after_a_day(apache_broker: Broker) -> None:
    """Seen empty, and without a subscriber, at every look; one that is back begins its day anew."""
    broker = apache_broker
    written(broker, 1)
    settings = Settings.model_validate({"group": broker.prefix, "topics": [broker.name("in")]})
    back, gone, kept = (group_of(settings, name) for name in ("back", "gone", "kept"))
    for group in (back, gone, kept):
        commit(broker, group, {0: 1})

    def directory(*names: str) -> Directory:
        ordered = {"event": "*", "url": "https://a.example/", "ordering": "key"}
        ones = [Subscriber.model_validate({"id": name, **ordered}) for name in names]
        return Directory([("test", ones)])

    known = [directory("kept")]
    watch = Forgotten(settings, broker.client, lambda: known[0], structlog.get_logger())

    def look(now: float) -> list[str]:
        return asyncio.run(watch.look(now))

    assert look(0) == []
    known[0] = directory("kept", "back")
    assert look(40_000) == []
    known[0] = directory("kept")
    assert look(80_000) == []
    assert look(86_400) == [gone]
    assert look(120_000) == []
    assert look(80_000 + 86_400) == [back]
    assert empty_groups(broker.client, f"{broker.prefix}.o.", 30) == [kept]
