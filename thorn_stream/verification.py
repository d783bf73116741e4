"""For receivers: was this request signed with my secret?"""

import time
from collections.abc import Mapping, Sequence

from thorn_stream.core import signing

__all__ = ["verify"]


def verify(
    secret: str | Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    tolerance: float = 300,
    now: float | None = None,
    hook_digest: signing.Digest | None = None,
) -> None:
    """Return when a received request was signed with `secret` (or one of several), else raise.

        verify("whsec_...", request.headers, request.body)

    `body` is the bytes as received, before anything parsed them. By Standard Webhooks the
    request's time may differ from `now` (unix seconds, by default this machine's clock) by at
    most `tolerance` seconds. With `hook_digest` (sha1, sha256, sha512) Thorn's `Hook-HMAC` is
    checked instead; it covers the body alone, so it cannot tell a replayed request. Raises
    `InvalidSignature` (a `ValueError`), which says what is wrong.
    """
    moment = time.time() if now is None else now
    signing.verify(secret, headers, body, now=moment, tolerance=tolerance, hook_digest=hook_digest)
