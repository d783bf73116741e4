"""Kafka to webhooks: matched, signed, guarded, retried, accounted for.

The public names, imported when they are first asked for: the command line must not wait for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thorn_stream.version import __version__

if TYPE_CHECKING:
    from thorn_stream.core.errors import EventNotSent, SecurityError
    from thorn_stream.core.filters import Q
    from thorn_stream.core.subscribers import Subscriber
    from thorn_stream.events.app import Thorn
    from thorn_stream.events.buffering import buffer_events
    from thorn_stream.events.event import Event
    from thorn_stream.events.model_event import ModelEvent
    from thorn_stream.events.request import Request
    from thorn_stream.events.reverse import model_reverser
    from thorn_stream.events.webhooks import webhook_model
    from thorn_stream.verification import verify

__all__ = [
    "Event",
    "EventNotSent",
    "ModelEvent",
    "Q",
    "Request",
    "SecurityError",
    "Subscriber",
    "Thorn",
    "__version__",
    "buffer_events",
    "model_reverser",
    "verify",
    "webhook_model",
]

_HOMES = {
    "Event": "thorn_stream.events.event",
    "EventNotSent": "thorn_stream.core.errors",
    "ModelEvent": "thorn_stream.events.model_event",
    "Q": "thorn_stream.core.filters",
    "Request": "thorn_stream.events.request",
    "SecurityError": "thorn_stream.core.errors",
    "Subscriber": "thorn_stream.core.subscribers",
    "Thorn": "thorn_stream.events.app",
    "buffer_events": "thorn_stream.events.buffering",
    "model_reverser": "thorn_stream.events.reverse",
    "verify": "thorn_stream.verification",
    "webhook_model": "thorn_stream.events.webhooks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
