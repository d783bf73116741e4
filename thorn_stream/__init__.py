"""Kafka to webhooks: matched, signed, guarded, retried, accounted for.

The public names, imported when they are first asked for: the command line must not wait for them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from thorn_stream.version import __version__

if TYPE_CHECKING:
    from thorn_stream.core.errors import SecurityError
    from thorn_stream.core.subscribers import Subscriber
    from thorn_stream.verification import verify

__all__ = ["SecurityError", "Subscriber", "__version__", "verify"]

_HOMES = {
    "SecurityError": "thorn_stream.core.errors",
    "Subscriber": "thorn_stream.core.subscribers",
    "verify": "thorn_stream.verification",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
