"""A dispatcher that stands still for longer than its session, while another takes over."""

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, dispatcher, envelope, produce, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver

EVENTS = 6000
AT_ONCE = 8
SESSION = 6.0


def deliveries(receiver: Receiver) -> Counter[str]:
    return Counter(request.headers["hook-delivery"] for request in receiver.requests)


def partitions(running: Dispatcher, group: str) -> int:
    """How many it has of the input topic."""
    lines = running.get("/metrics")[1].splitlines()
    lag = f'thorn_consumer_lag{{group="{group}",'
    return sum(line.startswith(lag) for line in lines)


@pytest.mark.kafka
@pytest.mark.timeout(150)
@pytest.mark.parametrize("broker", ["apache"], indirect=True)
def test_a_stopped_dispatcher_repeats_little_of_what_another_has_taken_over(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Woken with hundreds in its queue, it begins none of them: they are the other's by now."""
    topic = broker.topic("in")

    async def takes_its_time(call: Call) -> None:
        await asyncio.sleep(0.02)
        await call.answer(200)

    receiver.modes["slow"] = takes_its_time
    made = settings("/slow", lane_size=100_000, lane_wait_max=600, max_in_flight=AT_ONCE)
    made["kafka"] |= {"session_timeout_ms": int(SESSION * 1000), "heartbeat_interval_ms": 1000}
    with dispatcher(tmp_path / "a", made) as stopped, dispatcher(tmp_path / "b", made) as other:
        stopped.ready()
        other.ready()
        until(lambda: partitions(stopped, broker.prefix) == 2, 30, "shared")
        until(lambda: partitions(other, broker.prefix) == 2, 30, "shared")
        values: list[bytes | None] = [envelope("order.paid", number=i) for i in range(EVENTS)]
        for number in range(4):  # without keys they may all go to the partitions of one
            servers = broker.real.bootstrap_servers
            produce(servers, topic, values[number::4], partition=number)
        until(lambda: receiver.count("/slow") > 500, 30, "in full flow")
        queued = stopped.metric("thorn_lane_depth")
        assert queued > 500
        stopped.process.send_signal(signal.SIGSTOP)
        time.sleep(SESSION / 2)  # the stall has to be long, whatever else happens
        until(lambda: partitions(other, broker.prefix) == 4, 30, "taken over")
        stopped.process.send_signal(signal.SIGCONT)
        until(lambda: len(deliveries(receiver)) == EVENTS, 90, "all of them")
        stopped.ready()
        assert stopped.stop() == 0
        assert other.stop() == 0
    repeated = sum(deliveries(receiver).values()) - EVENTS
    print(f"SIGSTOP with {queued:.0f} queued, taken over: 0 missing, {repeated} repeated")
    assert repeated < queued / 2
    assert "no sign of life" in stopped.said()
