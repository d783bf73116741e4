"""Settings of how receivers are called: timeouts, retries, what is allowed, how requests look."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from thorn_stream.config.kinds import (
    DAY,
    Count,
    HeaderText,
    Network,
    Reference,
    Seconds,
    Section,
    Status,
    Validator,
)

__all__ = ["Delivering", "Tls"]


def _no_redirects(value: bool) -> bool:
    if value:
        msg = (
            "is refused: a redirect could lead a checked request into the inner network, and a "
            "POST would become a GET; register the final URL instead"
        )
        raise ValueError(msg)
    return value


class Tls(Section):
    """TLS towards receivers."""

    ca_file: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Path of a PEM file with authorities to trust besides the system's; null: the "
        "system's alone.",
    )


class Delivering(Section):
    """How receivers are called."""

    event_timeout: Annotated[Seconds, Field(gt=0)] = Field(
        3,
        description="Seconds for a whole exchange, from name look-up to the last byte of the "
        "answer; short, since a receiver should queue and answer.",
    )
    event_timeout_max: Annotated[Seconds, Field(gt=0, le=3600)] = Field(
        30, description="Seconds; the most that a subscriber or an event may ask for."
    )
    retry: bool = Field(
        True, description="Try failed deliveries again; off: the first failure is a dead letter."
    )
    retry_max: Annotated[Count, Field(ge=0)] = Field(
        3, description="Retries after the first attempt, so attempts are one more."
    )
    retry_max_max: Annotated[Count, Field(ge=0, le=1000)] = Field(
        20, description="The most retries that a subscriber or an event may ask for."
    )
    retry_delay: Annotated[Seconds, Field(ge=0)] = Field(
        60,
        description="Seconds before the first retry, and every other while `retry_backoff` is 1.",
    )
    retry_backoff: Annotated[Seconds, Field(ge=1, le=100)] = Field(
        1.0,
        description="Factor: the delay of retry n is retry_delay * retry_backoff ** (n - 1).",
    )
    retry_delay_max: Annotated[Seconds, Field(gt=0, le=30 * DAY)] = Field(
        7200, description="Seconds; what a growing delay is cut to."
    )
    retry_schedule: (
        Annotated[
            tuple[Annotated[Seconds, Field(ge=0, le=30 * DAY)], ...],
            Field(min_length=1),
        ]
        | None
    ) = Field(
        None,
        description="Seconds, the wait before each retry, as in [5, 300, 1800, 7200]: replaces "
        "delay, backoff and number; hours are recommended for the open internet. null: none.",
    )
    retry_jitter: Annotated[Seconds, Field(ge=0, le=1)] = Field(
        0.1,
        description="Share, 0 to 1, of a delay taken away at random, so that what failed together "
        "does not come back together. Retry-After is never shortened.",
    )
    retry_after_max: Annotated[Seconds, Field(ge=0, le=30 * DAY)] = Field(
        7200, description="Seconds; what a receiver's Retry-After is cut to."
    )
    retry_lookahead: Annotated[Count, Field(ge=1, le=1_000_000)] = Field(
        2000,
        description="Records held per partition of a tier until each is due; while fewer wait, "
        "retries are at most a second late.",
    )
    allow_redirects: Annotated[bool, AfterValidator(_no_redirects)] = Field(
        False, description="Never followed; true is refused."
    )
    dead_on: frozenset[Status] = Field(
        frozenset(),
        description="Statuses (300 to 599) after which a delivery is dead at once, besides 410.",
    )
    allow_keepalive: bool = Field(
        True, description="Keep connections to receivers open between requests."
    )
    keep_response: bool = Field(
        False,
        description="Keep the first 1 KiB of answers in logs, results and dead letters; off, "
        "since an answer may hold anything.",
    )
    recipient_validators: tuple[Validator, ...] = Field(
        (
            ("block_internal_ips", ()),
            ("ensure_protocol", ("http", "https")),
            ("ensure_port", (80, 443)),
        ),
        description="Checks of each recipient's URL and of every address it resolves to: [name] or "
        "[name, [arguments]], a name or !package.module:name.",
    )
    allowed_networks: tuple[Network, ...] = Field(
        (),
        description="Networks that `block_internal_ips` lets through, as in 10.1.0.0/16; ports and "
        "protocols stay checked.",
    )
    hmac_secret: Annotated[SecretStr, Field(min_length=1)] | None = Field(
        None,
        description="Master secret: a subscriber without one of its own signs with a key derived "
        "from it. env:NAME or file:PATH look it up. null: those are not signed.",
    )
    user_agent: HeaderText | None = Field(
        None,
        description="The User-Agent of requests, printable ASCII; null: thorn-stream/VERSION.",
    )
    transport: Reference = Field(
        "native",
        description="What makes the requests: `native`, `httpx` (slower; proxies, HTTP/2), or "
        "!package.module:name of an httpx.AsyncBaseTransport.",
    )
    http2: bool = Field(False, description="Offer HTTP/2; with the httpx transport only.")
    proxy: SecretStr | None = Field(
        None,
        description="URL of a proxy for all requests, which then dials itself, unchecked; with "
        "the httpx transport only. null: none.",
    )
    tls: Tls = Field(Tls(), description="TLS towards receivers.")
