"""YAML and JSON files, secrets looked up in files and the environment, subscribers from files.

YAML is read by the core schema of YAML 1.2: `true` and `false` alone are booleans, so that
`NO`, `on` and `12:30` stay the text they look like. A key that is there twice is refused.
"""

import glob
import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.subscribers import Subscriber

__all__ = [
    "Document",
    "FileSubscribers",
    "Secrets",
    "dotted",
    "located",
    "read_document",
    "write_yaml",
]

Route: TypeAlias = tuple[str | int, ...]
Parse: TypeAlias = Callable[[object, str, Callable[[str], str]], Sequence[Subscriber]]


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says. `lines`: path of a key or item -> the line it begins in (YAML only)."""

    place: str
    data: Any
    lines: Mapping[Route, int] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """Composes nodes; what is a number or a boolean is told by YAML 1.2."""


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
        msg = f"{place}: cannot be read: {_why(error)}"
        raise ConfigurationError(msg) from None
    return _json(text, place) if path.suffix == ".json" else _yaml(text, place)


def _why(error: OSError) -> str:
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
        why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        msg = f"{place}: is not usable JSON: {why}"
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
        msg = f"{place}:{line}: is not YAML: {error.problem or error.context}{_hint(text, line)}"
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

    def _refuse(self, node: yaml.Node, why: str) -> None:
        msg = f"{self._place}:{node.start_mark.line + 1}: {why}"
        raise ConfigurationError(msg)


class Secrets:
    """Looks up `env:NAME` and `file:PATH`; any other text is the secret itself.

    `named` are the variables that were asked for. Called with what stands in a settings or
    subscriber file; raises ConfigurationError, whose text never holds a secret.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.named: set[str] = set()
        self._environ = environ

    def __call__(self, text: str) -> str:
        if text.startswith("env:"):
            return self._variable(text.removeprefix("env:").strip())
        if text.startswith("file:"):
            return self._file(text.removeprefix("file:").strip())
        return text

    def _variable(self, name: str) -> str:
        self.named.add(name)
        value = self._environ.get(name)
        if not value:
            state = "not set" if value is None else "empty"
            msg = f"the environment variable {name} is {state}: set it, or change env:{name}"
            raise ConfigurationError(msg)
        return value

    def _file(self, name: str) -> str:
        try:
            secret = Path(name).read_text(encoding="utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            msg = f"the file {name} is not UTF-8 text"
            raise ConfigurationError(msg) from None
        except (OSError, ValueError) as error:
            why = _why(error) if isinstance(error, OSError) else "is no path"
            msg = f"the file {name} cannot be read ({why}): make it, or change file:{name}"
            raise ConfigurationError(msg) from None
        if not secret:
            msg = f"the file {name} is empty: write the secret into it"
            raise ConfigurationError(msg)
        return secret


class FileSubscribers:
    """Subscribers from every file that a glob matches, in the order of their names.

    `parse` is the core's reader of one file's data. A glob without a wildcard names a file that
    must exist.
    """

    name = "file"

    def __init__(self, globs: Sequence[str], resolve: Callable[[str], str], parse: Parse) -> None:
        self._globs = tuple(globs)
        self._resolve = resolve
        self._parse = parse

    def paths(self) -> list[Path]:
        """The files that are there now."""
        found = {name for pattern in self._globs for name in self._matching(pattern)}
        return [Path(name) for name in sorted(found)]

    @staticmethod
    def _matching(pattern: str) -> list[str]:
        if glob.has_magic(pattern):
            # Path.glob takes no absolute patterns
            names = glob.glob(pattern, recursive=True)  # noqa: PTH207
            return [name for name in names if Path(name).is_file()]
        return [pattern]

    def sources(self) -> list[tuple[str, Sequence[Subscriber]]]:
        """`file:PATH` and what it holds, for each file.

        Raises ConfigurationError naming every mistake and its place.
        """
        found: list[tuple[str, Sequence[Subscriber]]] = []
        wrong: list[str] = []
        for path in self.paths():
            try:
                found.append((f"file:{path}", self._read(path)))
            except ConfigurationError as error:
                wrong.append(str(error))
        if wrong:
            raise ConfigurationError("\n".join(wrong))
        return found

    def load(self) -> Sequence[Subscriber]:
        """All of them. Raises ConfigurationError naming every mistake and its place."""
        return [one for _, subscribers in self.sources() for one in subscribers]

    def _read(self, path: Path) -> Sequence[Subscriber]:
        document = read_document(path)
        if document.data is None:
            return ()
        try:
            return self._parse(document.data, document.place, self._resolve)
        except ConfigurationError as error:
            raise ConfigurationError(located(str(error), document)) from None


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
