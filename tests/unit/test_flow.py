"""When something is sent, queued, held back or parked; when a partition is paused."""

import pytest

from thorn_stream.core.flow import (
    STALL,
    Hold,
    Limits,
    ahead,
    is_crowded,
    may_be_held,
    may_come,
    patience,
    should_pause,
    should_resume,
    stalled,
    takes_too_much,
)


def test_a_partition_is_paused_at_its_bounds_and_resumed_at_half() -> None:
    """Between full and half full nothing changes, for the window and the look-ahead alike."""
    limits = Limits(window=100, lookahead=10)
    assert not should_pause(99, 0, 9, limits)
    assert should_pause(100, 0, 0, limits)
    assert should_pause(0, 0, 10, limits)
    assert should_resume(50, 0, 5, limits)
    assert not should_resume(51, 0, 0, limits)
    assert not should_resume(0, 0, 6, limits)


@pytest.mark.parametrize("bound", [1, 2, 3])
def test_the_smallest_bounds_can_be_resumed_from(bound: int) -> None:
    """An empty partition is read whatever the bounds are."""
    limits = Limits(window=bound, lookahead=bound)
    assert not should_pause(0, 0, 0, limits)
    assert should_resume(0, 0, 0, limits)


def test_reading_stops_before_the_metadata_would_not_fit() -> None:
    """However large the window is; it goes on when half of that is free."""
    limits = Limits(window=200_000, lookahead=10_000)
    assert not should_pause(100_000, 2_000, 0, limits)
    assert should_pause(100_000, 3_000, 0, limits)
    assert not should_resume(100_000, 2_000, 0, limits)
    assert should_resume(100_000, 800, 0, limits)
    assert is_crowded(100_000, 2_000, 200_000)
    assert not is_crowded(100_000, 1_000, 200_000)
    assert not should_pause(17_000, 17_000, 0, limits)


def test_a_window_is_crowded_from_three_quarters_on() -> None:
    """One below three quarters is not; three quarters are."""
    assert not is_crowded(74, 0, 100)
    assert is_crowded(75, 0, 100)
    assert is_crowded(1, 0, 1)
    assert not is_crowded(0, 0, 1)


@pytest.mark.parametrize(
    ("held", "total", "too_much"),
    [
        (500, 500, False),  # alone, with half of it free
        (501, 501, True),
        (125, 900, False),  # a fourth of the half that is used
        (126, 900, True),
        (0, 1000, False),
    ],
)
def test_four_partitions_share_a_budget_of_a_thousand_bytes(
    held: int, total: int, too_much: bool
) -> None:
    """Nobody is stopped while half is free; then all but those below an even part of the half."""
    assert takes_too_much(held, total, 1000, 4) == too_much


@pytest.mark.parametrize(
    ("open_size", "held", "expected"),
    [
        (0, 0, 1 << 20),
        (60 << 20, 60 << 20, 1 << 20),
        ((64 << 20) - 1000, 0, 1000),
        (64 << 20, 0, 0),
        (64 << 20, 64 << 20, 1 << 18),  # nothing but what waits: what is due has its quarter
        (80 << 20, 64 << 20, 0),
        (80 << 20, (64 << 20) + 5, 5),
        ((96 << 20) - 1000, (96 << 20) - 1000, 1000),  # half beyond, whatever it is
        (96 << 20, 96 << 20, 0),
        (640 << 20, 640 << 20, 0),
    ],
)
def test_what_waits_for_hours_leaves_a_quarter_for_what_is_due(
    open_size: int, held: int, expected: int
) -> None:
    """Never more than a little is on its way, and none when too much is being tried."""
    assert may_come(open_size, held, 64 << 20) == expected


def test_many_partitions_of_large_records_end_at_half_beyond_the_budget() -> None:
    """A hundred partitions, records of a twentieth of all: one more than half beyond, no more."""
    budget, partitions = 64 << 20, 100
    size = budget // 20
    holds = dict.fromkeys(range(partitions), 0)
    took_part = True
    while took_part:
        took_part = False
        for partition, held in holds.items():
            total = sum(holds.values())
            paused = held > 0 and takes_too_much(held, total, may_be_held(budget), partitions)
            if not paused and may_come(total, total, budget) > 0:
                holds[partition] += size
                took_part = True
    total = sum(holds.values())
    assert budget < total < budget + budget // 2 + size
    assert may_come(total, total, budget) == 0
    assert may_come(total - size, total - size, budget) > 0


def test_the_smallest_budget_lets_a_record_come() -> None:
    """However little memory there may be, some of it is read at a time."""
    assert ahead(0) == may_come(0, 0, 1 << 18) == 16_384


def test_a_stall_is_longer_than_its_limit() -> None:
    """Up to the limit is none, so that it is well below any session."""
    assert not stalled(STALL)
    assert stalled(STALL + 0.001)


@pytest.mark.parametrize(
    ("session", "heartbeat", "expected"),
    [
        (10, 3, 7),
        (6, 1, 4.2),
        (6, 3, 3),  # the last heartbeat that was taken may be 3 s older than the commit
        (45, 3, 31.5),
        (6, 5.9, 1.8),  # hopeless settings: still no hold for ever
    ],
)
def test_a_commit_may_wait_for_an_answer_while_the_group_keeps_us(
    session: float, heartbeat: float, expected: float
) -> None:
    """Not longer than the session less a heartbeat, and some of it to spare."""
    assert patience(session, heartbeat) == pytest.approx(expected)


def test_a_hold_ends_with_a_commit_that_was_sent_after_it_began() -> None:
    """An answer to an older one proves nothing; another stall asks for another commit."""
    hold = Hold()
    hold.asked()
    hold.begin()
    assert not hold.answered()
    assert hold.on
    hold.asked()
    hold.begin()
    assert not hold.answered()
    assert hold.on
    hold.asked()
    assert hold.answered()
    assert not hold.on


def test_a_hold_ends_when_nothing_is_left_of_before() -> None:
    """What is assigned after that is ours by the newest word of the group."""
    hold = Hold()
    hold.begin()
    hold.end()
    assert not hold.on
    assert not hold.answered()
