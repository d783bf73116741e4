"""A program of a user's, written against the public doors alone, and checked by mypy --strict.

What changes a type that users see breaks it here first. `tests/unit/test_public_names.py` runs it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, assert_type

from pydantic import SecretStr

import thorn_stream
from thorn_stream import (
    Event,
    EventNotSent,
    ModelEvent,
    Q,
    Request,
    SecurityError,
    Subscriber,
    Thorn,
    buffer_events,
    model_reverser,
    verify,
    webhook_model,
)
from thorn_stream.events import Buffer, Handle
from thorn_stream.testing import (
    Answer,
    Call,
    MemoryClock,
    MemorySink,
    MemorySource,
    MemorySubscribers,
    MemoryTransport,
    RecordingObserver,
    SentEvent,
    SentEvents,
    keeping_events,
)
from thorn_stream.validators import (
    Guard,
    Validator,
    block_cidr_network,
    block_internal_ips,
    ensure_port,
    ensure_protocol,
)

__all__ = ["Article", "awaited", "checked", "in_memory", "published", "received", "subscribed"]


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


@webhook_model
class Article:
    """A model of a shop's own kind."""

    def __init__(self, title: str) -> None:
        self.title = title

    class webhooks:  # noqa: N801 - Thorn's name
        on_custom = ModelEvent(
            "article.custom.{.title}",
            Q(title__startswith="a") | ~Q(title__eq="b"),
            reverse=model_reverser("article:detail", "title"),
            sender_field="author.user",
            title__ne="c",
        )


def told(request: Request) -> None:
    """A callback."""
    assert_type(request.status, int | None)
    assert_type(request.duration, float)
    assert_type(request.subscriber.url, str)


def failed(request: Request, error: Exception) -> None:
    """A callback, too."""


def published() -> list[SentEvent]:
    """Somebody sends events; a test looks at them."""
    thorn = Thorn(bootstrap_servers="kafka:9092", dispatcher="disabled", set_as_current=False)
    assert_type(thorn.Event, type[Event])
    order_paid = thorn.Event("order.paid", timeout=5, retry=False, key="orders")
    with keeping_events() as events, thorn, thorn.buffer_events(flush_freq=10) as buffer:
        assert_type(events, SentEvents)
        assert_type(buffer, Buffer)
        handle = order_paid.send(
            {"id": 7}, sender=3, on_success=told, on_error=failed, on_timeout=failed
        )
        assert_type(handle, Handle)
        assert_type(handle.id, str)
        model = thorn.ModelEvent("article.created").dispatches_on_create()
        assert_type(model, ModelEvent)
        assert_type(model.send(Article("a"), {"x": 1}), Handle)
        assert_type(Article("a"), Article)
        assert_type(buffer.flush(), int)
        with buffer_events(app=thorn):
            order_paid.send({})
    try:
        assert_type(handle.wait(timeout=1), Handle)
    except EventNotSent:
        return []
    return events.assert_sent("**", sender__eq=3)


async def awaited(event: Event) -> Handle:
    """The same where nothing may block."""
    return await event.send({})
