"""The image, run as the rendered chart says, against Apache Kafka: chart and program fit."""

import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.e2e.rig import until
from tests.k8s.chart import Chart, kinds
from tests.k8s.podman import Podman
from tests.support.brokers import Broker
from tests.support.receivers import Receiver, closed_port

pytestmark = [pytest.mark.k8s, pytest.mark.kafka, pytest.mark.long, pytest.mark.timeout(300)]

IMAGE: Final = "localhost/thorn-stream"
TAG: Final = "dev"
PATIENCE: Final = 120.0


@pytest.fixture(scope="module")
def image() -> str:
    """The image's name; skips where it was not built, or podman cannot run here."""
    if shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip("podman, as root, is needed: `tests/k8s/tools image`")
    name = f"{IMAGE}:{TAG}"
    found = subprocess.run(["podman", "image", "exists", name], timeout=60, check=False)
    if found.returncode != 0:
        pytest.skip(f"there is no image {name}: `tests/k8s/image` builds it")
    return name


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


def given(broker: Broker, receiver: Receiver, port: int) -> dict[str, Any]:
    """Values of the chart for this machine: its broker, its receiver, a free port."""
    subscriber = {"id": "one", "event": "order.*", "url": receiver.url("/ok")}
    return {
        "image": {"repository": IMAGE, "tag": TAG},
        "config": {
            "kafka": broker.client,
            "group": broker.prefix,
            "topics": [broker.name("in")],
            "allowed_networks": ["127.0.0.0/8"],
            "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http"]]],
            "http": {"host": "127.0.0.1", "port": port},
        },
        "subscribers": {"files": {"one.yaml": {"subscribers": [subscriber]}}},
        "test": {"event": "order.test"},
        "topics": {"enabled": True, "partitions": 3},
    }


def answers(container: dict[str, Any], probe: str, port: int) -> bool:
    path = container[probe]["httpGet"]["path"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def ended(podman: Podman, name: str) -> int:
    """The exit code of a container that ends by itself."""
    until(lambda: podman.state(name)[0] == "exited", PATIENCE, f"{name} ended")
    return podman.state(name)[1]


def test_the_chart_and_the_image_fit(
    chart: Chart, apache_broker: Broker, receiver: Receiver, image: str, tmp_path: Path
) -> None:
    """Job, Deployment and test pod run as rendered: topics made, ready, delivered, ended with 0."""
    port = closed_port()
    objects = chart.objects(given(apache_broker, receiver, port))
    (deployment,) = kinds(objects, "Deployment")
    (job,) = kinds(objects, "Job")
    (test,) = kinds(objects, "Pod")
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    podman = Podman(objects, tmp_path)
    names = [f"{apache_broker.prefix}-{part}" for part in ("topics", "run", "test")]
    try:
        podman.start(names[0], job["spec"]["template"]["spec"])
        assert ended(podman, names[0]) == 0, podman.logs(names[0])

        podman.start(names[1], pod)
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            until(lambda probe=probe: answers(container, probe, port), PATIENCE, probe)  # type: ignore[misc]  # a default binds the loop's value
        status = podman("exec", names[1], "python", "-c", "print(open('/proc/1/status').read())")
        assert "NoNewPrivs:\t1" in status
        assert "CapEff:\t0000000000000000" in status
        assert "Uid:\t65532" in status
        refused = podman("exec", names[1], "python", "-c", "open('/tmp/x', 'w')", check=False)
        assert "Read-only file system" in refused

        podman.start(names[2], test["spec"])
        assert ended(podman, names[2]) == 0, podman.logs(names[2])
        assert "order.test was delivered to one" in podman.logs(names[2])
        assert receiver.count("/ok") == 1

        grace = pod["terminationGracePeriodSeconds"]
        podman("stop", "--time", str(grace), names[1])
        assert podman.state(names[1]) == ("exited", 0), podman.logs(names[1])
        assert '"drained":true' in podman.logs(names[1]).replace(" ", "")
    finally:
        for name in names:
            podman.remove(name)
