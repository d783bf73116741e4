"""What several commands share: the settings option, and how things are printed."""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer

if TYPE_CHECKING:
    from thorn_stream.config import Loaded

__all__ = [
    "ConfigOption",
    "JsonOption",
    "client",
    "load",
    "note",
    "patience",
    "print_json",
    "progress",
    "say",
    "warn",
]

ConfigOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="Settings; config/thorn.yaml if present."),
]
_SILENT: Final = 2.0  # seconds

JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def load(config: Path | None) -> "Loaded":
    """The settings in force."""
    from thorn_stream.config import load_settings

    return load_settings(config, os.environ)


def client(loaded: "Loaded", config: Path | None) -> dict[str, str]:
    """What Kafka's client is made with: a broker that runs in this directory, unless one is named.

    A settings file names one, and so does THORN_KAFKA__BOOTSTRAP_SERVERS.
    """
    from thorn_stream.ops.publish import client_settings

    chosen = config is not None or "THORN_KAFKA__BOOTSTRAP_SERVERS" in os.environ
    return client_settings(loaded.settings, chosen=chosen)


def say(line: str) -> None:
    """To standard output, at once: it may be a pipe that somebody reads along."""
    typer.echo(line)


def warn(loaded: "Loaded") -> None:
    """Tell what is allowed and seldom meant; call it once the subscriber files are read."""
    for line in loaded.warnings:
        note(f"warning: {line}")


def note(line: str) -> None:
    """To standard error, beside what is printed."""
    typer.echo(f"thorn-stream: {line}", err=True)


def print_json(data: Any) -> None:
    text = json.dumps(data, indent=2, ensure_ascii=False)
    # half of a surrogate pair is no text: it is written as JSON escapes it
    typer.echo(text.encode("utf-8", "backslashreplace").decode("utf-8"))


@contextlib.contextmanager
def patience(servers: str) -> Iterator[Callable[[], None]]:
    """Say after a while that Kafka has not answered; what it yields is called when it has."""
    text = f"Kafka at {servers} has not answered yet: still trying (Ctrl-C ends it)"
    timer = threading.Timer(_SILENT, note, [text])
    timer.daemon = True
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def progress(text: str) -> None:
    """Over the last one, on a terminal only."""
    if sys.stderr.isatty():
        typer.echo(f"\r{text}", nl=False, err=True)
