"""Kafka's newer group protocol (KIP-848) keeps the same guarantees."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, until
from tests.e2e.test_crash import EVENTS, deliveries, produce_in_background
from tests.support.brokers import Broker
from tests.support.receivers import Receiver


@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_the_newer_protocol_shares_hands_over_and_repeats_nothing(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Two members share the topic; one stops, the other goes on: nothing missing, nothing twice."""
    topic = broker.topic("in")
    made = settings("/ok", group_protocol="consumer", max_in_flight=32)
    with dispatcher(tmp_path / "first", made) as first:
        first.ready()
        producer = produce_in_background(broker, topic, seconds=6)
        with dispatcher(tmp_path / "second", made) as second:
            second.ready()
            until(lambda: second.metric("thorn_attempts_total", outcome="ok") > 0, 30, "shared")
            assert first.stop() == 0
            producer.join()
            until(lambda: len(deliveries(receiver, "/ok")) == EVENTS, 60, "all of them")
            assert second.stop() == 0
    assert set(deliveries(receiver, "/ok").values()) == {1}
