"""Signatures of a request: Thorn's Hook-HMAC, and Standard Webhooks; made here, checked here.

Standard Webhooks (github.com/standard-webhooks, spec 1.0.0) signs `id.timestamp.body` with
HMAC-SHA256, so a request cannot be replayed later under another id or time. `Hook-HMAC` signs the
body alone.

An HMAC (RFC 2104) hashes the key twice before the message. Here the two keyed states are made
once per secret and copied for each message: a third of the cost of `hmac.digest`.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from thorn_stream.core.errors import ConfigurationError, InvalidSignature

__all__ = ["Digest", "Signer", "derived_secret", "secret_key", "verify"]

Digest: TypeAlias = Literal["sha1", "sha256", "sha512"]

_PREFIX: Final = "whsec_"
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


def secret_key(secret: str) -> bytes:
    """Key of a secret for Standard Webhooks: base64 after `whsec_`, else the text itself.

    Raises `ConfigurationError`, which never shows the secret.
    """
    if not secret.startswith(_PREFIX):
        key = secret.encode()
    else:
        try:
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            raise ConfigurationError("the part of the secret after whsec_ is not base64") from None
    if not key:
        raise ConfigurationError("the secret is empty")
    return key


def derived_secret(master: str, subscriber_id: str) -> str:
    """Return the secret of a subscriber that has none of its own: `whsec_...`.

    One receiver's tells nothing about another's, nor about the master.
    """
    key = hmac.digest(master.encode(), subscriber_id.encode(), "sha256")
    return _PREFIX + base64.b64encode(key).decode("ascii")


class _Keyed:
    """HMAC of many messages under one key."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, digest: Digest) -> None:
        inner, outer = hashlib.new(digest), hashlib.new(digest)
        if len(key) > inner.block_size:
            key = hashlib.new(digest, key).digest()
        key = key.ljust(inner.block_size, b"\0")
        inner.update(key.translate(_INNER))
        outer.update(key.translate(_OUTER))
        self._inner: Any = inner
        self._outer: Any = outer

    def base64(self, *pieces: bytes) -> bytes:
        inner, outer = self._inner.copy(), self._outer.copy()
        for piece in pieces:
            inner.update(piece)
        outer.update(inner.digest())
        return binascii.b2a_base64(outer.digest(), newline=False)


class Signer:
    """Signs with the secrets of one subscriber, newest first; at least one.

    `digest` is that of `Hook-HMAC`, which is keyed by the newest secret's text; Standard Webhooks
    has one signature for each. Raises `ConfigurationError` for a secret that cannot be used.
    """

    __slots__ = ("_hook", "_standard")

    def __init__(self, secrets: Sequence[str], digest: Digest = "sha256") -> None:
        if not secrets:
            raise ConfigurationError("no secret to sign with")
        self._standard = [_Keyed(secret_key(secret), "sha256") for secret in secrets]
        self._hook = _Keyed(secrets[0].encode(), digest)

    def hook_hmac(self, body: bytes) -> bytes:
        """Value of `Hook-HMAC`: base64 of the body's HMAC."""
        return self._hook.base64(body)

    def standard(self, webhook_id: str, timestamp: int, body: bytes) -> bytes:
        """Value of `webhook-signature`: `v1,<base64>` for each secret; `timestamp` in seconds."""
        head = b"%b.%d." % (webhook_id.encode(), timestamp)
        keyed = self._standard
        if len(keyed) == 1:
            return b"v1," + keyed[0].base64(head, body)
        return b" ".join([b"v1," + one.base64(head, body) for one in keyed])


def verify(
    secret: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: float,
    tolerance: float = 300,
    hook_digest: Digest | None = None,
) -> None:
    """Return when the request was signed with this secret (one of these); else raise.

    `headers` of any case; `body` the bytes as received; `now` and `tolerance` in seconds. Looked
    at are the three `webhook-` headers; with a `hook_digest` instead `Hook-HMAC` alone, which
    knows no time: a request recorded once can be sent again for ever. Compared in constant time.
    Raises `InvalidSignature` saying what is wrong, `ConfigurationError` for a secret that is
    empty or garbled.
    """
    secrets = [secret] if isinstance(secret, str) else list(secret)
    keys = [secret_key(one) for one in secrets]
    if not keys:
        raise ConfigurationError("no secret to check with")
    given = {name.lower(): value for name, value in headers.items()}
    if hook_digest is None:
        _verify_standard(keys, given, body, now, tolerance)
    else:
        _verify_hook(secrets, given, body, hook_digest)


def _verify_standard(
    keys: Sequence[bytes], given: Mapping[str, str], body: bytes, now: float, tolerance: float
) -> None:
    webhook_id = _header(given, "webhook-id")
    timestamp = _header(given, "webhook-timestamp")
    signatures = _header(given, "webhook-signature")
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 15):
        raise InvalidSignature("webhook-timestamp is no number of seconds")
    age = now - int(timestamp)
    if abs(age) > tolerance:
        side = "old" if age > 0 else "ahead"
        raise InvalidSignature(
            f"webhook-timestamp is {abs(age):.0f} s {side}, {tolerance:g} s are tolerated"
        )
    message = b".".join([webhook_id.encode(), timestamp.encode(), body])
    expected = [base64.b64encode(hmac.digest(key, message, "sha256")) for key in keys]
    offered = [
        signature.encode("utf-8", "replace")
        for version, _, signature in (one.partition(",") for one in signatures.split())
        if version == "v1"
    ]
    matches = [hmac.compare_digest(one, other) for one in expected for other in offered]
    if not any(matches):
        raise InvalidSignature("webhook-signature was not made with this secret and this body")


def _verify_hook(
    secrets: Sequence[str], given: Mapping[str, str], body: bytes, digest: Digest
) -> None:
    offered = _header(given, "hook-hmac").encode("utf-8", "replace")
    expected = [base64.b64encode(hmac.digest(one.encode(), body, digest)) for one in secrets]
    matches = [hmac.compare_digest(one, offered) for one in expected]
    if not any(matches):
        raise InvalidSignature("Hook-HMAC was not made with this secret and this body")


def _header(given: Mapping[str, str], name: str) -> str:
    value = given.get(name)
    if not value:
        raise InvalidSignature(f"the header {name} is missing: the request is not signed")
    return value
