"""What `helm test` runs, against a dispatcher and receivers that do well and do not."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, dispatcher
from tests.k8s.chart import CHART
from tests.support.brokers import Broker

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize(
        "broker",
        ["embedded", pytest.param("apache", marks=[pytest.mark.kafka, pytest.mark.long])],
        indirect=True,
    ),
]


def helm_test(one: Dispatcher, event: str, seconds: int = 60) -> "subprocess.CompletedProcess[str]":
    program = CHART / "files" / "delivery.py"
    return subprocess.run(
        [sys.executable, str(program), str(one.config), event, str(seconds)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_it_waits_for_the_delivery(broker: Broker, settings: Settings, tmp_path: Path) -> None:
    """Status 0 once every subscriber of the event has it; an ordered one as well."""
    broker.topic("in")
    given = settings()
    (one,) = given["subscribers"]
    given["subscribers"].append({**one, "id": "inorder", "ordering": "key"})
    with dispatcher(tmp_path / "one", given) as running:
        running.ready(60)
        done = helm_test(running, "order.test")
        assert (done.returncode, done.stderr) == (0, "")
        assert "order.test was delivered to one, inorder" in done.stdout
        assert running.metric("thorn_deliveries_total", settlement="delivered") == 2


def test_a_refusal_fails_it_with_the_reason(
    broker: Broker,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """A receiver that answers 503 is named, with its answer and where the event is now."""
    broker.topic("in")
    with dispatcher(tmp_path / "one", settings("/status/503", retry_delay=600)) as running:
        running.ready(60)
        done = helm_test(running, "order.test")
    assert done.returncode == 1
    assert "it was not delivered to one: status:503" in done.stderr


def test_without_a_subscriber_it_says_so(
    broker: Broker,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """The event was read and committed, and no delivery was seen: that is no failure."""
    broker.topic("in")
    with dispatcher(tmp_path / "one", settings()) as running:
        running.ready(60)
        done = helm_test(running, "nobody.wants")
    assert done.returncode == 0
    assert "nobody subscribed to it" in done.stdout


def test_without_a_dispatcher_it_fails(
    broker: Broker,
    settings: Settings,
    tmp_path: Path,
) -> None:
    """Nobody commits: it says so when its time is up."""
    broker.topic("in")
    with dispatcher(tmp_path / "one", settings()) as running:
        running.ready(60)
        assert running.stop() == 0
        done = helm_test(running, "order.test", 2)
    assert done.returncode == 1
    assert "has not committed it" in done.stderr
