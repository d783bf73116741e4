"""Subscriber files read again and again: of each the last good state, and what has changed."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeAlias

from thorn_stream.adapters.files.documents import why
from thorn_stream.adapters.files.subscribers import FileSubscribers
from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.subscribers import Subscriber, Tls

__all__ = ["Build", "KeptFiles", "Own", "Reload"]

_FILE: Final = "file:"

Sources: TypeAlias = Sequence[tuple[str, Sequence[Subscriber]]]
Build: TypeAlias = Callable[[Sources], Directory]
"""Makes a Directory of what all files hold; raises ConfigurationError to refuse it."""


@dataclass(frozen=True, slots=True)
class Reload:
    """What came of reading the files again.

    `directory` is None when it was refused as a whole. `mistakes` are lines that begin with the
    place; the files they are in count as they were when they were last good. `master` is the new
    master secret, None when it is the same.
    """

    directory: Directory | None
    added: int = 0
    changed: int = 0
    removed: int = 0
    mistakes: tuple[str, ...] = ()
    master: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Own:
    """What the settings themselves hold, and which files that names.

    `read` reads their subscribers with secrets looked up by what it is given, and may raise
    ConfigurationError; `place` is where they stand. `master` is the `file:PATH` of the master
    secret, None when it has none.
    """

    place: str
    read: Callable[[Callable[[str], str]], Sequence[Subscriber]]
    master: str | None = None


@dataclass(slots=True)
class _File:
    """One file as it was taken: its bytes' digest, what it named, what it held."""

    digest: bytes
    secrets: dict[str, str] = field(repr=False)
    stamps: dict[Tls, str]
    subscribers: Sequence[Subscriber]


class KeptFiles:
    """The files of a `FileSubscribers`, and the Directory made of their last good states.

    A file is parsed again only when its bytes, a secret it names, or a TLS file of one of its
    subscribers has changed; a Subscriber that is read again unchanged stays the same object. Of
    the settings, which are read once, the same holds for the secrets and TLS files they name.
    """

    def __init__(
        self,
        files: FileSubscribers,
        resolve: Callable[[str], str],
        build: Build,
        own: Own | None = None,
    ) -> None:
        self.directory = Directory()
        self._own = own
        self._master: str | None = None
        self._files = files
        self._resolve = resolve
        self._build = build
        self._taken: dict[Path | None, _File] = {}  # None: the settings
        self._mistakes: tuple[str, ...] = ()

    def load(self) -> Directory:
        """Read everything for the first time.

        Raises ConfigurationError naming every mistake and its place.
        """
        taken, mistakes = self._read_all()
        self._master = self._read_master(mistakes)
        if mistakes:
            raise ConfigurationError("\n".join(mistakes))
        self.directory = self._build(self._sources(taken))
        self._taken = taken
        return self.directory

    def reload(self) -> Reload | None:
        """Read what has changed since; None when nothing has, and nothing new is wrong."""
        taken, mistakes = self._read_all()
        master = self._read_master(mistakes)
        rotated = master if master != self._master else None
        same = taken.keys() == self._taken.keys() and all(
            file is self._taken[path] for path, file in taken.items()
        )
        if same and rotated is None and tuple(mistakes) == self._mistakes:
            return None
        self._master = master
        try:
            directory = self._build(self._sources(taken))
        except ConfigurationError as error:
            mistakes += str(error).splitlines()
            self._mistakes, known = tuple(mistakes), self._mistakes
            if self._mistakes == known and rotated is None:
                return None
            return Reload(None, mistakes=self._mistakes, master=rotated)
        self._mistakes = tuple(mistakes)
        before, self.directory, self._taken = self.directory, directory, taken
        return replace(_compared(before, directory, self._mistakes), master=rotated)

    def named(self) -> list[Path]:
        """The files, and those with secrets and certificates that they and the settings name."""
        paths = self._files.paths()
        if self._own is not None and self._own.master is not None:
            paths.append(_path(self._own.master))
        for file in self._taken.values():
            paths += [_path(text) for text in file.secrets]
            paths += [Path(path) for tls in file.stamps for path in tls.paths]
        return paths

    def _read_all(self) -> tuple[dict[Path | None, _File], list[str]]:
        """Every file that is there, in order; a bad one as it was when it was last good."""
        taken: dict[Path | None, _File] = {}
        mistakes: list[str] = []
        own = [] if self._own is None else [None]
        for path in [*own, *self._files.paths()]:
            known = self._taken.get(path)
            try:
                taken[path] = self._read(path, known)
            except ConfigurationError as error:
                mistakes += str(error).splitlines()
                if known is not None:
                    taken[path] = known
        return taken, mistakes

    def _read_master(self, mistakes: list[str]) -> str | None:
        """The master secret as it is now; as it was, when its file cannot be read."""
        if self._own is None or self._own.master is None:
            return None
        try:
            return self._resolve(self._own.master)
        except ConfigurationError as error:
            mistakes.append(f"hmac_secret: {error}")
            return self._master

    def _read(self, path: Path | None, known: _File | None) -> _File:
        digest = b"" if path is None else _digest(path)
        if known is not None:
            if known.digest == digest and self._is_current(known):
                return known
            if path is not None and not digest and known.subscribers:
                msg = f"{path}: is empty: to remove its subscribers delete it, or write []"
                raise ConfigurationError(msg)
        secrets: dict[str, str] = {}

        def resolve(text: str) -> str:
            found = self._resolve(text)
            if text.startswith(_FILE):  # nothing else can change while we run
                secrets[text] = found
            return found

        if path is not None:
            subscribers = list(self._files.read(path, resolve))
        else:
            assert self._own is not None
            subscribers = list(self._own.read(resolve))
        stamps: dict[Tls, str] = {}
        for number, one in enumerate(subscribers):
            subscribers[number] = self._known(_stamped(one, stamps))
        return _File(digest, secrets, stamps, subscribers)

    def _is_current(self, file: _File) -> bool:
        """Whether all it names is still what it was."""
        try:
            current = all(self._resolve(text) == known for text, known in file.secrets.items())
        except ConfigurationError:
            return False  # reading the file again says where it is named
        return current and all(_stamp(tls) == stamp for tls, stamp in file.stamps.items())

    def _sources(self, taken: dict[Path | None, _File]) -> Sources:
        own = "" if self._own is None else self._own.place
        return [
            (own if path is None else f"file:{path}", file.subscribers)
            for path, file in taken.items()
        ]

    def _known(self, one: Subscriber) -> Subscriber:
        """The object that stands for it already, when nothing about it is new."""
        before = self.directory.get(one.id)
        return before if before is not None and before == one else one


def _path(text: str) -> Path:
    return Path(text.removeprefix(_FILE).strip())


def _compared(before: Directory, now: Directory, mistakes: tuple[str, ...]) -> Reload:
    added = changed = 0
    for one in now:
        was = before.get(one.id)
        if was is None:
            added += 1
        elif was is not one and was != one:
            changed += 1
    return Reload(now, added, changed, len(before) + added - len(now), mistakes)


def _digest(path: Path) -> bytes:
    """Of its bytes; of none, none. Raises ConfigurationError when it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {why(error)}") from None
    return hashlib.sha256(content).digest() if content.strip() else b""


def _stamped(one: Subscriber, stamps: dict[Tls, str]) -> Subscriber:
    if one.tls is None:
        return one
    if one.tls not in stamps:
        stamps[one.tls] = _stamp(one.tls)
    return one.model_copy(update={"tls": one.tls.stamped(stamps[one.tls])})


def _stamp(tls: Tls) -> str:
    """Tells its files from others of the same names; a missing one is the transport's matter."""
    digest = hashlib.sha256()
    for path in tls.paths:
        try:
            digest.update(Path(path).read_bytes())
        except OSError as error:
            digest.update(why(error).encode())
    return digest.hexdigest()
