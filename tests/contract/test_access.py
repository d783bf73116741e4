"""What Kafka says a user may do; the embedded broker has no permissions to tell."""

import pytest

from tests.support.brokers import Broker
from thorn_stream.adapters.kafka import group_access, topic_access

pytestmark = pytest.mark.kafka


def test_operations_on_topics_are_told(apache_broker: Broker) -> None:
    """Those that were granted, with what they imply; none where the topic may not be seen."""
    readable, hidden = apache_broker.topic("readable"), apache_broker.topic("hidden")
    apache_broker.allow("READ", topic=readable)
    told = topic_access(apache_broker.login, [readable, hidden], 20)
    assert told == {readable: {"READ", "DESCRIBE"}, hidden: frozenset()}


def test_a_missing_topic_is_told_apart(apache_broker: Broker) -> None:
    """None for it, for a user who might see it; a super user may do everything with the other."""
    there, missing = apache_broker.topic("there"), apache_broker.name("missing")
    told = topic_access(apache_broker.client, [there, missing], 20)
    assert told[missing] is None
    operations = told[there]
    assert operations is not None
    assert operations >= {"READ", "WRITE", "CREATE", "DESCRIBE"}
    assert topic_access(apache_broker.client, [], 20) == {}


def test_operations_on_groups_are_told(apache_broker: Broker) -> None:
    """Of groups that do not exist yet as well."""
    mine, others = apache_broker.name("mine"), apache_broker.name("others")
    apache_broker.allow("READ", group=mine)
    told = group_access(apache_broker.login, [mine, others], 20)
    assert told == {mine: {"READ", "DESCRIBE"}, others: frozenset()}
