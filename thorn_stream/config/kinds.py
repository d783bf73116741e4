"""Kinds of values that several settings share, each with the check it needs."""

import re
import types
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Final, TypeAlias, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

__all__ = [
    "DAY",
    "REFERENCE",
    "Count",
    "GroupName",
    "HeaderText",
    "InputTopic",
    "Network",
    "Port",
    "Reference",
    "Seconds",
    "Section",
    "Status",
    "TopicName",
    "Validator",
    "invalid_topic",
    "options",
]

DAY: Final = 86_400
_LONGEST_TOPIC: Final = 249  # Kafka's own limit (org.apache.kafka.common.internals.Topic)
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]+")
_GROUP: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_HEADER: Final = re.compile(r"[!-~](?:[ -~]{0,198}[!-~])?")
REFERENCE: Final = re.compile(r"![A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


class Section(BaseModel):
    """A map of settings: frozen, and closed to keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @field_validator("*", mode="before")
    @classmethod
    def _number(cls, value: Any, info: ValidationInfo) -> Any:
        """True is 1 to Python; in a settings file it is a mistake."""
        assert info.field_name is not None
        kinds = options(cls.model_fields[info.field_name].annotation)
        if isinstance(value, bool) and not {int, float}.isdisjoint(kinds):
            msg = "must be a number"
            raise ValueError(msg)
        return value


def options(annotation: Any) -> Iterator[Any]:
    """The kinds a value may have, without Annotated and Union around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from options(get_args(annotation)[0])
    elif origin in {Union, types.UnionType}:
        for option in get_args(annotation):
            yield from options(option)
    else:
        yield annotation


def invalid_topic(name: str) -> str | None:
    """Say what is wrong with the name of a topic; None when nothing is."""
    if not name or name in {".", ".."}:
        return "is no name of a topic"
    if len(name) > _LONGEST_TOPIC:
        return f"has {len(name)} characters, Kafka allows {_LONGEST_TOPIC}"
    if _TOPIC.fullmatch(name) is None:
        return "has characters that Kafka refuses: letters, digits and . _ - are allowed"
    return None


def _topic(name: str) -> str:
    if wrong := invalid_topic(name):
        raise ValueError(wrong)
    return name


def _input_topic(name: str) -> str:
    if not name.startswith("^"):
        return _topic(name)
    try:
        re.compile(name)
    except re.error as error:
        msg = f"is no regular expression: {error}"
        raise ValueError(msg) from None
    return name


def _group(name: str) -> str:
    if _GROUP.fullmatch(name) is None:
        msg = (
            "must be 1 to 200 letters, digits and . _ - and begin with a letter or digit, since "
            "the names of its topics begin with it"
        )
        raise ValueError(msg)
    return name


def _header_text(text: str) -> str:
    if _HEADER.fullmatch(text) is None:
        msg = "must be 1 to 200 characters of printable ASCII, with no space at either end"
        raise ValueError(msg)
    return text


def _network(value: Any) -> IPv4Network | IPv6Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(str(value))
    except ValueError:
        pass
    try:
        meant = ip_network(str(value), strict=False)
    except ValueError:
        msg = "is no network: write an address and a length, as in 10.1.0.0/16"
        raise ValueError(msg) from None
    msg = f"has bits set below its length: write {meant}"
    raise ValueError(msg)


def _validator(value: Any) -> tuple[str, tuple[Any, ...]]:
    """`name`, `[name]` or `[name, [arguments]]` to (name, arguments)."""
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) not in {1, 2}:
        msg = "must be [name] or [name, [arguments]]"
        raise ValueError(msg)
    name, arguments = (*parts, ())[:2]
    if not isinstance(name, str) or not isinstance(arguments, list | tuple):
        msg = "must be [name] or [name, [arguments]]"
        raise ValueError(msg)  # noqa: TRY004 - pydantic collects ValueErrors, not TypeErrors
    return name, tuple(arguments)


def _written(validator: tuple[str, tuple[Any, ...]]) -> list[Any]:
    name, arguments = validator
    return [name, list(arguments)] if arguments else [name]


def _reference(text: str) -> str:
    if text.startswith("!") and REFERENCE.fullmatch(text) is None:
        msg = "must look like !package.module:name"
        raise ValueError(msg)
    return text


Count: TypeAlias = int
Seconds: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Port: TypeAlias = Annotated[int, Field(ge=0, le=65535)]
Status: TypeAlias = Annotated[int, Field(ge=300, le=599)]
GroupName: TypeAlias = Annotated[str, AfterValidator(_group)]
HeaderText: TypeAlias = Annotated[str, AfterValidator(_header_text)]
TopicName: TypeAlias = Annotated[str, AfterValidator(_topic)]
InputTopic: TypeAlias = Annotated[str, AfterValidator(_input_topic)]
Reference: TypeAlias = Annotated[str, AfterValidator(_reference)]
Network: TypeAlias = Annotated[
    IPv4Network | IPv6Network,
    BeforeValidator(_network),
    WithJsonSchema({"type": "string", "examples": ["10.1.0.0/16"]}),
]
Validator: TypeAlias = Annotated[
    tuple[str, tuple[Any, ...]],
    BeforeValidator(_validator),
    PlainSerializer(_written, return_type=list[Any]),
    WithJsonSchema(
        {
            "type": "array",
            "prefixItems": [{"type": "string"}, {"type": "array"}],
            "minItems": 1,
            "maxItems": 2,
            "examples": [["ensure_port", [443]]],
        }
    ),
]
