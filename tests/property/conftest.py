"""How many examples: a few hundred in `make test`, thousands with HYPOTHESIS_PROFILE=long."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Tests never time anything: a deadline per example fails on a busy machine.
settings.register_profile("quick", deadline=None, max_examples=200)
settings.register_profile("long", deadline=None, max_examples=5_000, stateful_step_count=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Thousands of examples take minutes."""
    if os.environ.get("HYPOTHESIS_PROFILE") == "long":
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.timeout(1800))
