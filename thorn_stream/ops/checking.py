"""All the mistakes of settings and subscriber files in one list, as far as they can be read.

Nobody wants to mend a line, start again, and be told of the next.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from thorn_stream.adapters.kafka import check_client
from thorn_stream.app import refuse_what_is_not_there
from thorn_stream.config import Loaded, UnusableSettings, load_settings
from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.validators import Guard
from thorn_stream.ops.match import read_directory
from thorn_stream.ops.ordering import OrderingRules

__all__ = ["examine", "load_examined"]

_JUDGING: Final = frozenset({"recipient_validators", "allowed_networks"})

T = TypeVar("T")


def load_examined(path: Path | None, environ: Mapping[str, str]) -> Loaded:
    """The settings; when they have mistakes, those of the subscriber files are told as well.

    Raises ConfigurationError with a line for each.
    """
    try:
        return load_settings(path, environ)
    except UnusableSettings as error:
        others = _mistakes(error.loaded, error.doubtful)
        raise ConfigurationError("\n".join([str(error), *others])) from None


def examine(loaded: Loaded) -> Directory:
    """Everybody who may be called; nothing of it is put to work.

    Raises ConfigurationError with a line for each mistake: of subscribers, of `kafka:`, and
    settings that this version cannot keep.
    """
    wrong: list[str] = []
    directory = _examined(loaded, frozenset(), wrong)
    if wrong or directory is None:
        raise ConfigurationError("\n".join(wrong))
    return directory


def _mistakes(loaded: Loaded, doubtful: frozenset[str]) -> list[str]:
    wrong: list[str] = []
    _examined(loaded, doubtful, wrong)
    return wrong


def _examined(loaded: Loaded, doubtful: frozenset[str], wrong: list[str]) -> Directory | None:
    """Note what is wrong; what would only follow from a `doubtful` setting is left out."""

    def noted(check: Callable[[], T]) -> T | None:
        try:
            return check()
        except ConfigurationError as error:
            wrong.extend(str(error).splitlines())
            return None

    settings = loaded.settings
    if "kafka" not in doubtful:
        noted(partial(check_client, settings.librdkafka()))
    if "subscriber_files" in doubtful:
        unread = settings.model_copy(update={"subscriber_files": ()})
        loaded = replace(loaded, settings=unread)
    guard = Guard(()) if doubtful & _JUDGING else None
    directory = noted(lambda: read_directory(loaded, guard))
    noted(partial(refuse_what_is_not_there, settings))
    noted(lambda: OrderingRules(settings).check(directory or Directory()))
    return directory
