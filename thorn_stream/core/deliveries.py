"""Delivery, Attempt, Outcome, Settlement: what is done for one Subscriber, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeAlias

from thorn_stream.core.envelope import Envelope
from thorn_stream.core.ledger import Entry
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import Guard

__all__ = [
    "IN_PLACE",
    "Attempt",
    "Dead",
    "Delivered",
    "Delivery",
    "Dropped",
    "Kind",
    "Outcome",
    "Parked",
    "Reason",
    "Retry",
    "Settlement",
]


class Kind(StrEnum):
    """The word for what an Attempt came to."""

    OK = "ok"
    STATUS = "status"
    TIMEOUT = "timeout"
    CONNECT = "connect"
    TLS = "tls"
    DNS = "dns"
    PROTOCOL = "protocol"
    BLOCKED = "blocked"


class Reason(StrEnum):
    """Why a dead letter is dead."""

    EXHAUSTED = "exhausted"
    GONE = "gone"
    BLOCKED = "blocked"
    REJECTED = "rejected"
    UNDECODABLE = "undecodable"
    TOO_LARGE = "too_large"
    EXPIRED = "expired"
    UNSUBSCRIBED = "unsubscribed"
    NOT_ALLOWED = "not_allowed"


@dataclass(slots=True)
class Outcome:
    """What one HTTP request came to. Returned, never raised.

    `status` is there when a response head was read; `detail` says more in a few words, without
    anything secret; `retry_after` is the header's text as received; `duration` in seconds;
    `address` the one that was dialled; `body` at most 1 KiB of the response, only when asked for.
    """

    kind: Kind
    status: int | None = None
    detail: str = ""
    retry_after: str | None = None
    duration: float = 0.0
    address: str | None = None
    body: bytes | None = field(default=None, repr=False)

    @property
    def error(self) -> str:
        """The Outcome's word, then detail: `timeout`, `status:503`, `blocked:ensure_port`."""
        if self.kind is Kind.STATUS:
            return f"status:{self.status}"
        return f"{self.kind}:{self.detail}"[:200] if self.detail else str(self.kind)


@dataclass(slots=True, eq=False)
class Delivery:
    """One event for one Subscriber.

    `attempts` counts the Attempts made so far; `first` is when the first was made (or it was first
    parked), unix milliseconds, None before that; `error` is the last one's, as in `Outcome.error`,
    and `response` the beginning of what its receiver answered, if that is kept. `entry` is what it
    holds open in the Ledger. `definition` is the Subscriber's own JSON, when it came with the
    event. `again`: it comes from a tier, or was parked. `put_back` is there when it stands
    somewhere already: it takes what cannot be tried now, with the cause (as in `Parked`), in place
    of a record that would be written. `follow`, where it is there, takes what was decided after
    each Attempt: the Delivery is tried again where it stands.
    """

    envelope: Envelope
    subscriber: Subscriber
    id: str
    entry: Entry
    attempts: int = 0
    first: int | None = None
    error: str = ""
    response: bytes | None = field(default=None, repr=False)
    queued_at: float = 0.0
    definition: str = ""
    again: bool = False
    put_back: "Callable[[Delivery, str], None] | None" = None
    follow: "Callable[[Delivery, Settlement], None] | None" = None


@dataclass(slots=True, eq=False)
class Attempt:
    """One HTTP request of a Delivery, on its way to a Transport.

    `target` was made by the same Transport from the Subscriber's URL. `headers` is a block of
    `Name: value` lines, each ended by CRLF, without those that the Transport itself writes
    (request line, Host, Content-Length, Accept-Encoding, Connection). `timeout`, in seconds,
    covers the whole exchange. `ended` is called exactly once, later, never from inside `send`.
    `guard` judges URL and address for this request, beside the Transport's own.
    """

    delivery: Delivery
    target: object
    headers: bytes = field(repr=False)  # Authorization may be among them
    body: bytes = field(repr=False)
    timeout: float
    keep_alive: bool
    ended: Callable[["Attempt", Outcome], None]
    guard: Guard | None = None


IN_PLACE: Final = 0.0
"""In place of a tier: an ordered Delivery waits where it stands."""


@dataclass(frozen=True, slots=True)
class Delivered:
    name = "delivered"


@dataclass(frozen=True, slots=True)
class Retry:
    """Not before `due` (unix milliseconds); `tier` is the wait of its tier, or `IN_PLACE`."""

    name = "retry"
    due: int
    tier: float


@dataclass(frozen=True, slots=True)
class Dead:
    name = "dead"
    reason: Reason


@dataclass(frozen=True, slots=True)
class Parked:
    """Not tried: it waits, its attempts unchanged. `cause`: lane, circuit, rate, paused."""

    name = "parked"
    cause: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """Given up on purpose, counted: `cause` is unsubscribed, too_old."""

    name = "dropped"
    cause: str


Settlement: TypeAlias = Delivered | Retry | Dead | Parked | Dropped
