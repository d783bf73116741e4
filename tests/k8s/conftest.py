"""The tools that check the chart, and the chart rendered over each example of values."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.conftest import receiver, settings
from tests.k8s.chart import Chart
from tests.k8s.having import need

__all__ = ["TOOLS", "chart", "receiver", "settings", "tools"]  # fixtures of the other tests, too

TOOLS: Final = Path(os.environ.get("TOOLS_DIR") or Path.home() / ".cache/thorn-stream/tools")


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where they are; what a test needs of them it asks for by `need`."""
    return TOOLS


@pytest.fixture(scope="session")
def chart(tools: Path) -> Iterator[Chart]:
    need(tools / "bin" / "hadolint")  # which came with Helm as a library
    with Chart(tools) as one:
        yield one
