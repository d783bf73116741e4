"""Retries: never early, never for ever."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.property.strategies import dice, outcomes, policies, tiers
from thorn_stream.core.deliveries import Dead, Delivered, Kind, Outcome, Reason, Retry
from thorn_stream.core.schedule import RetryPolicy, Tiers, retry_after_seconds, settlement

NOW = 1_700_000_000_000


@given(st.lists(outcomes(), min_size=30, max_size=30), policies(), tiers(), dice())
def test_a_delivery_ends_after_a_known_number_of_attempts(
    some: list[Outcome], policy: RetryPolicy, waits: Tiers, die: float
) -> None:
    """At most the policy's retries and one Attempt are made, whatever comes back."""
    for attempt, outcome in enumerate(some, start=1):
        assert attempt <= policy.retries + 1
        settled = settlement(outcome, policy, attempt, NOW, die, waits)
        if not isinstance(settled, Retry):
            assert isinstance(settled, Delivered | Dead)
            return


@st.composite
def failures(draw: st.DrawFn) -> tuple[Outcome, RetryPolicy, int]:
    """One that is tried again: its policy allows a retry after an Attempt of this number."""
    final = (Kind.OK, Kind.BLOCKED)
    outcome = draw(outcomes().filter(lambda one: one.kind not in final and one.status != 410))
    policy = replace(draw(policies()), retry=True, dead_on=frozenset())
    if not policy.retries:
        policy = replace(policy, retry_max=3, schedule=None)
    return outcome, policy, draw(st.integers(1, policy.retries))


@given(failures(), tiers(), dice())
def test_a_retry_is_never_early(
    failure: tuple[Outcome, RetryPolicy, int], waits: Tiers, die: float
) -> None:
    """Not before the schedule less its jitter, nor before what the receiver asked for."""
    outcome, policy, attempt = failure
    settled = settlement(outcome, policy, attempt, NOW, die, waits)
    assert isinstance(settled, Retry)
    waited = (settled.due - NOW) / 1000
    planned = policy.wait(attempt)
    assert waited >= planned * (1 - policy.jitter) - 1e-6
    asked = None
    if outcome.retry_after is not None:
        asked = retry_after_seconds(outcome.retry_after, NOW)
    if asked is not None:
        assert waited >= min(asked, policy.retry_after_max) - 1e-6
    assert waited <= max(planned, min(asked or 0, policy.retry_after_max)) + 0.002


@given(failures(), tiers(), dice())
def test_a_retry_waits_in_the_smallest_tier_that_covers_it(
    failure: tuple[Outcome, RetryPolicy, int], waits: Tiers, die: float
) -> None:
    """Before jitter, which only shortens; the last tier takes what none covers."""
    outcome, policy, attempt = failure
    settled = settlement(outcome, policy, attempt, NOW, die, waits)
    assert isinstance(settled, Retry)
    delay = policy.wait(attempt)
    if outcome.retry_after is not None:
        asked = retry_after_seconds(outcome.retry_after, NOW)
        delay = max(delay, min(asked or 0, policy.retry_after_max))
    covering = [wait for wait in waits.waits if wait >= delay]
    assert settled.tier == (covering[0] if covering else waits.waits[-1])


@given(outcomes(), policies(), tiers(), dice(), st.integers(1, 30))
def test_some_verdicts_are_final(
    outcome: Outcome, policy: RetryPolicy, waits: Tiers, die: float, attempt: int
) -> None:
    """2xx, 410, a refusal and `dead_on` are the same at every Attempt and under every policy."""
    settled = settlement(outcome, policy, attempt, NOW, die, waits)
    if outcome.kind is Kind.OK:
        assert settled == Delivered()
    elif outcome.kind is Kind.BLOCKED:
        assert settled == Dead(Reason.BLOCKED)
    elif outcome.status == 410:
        assert settled == Dead(Reason.GONE)
    elif outcome.status in policy.dead_on:
        assert settled == Dead(Reason.REJECTED)
    elif attempt > policy.retries:
        assert settled == Dead(Reason.EXHAUSTED)
    else:
        assert isinstance(settled, Retry)


@given(st.one_of(st.text(max_size=40), st.text("0123456789 :,-+GMTWedSunNov", max_size=40)))
def test_any_retry_after_is_read_or_ignored(text: str) -> None:
    """A header comes from a stranger: nothing in it raises or asks for the past."""
    seconds = retry_after_seconds(text, NOW)
    assert seconds is None or seconds >= 0


@given(st.integers(0, 10**11))
def test_whole_seconds_are_taken_as_they_are(seconds: int) -> None:
    """With spaces around, as headers have them."""
    assert retry_after_seconds(f" {seconds} ", NOW) == pytest.approx(seconds)
