"""What an event asks for by its headers, and which value holds."""

import pytest

from thorn_stream.core.overrides import (
    UNREAD,
    EventRules,
    Overrides,
    read_overrides,
    timeout_with,
)
from thorn_stream.core.schedule import RetryPolicy, policy_for, policy_with
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.urls import Refusal

RULES = EventRules(timeout_max=30.0, retry_max=20, retry_delay_max=7200.0)
DEFAULTS = RetryPolicy(retry_max=3, delay=60.0)


def read(**values: bytes | None) -> Overrides:
    headers = [(f"thorn-{name.replace('_', '-')}", value) for name, value in values.items()]
    return read_overrides(headers, RULES)


def one(**fields: object) -> Subscriber:
    return Subscriber.model_validate(
        {"id": "a", "event": "*", "url": "https://a.example", **fields}
    )


def policy(own: Overrides, **fields: object) -> RetryPolicy:
    return policy_with(own, one(**fields), policy_for(one(**fields), DEFAULTS, 20))


def test_each_header_sets_its_value() -> None:
    """Seconds may have a fraction; truth values are written in any case; spaces do not matter."""
    own = read(
        timeout=b" 1.5 ",
        retry=b"False",
        retry_max=b"5",
        retry_delay=b"0",
        allow_keepalive=b"true",
        results=b"true",
    )
    assert own == Overrides(
        timeout=1.5, retry=False, retry_max=5, retry_delay=0.0, keep_alive=True, results=True
    )
    assert isinstance(own.retry_max, int)


def test_without_headers_nothing_is_asked_for() -> None:
    """What belongs to others is not looked at."""
    assert read_overrides([("trace", b"1"), ("thorn-id", b"e"), ("thorn-http-A", b"1")], RULES) == (
        Overrides()
    )


def test_what_is_beyond_a_ceiling_is_cut_and_named() -> None:
    """Each header for itself; at the ceiling nothing is cut."""
    own = read(timeout=b"30.1", retry_max=b"21", retry_delay=b"999999999", retry=b"true")
    assert (own.timeout, own.retry_max, own.retry_delay) == (30.0, 20, 7200.0)
    assert sorted(own.clamped) == ["thorn-retry-delay", "thorn-retry-max", "thorn-timeout"]
    assert read(timeout=b"30", retry_max=b"20", retry_delay=b"7200").clamped == ()


@pytest.mark.parametrize(
    "given", [b"", None, b"soon", b"-1", b"+1", b"1e3", b"NaN", b"1_0", b"9" * 10, b"\xff", b"0x1"]
)
def test_what_cannot_be_read_is_left_out_and_named(given: bytes | None) -> None:
    """A number in any other form, a truth value that is none."""
    own = read(timeout=given, retry=given, retry_max=given, retry_delay=given)
    assert sorted(own.ignored) == [
        "thorn-retry",
        "thorn-retry-delay",
        "thorn-retry-max",
        "thorn-timeout",
    ]
    assert own.clamped == ()
    assert (own.timeout, own.retry, own.retry_max, own.retry_delay) == (None,) * 4


def test_no_time_at_all_is_no_timeout_and_half_a_retry_no_number() -> None:
    """Both are left out."""
    assert read(timeout=b"0").ignored == ("thorn-timeout",)
    assert read(timeout=b"0").timeout is None
    assert read(retry_max=b"1.5").ignored == ("thorn-retry-max",)


def test_other_thorn_headers_are_counted_under_one_name() -> None:
    """Their own names are the producers' to choose."""
    own = read(made_up=b"1", subscriber_definition=b"{}", due=b"1")
    assert own.ignored == ("thorn-*",) * 3


def test_the_last_header_of_a_name_counts() -> None:
    """As everywhere."""
    given: list[tuple[str, bytes | None]] = [("thorn-timeout", b"1"), ("thorn-timeout", b"2")]
    assert read_overrides(given, RULES).timeout == 2


def test_a_guard_is_made_of_the_events_own_validators() -> None:
    """By our four names; the networks that settings allow pass `block_internal_ips` here, too."""
    own = read(validators=b'[["ensure_port", [443]], ["block_internal_ips"]]')
    assert own.guard is not None
    assert not own.sealed
    refusal = own.guard.url("https://a.example:80/")
    assert isinstance(refusal, Refusal)
    assert refusal.rule == "ensure_port"
    inner = [("thorn-validators", b'[["block_internal_ips"]]')]
    strict = read_overrides([*inner], RULES).guard
    open_to = read_overrides([*inner], EventRules(allowed_networks=("10.0.0.0/8",))).guard
    assert strict is not None
    assert open_to is not None
    assert isinstance(strict.url("http://10.0.0.1/"), Refusal)
    assert not isinstance(open_to.url("http://10.0.0.1/"), Refusal)


@pytest.mark.parametrize(
    "given",
    [
        b"",
        None,
        b"ensure_port",
        b'"ensure_port"',
        b'{"ensure_port": [443]}',
        b'["ensure_port"]',
        b'[["ensure_port"]]',
        b'[["ensure_port", 443]]',
        b'[["ensure_port", ["https"]]]',
        b'[["ensure_port", [443], 1]]',
        b'[["no_such_rule"]]',
        b'["!os:getcwd"]',
        b'[["!os:getcwd"]]',
        b'[["block_internal_ips", ["10.0.0.0/8"]]]',
        b'[["block_cidr_network", ["env:X"]]]',
        b"[[",
        b"[NaN]",
        b"\xff",
        b"[" * 5_000 + b"]" * 5_000,
        b"[%b]" % b",".join([b'["ensure_port", [443]]'] * 51),
        b'[["ensure_port", [%b]]]' % b",".join([b"443"] * 4_000),
    ],
)
def test_validators_that_cannot_be_read_seal_the_event(given: bytes | None) -> None:
    """Whatever is wrong with them: nothing may be sent."""
    own = read(validators=given)
    assert own.sealed
    assert own.guard is None


def test_what_has_not_been_read_is_sealed() -> None:
    """Whoever forgets to read sends nothing."""
    assert UNREAD.sealed


@pytest.mark.parametrize(
    ("asked", "event", "expected"),
    [(None, None, 3.0), (None, 10.0, 10.0), (5.0, None, 5.0), (5.0, 1.0, 1.0), (1.0, 5.0, 1.0)],
)
def test_of_timeouts_the_smaller_holds(
    asked: float | None, event: float | None, expected: float
) -> None:
    """The settings' holds when neither subscriber nor event asks for one."""
    holds = 3.0 if asked is None else asked
    assert timeout_with(Overrides(timeout=event), asked, holds) == expected


def test_the_subscribers_value_holds_then_the_events_then_the_settings() -> None:
    """Field by field."""
    own = Overrides(retry=False, retry_max=7, retry_delay=9.0)
    assert policy(Overrides()) == DEFAULTS
    assert policy(own) == RetryPolicy(retry=False, retry_max=7, delay=9.0)
    asked = policy(own, retry=True, retry_max=1)
    assert asked == RetryPolicy(retry=True, retry_max=1, delay=9.0)
    assert policy(own, retry_delay=2).delay == 2.0


def test_an_events_number_or_delay_replaces_the_settings_schedule() -> None:
    """As a subscriber's does; a subscriber's own schedule holds whatever the event asks for."""
    scheduled = RetryPolicy(retry_max=3, delay=60.0, schedule=(5.0, 300.0))
    own = Overrides(retry_max=7)
    assert policy_with(own, one(), scheduled) == RetryPolicy(retry_max=7, delay=60.0)
    assert policy_with(Overrides(retry_delay=1.0), one(), scheduled).schedule is None
    assert policy_with(Overrides(retry=False), one(), scheduled).schedule == (5.0, 300.0)
    theirs = policy(Overrides(retry_max=7, retry_delay=1.0), retry_schedule=[1, 2])
    assert theirs.schedule == (1.0, 2.0)
    assert theirs.retries == 2
