"""Subscribers from files."""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from thorn_stream.adapters.files.documents import located, read_document
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.subscribers import Subscriber

__all__ = ["FileSubscribers", "Parse"]

Parse: TypeAlias = Callable[[object, str, Callable[[str], str]], Sequence[Subscriber]]
"""The core's reader of one file: its data, its place, how secrets are looked up."""


class FileSubscribers:
    """Subscribers from every file that a glob matches, in the order of their names.

    `parse` is the core's reader of one file's data. A glob without a wildcard names a file that
    must exist.
    """

    name = "file"

    def __init__(self, globs: Sequence[str], resolve: Callable[[str], str], parse: Parse) -> None:
        self.globs = tuple(globs)
        self._resolve = resolve
        self._parse = parse

    def paths(self) -> list[Path]:
        """The files that are there now."""
        found = {name for pattern in self.globs for name in self._matching(pattern)}
        return [Path(name) for name in sorted(found)]

    @staticmethod
    def _matching(pattern: str) -> list[str]:
        if glob.has_magic(pattern):
            # Path.glob takes no absolute patterns
            names = glob.glob(pattern, recursive=True)  # noqa: PTH207
            return [name for name in names if _to_be_read(Path(name))]
        return [pattern]

    def sources(self) -> list[tuple[str, Sequence[Subscriber]]]:
        """`file:PATH` and what it holds, for each file.

        Raises ConfigurationError naming every mistake and its place.
        """
        found: list[tuple[str, Sequence[Subscriber]]] = []
        wrong: list[str] = []
        for path in self.paths():
            try:
                found.append((f"file:{path}", self.read(path, self._resolve)))
            except ConfigurationError as error:
                wrong.append(str(error))
        if wrong:
            raise ConfigurationError("\n".join(wrong))
        return found

    def load(self) -> Sequence[Subscriber]:
        """All of them. Raises ConfigurationError naming every mistake and its place."""
        return [one for _, subscribers in self.sources() for one in subscribers]

    def read(self, path: Path, resolve: Callable[[str], str]) -> Sequence[Subscriber]:
        """What one file holds, its secrets looked up by `resolve`.

        Raises ConfigurationError naming every mistake and its place.
        """
        document = read_document(path)
        if document.data is None:
            return ()
        try:
            return self._parse(document.data, document.place, resolve)
        except ConfigurationError as error:
            raise ConfigurationError(located(str(error), document)) from None


def _to_be_read(path: Path) -> bool:
    """A file, or a link that leads nowhere: somebody meant a file, so its absence is told."""
    return path.is_file() or (path.is_symlink() and not path.exists())
