"""A program of a user's, written against the public doors alone, and checked by mypy --strict.

What changes a type that users see breaks it here first. `tests/unit/test_public_names.py` runs it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_type

from pydantic import SecretStr

import thorn_stream
from thorn_stream import SecurityError, Subscriber, verify
from thorn_stream.testing import (
    Answer,
    Call,
    MemoryClock,
    MemorySink,
    MemorySource,
    MemorySubscribers,
    MemoryTransport,
    RecordingObserver,
)
from thorn_stream.validators import (
    Guard,
    Validator,
    block_cidr_network,
    block_internal_ips,
    ensure_port,
    ensure_protocol,
)

__all__ = ["checked", "in_memory", "received", "subscribed"]


def received(secret: str, headers: Mapping[str, str], body: bytes) -> bool:
    """A receiver asks whether a call is genuine."""
    try:
        verify(secret, headers, body)
        verify([secret, secret], headers, body, tolerance=60, now=None)
        verify(secret, headers, body, hook_digest="sha512")
    except ValueError:
        return False
    return True


def subscribed() -> Subscriber:
    """Somebody describes a subscriber, and reads it back."""
    one = Subscriber.model_validate(
        {"id": "billing", "event": "order.*", "url": "https://b.example/", "hmac_secret": "s"}
    )
    assert_type(one.id, str)
    assert_type(one.event, tuple[str, ...])
    assert_type(one.url, str)
    assert_type(one.user, str | None)
    assert_type(one.timeout, float | None)
    assert_type(one.retry_max, int | None)
    assert_type(one.hmac_secret, tuple[SecretStr, ...])
    assert_type(one.filter, dict[str, Any] | None)
    assert_type(thorn_stream.__version__, str)
    return one


def only_example(url: str) -> None:
    """A validator of the user's own."""
    if "example" not in url:
        raise SecurityError("only example hosts")


def checked(url: str) -> str | None:
    """Why a URL is refused; None when it passes."""
    rules: Sequence[Callable[[str], object]] = [
        block_internal_ips(allowed=["10.1.0.0/16"]),
        block_cidr_network("203.0.113.0/24"),
        ensure_protocol("https"),
        ensure_port(443, "8443"),
        only_example,
    ]
    assert_type(ensure_port(443), Validator)
    guard = Guard(rules)
    assert_type(guard.plus([only_example]), Guard)
    try:
        for rule in rules:
            rule(url)
    except SecurityError as error:
        return str(error)
    return None


def in_memory() -> list[Call]:
    """A test of the user's own puts the ports in memory together."""
    clock = MemoryClock()
    clock.advance(1.5)
    assert_type(clock.wall(), int)
    assert_type(clock.monotonic(), float)
    answers: Mapping[str, Answer] = {"https://b.example/": None}
    transport = MemoryTransport(answers)
    assert_type(transport.target(subscribed()), object)
    assert_type(len(transport.attempts), int)
    MemorySource([], records=10, size=1_000, clock=clock)
    MemorySink()
    subscribers = MemorySubscribers(subscribed(), name="mine")
    assert_type(subscribers.load(), Sequence[Subscriber])
    observer = RecordingObserver()
    observer.consumed("thorn", "orders", len(subscribers.load()))
    assert_type(observer.named("consumed"), list[tuple[Any, ...]])
    return observer.calls
