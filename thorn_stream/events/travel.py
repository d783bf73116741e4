"""What an event takes along for its recipients: validators by name, further subscribers as JSON."""

import inspect
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

from thorn_stream.core.encoding import encode_header
from thorn_stream.core.overrides import EventRules, read_overrides
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import UrlValidator, Validator, serialize_validator

__all__ = [
    "Rules",
    "recipients",
    "rules",
    "validators_header",
    "warn_of_loosening",
]

_USUAL_PORTS: Final = frozenset({"80", "443"})
_FIELDS: Final = (
    *("id", "content_type", "headers", "timeout"),
    *("retry", "retry_max", "retry_delay", "retry_backoff", "retry_schedule"),
    *("dead_on", "max_in_flight", "description"),
)
"""What a subscriber object may say beside its URL (core.extra has the list of what is let in)."""


class Rules(NamedTuple):
    """An event's validators: those that travel by name, and those that can only be called."""

    named: tuple[list[Any], ...] = ()
    callables: tuple[UrlValidator, ...] = ()


def rules(validators: Iterable[Any] | None) -> Rules:
    """Sort them, one of the user's own among what is called. Raises ValueError for what is none."""
    named: list[list[Any]] = []
    callables: list[UrlValidator] = []
    for validator in validators or ():
        try:
            named.append(serialize_validator(validator))
        except ValueError:
            if not callable(validator):
                raise
            callables.append(validator)
    return Rules(tuple(named), tuple(callables))


def validators_header(named: Sequence[list[Any]]) -> tuple[str, bytes]:
    """As a header. Raises ValueError for what no dispatcher could read: it would refuse all."""
    header = ("thorn-validators", encode_header(named))
    if read_overrides([header], EventRules()).sealed:
        raise ValueError(
            "recipient_validators: no dispatcher would read these: give an event at most 50, of "
            "8 KiB in all, with arguments as they are documented, or write them into the settings"
        )
    return header


def warn_of_loosening(name: str, validators: Sequence[Any] | None, depth: int) -> None:
    """An event's validators are added to the dispatcher's: what would loosen them does not."""
    why = None
    if validators is not None and not validators:
        why = "an empty list does not switch them off"
    for validator in validators or ():
        if not isinstance(validator, Validator):
            continue
        if (
            validator.name == "ensure_port"
            and not set(map(str, validator.arguments)) <= _USUAL_PORTS
        ):
            why = f"{validator!r} opens no other port"
        if getattr(validator, "allowed", ()):
            why = "block_internal_ips(allowed=...) opens no network"
    if why is not None:
        warnings.warn(
            f"event {name}: validators are added to the dispatcher's own, {why}: "
            "set recipient_validators (ports) or allowed_networks in the dispatcher's settings",
            stacklevel=depth,
        )


# --- further subscribers -----------------------------------------------------------------------


def recipients(given: Any, event: str, sender: Any, context: Mapping[str, Any]) -> list[Any]:
    """URLs and objects as JSON has them; what can be called is called for more. Raises ValueError.

    Thorn's callbacks are asked with the event's name, and by keyword with `sender` and `context`,
    as far as they take them.
    """
    return [_written(one) for one in _each(given, (event, sender, context))]


def _each(given: Any, asked: tuple[str, Any, Mapping[str, Any]]) -> Iterator[Any]:
    if given is None:
        return
    if isinstance(given, str) and given.startswith("!"):
        yield from _each(_named(given), asked)
    elif callable(given) and not isinstance(given, Subscriber):
        yield from _each(_called(given, *asked), asked)
    elif isinstance(given, str | Mapping | Subscriber) or hasattr(given, "url"):
        yield given
    elif isinstance(given, Iterable):
        for one in given:
            yield from _each(one, asked)
    else:
        raise ValueError(
            f"subscribers: {type(given).__name__} is neither a URL, nor a subscriber, nor a "
            "function that returns these"
        )


def _named(reference: str) -> Any:
    module, colon, name = reference[1:].partition(":")
    if not colon:
        module, _, name = module.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"subscribers: {reference} cannot be loaded ({error}); write !package.module:name"
        ) from None


def _called(function: Callable[..., Any], event: str, sender: Any, context: Any) -> Any:
    offered = {"sender": sender, "context": context}
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return function(event, **offered)
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        taken = offered
    else:
        taken = {one.name: offered[one.name] for one in parameters if one.name in offered}
    positional = [
        one
        for one in parameters
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD, one.VAR_POSITIONAL)
        and one.name not in taken
    ]
    return function(event, **taken) if positional else function(**taken)


def _written(one: Any) -> Any:
    if isinstance(one, str):
        return one
    if isinstance(one, Mapping):
        fields = dict(one)
    elif isinstance(one, Subscriber):
        fields = one.model_dump(mode="json", exclude_defaults=True)
        fields["hmac_secret"] = bool(one.hmac_secret)
        fields = {name: fields[name] for name in fields if fields[name] or name in ("url", "id")}
    else:
        values = {name: getattr(one, name, None) for name in _FIELDS if name != "id"}
        fields = {"url": one.url, **{n: v for n, v in values.items() if v not in (None, "", {})}}
        fields["hmac_secret"] = getattr(one, "hmac_secret", None)
        if not fields["hmac_secret"]:
            del fields["hmac_secret"]
    if fields.get("hmac_secret"):
        raise ValueError(
            "subscribers: a secret may not travel with an event; write this subscriber into the "
            "dispatcher's settings"
        )
    try:
        json.dumps(fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"subscribers: cannot be written as JSON: {error}") from None
    return fields
