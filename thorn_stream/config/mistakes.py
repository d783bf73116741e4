"""pydantic's errors in our words: what is wrong and what would be right, in one line."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import BaseModel

from thorn_stream.config.settings import Settings

__all__ = ["is_secret_path", "known_keys", "reason", "unknown_key"]

_TEXTS: Final = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be a text: put it in quotes",
    "tuple_type": "must be a list, as in [a, b]",
    "list_type": "must be a list, as in [a, b]",
    "frozen_set_type": "must be a list, as in [a, b]",
    "set_type": "must be a list, as in [a, b]",
    "dict_type": "must be a map of keys and values",
    "model_type": "must be a map of keys and values",
    "model_attributes_type": "must be a map of keys and values",
    "string_too_short": "must not be empty",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} items",
    "literal_error": "must be one of {expected}",
}
_LONGEST_SHOWN: Final = 40


def reason(error: Mapping[str, Any], *, secret: bool) -> str:
    """What one of pydantic's errors says. The value given is shown, unless it is secret."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    text = _TEXTS.get(kind)
    if text is None:
        text = error["msg"][:1].lower() + error["msg"][1:]
    elif kind == "literal_error":
        text = text.format(expected=context["expected"].replace("'", "").replace(" or ", ", "))
    else:
        text = text.format(**context)
    given = error.get("input")
    if secret or given is None or not isinstance(given, str | int | float):
        return text
    shown = str(given)
    shown = shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "…"
    return f"{text}, not {shown!r}" if isinstance(given, str) else f"{text}, not {shown}"


def is_secret_path(path: tuple[Any, ...]) -> bool:
    """Whether what stands there may be, or may hold, a secret."""
    return path[:1] in {("kafka",), ("hmac_secret",), ("proxy",), ("subscribers",)} or path[:2] == (
        "api",
        "tokens",
    )


def known_keys(path: Iterable[Any]) -> list[str]:
    """The keys that the map at this path has."""
    model: type[BaseModel] = Settings
    for part in path:
        field = model.model_fields.get(str(part))
        kind = field.annotation if field is not None else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return list(model.model_fields)


def unknown_key(path: tuple[Any, ...]) -> str:
    """What to say of a key that nothing knows."""
    *above, key = path
    known = known_keys(above)
    close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
    if close:
        return f"is no setting; did you mean {close[0]}?"
    if above:
        return f"is no setting; {'.'.join(above)} has {', '.join(known)}"
    return "is no setting: remove it (`thorn-stream config show` lists all)"
