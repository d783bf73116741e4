"""Kafka's newer group protocol (KIP-848) keeps the same guarantees."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.test_crash import deliveries, share_and_take_over
from tests.support.brokers import Broker
from tests.support.receivers import Receiver


@pytest.mark.kafka
@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_the_newer_protocol_shares_hands_over_and_repeats_nothing(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Two members share the topic; one stops, the other goes on: nothing missing, nothing twice."""
    made = settings("/ok", group_protocol="consumer", max_in_flight=32)
    share_and_take_over(broker, receiver, made, tmp_path)
    assert set(deliveries(receiver, "/ok").values()) == {1}
