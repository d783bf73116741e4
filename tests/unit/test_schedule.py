"""The verdict table row by row, the waits, and Retry-After."""

import time
from typing import Any

import pytest

from thorn_stream.core.deliveries import (
    Dead,
    Delivered,
    Kind,
    Outcome,
    Reason,
    Retry,
    Settlement,
)
from thorn_stream.core.schedule import (
    RetryPolicy,
    Tiers,
    policy_for,
    retry_after_seconds,
    settlement,
)
from thorn_stream.core.subscribers import Subscriber

NOW = 1_700_000_000_000
TIERS = Tiers((5.0, 15.0, 60.0, 300.0))
POLICY = RetryPolicy(jitter=0.1)


def settled(outcome: Outcome, policy: RetryPolicy = POLICY, **given: Any) -> Settlement:
    attempt, dice = given.get("attempt", 1), given.get("dice", 0.0)
    return settlement(outcome, policy, attempt, NOW, dice, TIERS)


def answered(status: int, retry_after: str | None = None) -> Outcome:
    return Outcome(Kind.STATUS, status, retry_after=retry_after)


def retried(seconds: float, tier: float) -> Retry:
    return Retry(NOW + int(seconds * 1000), tier)


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome(Kind.OK, 200), Delivered()),
        (Outcome(Kind.OK, 299), Delivered()),
        (answered(410), Dead(Reason.GONE)),
        (answered(410, "60"), Dead(Reason.GONE)),
        (Outcome(Kind.BLOCKED, detail="ensure_port"), Dead(Reason.BLOCKED)),
        (answered(301), retried(60, 60)),
        (answered(404), retried(60, 60)),
        (answered(500), retried(60, 60)),
        (answered(429, "120"), retried(120, 300)),
        (answered(503, "30"), retried(60, 60)),
        (answered(302, "61"), retried(61, 300)),
        (answered(503, "soon"), retried(60, 60)),
        *(
            (Outcome(kind), retried(60, 60))
            for kind in (Kind.TIMEOUT, Kind.CONNECT, Kind.TLS, Kind.DNS, Kind.PROTOCOL)
        ),
    ],
)
def test_each_row_of_the_verdict_table(outcome: Outcome, expected: Settlement) -> None:
    """At the first Attempt, without jitter."""
    assert settled(outcome) == expected


def test_a_status_may_be_dead_at_once() -> None:
    """When it is in `dead_on`."""
    policy = RetryPolicy(dead_on=frozenset({404}))
    assert settled(answered(404), policy) == Dead(Reason.REJECTED)
    assert isinstance(settled(answered(403), policy), Retry)


def test_retries_are_counted_after_the_first_attempt() -> None:
    """Attempts are 1 + `retry_max`; with `retry: false` there is one."""
    assert isinstance(settled(answered(500), attempt=3), Retry)
    assert settled(answered(500), attempt=4) == Dead(Reason.EXHAUSTED)
    assert settled(answered(500), RetryPolicy(retry=False)) == Dead(Reason.EXHAUSTED)
    assert settled(answered(500), RetryPolicy(retry_max=0)) == Dead(Reason.EXHAUSTED)


def test_a_schedule_replaces_delay_backoff_and_number() -> None:
    """Its length is the number of retries."""
    policy = RetryPolicy(schedule=(5, 300), retry_max=9, delay=1)
    assert policy.retries == 2
    assert settled(answered(500), policy) == retried(5, 5)
    assert settled(answered(500), policy, attempt=2) == retried(300, 300)
    assert settled(answered(500), policy, attempt=3) == Dead(Reason.EXHAUSTED)


def test_delays_grow_by_the_backoff_up_to_their_limit() -> None:
    """Numbers beyond a double are the limit as well."""
    policy = RetryPolicy(delay=10, backoff=2, delay_max=35)
    assert [policy.wait(retry) for retry in (1, 2, 3, 4)] == [10, 20, 35, 35]
    assert RetryPolicy(delay=10, backoff=10).wait(10_000) == 7200


def test_jitter_shortens_and_leaves_the_tier() -> None:
    """A delay that is longer than the last tier takes several rounds there."""
    assert settled(answered(500), dice=0.5) == retried(57, 60)
    assert settled(answered(500), RetryPolicy(delay=1_000), dice=0.0) == retried(1_000, 300)


def test_retry_after_is_never_shortened_but_cut() -> None:
    """To `retry_after_max`; and a jittered delay is not shorter than what was asked."""
    assert settled(answered(503, "90"), dice=0.9) == retried(90, 300)
    assert settled(answered(503, "58"), dice=0.9) == retried(58, 60)
    assert settled(answered(503, "99999")) == retried(7200, 300)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        (" 120 ", 120),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60),
        ("Tuesday, 14-Nov-23 22:14:20 GMT", 60),
        ("Tue Nov 14 22:14:20 2023", 60),
        ("Tue, 14 Nov 2023 22:13:00 GMT", None),
        ("-5", None),
        ("1.5", None),
        ("٣", None),
        ("", None),
        ("soon", None),
        ("Tue, 99 Nov 2023 22:14:20 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(
    text: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In all three forms of RFC 9110, wherever this machine stands."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        read = retry_after_seconds(text, NOW)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert read == seconds


def test_a_tier_covers_a_delay_or_is_the_last() -> None:
    """The smallest that does."""
    assert [TIERS.covering(delay) for delay in (0, 5, 5.1, 300, 9_999)] == [5, 5, 15, 300, 300]
    assert TIERS.smallest == 5


def test_a_subscribers_own_values_hold() -> None:
    """Within the settings' ceilings; `dead_on` is added."""
    defaults = RetryPolicy(schedule=(1, 2, 3), dead_on=frozenset({400}))
    fields = {"id": "a", "event": "*", "url": "https://a.example"}
    plain = policy_for(Subscriber.model_validate(fields), defaults, 20)
    assert plain == defaults
    own = {"retry_max": 99, "retry_delay": 9_999, "retry_backoff": 3, "dead_on": [404]}
    policy = policy_for(Subscriber.model_validate(fields | own), defaults, 20)
    assert (policy.retries, policy.wait(1), policy.backoff) == (20, 7200, 3)
    assert policy.dead_on == frozenset({400, 404})
    listed = fields | {"retry_schedule": [7] * 30, "retry": False}
    single = policy_for(Subscriber.model_validate(listed), defaults, 20)
    assert single.schedule == (7.0,) * 20
    assert single.retries == 0


def test_an_outcome_says_its_error_in_a_word() -> None:
    """Then detail, at most 200 characters in all."""
    assert answered(503).error == "status:503"
    assert Outcome(Kind.TIMEOUT).error == "timeout"
    assert Outcome(Kind.BLOCKED, detail="ensure_port").error == "blocked:ensure_port"
    assert len(Outcome(Kind.TLS, detail="x" * 500).error) == 200
