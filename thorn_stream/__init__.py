"""Kafka to webhooks: matched, signed, guarded, retried, accounted for."""

from thorn_stream.core.errors import SecurityError
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.version import __version__

__all__ = ["SecurityError", "Subscriber", "__version__"]
