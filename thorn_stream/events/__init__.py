"""What a program that publishes events needs; Thorn's `thorn.events`, on Kafka."""

from thorn_stream.core.errors import EventNotSent
from thorn_stream.core.filters import Q
from thorn_stream.events.app import Thorn
from thorn_stream.events.buffering import Buffer, buffer_events
from thorn_stream.events.event import Event
from thorn_stream.events.handle import Handle
from thorn_stream.events.model_event import ModelEvent
from thorn_stream.events.outgoing import Dispatcher
from thorn_stream.events.request import Request, RequestFailed
from thorn_stream.events.reverse import model_reverser
from thorn_stream.events.state import current_app
from thorn_stream.events.webhooks import webhook_model

__all__ = [
    "Buffer",
    "Dispatcher",
    "Event",
    "EventNotSent",
    "Handle",
    "ModelEvent",
    "Q",
    "Request",
    "RequestFailed",
    "Thorn",
    "buffer_events",
    "current_app",
    "model_reverser",
    "webhook_model",
]
