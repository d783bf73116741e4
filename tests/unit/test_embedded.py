"""The embedded broker, and the file by which other commands find it."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from confluent_kafka import Producer

from thorn_stream.adapters.embedded import EmbeddedBroker, find, run_forever
from thorn_stream.core.errors import LocalError


def _topics(servers: str) -> dict[str, int]:
    told = Producer({"bootstrap.servers": servers}).list_topics(timeout=10)
    return {name: len(topic.partitions) for name, topic in told.topics.items()}


def test_a_topic_has_the_partitions_it_was_made_with() -> None:
    """The broker's own number holds where none is given."""
    with EmbeddedBroker(partitions=2) as broker:
        broker.create_topic("a")
        broker.create_topic("b", 7)
        assert _topics(broker.bootstrap_servers) == {"a": 2, "b": 7}


def test_a_topic_is_made_once() -> None:
    """Making it again is refused in words, and so is deleting what is not there."""
    with EmbeddedBroker() as broker:
        broker.create_topic("a")
        with pytest.raises(LocalError, match="did not make a"):
            broker.create_topic("a")
        with pytest.raises(LocalError, match="no records of b"):
            broker.delete_records("b", 0, 1)


def test_a_broker_that_does_not_run_says_so() -> None:
    """Before the start and after the stop there is no address; both may be done twice."""
    broker = EmbeddedBroker()
    with pytest.raises(LocalError, match="start it first"):
        broker.create_topic("a")
    assert broker.start().bootstrap_servers == broker.start().bootstrap_servers
    broker.stop()
    broker.stop()
    with pytest.raises(LocalError, match="not running"):
        _ = broker.bootstrap_servers


def test_two_brokers_run_side_by_side() -> None:
    """Each has a port of its own."""
    with EmbeddedBroker() as one, EmbeddedBroker() as two:
        assert one.bootstrap_servers != two.bootstrap_servers


def test_a_running_broker_is_found_and_a_stopped_one_is_not(tmp_path: Path) -> None:
    """The file is there while it runs, for every process that looks; then it is gone."""
    file, stop = tmp_path / "state" / "broker", threading.Event()
    ready: list[str | None] = []

    def on_ready(broker: EmbeddedBroker) -> None:
        ready.append(broker.bootstrap_servers)
        ready.append(find(file))
        with pytest.raises(LocalError, match="runs here already"):
            run_forever(lambda _: None, file=file)
        stop.set()

    run_forever(on_ready, file=file, stop=stop)
    assert ready[0] is not None
    assert ready[0] == ready[1]
    assert find(file) is None
    assert not file.exists()


def test_sigterm_ends_a_broker_of_its_own_process(tmp_path: Path) -> None:
    """It says its address, can be used from here, ends with status 0 and takes its file along."""
    code = (
        "from thorn_stream.adapters.embedded import run_forever\n"
        "run_forever(lambda broker: print(broker.bootstrap_servers, flush=True))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        servers = process.stdout.readline().strip()
        assert find(tmp_path / ".thorn/broker") == servers
        assert _topics(servers) == {}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
    assert not (tmp_path / ".thorn/broker").exists()


def test_what_a_dead_process_left_is_no_broker(tmp_path: Path) -> None:
    """Neither a process that is gone, nor a port nobody answers on, nor garbage is found."""
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait(timeout=20)
    with socket.create_server(("127.0.0.1", 0)) as open_port:
        answering = f"127.0.0.1:{open_port.getsockname()[1]}"
        cases = [
            json.dumps({"pid": gone.pid, "bootstrap_servers": answering}),
            "",
            "[]",
            "{}",
            '{"pid": "x", "bootstrap_servers": 7}',
        ]
        for case in cases:
            (tmp_path / "broker").write_text(case)
            assert find(tmp_path / "broker") is None, case
        mine = json.dumps({"pid": os.getpid(), "bootstrap_servers": answering})
        (tmp_path / "broker").write_text(mine)
        assert find(tmp_path / "broker") == answering
    assert find(tmp_path / "broker") is None
    assert find(tmp_path / "nothing") is None


def test_a_directory_that_cannot_be_written_is_an_error_in_words(tmp_path: Path) -> None:
    """The broker is for others to find, so it does not run where they could not."""
    (tmp_path / "state").write_text("a file, not a directory")
    with pytest.raises(LocalError, match="cannot write"):
        run_forever(lambda _: None, file=tmp_path / "state" / "broker")
