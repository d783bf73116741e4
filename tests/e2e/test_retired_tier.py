"""A retry tier that is taken out of the settings while deliveries wait in it."""

from pathlib import Path

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, envelope, produce, read_all, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver


async def second_time(call: Call) -> None:
    await call.answer(200 if call.request.headers["hook-attempt"] != "1" else 503)


def test_a_tier_that_left_the_settings_is_emptied(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """What waits in a tier of earlier settings is delivered, though the tier is set no more."""
    receiver.modes["second"] = second_time
    topic, left = broker.topic("in"), broker.name("retry.4s")
    before = settings("/second", retry_tiers=[1, 2, 4], retry_delay=4, retry_jitter=0)
    with dispatcher(tmp_path / "before", before) as one:
        one.ready()
        produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
        until(
            lambda: one.metric("thorn_handover_total", kind="retry", result="ok") == 1,
            20,
            "the failure waits",
        )
        assert one.stop() == 0
    assert len(read_all(broker.real.bootstrap_servers, left)) == 1
    with dispatcher(tmp_path / "after", settings("/second", retry_tiers=[1, 2])) as other:
        other.ready()
        until(lambda: receiver.count("/second") == 2, 20, "it is tried again")
        until(lambda: other.metric("thorn_deliveries_total", settlement="delivered") == 1, 5, "2xx")
        assert other.stop() == 0
    assert [call.headers["hook-attempt"] for call in receiver.requests] == ["1", "2"]
