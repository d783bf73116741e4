"""`thorn-stream demo`, run as a user runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker
from tests.support.receivers import wait_until
from thorn_stream.adapters.kafka import describe

SMALL = ("--events", "60", "--rate", "100")


@contextmanager
def demo(folder: Path, *options: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """The command, its temporary files in `folder`; killed when a test leaves it running."""
    environment = os.environ | {"TMPDIR": str(folder), "THORN_GROUP": "not-for-the-demo"} | more
    with subprocess.Popen(
        [sys.executable, "-m", "thorn_stream", "demo", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def dispatcher_of(process: subprocess.Popen[str]) -> int:
    """Its only child, once the demo says that all is ready."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready in"):
            break
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie, as it is until somebody asks for its status."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_every_event_is_accounted_for(tmp_path: Path) -> None:
    """JSON alone on standard output, the sum right for each subscriber, nothing left behind."""
    with demo(tmp_path, *SMALL, "--json") as process:
        out, err = process.communicate(timeout=50)
    assert process.returncode == 0, err
    told = json.loads(out)
    assert told["events"] == 60
    assert told["accounted"] is True
    subscribers = {one["id"]: one for one in told["subscribers"]}
    assert list(subscribers) == ["healthy", "slow", "flaky", "late", "gone"]
    for one in subscribers.values():
        assert one["matched"] == one["delivered"] + one["dead"] > 0
        assert one["received"] == one["delivered"]
    assert subscribers["healthy"]["delivered"] == 60
    assert subscribers["gone"]["dead"] == subscribers["gone"]["matched"]
    assert subscribers["gone"]["p50_ms"] is None
    # from its tenth failure on, what is left waits without being tried
    assert 10 <= subscribers["late"]["retried"] <= subscribers["late"]["matched"]
    assert subscribers["slow"]["p50_ms"] >= 500
    assert "every one accounted for." in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.kafka
def test_on_apache_kafka(tmp_path: Path, apache_kafka: ApacheKafka) -> None:
    """The same on a real broker; its topics are deleted, and the summary says so."""
    servers = apache_kafka.bootstrap_servers
    with demo(tmp_path, *SMALL, "--kafka", servers) as process:
        out, err = process.communicate(timeout=50)
    assert process.returncode == 0, out + err
    assert "every one accounted for." in out
    assert "Deleted from the broker: the demo's 8 topics." in out
    assert not _of_demos(servers)
    assert "embedded" not in out


@pytest.mark.kafka
def test_a_broker_that_wants_a_login(tmp_path: Path, apache_broker: Broker) -> None:
    """THORN_KAFKA__ variables say how, to the demo and to its dispatcher; no file holds them."""
    rights = ("READ", "WRITE", "CREATE", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS")
    apache_broker.allow(*rights, topic="thorn-demo-", prefixed=True)
    apache_broker.allow("READ", "DESCRIBE", group="thorn-demo-", prefixed=True)
    login = apache_broker.login
    variables = {f"THORN_KAFKA__{key.upper()}": str(text) for key, text in login.items()}
    variables |= {
        "THORN_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",  # `--kafka` names another
        "THORN_KAFKA__SASL_PASSWORD": "env:DEMO_PASSWORD",
        "DEMO_PASSWORD": login["sasl_password"],
    }
    servers = login["bootstrap_servers"]
    with demo(tmp_path, *SMALL, "--kafka", servers, **variables) as process:
        out, err = process.communicate(timeout=55)
    assert process.returncode == 0, out + err
    assert "every one accounted for." in out
    assert login["sasl_password"] not in out + err


@pytest.mark.kafka
def test_ctrl_c_deletes_the_topics_as_well(tmp_path: Path, apache_kafka: ApacheKafka) -> None:
    """Interrupted on somebody's broker, it leaves nothing there."""
    with demo(tmp_path, "--kafka", apache_kafka.bootstrap_servers) as process:
        dispatcher_of(process)
        assert _of_demos(apache_kafka.bootstrap_servers)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == ""
    wait_until(lambda: not _of_demos(apache_kafka.bootstrap_servers), seconds=10)


def _of_demos(servers: str) -> list[str]:
    there = describe({"bootstrap.servers": servers}, 20).topics
    return [name for name in there if name.startswith("thorn-demo-")]


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    """Interrupted, it says so in one line, and neither process nor file stays behind."""
    with demo(tmp_path) as process:
        dispatcher = dispatcher_of(process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    assert out.splitlines()[-1] == "Interrupted: broker, dispatcher and receivers are stopped."
    assert err == ""
    assert not runs(dispatcher)
    assert list(tmp_path.iterdir()) == []


def test_a_dispatcher_that_dies_ends_it(tmp_path: Path) -> None:
    """Without a dispatcher nothing can be shown: it fails, and says so in one line."""
    with demo(tmp_path) as process:
        os.kill(dispatcher_of(process), signal.SIGKILL)
        _, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert err.splitlines()[0].startswith("thorn-stream: the dispatcher process ended by signal 9")
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_the_dispatcher_does_not_outlive_the_demo(tmp_path: Path) -> None:
    """Even a demo that is killed leaves no process behind."""
    with demo(tmp_path) as process:
        dispatcher = dispatcher_of(process)
        process.kill()
        process.wait(10)
        wait_until(lambda: not runs(dispatcher), seconds=10)


def test_no_broker_is_told_in_one_line(tmp_path: Path) -> None:
    """A broker that is not there: which one, what to do, exit status 1."""
    with demo(tmp_path, "--kafka", "127.0.0.1:1") as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert len(err.splitlines()) == 1
    assert err.startswith("thorn-stream: 127.0.0.1:1: ")
