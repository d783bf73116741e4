"""YAML and JSON files, read with the line of every key.

YAML is read by the core schema of YAML 1.2: `true` and `false` alone are booleans, so that
`NO`, `on` and `12:30` stay the text they look like. A key that is there twice is refused.
"""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from thorn_stream.core.errors import ConfigurationError

__all__ = ["Document", "dotted", "located", "read_document", "why", "write_yaml"]

Route: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says. `lines`: path of a key or item -> the line it begins in (YAML only)."""

    place: str
    data: Any
    lines: Mapping[Route, int] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """Composes nodes; what is a number or a boolean is told by YAML 1.2."""


# A secret without quotes that begins with *, & or ! is one of these to YAML, which tells its text.
_UNQUOTED: Final = re.compile(r"\b(alias|anchor|tag handle|tag) (?:'.*'|\".*\")")
_LONGEST_NUMBER: Final = 400
_PREFIX: Final = "tag:yaml.org,2002:"
_DECIMAL: Final = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_KINDS: Final = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", rf"{_DECIMAL}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
)
_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in _KINDS:
    _Loader.add_implicit_resolver(_PREFIX + _kind, re.compile(f"^(?:{_pattern})$"), list(_first))


def read_document(path: Path, place: str | None = None) -> Document:
    """Read a YAML file, or a JSON file by its name's end; an empty one is None.

    Raises ConfigurationError (`place:line: reason`) for what is unreadable or malformed.
    """
    place = str(path) if place is None else place
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        msg = f"{place}:{line}: is not UTF-8: save the file as UTF-8"
        raise ConfigurationError(msg) from None
    except OSError as error:
        msg = f"{place}: cannot be read: {why(error)}"
        raise ConfigurationError(msg) from None
    return _json(text, place) if path.suffix == ".json" else _yaml(text, place)


def why(error: OSError) -> str:
    """The system's words, without the path."""
    return (error.strerror or str(error)).lower()


def _json(text: str, place: str) -> Document:
    def pairs(given: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(given)
        if len(made) != len(given):
            names = [name for name, _ in given]
            twice = next(name for name in names if names.count(name) > 1)
            msg = f"{place}: the key {twice} is there twice: remove one"
            raise ConfigurationError(msg)
        return made

    try:
        return Document(place, json.loads(text, object_pairs_hook=pairs) if text.strip() else None)
    except json.JSONDecodeError as error:
        msg = f"{place}:{error.lineno}: is not JSON: {error.msg} (column {error.colno})"
        raise ConfigurationError(msg) from None
    except (RecursionError, ValueError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        msg = f"{place}: is not usable JSON: {reason}"
        raise ConfigurationError(msg) from None


def _yaml(text: str, place: str) -> Document:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return Document(place, None)
        builder = _Builder(loader, place)
        return Document(place, builder.build(node, ()), builder.lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = _UNQUOTED.sub(r"\1", error.problem or error.context or "")
        msg = f"{place}:{line}: is not YAML: {problem}{_hint(text, line)}"
        raise ConfigurationError(msg) from None
    except yaml.YAMLError as error:
        msg = f"{place}: is not YAML: {' '.join(str(error).split())}"
        raise ConfigurationError(msg) from None
    except RecursionError:
        msg = f"{place}: is nested too deeply"
        raise ConfigurationError(msg) from None


def _hint(text: str, line: int) -> str:
    """What usually is behind it: YAML gives `*`, `{`, `[` and tabs a meaning of their own."""
    lines = text.splitlines()
    content = lines[line - 1] if line <= len(lines) else ""
    if "\t" in content:
        return "; indent with spaces, not tabs"
    if re.search(r"(?:^\s*|[:\[,-]\s+)[*?\[{&!%@`]", content):
        return '; put a text that begins with a special character in quotes, as in "*.created"'
    return ""


class _Builder:
    """Nodes to plain data, refusing double keys, remembering lines."""

    def __init__(self, loader: _Loader, place: str) -> None:
        self.lines: dict[Route, int] = {}
        self._loader = loader
        self._place = place
        self._open: set[int] = set()

    def build(self, node: yaml.Node, route: Route) -> Any:
        self.lines.setdefault(route, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if id(node) in self._open:
            self._refuse(node, "an alias refers to what it stands in")
        self._open.add(id(node))
        made: Any
        if isinstance(node, yaml.MappingNode):
            made = self._mapping(node, route)
        else:
            made = [self.build(item, (*route, at)) for at, item in enumerate(node.value)]
        self._open.discard(id(node))
        return made

    def _mapping(self, node: yaml.MappingNode, route: Route) -> dict[str, Any]:
        self._refuse_double_keys(node)
        self._loader.flatten_mapping(node)
        made = {}
        for key, value in node.value:
            self.lines[(*route, key.value)] = key.start_mark.line + 1
            made[key.value] = self.build(value, (*route, key.value))
        return made

    def _refuse_double_keys(self, node: yaml.MappingNode) -> None:
        seen: dict[Hashable, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, "a key must be a text: put it in quotes")
            if key.value in seen:
                self._refuse(
                    key, f"the key {key.value} is there twice (line {seen[key.value]}): remove one"
                )
            seen[key.value] = line

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text, tag = node.value, node.tag
        if tag.startswith("!") and not text:
            return tag  # a reference, !package.module:name, is a tag without a value to YAML
        if not tag.startswith(_PREFIX):
            self._refuse(node, f"the tag {tag} means nothing here: put the text in quotes")
        kind = tag.removeprefix(_PREFIX)
        if kind == "int":
            if len(text) > _LONGEST_NUMBER:
                self._refuse(node, "the number is too long: put it in quotes if it is a text")
            base = {"0o": 8, "0x": 16}.get(text[:2], 10)
            return int(text, base)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        return {"bool": text.lower() == "true", "null": None}.get(kind, text)

    def _refuse(self, node: yaml.Node, reason: str) -> None:
        msg = f"{self._place}:{node.start_mark.line + 1}: {reason}"
        raise ConfigurationError(msg)


def dotted(route: Sequence[str | int]) -> str:
    """A path as a mistake names it: `http.port`, `subscribers[0].url`."""
    text = ""
    for part in route:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def located(mistakes: str, document: Document) -> str:
    """The same lines with the line number that each place has in the document, where it is known.

    A mistake reads `place: subscribers[0].url: reason`; a list without a name above it counts as
    `subscribers`.
    """
    above = ("subscribers",) if isinstance(document.data, list) else ()
    lines = {dotted((*above, *route)): line for route, line in document.lines.items()}
    return "\n".join(_located(text, document.place, lines) for text in mistakes.splitlines())


def _located(text: str, place: str, lines: Mapping[str, int]) -> str:
    rest = text.removeprefix(f"{place}: ")
    where = rest.partition(": ")[0]
    if rest == text:
        return text
    while where and where not in lines:
        where = where[: max(where.rfind("."), where.rfind("["), 0)]
    return f"{place}:{lines[where]}: {rest}" if where else text


def write_yaml(data: Any) -> str:
    """As a settings file would have it."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None)
