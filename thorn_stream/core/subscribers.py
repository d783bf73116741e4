"""Subscriber: who is called, for what. What cannot be used is refused where it enters."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    StringConstraints,
    field_validator,
)

from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.filters import subscriber_filter
from thorn_stream.core.patterns import compile_pattern
from thorn_stream.core.signing import secret_key

__all__ = [
    "FORBIDDEN_HEADERS",
    "HOP_BY_HOP",
    "LONGEST_NAME",
    "LONGEST_VALUE",
    "TOKEN",
    "State",
    "Subscriber",
    "Tls",
]

_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A header's name (RFC 9110, section 5.6.2)."""
LONGEST_NAME: Final = 128
"""Characters of a header's name, ..."""
LONGEST_VALUE: Final = 8192
"""... and of its value, as UTF-8: what one line of many servers may have."""
_MOST_HEADERS: Final = 50
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LOOKED_UP: Final = ("env:", "file:", "!")

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that belong to a connection, not to a request (RFC 9110, section 7.6.1)."""
FORBIDDEN_HEADERS: Final = HOP_BY_HOP | frozenset(
    {"accept-encoding", "content-encoding", "content-length", "content-type", "expect", "host"}
)
"""What a subscriber's own headers may not be, beside `Hook-*` and `webhook-*`: they are made."""

State = Literal["enabled", "paused", "disabled"]


def _listed(value: Any) -> Any:
    """One of a thing may be written without a list around it."""
    return [value] if isinstance(value, str | SecretStr) else value


class Tls(BaseModel):
    """A private authority, and the client certificate a receiver asks for: paths of PEM files.

    With another `stamp`, these are other files under the same names: not equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    _stamp: str = PrivateAttr(default="")

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(path for path in (self.ca_file, self.cert_file, self.key_file) if path)

    def stamped(self, stamp: str) -> "Tls":
        """The same, and what the files held when they were looked at."""
        made = self.model_copy()
        made._stamp = stamp  # noqa: SLF001 - one of ours
        return made


class Subscriber(BaseModel):
    """Who is called, for what. None in a limit means: the event's value, then the settings'.

    Times are in seconds. `hmac_secret` holds one or several, newest first, as they are: `env:` and
    `file:` are looked up by what reads settings and local files, and are refused here.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False
    )

    id: Annotated[str, StringConstraints(pattern=rf"^{_ID.pattern}$")]
    event: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
    url: Annotated[str, StringConstraints(min_length=1, max_length=2048), Field(repr=False)]
    user: Annotated[str | None, Field(coerce_numbers_to_str=True)] = None
    filter: dict[str, Any] | None = None
    content_type: Literal[
        "application/json",
        "application/x-www-form-urlencoded",
        "application/cloudevents+json",
    ] = "application/json"
    hmac_secret: Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)] = ()
    hmac_digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    headers: Annotated[dict[str, str], Field(repr=False)] = {}
    timeout: Annotated[float | None, Field(gt=0)] = None
    retry: bool | None = None
    retry_max: Annotated[int | None, Field(ge=0)] = None
    retry_delay: Annotated[float | None, Field(ge=0)] = None
    retry_backoff: Annotated[float | None, Field(ge=1)] = None
    retry_schedule: tuple[Annotated[float, Field(ge=0)], ...] | None = None
    dead_on: frozenset[Annotated[int, Field(ge=100, le=599)]] = frozenset()
    max_in_flight: Annotated[int | None, Field(ge=1)] = None
    rate_limit: Annotated[float | None, Field(gt=0)] = None
    ordering: Literal["none", "key"] = "none"
    on_exhausted: Literal["skip", "block"] = "skip"
    tls: Tls | None = None
    state: State = "enabled"
    description: str = ""

    @field_validator("event")
    @classmethod
    def _patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            compile_pattern(pattern)
        return patterns

    @field_validator("filter")
    @classmethod
    def _filter(cls, conditions: dict[str, Any] | None) -> dict[str, Any] | None:
        if conditions:
            subscriber_filter(conditions)
        return conditions or None

    @field_validator("hmac_secret")
    @classmethod
    def _secrets(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in secrets:
            wrong = _wrong_secret(secret.get_secret_value())
            if wrong:
                raise ValueError(wrong)
        return secrets

    @field_validator("headers")
    @classmethod
    def _headers(cls, headers: dict[str, str]) -> dict[str, str]:
        seen = set[str]()
        if len(headers) > _MOST_HEADERS:
            raise ValueError(f"has {len(headers)} headers, at most {_MOST_HEADERS} are sent")
        for name, value in headers.items():
            lower = name.lower()
            if len(name) > LONGEST_NAME or len(value.encode()) > LONGEST_VALUE:
                raise ValueError(
                    f"{name.partition(':')[0][:40]} is too long: {LONGEST_NAME} characters are "
                    f"sent of a name, {LONGEST_VALUE} bytes of a value"
                )
            if not TOKEN.fullmatch(name):
                # somebody may have written the value into it as well
                raise ValueError(f"{name.partition(':')[0][:40]!r} is no header name")
            if lower in FORBIDDEN_HEADERS or lower.startswith(("hook-", "webhook-")):
                raise ValueError(f"{name} is made by thorn_stream or the connection: remove it")
            if lower in seen:
                raise ValueError(f"{name} stands there twice")
            if _CONTROL.search(value):
                raise ValueError(f"the value of {name} has a line end or a control character")
            seen.add(lower)
        return headers


def _wrong_secret(secret: str) -> str | None:
    """Why this cannot be signed with; never the secret itself."""
    if secret.startswith(_LOOKED_UP):
        return "env:, file: and !module:name are looked up in settings and local files only"
    try:
        secret_key(secret)
    except ConfigurationError as error:
        return str(error)
    return None
