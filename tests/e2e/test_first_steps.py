"""The README's first steps, typed in four terminals of one directory."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.rig import until
from tests.support.brokers import ROOT
from tests.support.receivers import closed_port

Terminal = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """Start commands in a copy of the checkout's config; they are gone afterwards."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    environ = {k: v for k, v in os.environ.items() if not k.startswith("THORN_")}
    environ["PYTHONPATH"] = str(ROOT)
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> "subprocess.Popen[bytes]":
        with (tmp_path / name).open("wb") as out:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "thorn_stream", *words],
                    cwd=tmp_path,
                    env=environ,
                    stdout=out,
                    stderr=out,
                )
            )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)


def test_the_first_steps(terminal: Terminal, tmp_path: Path) -> None:
    """broker, listen, run and emit, as the README has them: the listener shows a checked call."""
    # other ports than the README's, which may be taken on the machine of the tests
    listener, probes = closed_port(), closed_port()
    for name in ("config/subscribers/example.yaml", "config/dev.yaml"):
        file = tmp_path / name
        file.write_text(file.read_text().replace(":8000/", f":{listener}/"))
    dev = yaml.safe_load((tmp_path / "config/dev.yaml").read_text())
    dev["http"]["port"] = probes
    (tmp_path / "config/dev.yaml").write_text(yaml.safe_dump(dev))

    def shown(name: str) -> str:
        return (tmp_path / name).read_text()

    terminal("broker", "broker")
    until(lambda: "embedded broker on" in shown("broker"), 20, "the broker says its address")
    terminal("listen", "listen", "--port", str(listener))
    until(lambda: "listening on" in shown("listen"), 20, "the listener listens")
    terminal("run", "run", "--config", "config/dev.yaml")
    emit = terminal("emit", "emit", "article.created", "--data", '{"title": "hello"}')
    assert emit.wait(30) == 0, shown("emit")
    assert "sent 1 event to thorn.events" in shown("emit")
    until(lambda: "signature ok" in shown("listen"), 30, "the call is shown")
    assert "article.created" in shown("listen")
    assert '"title": "hello"' in shown("listen")
