"""`Request`: what callbacks are told of one HTTP request."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Receiver", "Request", "RequestFailed"]


@dataclass(frozen=True, slots=True)
class Receiver:
    """Who was called: the subscriber's id and URL."""

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request that has ended.

    `event` is the event's name, `data` its payload, `sender` as it was sent, `id` the delivery's
    id, `url` without query and user part, `status` the response's (None without one), `attempt`
    from 1, `duration` in seconds.
    """

    event: str
    sender: Any
    data: Any
    id: str
    url: str
    status: int | None
    attempt: int
    duration: float
    subscriber: Receiver


class RequestFailed(Exception):
    """Given to `on_error`: the outcome's word and detail, as in `status:503`. Never raised."""
