"""Identifiers that are derived, never drawn, so a repeat carries the one it had before.

A UUID of version 5 (RFC 9562, section 5.5) is a SHA-1 of a namespace and a name. Computed here on
a copied hash state: it runs twice per delivery and costs a third of `uuid.uuid5`.
"""

import hashlib
import uuid

__all__ = ["NAMESPACE", "delivery_id", "derived", "event_id"]

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "thorn-stream")

_keyed = hashlib.sha1(NAMESPACE.bytes, usedforsecurity=False)
_VARIANT = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))


def derived(name: str) -> str:
    """Return `str(uuid.uuid5(NAMESPACE, name))`."""
    sha1 = _keyed.copy()
    sha1.update(name.encode())
    x = sha1.hexdigest()
    return f"{x[:8]}-{x[8:12]}-5{x[13:16]}-{_VARIANT[x[16]]}{x[17:20]}-{x[20:32]}"


def event_id(topic: str, partition: int, offset: int, timestamp: int) -> str:
    """Id of an event without a `thorn-id` header; `timestamp` in unix milliseconds."""
    return derived(f"{topic}/{partition}/{offset}/{timestamp}")


def delivery_id(event: str, subscriber: str) -> str:
    """Id of one event for one Subscriber, from both their ids."""
    return derived(f"{event}/{subscriber}")
