"""Validators of recipient URLs, by Thorn's names, for `recipient_validators=[...]`.

A function of your own is one too: called with the URL, it refuses by raising `SecurityError` or
returning exactly False; None passes.
"""

from thorn_stream.core.errors import SecurityError
from thorn_stream.core.validators import (
    Guard,
    Validator,
    block_cidr_network,
    block_internal_ips,
    deserialize_validator,
    ensure_port,
    ensure_protocol,
    serialize_validator,
)

__all__ = [
    "Guard",
    "SecurityError",
    "Validator",
    "block_cidr_network",
    "block_internal_ips",
    "deserialize_validator",
    "ensure_port",
    "ensure_protocol",
    "serialize_validator",
]
