"""Which of the tools are there: each test needs some of them, and some may not have been had."""

import os
from pathlib import Path

import pytest

__all__ = ["need"]


def need(path: Path) -> Path:
    """That part of the tools; skips, and says so, where it is missing.

    With THORN_REQUIRE_K8S=1 its absence is a failure.
    """
    if not path.exists():
        reason = f"no {path.name} in {path.parent}: `make k8s-tools` gets it"
        if os.environ.get("THORN_REQUIRE_K8S") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path
