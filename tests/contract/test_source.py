"""The Source port, held by KafkaSource against both brokers."""

import asyncio
import signal
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public; its stubs forget it
    AdminClient,
    NewPartitions,
)

from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker, EmbeddedProcess, numbered
from tests.support.reading import Reading, reading, stays, until
from thorn_stream.adapters.kafka import KafkaSource, SourceSettings
from thorn_stream.core import offsets
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.records import Partition, Position
from thorn_stream.ports import (
    NOT_ASSIGNED,
    Assigned,
    Committed,
    Lost,
    LostRecords,
    Records,
    Revoked,
)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def test_records_arrive_whole_and_in_order(broker: Broker) -> None:
    """Key, value, headers (repeated, binary, null) and timestamp come as they were written."""
    topic = broker.topic("in")
    headers = [("a", b"1"), ("a", b"\xff"), ("b", None)]
    broker.produce(topic, [b"x", None], key=b"k", headers=headers, timestamp=1_700_000_000_123)
    broker.produce(topic, numbered(300))

    async def test() -> None:
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 302)
        first, second, *rest = one.records
        assert (first.topic, first.partition, first.offset) == (topic, 0, 0)
        assert (first.key, first.value, first.headers) == (b"k", b"x", headers)
        assert first.timestamp == 1_700_000_000_123
        assert second.value is None
        assert rest[0].key is None
        assert rest[0].headers == []
        assert [r.value for r in rest] == numbered(300)
        assert [r.offset for r in one.records] == list(range(302))
        assert isinstance(one.events[0], Assigned)
        assert one.events[0].positions == {Partition(topic, n): Position(0) for n in range(4)}

    run(test())


def test_no_more_than_the_credit_is_handed_over(broker: Broker) -> None:
    """Reading stops when the records of the credit are used up, and goes on with new credit."""
    topic = broker.topic("in", 1)
    broker.produce(topic, numbered(100))

    async def test() -> None:
        async with reading(broker, topic, generous=False, records=10) as one:
            await until(lambda: len(one.records) == 10)
            # longer than it takes to pause everything and poll on
            await stays(lambda: len(one.records) == 10, 0.9)
            one.source.credit(90, 0)
            await until(lambda: len(one.records) == 100)
            assert one.values() == numbered(100)
            assert not one.all(Lost)

    run(test())


def test_bytes_use_up_the_credit_as_well(broker: Broker) -> None:
    """A credit of bytes is overdrawn by one drain at most, and the debt is paid off first."""
    topic = broker.topic("in", 1)
    broker.produce(topic, [b"x" * 10_000] * 50)

    async def test() -> None:
        async with reading(broker, topic, generous=False, size=30_000) as one:
            await until(lambda: len(one.records) >= 3)
            taken = len(one.records)
            assert taken < 50
            await stays(lambda: len(one.records) == taken, 0.9)
            one.source.credit(0, 600_000)
            await until(lambda: len(one.records) == 50)

    run(test())


def test_a_member_without_credit_stays_in_the_group(embedded_broker: Broker) -> None:
    """Out of credit for longer than max.poll.interval.ms, nothing is lost or read twice."""
    topic = embedded_broker.topic("in", 1)
    embedded_broker.produce(topic, numbered(20))

    async def test() -> None:
        limit = {"max.poll.interval.ms": 3_100, "session.timeout.ms": 3_000}
        options: dict[str, Any] = {"generous": False, "records": 5, "client": limit}
        async with reading(embedded_broker, topic, **options) as one:
            await until(lambda: len(one.records) == 5)
            await stays(lambda: not one.all(Lost), 3.6)
            one.source.credit(15, 0)
            await until(lambda: len(one.records) == 20)
            assert one.values() == numbered(20)

    run(test())


def test_a_paused_partition_waits_and_the_others_do_not(broker: Broker) -> None:
    """What is written to a paused partition comes after its resume, once and in order."""
    topic = broker.topic("in", 2)
    held = Partition(topic, 0)

    async def test() -> None:
        async with reading(broker, topic) as one:
            await until(lambda: len(one.owned) == 2)
            one.source.pause([held])
            # the answer to a commit says that the command before it was obeyed
            one.source.commit({held: Position(0)})
            await until(lambda: one.all(Committed))
            broker.produce(topic, numbered(20), partition=0)
            broker.produce(topic, numbered(20), partition=1)
            await until(lambda: len(one.values(1)) == 20)
            await stays(lambda: not one.values(0), 0.3)
            one.source.resume([held])
            await until(lambda: len(one.values(0)) == 20)
            assert one.values(0) == one.values(1) == numbered(20)

    run(test())


def test_a_pause_outlives_a_shortage_of_credit(broker: Broker) -> None:
    """Pausing everything for lack of credit brings back exactly what the loop wants paused."""
    topic = broker.topic("in", 2)

    async def test() -> None:
        async with reading(broker, topic, generous=False, records=5) as one:
            await until(lambda: len(one.owned) == 2)
            one.source.pause([Partition(topic, 0)])
            one.source.commit({Partition(topic, 0): Position(0)})
            await until(lambda: one.all(Committed))
            broker.produce(topic, numbered(20), partition=1)
            broker.produce(topic, numbered(20), partition=0)
            await until(lambda: len(one.values(1)) == 5)
            await stays(lambda: len(one.records) == 5, 0.7)
            one.source.credit(1_000, 0)
            await until(lambda: len(one.values(1)) == 20)
            await stays(lambda: not one.values(0), 0.3)
            one.source.resume([Partition(topic, 0)])
            await until(lambda: len(one.values(0)) == 20)

    run(test())


def test_the_next_owner_begins_where_the_last_one_committed(broker: Broker) -> None:
    """A commit is answered, and read back with its metadata by whoever comes after."""
    topic = broker.topic("in", 2)
    broker.produce(topic, numbered(10))
    where = {Partition(topic, 0): Position(7, "v1:é"), Partition(topic, 1): Position(0, "")}

    async def test() -> None:
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 10)
            one.source.commit(where)
            await until(lambda: one.all(Committed))
            (answer,) = one.all(Committed)
            assert answer.errors == dict.fromkeys(where)
            assert {p: at.offset for p, at in answer.positions.items()} == {
                p: at.offset for p, at in where.items()
            }
        async with reading(broker, topic) as two:
            await until(lambda: len(two.records) == 3)
            assert two.all(Assigned)[0].positions == where
            assert two.values() == numbered(3, start=7)

    run(test())


def test_metadata_of_4000_characters_is_kept(broker: Broker) -> None:
    """The most that is ever written comes back whole, and means what it meant."""
    topic = broker.topic("in", 2)
    broker.produce(topic, numbered(1))
    partition, incomplete = Partition(topic, 0), list(range(0, 23_800, 2))
    metadata = offsets.encode(0, 23_800, incomplete)
    assert len(metadata) > 3_990
    longest = "x" * offsets.LIMIT

    async def test() -> None:
        where = {partition: Position(0, metadata), Partition(topic, 1): Position(0, longest)}
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 1)
            one.source.commit(where)
            await until(lambda: one.all(Committed))
            assert one.all(Committed)[0].errors == dict.fromkeys(where)
        async with reading(broker, topic) as two:
            await until(lambda: len(two.owned) == 2)
            assert two.owned == where
            known = offsets.decode(two.owned[partition].metadata, 0)
            assert known is not None
            assert list(known.incomplete) == incomplete

    run(test())


def test_a_revoked_partition_goes_on_exactly_where_it_was_left(broker: Broker) -> None:
    """The answer to Revoked is committed before the next owner asks where to begin.

    On the embedded broker unless it refused that commit, and said so: there a follower whose
    SyncGroup comes after the leader's has to join again, and nobody may commit meanwhile.
    """
    topic = broker.topic("in", 4)
    for number in range(4):
        broker.produce(topic, numbered(10), partition=number)

    async def test() -> None:
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 40)
            one.answer = {Partition(topic, n): Position(5, f"m{n}") for n in range(4)}
            async with reading(broker, topic) as two:
                await until(lambda: len(two.owned) == 2 and len(one.owned) == 2)
                gone = {p for event in one.all(Revoked) for p in event.partitions}
                assert set(two.owned) == gone
                await until(lambda: one.all(Committed))
                refused = _refused(one, gone) if broker.embedded else set()
                begin = {p: Position(0) if p in refused else one.answer[p] for p in gone}
                assert two.owned == begin
                unread = {(p.number, n) for p in gone for n in range(begin[p].offset, 10)}
                await until(lambda: len(two.records) == len(unread))
                assert {(r.partition, r.offset) for r in two.records} == unread
                await _refused_once_revoked(one, gone)

    run(test())


def _refused(one: Reading, gone: set[Partition]) -> set[Partition]:
    """Those whose last commit the embedded broker did not take because it was rebalancing."""
    (answer,) = one.all(Committed)
    assert set(answer.errors) == gone
    refused = {p for p, error in answer.errors.items() if error is not None}
    assert all("REBALANCE_IN_PROGRESS" in str(answer.errors[p]) for p in refused)
    return refused


async def _refused_once_revoked(one: Reading, gone: set[Partition]) -> None:
    before = len(one.all(Committed))
    one.source.commit({p: Position(9) for p in gone})
    await until(lambda: len(one.all(Committed)) > before)
    answer = one.all(Committed)[-1]
    assert answer.errors == dict.fromkeys(gone, NOT_ASSIGNED)


def test_the_next_owner_is_not_paused_by_the_last_one(broker: Broker) -> None:
    """A partition that was paused when it was revoked is read again when it comes back."""
    topic = broker.topic("in", 2)

    async def test() -> None:
        async with reading(broker, topic) as one:
            await until(lambda: len(one.owned) == 2)
            one.source.pause(list(one.owned))
            async with reading(broker, topic) as two:
                await until(lambda: len(one.owned) == 1 and len(two.owned) == 1)
                moved = next(iter(two.owned))
            await until(lambda: len(one.owned) == 2)
            broker.produce(topic, numbered(5), partition=moved.number)
            await until(lambda: len(one.values(moved.number)) == 5)

    run(test())


def test_records_deleted_before_they_were_read_are_counted(broker: Broker) -> None:
    """Retention that overtakes the committed offset is told exactly, and reading goes on."""
    topic = broker.topic("in", 1)
    partition = Partition(topic, 0)
    broker.produce(topic, numbered(3))

    async def test() -> None:
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 3)
            one.source.commit({partition: Position(3)})
            await until(lambda: one.all(Committed))
        for start in range(3, 12, 3):  # batches are deleted whole on the embedded broker
            broker.produce(topic, numbered(3, start))
        broker.delete_records(topic, 0, 9)
        async with reading(broker, topic) as two:
            await until(lambda: len(two.records) == 3)
            assert two.all(LostRecords) == [LostRecords(partition, 6)]
            assert two.values() == numbered(3, start=9)
            assert not two.all(Lost)

    run(test())


def test_a_topic_that_ends_before_the_committed_offset_is_begun_anew(broker: Broker) -> None:
    """What was known of a topic that was made again holds no more: lost, assigned, from 0."""
    topic = broker.topic("in", 1)
    partition = Partition(topic, 0)
    broker.produce(topic, numbered(4))

    async def test() -> None:
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 4)
            one.source.commit({partition: Position(100, "of another topic")})
            await until(lambda: one.all(Committed))
        async with reading(broker, topic) as two:
            await until(lambda: len(two.records) == 4)
            kinds = [type(event) for event in two.events if not isinstance(event, Committed)]
            assert kinds[:4] == [Assigned, Lost, LostRecords, Assigned]
            assert two.owned == {partition: Position(0)}
            assert two.values() == numbered(4)
            two.source.commit({partition: Position(4)})
            await until(lambda: two.all(Committed))
            assert two.all(Committed)[0].errors == {partition: None}

    run(test())


@pytest.mark.kafka
def test_a_topic_made_again_while_it_is_read_is_read_whole(apache_broker: Broker) -> None:
    """A topic of the same name that has outgrown the old position is noticed by its id."""
    topic = apache_broker.topic("in", 1)
    apache_broker.produce(topic, numbered(3))
    admin = AdminClient({"bootstrap.servers": apache_broker.real.bootstrap_servers})

    async def test() -> None:
        async with reading(apache_broker, topic, topic_check=0.3) as one:
            await until(lambda: len(one.records) == 3)
            source = one.source
            assert isinstance(source, KafkaSource)
            await until(lambda: source.ids.get(topic))
            for future in admin.delete_topics([topic]).values():
                future.result(timeout=20)
            await until(lambda: topic not in admin.list_topics(timeout=10).topics)
            apache_broker.topic("in", 1)
            apache_broker.produce(topic, [b"new"] * 5)
            await until(lambda: one.values().count(b"new") >= 5 and one.owned)
            assert {r.offset for r in one.records if r.value == b"new"} == {0, 1, 2, 3, 4}

    run(test())


def test_latest_counts_for_the_first_start_only(broker: Broker) -> None:
    """What `start: latest` chooses is committed at once: nothing after it is ever skipped."""
    topic = broker.topic("in", 2)
    broker.produce(topic, numbered(5))

    async def test() -> None:
        async with reading(broker, topic, start="latest") as one:
            await until(lambda: len(one.owned) == 2)
            assert one.owned == {Partition(topic, 0): Position(5), Partition(topic, 1): Position(0)}
            broker.produce(topic, numbered(2, start=5))
            await until(lambda: len(one.records) == 2)
            assert one.values() == numbered(2, start=5)
            assert not one.all(Committed)
        async with reading(broker, topic, start="latest") as two:
            await until(lambda: len(two.records) == 2)
            assert two.values() == numbered(2, start=5)

    run(test())


def test_members_that_start_together_agree_on_latest(broker: Broker) -> None:
    """Two first members with `start: latest` read nothing old and skip nothing new."""
    topic = broker.topic("in", 4)
    for number in range(4):
        broker.produce(topic, numbered(3), partition=number)

    async def test() -> None:
        async with (
            reading(broker, topic, start="latest") as one,
            reading(broker, topic, start="latest") as two,
        ):
            await until(lambda: len(one.owned) == len(two.owned) == 2)
            for number in range(4):
                broker.produce(topic, [b"new"], partition=number)
            await until(lambda: len(one.records) + len(two.records) == 4)
            assert set(one.values() + two.values()) == {b"new"}

    run(test())


@pytest.mark.kafka
def test_a_group_that_committed_for_other_topics_is_no_new_group(apache_broker: Broker) -> None:
    """With `start: latest`, a topic added to an old group begins at its first record."""
    old, new = apache_broker.topic("old", 1), apache_broker.topic("new", 1)
    apache_broker.produce(new, numbered(3))

    async def test() -> None:
        async with reading(apache_broker, old, start="latest") as one:
            await until(lambda: one.owned)
            one.source.commit({Partition(old, 0): Position(0)})
            await until(lambda: one.all(Committed))
        async with reading(apache_broker, new, start="latest") as two:
            await until(lambda: len(two.records) == 3)

    run(test())


@pytest.mark.kafka
def test_a_partition_added_later_begins_at_its_first_record(apache_broker: Broker) -> None:
    """With `start: latest`, records written before a new partition was seen are read."""
    topic = apache_broker.topic("in", 1)
    admin = AdminClient({"bootstrap.servers": apache_broker.real.bootstrap_servers})

    async def test() -> None:
        quick = {"topic.metadata.refresh.interval.ms": 60_000}
        async with reading(apache_broker, topic, start="latest", client=quick) as one:
            await until(lambda: one.owned)
            assert one.owned == {Partition(topic, 0): Position(0)}
            for future in admin.create_partitions([NewPartitions(topic, 2)]).values():
                future.result(timeout=20)
        await until(lambda: _partitions(admin, topic) == 2)
        apache_broker.produce(topic, numbered(3), partition=1)
        async with reading(apache_broker, topic, start="latest") as two:
            await until(lambda: len(two.values(1)) == 3)

    run(test())


def _partitions(admin: AdminClient, topic: str) -> int:
    return len(admin.list_topics(topic, timeout=10).topics[topic].partitions)


def test_a_pattern_never_matches_what_is_excluded(broker: Broker) -> None:
    """Topics that match `^regex` are read, but for those of the group itself."""
    run(_pattern_and_exclusion(broker, "classic"))


@pytest.mark.kafka
def test_the_broker_matches_patterns_with_the_newer_protocol(apache_broker: Broker) -> None:
    """Where the broker knows of no exclusion, what it assigns beyond is not read either."""
    run(_pattern_and_exclusion(apache_broker, "consumer"))


async def _pattern_and_exclusion(broker: Broker, protocol: str) -> None:
    mine, own = broker.topic("orders", 1), broker.topic("retry.5s", 1)
    broker.produce(own, numbered(3))
    broker.produce(mine, numbered(3))
    options: dict[str, Any] = {"exclude": (own,), "protocol": protocol}
    async with reading(broker, f"^{broker.prefix}[.]", **options) as one:
        await until(lambda: len(one.records) == 3)
        assert set(one.owned) == {Partition(mine, 0)}
        broker.produce(own, numbered(3))
        broker.produce(mine, numbered(3, start=3))
        await until(lambda: len(one.records) == 6)
        assert {r.topic for r in one.records} == {mine}


@pytest.mark.kafka
def test_the_newer_group_protocol_reads_commits_and_leaves(apache_broker: Broker) -> None:
    """`group_protocol: consumer` keeps the same contract."""
    topic = apache_broker.topic("in", 2)
    apache_broker.produce(topic, numbered(10))

    async def test() -> None:
        async with reading(apache_broker, topic, protocol="consumer") as one:
            await until(lambda: len(one.records) == 10)
            one.source.commit({Partition(topic, 0): Position(4, "m")})
            await until(lambda: one.all(Committed))
            assert one.all(Committed)[0].errors == {Partition(topic, 0): None}
        async with reading(apache_broker, topic, protocol="consumer") as two:
            await until(lambda: len(two.records) == 6)
            assert two.owned[Partition(topic, 0)] == Position(4, "m")

    run(test())


def test_a_missing_topic_is_told_until_it_is_there(broker: Broker) -> None:
    """The trouble names the topic and the remedy; making the topic ends it."""
    topic = broker.name("late")

    async def test() -> None:
        quick = {"topic.metadata.refresh.interval.ms": 500}
        async with reading(broker, topic, client=quick) as one:
            await until(lambda: f"topic:{topic}" in one.troubles)
            text = one.troubles[f"topic:{topic}"].text
            assert text is not None
            assert topic in text
            assert "create it" in text
            broker.topic("late")
            await until(lambda: not one.troubles and one.owned)

    run(test())


def test_a_broker_that_is_away_is_told_until_it_is_back(embedded_broker: Broker) -> None:
    """Unreachable brokers are one trouble, told once, and over when one answers again."""
    topic = embedded_broker.topic("in")
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)

    async def test() -> None:
        async with reading(embedded_broker, topic) as one:
            await until(lambda: one.owned)
            real.go_down()
            try:
                await until(lambda: "broker" in one.troubles)
                assert "bootstrap_servers" in str(one.troubles["broker"].text)
            finally:
                real.come_up()
            await until(lambda: not one.troubles)

    run(test())


@pytest.mark.kafka
def test_a_refused_login_is_told_without_the_password(apache_broker: Broker) -> None:
    """A wrong password is a trouble of its own that ends a start."""
    real = apache_broker.real
    assert isinstance(real, ApacheKafka)
    login = {
        "bootstrap_servers": real.login_servers,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "thorn",
        "sasl_password": "wrong-password",
    }

    async def test() -> None:
        async with reading(apache_broker, "t", client=login) as one:
            await until(lambda: "login" in one.troubles)
            trouble = one.troubles["login"]
            assert trouble.fatal_at_start
            assert "sasl.password" in str(trouble.text)
            assert "wrong-password" not in str(trouble.text)

    run(test())


@pytest.mark.kafka
def test_a_missing_permission_is_told_with_its_remedy(apache_broker: Broker) -> None:
    """Without a right on the group nothing is read, and the trouble says which rule is missing."""
    real = apache_broker.real
    assert isinstance(real, ApacheKafka)
    login = {
        "bootstrap_servers": real.login_servers,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "thorn",
        "sasl_password": "right-password",
    }
    topic = apache_broker.topic("in")

    async def test() -> None:
        async with reading(apache_broker, topic, client=login) as one:
            await until(lambda: one.troubles)
            trouble = next(iter(one.troubles.values()))
            assert trouble.fatal_at_start
            assert "no permission" in str(trouble.text)

    run(test())


def test_settings_that_make_no_client_are_refused_at_once(embedded_broker: Broker) -> None:
    """librdkafka's refusal of a key or a value is a configuration error, without any secret."""
    for wrong in ({"bogus": 1}, {"security_protocol": "hunter2"}):
        client = embedded_broker.client | wrong
        with pytest.raises(ConfigurationError, match="kafka: "):
            KafkaSource(SourceSettings(client, "g", ("t",)))
    with pytest.raises(ConfigurationError, match="regular expression"):
        KafkaSource(SourceSettings(embedded_broker.client, "g", ("^a(",)))

    async def test() -> None:
        source = KafkaSource(SourceSettings(embedded_broker.client, "g", ("^(?=a)",)))
        with pytest.raises(ConfigurationError, match="POSIX"):
            source.start(lambda _: None)

    run(test())


def test_stop_keeps_its_grace_while_the_broker_is_stalled(embedded_broker: Broker) -> None:
    """Leaving a group whose broker does not answer ends in time, and says that it was not left."""
    topic = embedded_broker.topic("in")
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)

    async def test() -> None:
        async with reading(embedded_broker, topic) as one:
            await until(lambda: one.owned)
            real.signal(signal.SIGSTOP)
            try:
                one.source.commit({p: Position(0) for p in one.owned})
                begin = time.monotonic()
                assert not await one.source.stop(0.5)
                assert time.monotonic() - begin < 2
            finally:
                real.signal(signal.SIGCONT)

    run(test())


def test_a_stall_longer_than_the_session_loses_the_partitions(embedded_broker: Broker) -> None:
    """They are Lost while the broker is silent, and assigned again when it answers."""
    topic = embedded_broker.topic("in", 1)
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)

    async def test() -> None:
        async with reading(embedded_broker, topic) as one:
            await until(lambda: one.owned)
            real.signal(signal.SIGSTOP)
            try:
                await until(lambda: one.all(Lost))
            finally:
                real.signal(signal.SIGCONT)
            await until(lambda: one.owned)
            embedded_broker.produce(topic, numbered(3))
            await until(lambda: len(one.records) == 3)

    run(test())


def test_a_consumer_that_broke_for_good_is_replaced(embedded_broker: Broker) -> None:
    """A fatal error loses the partitions; another consumer takes them up by itself."""
    topic = embedded_broker.topic("in", 1)
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)

    async def test() -> None:
        async with reading(embedded_broker, topic) as one:
            await until(lambda: one.owned)
            real.fail_next(12, [82])  # Heartbeat: FENCED_INSTANCE_ID
            await until(lambda: one.all(Lost))
            await until(lambda: "group" in one.troubles)
            await until(lambda: one.owned and not one.troubles)
            embedded_broker.produce(topic, numbered(3))
            await until(lambda: len(one.records) == 3)

    run(test())


def test_ends_say_how_far_the_partitions_reach(broker: Broker) -> None:
    """The offset after the last record of each partition is known, for the lag."""
    topic = broker.topic("in", 1)
    broker.produce(topic, numbered(7))

    async def test() -> None:
        async with reading(broker, topic) as one:
            source = one.source
            assert isinstance(source, KafkaSource)
            await until(lambda: source.ends.get(Partition(topic, 0)) == 7)

    run(test())


def test_records_of_a_topic_with_several_partitions_are_batched(broker: Broker) -> None:
    """A backlog is handed over in batches, not one wake-up of the loop per record."""
    topic = broker.topic("in", 1)
    broker.produce(topic, numbered(2_000))

    async def test() -> None:
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 2_000)
            assert len(one.all(Records)) < 500

    run(test())


def test_a_commit_refused_by_the_group_is_only_told(embedded_broker: Broker) -> None:
    """An error of the broker comes back with each partition, and the next commit goes through."""
    topic = embedded_broker.topic("in", 1)
    partition = Partition(topic, 0)
    real = embedded_broker.real
    assert isinstance(real, EmbeddedProcess)

    async def test() -> None:
        async with reading(embedded_broker, topic) as one:
            await until(lambda: one.owned)
            real.fail_next(8, [12])  # OffsetCommit: OFFSET_METADATA_TOO_LARGE
            one.source.commit({partition: Position(1)})
            await until(lambda: one.all(Committed))
            assert "OFFSET_METADATA_TOO_LARGE" in str(one.all(Committed)[0].errors[partition])
            one.source.commit({partition: Position(1)})
            await until(lambda: len(one.all(Committed)) == 2)
            assert one.all(Committed)[1].errors == {partition: None}

    run(test())


def test_a_position_committed_by_another_tool_holds(broker: Broker) -> None:
    """Offsets set from outside, without metadata, are where reading begins."""
    topic = broker.topic("in", 1)
    broker.produce(topic, numbered(5))
    client: dict[str, Any] = {
        "bootstrap.servers": broker.real.bootstrap_servers,
        "group.id": broker.name("g"),
    }
    tool = Consumer(client)
    tool.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    tool.close()

    async def test() -> None:
        async with reading(broker, topic) as one:
            await until(lambda: len(one.records) == 2)
            assert one.owned == {Partition(topic, 0): Position(3)}

    run(test())
