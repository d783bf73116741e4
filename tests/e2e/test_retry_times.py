"""Many retries that are due at the same moment: none early, all of them, and how late."""

import time
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, envelope, produce, until
from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver

MANY = 3000
LATEST = 30.0  # seconds, on a machine that does other things; how late they are is printed


@pytest.mark.parametrize("broker", ["apache"], indirect=True)
@pytest.mark.kafka
def test_many_due_at_once(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Each is tried again once, after the moment the receiver asked for, and soon after it."""
    topic = broker.topic("in")
    due = [0]
    arrivals: list[float] = []

    async def asks_for_later(call: Call) -> None:
        if call.request.headers["hook-attempt"] != "1":
            arrivals.append(time.time())
            await call.answer(200)
            return
        asked = formatdate(due[0], usegmt=True)
        await call.answer(500, b"", f"Retry-After: {asked}")  # 503 would hold its lane

    receiver.modes["later"] = asks_for_later
    no_circuit = {"failures": 10 * MANY, "open_for": 5, "open_for_max": 300}
    made = settings("/later", retry_tiers=[5, 15, 60], retry_delay=1, circuit=no_circuit)
    with dispatcher(tmp_path, made) as running:
        running.ready()
        due[0] = int(time.time()) + 20  # a date has whole seconds
        values: list[bytes | None] = [envelope("order.paid", number=i) for i in range(MANY)]
        produce(broker.real.bootstrap_servers, topic, values)
        until(lambda: receiver.count("/later") >= MANY, 20, "all first attempts")
        assert time.time() < due[0], "the machine is too slow for this test"
        until(lambda: len(arrivals) == MANY, due[0] - time.time() + LATEST, "all of them again")
        late = sorted(each - due[0] for each in arrivals)
        print(
            f"{MANY} due at once: first {late[0]:.3f} s late, p50 {late[MANY // 2]:.3f}, "
            f"p99 {late[MANY * 99 // 100]:.3f}, last {late[-1]:.3f}"
        )
        assert late[0] >= 0, "none is early"
        assert late[-1] <= LATEST
        assert running.stop() == 0
    assert receiver.count("/later") == 2 * MANY
