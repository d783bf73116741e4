"""Looking at a cluster and making topics, on both brokers."""

import socket
from typing import Any

import pytest

from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker
from thorn_stream.adapters.kafka import (
    TopicSpec,
    create_topics,
    delete_topics,
    describe,
    topic_configs,
)
from thorn_stream.core.errors import (
    ConfigurationError,
    KafkaRefused,
    KafkaUnreachable,
    TopicMissing,
)


def _login(broker: Broker, password: str) -> dict[str, Any]:
    assert isinstance(broker.real, ApacheKafka)
    return {
        "bootstrap_servers": broker.real.login_servers,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "thorn",
        "sasl_password": password,
    }


def test_topics_are_made_once(broker: Broker) -> None:
    """Those that are missing are made, and named; those that exist stay as they are."""
    a, b = broker.name("a"), broker.name("b")
    assert create_topics(broker.client, {a: TopicSpec(4)}, 20) == [a]
    assert create_topics(broker.client, {a: TopicSpec(9), b: TopicSpec(4)}, 20) == [b]
    assert create_topics(broker.client, {a: TopicSpec(9)}, 20) == []
    there = describe(broker.client, 20)
    assert (there.topics[a], there.topics[b]) == (4, 4)


def test_the_embedded_broker_is_known_by_its_id(broker: Broker) -> None:
    """Apache Kafka is not taken for it."""
    assert describe(broker.client, 20).embedded is broker.embedded


@pytest.mark.kafka
def test_settings_of_a_topic_are_made_and_read(apache_broker: Broker) -> None:
    """Partitions, replication and configuration are those that were asked for."""
    name = apache_broker.name("t")
    spec = TopicSpec(3, 1, {"max.message.bytes": "123456", "cleanup.policy": "compact"})
    create_topics(apache_broker.client, {name: spec}, 20)
    assert describe(apache_broker.client, 20).topics[name] == 3
    told = topic_configs(apache_broker.client, [name, apache_broker.name("no")], 20)
    assert told[name]["max.message.bytes"] == "123456"
    assert told[name]["cleanup.policy"] == "compact"
    assert told[apache_broker.name("no")] == {}


def test_no_settings_are_known_of_a_topic_of_the_embedded_broker(embedded_broker: Broker) -> None:
    """It cannot tell, so there are none, and no error."""
    assert topic_configs(embedded_broker.client, ["a"], 20) == {"a": {}}


@pytest.mark.kafka
def test_every_refused_topic_is_named(apache_broker: Broker) -> None:
    """One bad topic does not hide another, nor hinder a good one."""
    good, bad, worse = (apache_broker.name(n) for n in ("good", "bad", "worse"))
    specs = {
        good: TopicSpec(1, 1),
        bad: TopicSpec(1, 3),
        worse: TopicSpec(1, 1, {"cleanup.policy": "nonsense"}),
    }
    with pytest.raises(TopicMissing) as refused:
        create_topics(apache_broker.client, specs, 20)
    assert bad in str(refused.value)
    assert worse in str(refused.value)
    assert good not in str(refused.value)
    assert good in describe(apache_broker.client, 20).topics


@pytest.mark.kafka
def test_a_dry_run_makes_nothing(apache_broker: Broker) -> None:
    """Kafka is only asked whether it would: what it would refuse is refused, nothing is made."""
    good, bad = apache_broker.name("good"), apache_broker.name("bad")
    client = apache_broker.client
    assert create_topics(client, {good: TopicSpec(1, 1)}, 20, dry_run=True) == [good]
    with pytest.raises(TopicMissing, match=bad):
        create_topics(client, {bad: TopicSpec(1, 3)}, 20, dry_run=True)
    assert not {good, bad} & set(describe(client, 20).topics)


def test_topics_are_deleted_where_that_is_possible(broker: Broker) -> None:
    """Those that exist, by name; the embedded broker deletes none, and no error says so."""
    a, b = broker.topic("a"), broker.topic("b")
    assert delete_topics(broker.client, [a, broker.name("no")], 20) == (
        [] if broker.embedded else [a]
    )
    there = describe(broker.client, 20).topics
    assert (a in there, b in there) == (broker.embedded, True)


@pytest.mark.kafka
def test_a_missing_permission_to_delete_topics_is_said(apache_broker: Broker) -> None:
    """A topic this user may see and not delete is named, with the rule that is missing."""
    name = apache_broker.topic("kept")
    apache_broker.allow("DESCRIBE", topic=name)
    with pytest.raises(KafkaRefused, match=name):
        delete_topics(_login(apache_broker, "right-password"), [name], 20)
    assert name in describe(apache_broker.client, 20).topics


@pytest.mark.kafka
def test_replicas_are_counted(apache_broker: Broker) -> None:
    """Each topic's least number of replicas; there is one broker, so one."""
    name = apache_broker.topic("t")
    assert describe(apache_broker.client, 20).replicas[name] == 1


def test_where_nobody_listens_is_said(embedded_broker: Broker) -> None:
    """The error names the address, the reason and the remedy."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(KafkaUnreachable) as unreachable:
        describe({"bootstrap_servers": f"127.0.0.1:{port}"}, 1)
    text = str(unreachable.value)
    assert f"127.0.0.1:{port}" in text
    assert "refused" in text
    assert "check bootstrap_servers" in text
    assert "\n" not in text


@pytest.mark.kafka
def test_a_wrong_password_is_said_and_not_shown(apache_broker: Broker) -> None:
    """The login that was refused is told apart from a broker that is away."""
    with pytest.raises(KafkaRefused, match=r"sasl\.password") as refused:
        describe(_login(apache_broker, "wrong-password"), 5)
    assert "wrong-password" not in str(refused.value)


@pytest.mark.kafka
def test_the_wrong_protocol_is_asked_about(apache_broker: Broker) -> None:
    """A listener that wants a login only closes the connection: the error says what to check."""
    assert isinstance(apache_broker.real, ApacheKafka)
    with pytest.raises(KafkaUnreachable, match=r"security\.protocol"):
        describe({"bootstrap_servers": apache_broker.real.login_servers}, 3)


@pytest.mark.kafka
def test_a_missing_permission_to_make_topics_is_said(apache_broker: Broker) -> None:
    """Who may not make topics is told which rule is missing."""
    name = apache_broker.name("t")
    with pytest.raises(KafkaRefused, match="topics plan --acl"):
        create_topics(_login(apache_broker, "right-password"), {name: TopicSpec(1, 1)}, 20)


def test_settings_that_make_no_client_are_refused(embedded_broker: Broker) -> None:
    """librdkafka's refusal is a configuration error."""
    with pytest.raises(ConfigurationError, match="bogus"):
        describe(embedded_broker.client | {"bogus": 1}, 1)
