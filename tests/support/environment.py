"""The environment without settings: those of the test run itself must not reach what is tested."""

import os

import pytest

__all__ = ["clear_settings", "without_settings"]


def without_settings() -> dict[str, str]:
    """This process's environment, for a child, less all `THORN_` variables."""
    return {name: text for name, text in os.environ.items() if not name.startswith("THORN_")}


def clear_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take all `THORN_` variables away for one test."""
    for name in os.environ.keys() - without_settings().keys():
        monkeypatch.delenv(name)
