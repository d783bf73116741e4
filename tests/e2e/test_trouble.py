"""What goes wrong around a dispatcher is said in one line, with what to do; never a traceback."""

import socket
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, dispatcher, envelope, produce, until
from tests.support.apache_kafka import ApacheKafka
from tests.support.brokers import Broker
from tests.support.receivers import Receiver, closed_port

PLAIN: dict[str, Any] = {"subscriber_files": [], "group": "trouble"}


def end(one: Dispatcher, seconds: float = 40) -> tuple[int, str]:
    """Exit status, and what was said to people: no traceback in it."""
    status = one.process.wait(seconds)
    said = one.said()
    assert "Traceback" not in said
    return status, said


def test_no_broker_within_the_start_timeout(tmp_path: Path) -> None:
    """Exit status 1, the address, and the setting to look at."""
    servers = f"127.0.0.1:{closed_port()}"
    settings = PLAIN | {"kafka": {"bootstrap_servers": servers}, "start_timeout": 2}
    with dispatcher(tmp_path, settings) as one:
        status, said = end(one)
    assert status == 1
    last = said.strip().splitlines()[-1]
    assert last.startswith("thorn-stream: ")
    assert servers in last
    assert "bootstrap_servers" in last


@pytest.mark.kafka
def test_a_wrong_password_is_refused_at_once(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    """Exit status 1, long before the timeout; the password is nowhere."""
    client = {
        "bootstrap_servers": apache_kafka.login_servers,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "thorn",
        "sasl_password": "hunter2-wrong",
    }
    with dispatcher(tmp_path, PLAIN | {"kafka": client}) as one:
        status, said = end(one)
    assert status == 1
    assert "thorn-stream: " in said
    assert "sasl" in said.lower()
    assert "hunter2" not in said


@pytest.mark.kafka
def test_a_missing_permission_is_named(apache_kafka: ApacheKafka, tmp_path: Path) -> None:
    """A user with no rights at all: exit status 1 and what was refused."""
    client = {
        "bootstrap_servers": apache_kafka.login_servers,
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "thorn",
        "sasl_password": "right-password",
    }
    with dispatcher(tmp_path, PLAIN | {"kafka": client}) as one:
        status, said = end(one)
    assert status == 1
    assert "thorn-stream: " in said
    assert "right-password" not in said


def test_a_port_that_is_taken(embedded_broker: Broker, tmp_path: Path) -> None:
    """Exit status 1 and the setting that names another port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = PLAIN | {
            "kafka": embedded_broker.client,
            "http": {"host": "127.0.0.1", "port": port},
        }
        with dispatcher(tmp_path, settings) as one:
            status, said = end(one)
    assert status == 1
    assert str(port) in said
    assert "http.port" in said


def test_every_mistake_in_the_settings_is_named(tmp_path: Path) -> None:
    """Exit status 2, a line for each, with its place."""
    settings = PLAIN | {"retry_max": "many", "topic": ["a"], "window": 10**9}
    with dispatcher(tmp_path, settings) as one:
        status, said = end(one)
    assert status == 2
    lines = said.strip().splitlines()
    assert len(lines) == 3
    for line, name in zip(sorted(lines), ("retry_max", "topic", "window"), strict=True):
        assert line.startswith("thorn-stream: ")
        assert "thorn.yaml:" in line
        assert any(name in each for each in lines)


def test_a_subscriber_file_that_cannot_be_read(tmp_path: Path) -> None:
    """Exit status 2 and the file."""
    bad = tmp_path / "subscribers.yaml"
    bad.write_text("subscribers: [{id: a, event: 'order.*'")
    settings = PLAIN | {"subscriber_files": [str(bad)]}
    with dispatcher(tmp_path, settings) as one:
        status, said = end(one)
    assert status == 2
    assert "subscribers.yaml:1" in said


def test_a_missing_topic_is_waited_for(
    broker: Broker, receiver: Receiver, settings: Settings, tmp_path: Path
) -> None:
    """`run` goes on, says so in /readyz, and delivers as soon as the topic is there."""
    topic = broker.name("later")
    # the embedded broker makes a topic that it is asked for; a pattern asks for none
    topics = [f"^{topic}$"] if broker.embedded else [topic]
    with dispatcher(tmp_path, settings("/ok", topics=topics)) as one:
        until(lambda: topic in one.get("/readyz")[1], 30, "the topic is named in /readyz")
        assert one.get("/readyz")[0] == 503
        assert one.get("/livez")[0] == 200
        broker.topic("later")
        produce(broker.real.bootstrap_servers, topic, [envelope("order.paid")])
        until(lambda: receiver.count("/ok") == 1, 40, "delivered")
        one.ready()
        assert one.stop() == 0
