"""The controller of a Lane's concurrency: what it allows after successes and failures."""

import pytest

from thorn_stream.core.circuit import Circuit, CircuitRules, is_overload, probes_within
from thorn_stream.core.deliveries import Kind, Outcome

RULES = CircuitRules(failures=4, open_for=5.0, open_for_max=30.0)
TIMEOUT = Outcome(Kind.TIMEOUT, duration=3.0)
ERROR = Outcome(Kind.STATUS, 500)


def opened(now: float = 0.0, most: int = 8) -> Circuit:
    """One that has just opened."""
    one = Circuit(most)
    assert [one.failed(ERROR, most, now, RULES) for _ in range(4)] == [False, False, False, True]
    return one


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (Outcome(Kind.TIMEOUT), True),
        (Outcome(Kind.CONNECT), True),
        (Outcome(Kind.STATUS, 429), True),
        (Outcome(Kind.STATUS, 503), True),
        (Outcome(Kind.STATUS, 500), False),
        (Outcome(Kind.STATUS, 404), False),
        (Outcome(Kind.TLS), False),
    ],
)
def test_what_says_that_less_would_be_better(outcome: Outcome, told: bool) -> None:
    """Timeouts, refused connections, 429 and 503, and nothing else."""
    assert is_overload(outcome) is told


def failing(one: Circuit, now: float, outcome: Outcome = TIMEOUT, times: int = 10) -> None:
    """So many in a row: ten are more than a quarter, as it is smoothed."""
    for _ in range(times):
        one.failed(outcome, 64, now, CircuitRules(failures=1000))


def test_a_burst_of_failures_halves_the_limit_once() -> None:
    """All that were under way together are one piece of news; what is begun later is another."""
    one = Circuit(64)
    failing(one, 10.0, times=9)
    assert one.limit(64) == 64
    failing(one, 10.1, times=100)
    assert one.limit(64) == 32
    failing(one, 13.0, times=100)
    assert one.limit(64) == 32
    failing(one, 13.2)
    assert one.limit(64) == 16


@pytest.mark.parametrize("outcome", [TIMEOUT, Outcome(Kind.STATUS, 503)])
def test_a_share_that_always_fails_leaves_the_limit_alone(outcome: Outcome) -> None:
    """One of ten may never be answered: the other nine show that it is not too much."""
    one = Circuit(64)
    for number in range(10_000):
        if number % 10:
            one.succeeded(64, number / 100)
        else:
            one.failed(outcome, 64, number / 100, RULES)
    assert one.limit(64) == 64
    assert not one.is_well(64, 1000.0)  # it is not forgotten in between


def test_when_half_of_all_fails_it_is_too_much() -> None:
    """What is rejected so often is to be sent less of."""
    one = Circuit(64)
    for number in range(300):
        one.failed(Outcome(Kind.STATUS, 429), 64, float(number), RULES)
        one.succeeded(64, float(number))
    assert one.limit(64) <= 4


def test_what_is_long_ago_is_forgotten() -> None:
    """After enough successes nothing is left to remember."""
    one = Circuit(64)
    failing(one, 1.0, times=3)
    for _ in range(100):
        one.succeeded(64, 1.0)
    assert one.is_well(64, 2.0)


def test_other_failures_leave_the_limit_alone() -> None:
    """A 500 does not say that it is too much."""
    one = Circuit(64)
    failing(one, 1.0, ERROR, 100)
    assert one.limit(64) == 64


def test_the_limit_never_falls_below_one_by_halving() -> None:
    """Only the circuit brings it to zero."""
    one = Circuit(8)
    for now in range(10, 200, 10):
        failing(one, float(now))
    assert one.limit(8) == 1


def test_each_window_of_successes_adds_one_up_to_the_most() -> None:
    """From one: after 1, 2 and 3 successes it is 2, 3 and 4, and stays at `max_in_flight`."""
    one = opened()
    assert one.succeeded(8, 0.0)
    grown = [one.limit(8)]
    for _ in range(28):
        one.succeeded(8, 0.0)
        grown.append(one.limit(8))
    assert grown == [1, *[2] * 2, *[3] * 3, *[4] * 4, *[5] * 5, *[6] * 6, *[7] * 7, 8]
    one.succeeded(8, 0.0)
    assert one.limit(8) == 8
    assert one.limit(5) == 5
    assert one.is_well(8, 0.0)


def test_failures_in_a_row_open_it_and_a_success_between_them_does_not_count() -> None:
    """Whatever kind they are of."""
    one = Circuit(8)
    for outcome in (ERROR, TIMEOUT, Outcome(Kind.DNS)):
        assert not one.failed(outcome, 8, 0.0, RULES)
    one.succeeded(8, 0.0)
    for outcome in (ERROR, TIMEOUT, Outcome(Kind.TLS)):
        assert not one.failed(outcome, 8, 4.0, RULES)
    assert one.failed(Outcome(Kind.PROTOCOL, detail="bad head"), 8, 7.0, RULES)
    assert one.open
    assert one.limit(8) == 0
    assert (one.failures, one.error, one.opened_at) == (4, "protocol:bad head", 7.0)


def test_what_began_before_a_success_does_not_open_it() -> None:
    """Keys that hang take all places, and time out in a row: the receiver was there meanwhile."""
    one = Circuit(64)
    one.failed(TIMEOUT, 64, 3.0, RULES)
    one.succeeded(64, 3.5)
    for _ in range(100):
        assert not one.failed(TIMEOUT, 64, 6.4, RULES)
    assert [one.failed(TIMEOUT, 64, 6.6, RULES) for _ in range(4)] == [False, False, False, True]


def test_one_probe_after_each_pause_and_the_pause_doubles() -> None:
    """5, 10, 20 and then 30 seconds; never two at once."""
    one = opened()
    now, pauses = 0.0, []
    for _ in range(5):
        began = now
        while not one.may_probe(now):
            now += 0.5
        pauses.append(now - began)
        one.begin_probe()
        assert not one.may_probe(now + 1000)
        one.probe_failed(ERROR, now, RULES)
    assert pauses == [5.0, 10.0, 20.0, 30.0, 30.0]
    assert one.probes == 5


def test_what_was_under_way_when_it_opened_changes_nothing_by_failing() -> None:
    """It is not opened twice, and the probe comes when it was to come."""
    one = opened()
    assert not one.failed(TIMEOUT, 8, 4.9, RULES)
    assert one.may_probe(5.0)


def test_any_success_closes_it() -> None:
    """That of a request from before as well: the receiver is there."""
    one = opened()
    one.begin_probe()
    assert one.succeeded(8, 0.0)
    assert not one.open
    assert one.limit(8) == 1
    one.probe_failed(ERROR, 9.0, RULES)  # its probe comes back later
    assert not one.open
    assert one.limit(8) == 1


def test_retry_after_keeps_a_probe_back() -> None:
    """What the receiver has asked for holds for probes, too; an earlier wish does not shorten."""
    one = opened()
    one.hold(40.0)
    one.hold(20.0)
    assert not one.may_probe(39.9)
    assert one.may_probe(40.0)
    assert not one.is_well(8, 0.0)


@pytest.mark.parametrize("seconds", [0.0, 4.9, 5.0, 14.9, 15.0, 35.0, 64.9, 65.0, 1000.0])
def test_the_number_of_probes_in_an_outage_is_known(seconds: float) -> None:
    """As many as a circuit allows when there is always something to try."""
    one, now = opened(), 0.0
    while now <= seconds:
        if one.may_probe(now):
            one.begin_probe()
            one.probe_failed(ERROR, now, RULES)
        now = round(now + 0.1, 1)
    assert one.probes == probes_within(seconds, RULES)
