"""The bench of who delays whom can be started; what it measures is no business of tests."""

import subprocess
import sys

import pytest

from tests.support.brokers import ROOT


def isolation(*words: str, within: float) -> "subprocess.CompletedProcess[str]":
    """Run it to its end."""
    return subprocess.run(
        [sys.executable, "-m", "bench.isolation", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=within,
        check=False,
    )


def test_it_says_what_can_be_measured() -> None:
    """Every load can be asked for by its name."""
    told = isolation("--help", within=50)
    assert told.returncode == 0, told.stderr
    for name in ("neighbours", "within", "outage", "crawling", "storm", "memory"):
        assert name in told.stdout


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_smallest_run_loses_nothing() -> None:
    """An outage of two seconds, on the embedded broker, ends with its table."""
    told = isolation(*("--only", "outage", "--scale", "tiny", "--broker", "embedded"), within=280)
    assert told.returncode == 0, told.stdout + told.stderr
    assert told.stdout.count("lost: 0") == 1
