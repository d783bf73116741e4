"""The pytest plugin: the fixture `thorn_events`. Registered by installing thorn-stream."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from thorn_stream.testing import SentEvents

__all__ = ["thorn_events"]


@pytest.fixture
def thorn_events() -> Iterator["SentEvents"]:
    """Every event that the test sends, kept instead of sent: `.sent`, `.assert_sent(...)`."""
    from thorn_stream.testing import keeping_events  # noqa: PLC0415 - only tests that ask for it

    with keeping_events() as events:
        yield events
