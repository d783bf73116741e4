"""Read the settings: defaults, beneath a YAML file, beneath the THORN_ environment.

Every mistake is told at once, one line each, with its place: `config/dev.yaml:12: retry_max: …`
or `THORN_RETRY_MAX: …`.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr, ValidationError

from thorn_stream.adapters.files import (
    Document,
    Secrets,
    authorities_wrong,
    dotted,
    located,
    read_document,
    tls_wrong,
)
from thorn_stream.config.environment import read_environment, suggestion
from thorn_stream.config.kafka import normal
from thorn_stream.config.mistakes import is_secret_path, reason, unknown_key
from thorn_stream.config.relations import mistakes, warnings
from thorn_stream.config.settings import COLLECTING, Settings
from thorn_stream.core.directory import parse_subscribers
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.subscribers import Subscriber

__all__ = ["DEFAULT_FILE", "Loaded", "UnusableSettings", "load_settings"]

DEFAULT_FILE: Final = Path("config/thorn.yaml")
_LAST: Final = sys.maxsize


@dataclass(frozen=True)
class Loaded:
    """Settings in force, the file they came from (None: none), and how secrets are looked up.

    `secrets` is to be used for subscriber files too: it remembers which variables were named.
    `inline` reads the subscribers of the settings again, as they were given, with their secrets
    looked up anew; `master` is the `file:PATH` of the master secret, None when it has none.
    """

    settings: Settings
    path: Path | None
    secrets: Secrets
    inline: Callable[[Callable[[str], str]], Sequence[Subscriber]] = field(repr=False)
    master: str | None = None
    _unknown: tuple[str, ...] = ()
    _wide: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """What is allowed and seldom meant, one line each.

        Ask after the subscriber files were read: a THORN_ variable that an `env:` names is no
        mistake.
        """
        unknown = [
            f"{name}: is no setting and is ignored{suggestion(name)}"
            for name in self._unknown
            if name not in self.secrets.named
        ]
        return [*self._wide, *unknown]


class UnusableSettings(ConfigurationError):
    """Settings with mistakes, a line for each.

    `loaded` is what could be read, with defaults where there is a mistake; `doubtful` names the
    settings that this holds for, so that what follows from them is not told as a mistake.
    """

    def __init__(self, text: str, loaded: Loaded, doubtful: frozenset[str]) -> None:
        super().__init__(text)
        self.loaded = loaded
        self.doubtful = doubtful


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """Read `path` (None: config/thorn.yaml when it is there) and the THORN_ variables over it.

    Raises ConfigurationError with one line for each mistake; `UnusableSettings` where a part of
    them could be read.
    """
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    if path is not None and not path.exists():
        raise ConfigurationError(f"{path}: there is no such file: make it, or name another")
    document = read_document(path) if path is not None else Document("", None)
    reading = _Reading(document, Secrets(environ))
    reading.read_file()
    variables, wrong, unknown = read_environment(environ)
    reading.wrong += [(_LAST, line) for line in wrong]
    for name, route, value in variables:
        reading.place(name, route, value)
    settings = reading.finish()
    loaded = Loaded(
        settings,
        path,
        reading.secrets,
        reading.inline,
        reading.files.get(("hmac_secret",)),
        tuple(unknown),
        tuple(warnings(settings)),
    )
    if reading.wrong:
        text = "\n".join(line for _, line in sorted(reading.wrong, key=_by_line))
        raise UnusableSettings(text, loaded, frozenset(reading.broken | reading.at_odds))
    return loaded


@dataclass(repr=False)  # it holds secrets
class _Reading:
    """What was given so far, where each of it stood, and what is wrong with it."""

    document: Document
    secrets: Secrets
    data: dict[str, Any] = field(default_factory=dict)
    variables: dict[tuple[str, ...], str] = field(default_factory=dict)
    wrong: list[tuple[int, str]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    at_odds: set[str] = field(default_factory=set)
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)
    files: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def read_file(self) -> None:
        data = self.document.data
        self.lines = dict(self.document.lines)
        if data is None:
            return
        if not isinstance(data, dict):
            msg = f"{self.document.place}: must be a map of settings, as in `group: thorn`"
            raise ConfigurationError(msg)
        self.data = dict(data)
        if isinstance(data.get("kafka"), dict):
            self.data["kafka"] = self._normal(data["kafka"])

    def _normal(self, kafka: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in kafka.items():
            spelt = normal(key)
            self.lines[("kafka", spelt)] = self.lines.get(("kafka", key), 1)
            if spelt in made:
                self.mistake(("kafka", spelt), "is there twice (_ and . are the same): remove one")
            made[spelt] = value
        return made

    def place(self, name: str, route: tuple[str, ...], value: Any) -> None:
        """Lay a variable over what the file says; a map is laid over key by key."""
        if isinstance(value, dict) and route != ("subscribers",):
            for key, inner in value.items():
                spelt = normal(key) if route == ("kafka",) else key
                deeper = (*route, spelt)
                self.place(f"{name.partition(': ')[0]}: {dotted(deeper)}", deeper, inner)
            return
        at = self.data
        for part in route[:-1]:
            inner = at.get(part)
            if inner is not None and not isinstance(inner, dict):
                return  # the file's own mistake is told
            at[part] = dict(inner or {})
            at = at[part]
        at[route[-1]] = value
        self.variables[route] = name

    def mistake(self, route: tuple[Any, ...], text: str) -> None:
        self.broken.add(str(route[0]))
        self._tell(route, text)

    def _tell(self, route: tuple[Any, ...], text: str) -> None:
        self.wrong.append((self._line(route), f"{self._where(route)}: {text}"))

    def _line(self, route: tuple[Any, ...]) -> int:
        """The line a setting was given in; what came from the environment follows the file."""
        lengths = range(len(route), 0, -1)
        if any(route[:length] in self.variables for length in lengths):
            return _LAST
        return next((self.lines[route[:n]] for n in lengths if route[:n] in self.lines), _LAST)

    def _where(self, route: tuple[Any, ...]) -> str:
        for length in range(len(route), 0, -1):
            name = self.variables.get(route[:length])
            if name is not None:
                return ": ".join([name, *([dotted(route)] if len(route) > length else [])])
        line = self._line(route)
        place = self.document.place
        if line != _LAST:
            place += f":{line}"
        return f"{place}: {dotted(route)}" if place else dotted(route)

    def _given(self, route: tuple[Any, ...]) -> bool:
        at: Any = self.data
        for part in route:
            if not isinstance(at, dict) or part not in at:
                return False
            at = at[part]
        return True

    def finish(self) -> Settings:
        """Look up secrets, check each setting, then what holds between those that are right.

        With a mistake in `wrong` it is what could be read, defaults in the place of the rest.
        """
        self._look_up()
        subscribers = self._subscribers()
        settings = self._validated(self.data)
        if settings is None:
            left = {name: value for name, value in self.data.items() if name not in self.broken}
            settings = self._validated(left)
        assert settings is not None
        ca_file = settings.tls.ca_file
        if ca_file is not None and (wrong := authorities_wrong(ca_file)) is not None:
            self.mistake(("tls", "ca_file"), wrong)
        for found in mistakes(settings):
            if not self.broken & {str(found.at[0]), *found.also}:
                named = (found.at, *((name,) for name in found.also))
                at = next((route for route in named if self._given(route)), found.at)
                self._relation(at, found.at, found.text)
                self.at_odds.add(str(found.at[0]))
        return settings.model_copy(update={"subscribers": subscribers})

    def _relation(self, at: tuple[Any, ...], subject: tuple[Any, ...], text: str) -> None:
        """A mistake of `subject`, told at the place of the setting that was given."""
        told = text if at == subject else f"{dotted(subject)} {text}"
        self._tell(at, told)

    def _validated(self, data: dict[str, Any]) -> Settings | None:
        given = {name: value for name, value in data.items() if name != "subscribers"}
        try:
            return Settings.model_validate(given, context=COLLECTING)
        except ValidationError as error:
            for one in error.errors(include_url=False):
                if one["type"] == "too_short" and one["input"]:
                    continue  # pydantic counts the items that are right; the others are told
                route = _setting(one["loc"])
                if one["type"] == "extra_forbidden":
                    self.mistake(route, unknown_key(route))
                else:
                    self.mistake(route, reason(one, secret=is_secret_path(route)))
            return None

    def _look_up(self) -> None:
        """Put secrets in the place of their `env:` and `file:`."""
        kafka = self.data.get("kafka")
        for key in kafka if isinstance(kafka, dict) else ():
            self._resolve(("kafka", key))
        for name in ("hmac_secret", "proxy"):
            self._resolve((name,))
        self._tokens()

    def _tokens(self) -> None:
        """Looked up only when the API is on; named all the same, so that nobody warns of them."""
        default = [token.get_secret_value() for token in Settings().api.tokens]
        api = self.data.get("api", {})
        if not isinstance(api, dict):
            return
        tokens = api.get("tokens", default)
        enabled = str(api.get("enabled", False)).lower() in {"true", "1", "yes", "on", "t", "y"}
        if not isinstance(tokens, list):
            return
        if not enabled:
            names = [text.removeprefix("env:") for text in tokens if isinstance(text, str)]
            self.secrets.named.update(names)
            return
        self.data["api"] = {**api, "tokens": list(tokens)}
        for at in range(len(tokens)):
            self._resolve(("api", "tokens", at))

    def _resolve(self, route: tuple[Any, ...]) -> None:
        at: Any = self.data
        for part in route[:-1]:
            at = at[part]
        last = route[-1]
        text = at[last] if isinstance(at, list) else at.get(last)
        if not isinstance(text, str) or not text.startswith(("env:", "file:")):
            return
        try:
            secret = self.secrets(text)
        except ConfigurationError as error:
            self.mistake(route, str(error))
        else:
            # kept out of sight wherever it stands: who looks it up thinks it is one
            at[last] = SecretStr(secret)
            if text.startswith("file:"):
                self.files[route] = text

    def _subscribers(self) -> tuple[Subscriber, ...]:
        try:
            return tuple(self.inline(self.secrets))
        except ConfigurationError as error:
            self.broken.add("subscribers")
            line = self._line(("subscribers",))
            self.wrong += [(line, text) for text in str(error).splitlines()]
            return ()

    def inline(self, resolve: Callable[[str], str]) -> Sequence[Subscriber]:
        """The subscribers given; ConfigurationError names every mistake and its place."""
        given = self.data.get("subscribers")
        if not given:
            return ()
        name = self.variables.get(("subscribers",))
        place = self.document.place if name is None else name
        try:
            data = {"subscribers": given}
            return parse_subscribers(data, place, resolve, look_at_tls=tls_wrong)
        except ConfigurationError as error:
            told = str(error)
            raise ConfigurationError(
                located(told, self.document) if name is None else told
            ) from None


def _by_line(told: tuple[int, str]) -> int:
    return told[0]


def _setting(loc: tuple[Any, ...]) -> tuple[Any, ...]:
    """pydantic's path without the parts that name its own validators."""
    kept: list[Any] = []
    for at, part in enumerate(loc):
        if loc[0] == "kafka" and at > 1:
            break
        if isinstance(part, str) and at and not part.replace("_", "").replace(".", "").isalnum():
            break
        kept.append(part)
    return tuple(kept)
