"""`subscribers status` and `list` as processes, beside a dispatcher that cannot deliver."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.e2e.conftest import Settings
from tests.e2e.rig import dispatcher, until
from tests.support.brokers import Broker
from tests.support.environment import without_settings
from tests.support.ordering import keyed
from tests.support.receivers import Receiver
from thorn_stream.config import load_settings
from thorn_stream.ops import status
from thorn_stream.ops.match import read_directory


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "thorn_stream", "subscribers", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=without_settings(),
        check=False,
    )


def told(folder: Path, *words: str) -> list[dict[str, Any]]:
    done = run(folder, *words, "--json", "--config", str(folder / "thorn.yaml"))
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "broker",
    ["embedded", pytest.param("apache", marks=[pytest.mark.kafka, pytest.mark.long])],
    indirect=True,
)
@pytest.mark.timeout(180)
def test_what_waits_is_told_from_any_machine(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """Of an ordered subscriber by its group, of another by the cursors; also when nobody runs."""
    topic = broker.topic("in")
    base = {"event": "order.*", "retry_delay": 30}
    subscribers = [
        {"id": "dead", "url": receiver.url("/status/503"), **base},
        {"id": "inorder", "url": receiver.url("/status/503"), "ordering": "key", **base},
        {"id": "well", "url": receiver.url("/ok"), "hmac_secret": "s3cret", **base},
    ]
    circuit = {"failures": 1, "open_for": 0.5, "open_for_max": 300}
    made = settings(subscribers=subscribers, circuit=circuit, max_in_flight=1)
    folder = tmp_path / "one"
    with dispatcher(folder, made) as one:
        one.ready(60)
        producer = Producer({"bootstrap.servers": broker.real.bootstrap_servers})
        for number in range(12):
            producer.produce(topic, keyed(f"k{number % 3}", number), key=b"k%d" % (number % 3))
        assert producer.flush(30) == 0
        until(lambda: receiver.count("/ok") == 12, 60, "the well one's")
        until(lambda: one.metric("thorn_parked_total") >= 11, 60, "parked")
        until(lambda: receiver.count("/status/503") >= 2, 60, "tried")

        loaded = load_settings(folder / "thorn.yaml", {})
        directory, client = read_directory(loaded), loaded.settings.librdkafka()

        def row(name: str) -> dict[str, Any]:
            [found] = status.as_json(status.status(loaded.settings, client, directory, name))
            return found

        until(lambda: row("dead")["error"] is not None, 60, "the cursors tell")
        until(lambda: row("inorder")["stuck"] == 1, 60, "the commit tells")
        assert one.stop() == 0
    dead, inorder, well = told(folder, "status")
    assert (dead["parked"], dead["state"], dead["error"]) == (11, "enabled", "status:503")
    assert dead["oldest"] > 1_600_000_000_000
    assert (inorder["lag"], inorder["stuck"], inorder["attempts"]) == (12, 1, 1)
    assert inorder["oldest"] > 1_600_000_000_000
    assert (well["parked"], well["lag"], well["oldest"]) == (0, 0, None)
    assert told(folder, "status", "dead") == [dead]
    text = run(folder, "status", "--config", str(folder / "thorn.yaml")).stdout.splitlines()
    assert [line.split()[:3] for line in text[1:]] == [
        ["dead", "enabled", "11"],
        ["inorder", "enabled", "12"],
        ["well", "enabled", "0"],
    ]
    wrong = run(folder, "status", "nobody", "--config", str(folder / "thorn.yaml"))
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "no subscriber nobody" in wrong.stderr
    listed = told(folder, "list")
    assert [one["id"] for one in listed] == ["dead", "inorder", "well"]
    assert listed[2]["hmac_secret"] == "set"
    assert {one["source"] for one in listed} == {"settings"}
