"""`rate_limit`: what a process may send, and what all of them send together."""

import random

import pytest

from thorn_stream.core.rates import Bucket, Shares, share


def sent(rate: float, wanted: list[float]) -> list[float]:
    """When those that were wanted at these times went."""
    bucket, went = Bucket(0.0), []
    for at in wanted:
        bucket.refill(at, rate)
        if not bucket.empty:
            bucket.take()
            went.append(at)
    return went


def always(seconds: float, step: float = 0.001) -> list[float]:
    return [number * step for number in range(int(seconds / step))]


@pytest.mark.parametrize("rate", [0.5, 1.0, 7.3, 24.0, 25.0, 100.0, 900.0])
def test_what_is_sent_since_the_start_is_never_more_than_the_rate(rate: float) -> None:
    """At no moment; and it is used but for what a burst is worth."""
    went = sent(rate, always(20))
    for number, at in enumerate(went, 1):
        assert number <= rate * at + 1e-6
    assert len(went) >= 0.93 * rate * 20 - 1


@pytest.mark.parametrize("rate", [25.0, 60.0, 400.0])
def test_no_second_sees_more_than_the_rate_not_even_after_a_pause(rate: float) -> None:
    """Any second, with pauses of all lengths between bursts."""
    dice = random.Random(5)
    wanted: list[float] = []
    now = 0.0
    while now < 60:
        now += dice.choice([0.0, 0.3, 2.0])
        end = now + dice.random()
        while now < end:
            wanted.append(now)
            now += 0.0005
    went = sent(rate, wanted)
    assert len(went) > rate
    first = 0
    for last, at in enumerate(went):
        while went[first] <= at - 1:
            first += 1
        assert last - first + 1 <= rate + 1e-6


@pytest.mark.parametrize("rate", [12.0, 25.0, 26.0, 32.0, 49.0, 51.0, 200.0])
def test_a_rate_is_used_though_the_loop_looks_but_once_in_a_tick(rate: float) -> None:
    """What is filled in between two looks is not lost for want of room."""
    went = []
    bucket = Bucket(0.0)
    for at in always(20, step=0.02):
        bucket.refill(at, rate)
        while not bucket.empty:
            bucket.take()
            went.append(at)
    assert 0.93 * rate * 20 - 1 <= len(went) <= rate * 20


def test_a_bucket_begins_empty_and_holds_one_token_at_a_low_rate() -> None:
    """A restart gains nothing, and a long pause no more than one request."""
    assert sent(0.5, [0.0, 1.9, 2.0, 2.1]) == [2.0]
    assert sent(0.5, [100.0, 100.1, 101.9, 102.1]) == [100.0, 102.1]


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Nothing is filled in twice."""
    assert sent(1.0, [1.0, 0.0, 1.5, 2.0]) == [1.0, 2.0]


def test_without_a_share_nothing_is_sent() -> None:
    """While the number of partitions is not known, or with none of them."""
    assert Shares().of(100.0) == 0.0
    assert sent(0.0, always(5)) == []
    assert share(0, 0) == share(3, 0) == share(0, 8) == 0.0


def test_the_shares_of_all_processes_add_up_to_the_whole() -> None:
    """However the partitions are spread; one kind's part is lost where nobody has any of it."""
    dice = random.Random(7)
    for _ in range(200):
        main, others, members = dice.randint(1, 40), dice.randint(1, 60), dice.randint(1, 9)
        mine = [dice.randrange(members) for _ in range(main)]
        theirs = [dice.randrange(members) for _ in range(others)]
        parts = [
            Shares(share(mine.count(one), main), share(theirs.count(one), others)).of(80.0)
            for one in range(members)
        ]
        assert sum(parts) == pytest.approx(80.0)
    assert Shares(1.0, 0.0).of(80.0) == 60.0


def test_partitions_that_are_not_yet_counted_give_no_more_than_the_whole() -> None:
    """Ours may have come before the total is known anew."""
    assert share(9, 4) == 1.0
