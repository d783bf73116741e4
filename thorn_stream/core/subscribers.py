"""Subscriber: who is called, for what. And the directory of all of them."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
)

__all__ = ["State", "Subscriber", "Tls"]

_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")

State = Literal["enabled", "paused", "disabled"]


def _listed(value: Any) -> Any:
    """One of a thing may be written without a list around it."""
    return [value] if isinstance(value, str | SecretStr) else value


class Tls(BaseModel):
    """A private authority, and the client certificate a receiver asks for: paths of PEM files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class Subscriber(BaseModel):
    """Who is called, for what. None in a limit means: the event's value, then the settings'."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, StringConstraints(pattern=rf"^{_ID.pattern}$")]
    event: Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]
    url: Annotated[str, StringConstraints(min_length=1, max_length=2048)]
    user: Annotated[str | None, Field(coerce_numbers_to_str=True)] = None
    filter: dict[str, Any] | None = None
    content_type: Literal[
        "application/json",
        "application/x-www-form-urlencoded",
        "application/cloudevents+json",
    ] = "application/json"
    hmac_secret: Annotated[tuple[SecretStr, ...], BeforeValidator(_listed)] = ()
    hmac_digest: Literal["sha1", "sha256", "sha512"] = "sha256"
    headers: dict[str, str] = {}
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
