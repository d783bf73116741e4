"""Result events: what one HTTP request came to, as a small record that programs read.

Their topic's key is the subscriber id; the header `thorn-result: 1` says which form they have.
Fields may be added under that number, none is renamed.
"""

from functools import lru_cache
from typing import Any, Final

import msgspec

from thorn_stream.core.deliveries import Delivery, Outcome, Retry, Settlement
from thorn_stream.core.records import Headers

__all__ = ["RESULT_HEADERS", "Result", "encode_result", "read_result", "shown_url"]

RESULT_HEADERS: Final[Headers] = [("thorn-result", b"1")]


class Result(msgspec.Struct, omit_defaults=True):
    """One Attempt that has ended.

    `attempt` from 1; `outcome` and `error` as in the log; `duration_ms` milliseconds; `at` when it
    ended, and `next_due` when it is tried again at the earliest (unix milliseconds); `address` the
    one that was dialled. `url` has neither query nor user part. `response` is the beginning of the
    answer, with `keep_response` alone.
    """

    delivery: str
    event_id: str
    event_name: str
    subscriber: str
    attempt: int
    outcome: str
    status: int | None
    duration_ms: float
    at: int
    settlement: str
    next_due: int | None
    error: str | None
    address: str | None
    url: str = ""
    response: str | None = None


def encode_result(
    delivery: Delivery, outcome: Outcome, settlement: Settlement, at: int
) -> tuple[bytes, bytes, Headers]:
    """Key, value and headers of the record; `delivery.attempts` counts the Attempt already."""
    subscriber = delivery.subscriber
    body = outcome.body
    result = Result(
        delivery=delivery.id,
        event_id=delivery.envelope.id,
        event_name=delivery.envelope.event,
        subscriber=subscriber.id,
        attempt=delivery.attempts,
        outcome=str(outcome.kind),
        status=outcome.status,
        duration_ms=round(outcome.duration * 1000, 3),
        at=at,
        settlement=settlement.name,
        next_due=settlement.due if isinstance(settlement, Retry) else None,
        error=outcome.error if outcome.kind != "ok" else None,
        address=outcome.address,
        url=shown_url(subscriber.url),
        response=None if body is None else body.decode("utf-8", "backslashreplace"),
    )
    return subscriber.id.encode(), _encoder.encode(result), RESULT_HEADERS


def read_result(value: bytes | None, headers: Any) -> Result | None:
    """A record of the results topic; None for what is none, or of a form not known here."""
    if value is None or dict(headers or ()).get("thorn-result") != b"1":
        return None
    try:
        return _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):  # a ValidationError is one of the first
        return None


@lru_cache(maxsize=4096)
def shown_url(url: str) -> str:
    """A URL without what may be secret in it: query, fragment, user part."""
    bare = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = bare.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Result)
