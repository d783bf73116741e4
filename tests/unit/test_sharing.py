"""How Lanes share connections and bytes, and what becomes of what has to wait."""

import random

import pytest

from thorn_stream.core.flow import HOLD_FOR
from thorn_stream.core.sharing import (
    Place,
    for_later_ones,
    may_connect,
    place,
    takes_too_many_bytes,
)


@pytest.mark.parametrize(
    ("waited", "full", "slow", "later", "expected"),
    [
        (99.0, False, True, True, Place.QUEUE),
        (HOLD_FOR, True, False, False, Place.HOLD),
        (HOLD_FOR + 0.001, True, False, False, Place.PARK),
        (0.0, True, True, False, Place.PARK),
        (0.0, True, False, True, Place.PARK),
    ],
)
def test_what_becomes_of_what_has_to_wait(
    waited: float, full: bool, slow: bool, later: bool, expected: Place
) -> None:
    """Queued while there is a place; intake is held back only for a burst of first attempts."""
    assert place(waited, full=full, slow=slow, later=later) is expected


@pytest.mark.parametrize(
    ("connections", "most"), [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6), (1000, 750)]
)
def test_later_ones_have_three_quarters_of_the_connections(connections: int, most: int) -> None:
    """And always one."""
    assert for_later_ones(connections) == most


def test_however_greedy_the_others_are_a_newcomer_finds_a_connection() -> None:
    """Lanes that never give one back leave some for who comes later, unless they are too many."""
    dice = random.Random(3)
    for _ in range(300):
        connections = dice.randint(4, 200)
        greedy = [0] * dice.randint(1, max(1, connections // 8))
        for _ in range(20 * connections):
            one = dice.randrange(len(greedy))
            busy = sum(count > 0 for count in greedy)
            if may_connect(greedy[one], sum(greedy), connections, busy):
                greedy[one] += 1
        assert sum(greedy) <= connections
        busy = sum(count > 0 for count in greedy)
        assert may_connect(0, sum(greedy), connections, busy)


def test_connections_are_never_exceeded_and_one_is_enough_for_all() -> None:
    """Whoever has none may take the last one."""
    assert may_connect(0, 0, 1, 0)
    assert not may_connect(0, 1, 1, 1)
    assert may_connect(0, 99, 100, 99)
    assert not may_connect(1, 99, 100, 99)
    assert not may_connect(0, 100, 100, 1)


def test_bytes_are_shared_when_half_of_them_is_used() -> None:
    """Half of memory is for Lanes; a Lane without anything always finds a place."""
    assert not takes_too_many_bytes(40, 40, 200, 1)
    assert takes_too_many_bytes(60, 60, 200, 1)
    assert not takes_too_many_bytes(20, 60, 200, 2)
    assert takes_too_many_bytes(30, 60, 200, 2)
    assert not takes_too_many_bytes(0, 1000, 200, 2)
