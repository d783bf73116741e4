"""The THORN_ environment: a variable's name to the setting it means, its text to a value."""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from thorn_stream.config.kafka import normal
from thorn_stream.config.kinds import options
from thorn_stream.config.settings import Settings

__all__ = ["PREFIX", "Variable", "read_environment", "suggestion", "variable_name"]

PREFIX: Final = "THORN_"
Variable: TypeAlias = tuple[str, tuple[str, ...], Any]
"""Name, path of the setting, value."""


def variable_name(path: tuple[str, ...]) -> str:
    """The variable that sets the setting at this path."""
    return PREFIX + "__".join(part.replace(".", "_") for part in path).upper()


def read_environment(environ: Mapping[str, str]) -> tuple[list[Variable], list[str], list[str]]:
    """Return what is set, one line for each mistake, and the names that mean no setting."""
    found: list[Variable] = []
    wrong: list[str] = []
    unknown: list[str] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX):
            continue
        path, field = _meant(name.removeprefix(PREFIX).lower().split("__"))
        if path is None:
            unknown.append(name)
            continue
        try:
            found.append((name, path, _value(environ[name], field)))
        except ValueError as error:
            wrong.append(f"{name}: {error}")
    return found, wrong, unknown


def suggestion(name: str) -> str:
    """`; did you mean THORN_X?`, or nothing."""
    known = [full.removeprefix(PREFIX) for full in _names()]
    close = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1, cutoff=0.8)
    return f"; did you mean {PREFIX}{close[0]}?" if close else ""


def _names() -> Iterator[str]:
    for name, field in Settings.model_fields.items():
        yield variable_name((name,))
        section = _section(field)
        if section is not None:
            yield from (variable_name((name, inner)) for inner in section.model_fields)


def _meant(parts: list[str]) -> tuple[tuple[str, ...] | None, FieldInfo | None]:
    """The path a variable means; its field where there is one (not for a key of `kafka`)."""
    name, *rest = parts
    field = Settings.model_fields.get(name)
    if field is None or "" in rest:
        return None, None
    if not rest:
        return (name,), field
    if name == "kafka":
        return (name, normal("_".join(rest))), None
    section = _section(field)
    if section is None or len(rest) > 1 or rest[0] not in section.model_fields:
        return None, None
    return (name, rest[0]), section.model_fields[rest[0]]


def _section(field: FieldInfo) -> type[BaseModel] | None:
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _value(text: str, field: FieldInfo | None) -> Any:
    if not text.strip():
        msg = "is empty: give it a value, or unset it"
        raise ValueError(msg)
    if field is None:
        return text
    kinds = list(options(field.annotation))
    if type(None) in kinds and text.strip().lower() in {"null", "~"}:
        return None
    if any(_is_json(kind) for kind in kinds):
        try:
            return json.loads(text)
        except ValueError:
            msg = 'must be JSON, as in ["a", "b"] for a list and {"a": 1} for a map'
            raise ValueError(msg) from None
    return text


def _is_json(kind: Any) -> bool:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return True
    return get_origin(kind) in {tuple, frozenset, dict, list}
