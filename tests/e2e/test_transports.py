"""The transport that the settings choose, end to end."""

from pathlib import Path

from tests.e2e.conftest import Settings
from tests.e2e.rig import SECRET, committed, dispatcher, envelope, produce, until
from tests.support.brokers import Broker
from tests.support.receivers import Receiver
from thorn_stream import verify


def test_httpx_delivers_what_the_native_transport_would(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """With `transport: httpx` an event arrives once, signed, and its offset is committed."""
    topic = broker.topic("in")
    value = envelope("order.created", price=1)
    with dispatcher(tmp_path, settings(transport="httpx")) as one:
        one.ready()
        produce(broker.real.bootstrap_servers, topic, [value])
        until(lambda: receiver.count("/ok") == 1, 20, "one call")
        until(
            lambda: committed(broker.real.bootstrap_servers, broker.prefix, topic) == (1, 1),
            10,
            "the offset committed",
        )
        call = receiver.requests[0]
        assert call.body == value
        verify(SECRET, call.headers, call.body)
        assert one.metric("thorn_attempts_total", outcome="ok") == 1
        assert one.stop() == 0
    assert receiver.count("/ok") == 1


def test_a_transport_that_cannot_be_loaded_is_told_in_a_line(
    settings: Settings, tmp_path: Path
) -> None:
    """A reference that leads nowhere ends the start: status 2, the setting named, no traceback."""
    with dispatcher(tmp_path, settings(transport="!no_such_package.module:name")) as one:
        assert one.process.wait(20) == 2
        assert "transport: !no_such_package.module:name cannot be loaded" in one.said()
        assert "Traceback" not in one.said()
