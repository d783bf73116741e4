"""A second signal ends `run` at once, and the log says so."""

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, envelope, produce, until
from tests.support.brokers import Broker
from tests.support.receivers import Receiver


@pytest.fixture
def broker(embedded_broker: Broker) -> Broker:
    return embedded_broker


def test_the_last_line_says_that_nothing_was_waited_for(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """The first signal waits for what is under way, the second does not: status 1."""
    topic = broker.topic("in")
    with dispatcher(tmp_path, settings("/silent", drain_timeout=600)) as one:
        one.ready(60)
        produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
        until(lambda: receiver.count("/silent") == 1, 60, "a request is under way")
        one.process.send_signal(signal.SIGINT)
        until(lambda: '"stopping"' in one.said(), 60, "it drains")
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(60) == 1
        last = json.loads(one.said().splitlines()[-1])
    assert last["event"] == "ended at once"
    assert last["level"] == "warning"
