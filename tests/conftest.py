"""Brokers for every kind of test. Apache Kafka is needed where THORN_REQUIRE_KAFKA=1."""

import os
from collections.abc import Iterator

import pytest

from tests.support import apache_kafka as apache
from tests.support.brokers import Broker, EmbeddedProcess


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedProcess]:
    """The embedded broker, in a process of its own."""
    broker = EmbeddedProcess()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[apache.ApacheKafka]:
    """Apache Kafka; its second listener wants a login."""
    if missing := apache.available():
        if os.environ.get("THORN_REQUIRE_KAFKA") == "1":
            pytest.fail(f"Apache Kafka is required here, but {missing}")
        pytest.skip(f"no Apache Kafka: {missing}")
    broker = apache.ApacheKafka(tmp_path_factory.mktemp("kafka"), login=True)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Both brokers in turn, with names of topics that no other test has."""
    fixture = "embedded" if request.param == "embedded" else "apache_kafka"
    return Broker(request.getfixturevalue(fixture))


@pytest.fixture
def embedded_broker(embedded: EmbeddedProcess) -> Broker:
    return Broker(embedded)


@pytest.fixture
def apache_broker(apache_kafka: apache.ApacheKafka) -> Broker:
    return Broker(apache_kafka)
