"""The tools that check the chart, and the chart rendered over each example of values."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.k8s.chart import Chart

TOOLS: Final = Path(os.environ.get("TOOLS_DIR") or Path.home() / ".cache/thorn-stream/tools")


@pytest.fixture(scope="session")
def tools() -> Path:
    """Where they are; skips, and says so, where they were never built."""
    if not (TOOLS / "bin" / "promtool").exists():
        reason = f"no tools in {TOOLS}: `make k8s-tools` builds them"
        if os.environ.get("THORN_REQUIRE_K8S") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return TOOLS


@pytest.fixture(scope="session")
def chart(tools: Path) -> Iterator[Chart]:
    with Chart(tools) as one:
        yield one
