"""Outcome to Settlement: the verdict table, the retry policy, the tiers.

Pure: the present moment (unix milliseconds) and the dice (0 <= x < 1) come in as arguments.
"""

from bisect import bisect_left
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from thorn_stream.core.deliveries import (
    Dead,
    Delivered,
    Kind,
    Outcome,
    Reason,
    Retry,
    Settlement,
)
from thorn_stream.core.overrides import Overrides
from thorn_stream.core.subscribers import Subscriber

__all__ = [
    "VERDICTS",
    "RetryPolicy",
    "Tiers",
    "is_final",
    "policy_for",
    "policy_with",
    "retry_after_seconds",
    "settlement",
]

T = TypeVar("T")

_GONE: Final = 410

VERDICTS: Final = (
    ("2xx", "delivered"),
    ("410", "dead: gone"),
    ("refused by a validator", "dead: blocked"),
    ("a status in `dead_on`", "dead: rejected"),
    ("anything else, with all retries used up or `retry: false`", "dead: exhausted"),
    ("an answer with Retry-After that is later than the delay", "retry, not before that"),
    ("any other status, a redirect, timeout, connection, TLS, DNS or protocol error", "retry"),
)
"""The table as the docs print it; `settlement` is the same, row by row."""


@dataclass(frozen=True, slots=True)
class Tiers:
    """The waits of the retry topics, in seconds, rising."""

    waits: tuple[float, ...]

    @property
    def smallest(self) -> float:
        return self.waits[0]

    def covering(self, seconds: float) -> float:
        """The smallest tier that covers a delay; the last one when none does (several rounds)."""
        at = bisect_left(self.waits, seconds)
        return self.waits[min(at, len(self.waits) - 1)]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after what waits (seconds), a Delivery is tried again.

    `schedule` replaces delay, backoff and number. `jitter` is the share of a delay that may be
    taken away; what a receiver asked for with Retry-After is never shortened. `endless`: with all
    retries used up it is tried on, after the last wait.
    """

    retry: bool = True
    retry_max: int = 3
    delay: float = 60.0
    backoff: float = 1.0
    delay_max: float = 7200.0
    schedule: tuple[float, ...] | None = None
    jitter: float = 0.1
    retry_after_max: float = 7200.0
    dead_on: frozenset[int] = frozenset()
    endless: bool = False

    @property
    def retries(self) -> int:
        """Retries after the first Attempt."""
        if not self.retry:
            return 0
        return self.retry_max if self.schedule is None else len(self.schedule)

    def wait(self, retry: int) -> float:
        """Seconds before the retry of this number, counted from 1, before jitter."""
        if self.endless:
            retry = max(1, min(retry, self.retries))
        if self.schedule:
            return self.schedule[retry - 1]
        try:
            delay = self.delay * self.backoff ** (retry - 1)
        except OverflowError:
            return self.delay_max
        return min(delay, self.delay_max)


def policy_for(subscriber: Subscriber, defaults: RetryPolicy, retries_at_most: int) -> RetryPolicy:
    """The policy of one Subscriber: its own values, else the settings', within their ceilings."""

    def own(value: T | None, default: T) -> T:
        return default if value is None else value

    schedule = own(subscriber.retry_schedule, defaults.schedule)
    if subscriber.retry_schedule is None and _asks_for_delays(subscriber):
        schedule = None
    return replace(
        defaults,
        retry=own(subscriber.retry, defaults.retry),
        retry_max=min(own(subscriber.retry_max, defaults.retry_max), retries_at_most),
        delay=min(own(subscriber.retry_delay, defaults.delay), defaults.delay_max),
        backoff=own(subscriber.retry_backoff, defaults.backoff),
        schedule=None if schedule is None else schedule[:retries_at_most],
        dead_on=defaults.dead_on | subscriber.dead_on,
        endless=subscriber.ordering == "key" and subscriber.on_exhausted == "block",
    )


def _asks_for_delays(subscriber: Subscriber) -> bool:
    """A Subscriber that sets delay, backoff or number means these, not the settings' schedule."""
    asked = (subscriber.retry_max, subscriber.retry_delay, subscriber.retry_backoff)
    return any(value is not None for value in asked)


def policy_with(own: Overrides, subscriber: Subscriber, policy: RetryPolicy) -> RetryPolicy:
    """The policy of one event: the Subscriber's own values, else the event's, else `policy`'s.

    As with a Subscriber, an event's number or delay means these, and not the settings' schedule;
    a Subscriber's own schedule holds whatever the event asks for.
    """
    if own.retry is not None and subscriber.retry is None:
        policy = replace(policy, retry=own.retry)
    if subscriber.retry_schedule is not None:
        return policy
    if own.retry_max is not None and subscriber.retry_max is None:
        policy = replace(policy, retry_max=own.retry_max, schedule=None)
    if own.retry_delay is not None and subscriber.retry_delay is None:
        policy = replace(policy, delay=own.retry_delay, schedule=None)
    return policy


def retry_after_seconds(text: str, now: int) -> float | None:
    """Read a Retry-After header (RFC 9110, section 10.2.3): whole seconds or an HTTP date.

    Returns seconds from `now` (unix milliseconds); None for garbage and for what is past.
    """
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:  # the asctime form has no zone; every HTTP date is GMT
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp() - now / 1000
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return seconds if seconds > 0 else None


def is_final(outcome: Outcome, policy: RetryPolicy) -> bool:
    """Whether the receiver has answered that it will never take this one."""
    status = outcome.status
    return outcome.kind is Kind.STATUS and (status == _GONE or status in policy.dead_on)


def settlement(
    outcome: Outcome, policy: RetryPolicy, attempt: int, now: int, dice: float, tiers: Tiers
) -> Settlement:
    """What follows from the Attempt of this number.

    Never due earlier than the schedule less its jitter, nor than Retry-After; ends after
    `policy.retries` + 1 Attempts, unless the policy is `endless`.
    """
    if outcome.kind is Kind.OK:
        return Delivered()
    if outcome.kind is Kind.BLOCKED:
        return Dead(Reason.BLOCKED)
    if is_final(outcome, policy):
        return Dead(Reason.GONE if outcome.status == _GONE else Reason.REJECTED)
    if attempt > policy.retries and not policy.endless:
        return Dead(Reason.EXHAUSTED)
    return _retry(outcome, policy, attempt, now, dice, tiers)


def _retry(
    outcome: Outcome, policy: RetryPolicy, attempt: int, now: int, dice: float, tiers: Tiers
) -> Retry:
    delay = policy.wait(attempt)
    asked = None
    if outcome.retry_after is not None:
        asked = retry_after_seconds(outcome.retry_after, now)
    if asked is not None and (asked := min(asked, policy.retry_after_max)) > delay:
        return Retry(_due(now, asked), tiers.covering(asked))
    wait = delay * (1 - policy.jitter * dice)
    return Retry(_due(now, max(wait, asked or 0.0)), tiers.covering(delay))


def _due(now: int, seconds: float) -> int:
    """Rounded up: a due time is never early."""
    return now - int(-seconds * 1000 // 1)
