"""Deadlines kept within 50 ms, and flat memory, against receivers that never end."""

from typing import Any

import pytest

from tests.support.hostile_limits import ENDLESS, UNREAD, measured

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

ROUNDS = {"native": 10, "httpx": 3}  # the second one takes ten times the CPU for each answer


@pytest.fixture(scope="module", params=ROUNDS)
def told(request: pytest.FixtureRequest) -> dict[str, Any]:
    found = measured(request.param, ROUNDS[request.param])
    print(request.param, found)
    return found


def test_deadlines_are_kept_within_50_ms(told: dict[str, Any]) -> None:
    """Of all that are slow, silent or do not read; never early.

    What overdue ones are looked for with is a timer, so what the loop itself was late, as it was
    measured in the same run, is not held against them: twice, since one look that comes late is
    followed by a second one before anything is ended.
    """
    deadlines = told["deadlines"]
    assert deadlines["count"] > 400
    assert deadlines["min"] >= 0
    assert deadlines["p99"] <= 50 + 2 * deadlines["lag"]


def test_memory_stays_flat(told: dict[str, Any]) -> None:
    """Of endless bodies, heads, trailers and 1xx, a gzip bomb and who does not read: 8 MiB.

    Bodies of our own that nobody reads may stand there twice, until the collector comes round.
    """
    memory = told["memory"]
    assert memory.keys() == {row.name for row in ENDLESS}
    grown = {
        name: (peak - before, after - before) for name, (before, peak, after) in memory.items()
    }
    allowed = {row.name: 8 + (2 * UNREAD if row.large else 0) for row in ENDLESS}
    assert {name: by for name, by in grown.items() if max(by) > allowed[name]} == {}
