"""Commands that wait for Kafka say so, and only while it has not answered."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import without_settings
from tests.support.receivers import closed_port, wait_until
from thorn_stream.cli.common import patience


@pytest.mark.parametrize(
    "command",
    [
        ("emit", "order.paid"),
        ("dead", "list"),
        ("dead", "show", "thorn.dead-0-1"),
        ("topics", "plan"),
        ("topics", "create"),
        ("config", "check", "--connect"),
    ],
)
def test_a_command_says_that_it_is_still_trying(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Its first line, on standard error, before it gives up, with the address."""
    servers = f"127.0.0.1:{closed_port()}"
    config = tmp_path / "thorn.yaml"
    config.write_text(f"kafka: {{bootstrap_servers: '{servers}'}}\nsubscriber_files: []\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "thorn_stream", *command, "--config", str(config)],
        cwd=tmp_path,
        env=without_settings(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        first = process.stderr.readline()
    finally:
        process.kill()
        process.communicate()
    assert first.startswith(f"thorn-stream: Kafka at {servers} has not answered yet: still trying")


def test_nothing_is_said_once_kafka_was_heard(capsys: pytest.CaptureFixture[str]) -> None:
    """What is told of one that was not heard does not come for one that was."""
    with patience("heard:9092") as heard, patience("silent:9092"):
        heard()
        said: list[str] = []

        def told() -> bool:
            said.append(capsys.readouterr().err)
            return "silent:9092" in "".join(said)

        wait_until(told, 30)
    assert "heard:9092" not in "".join(said)
