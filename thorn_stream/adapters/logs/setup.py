"""Sends every line of the process to standard error: ours, those of libraries, and warnings."""

import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Final, Literal, TextIO, TypeAlias

import structlog
from pydantic import BaseModel
from structlog.typing import FilteringBoundLogger, Processor

from thorn_stream.adapters.logs.masking import masked, scrubbed
from thorn_stream.version import __version__

__all__ = ["Format", "set_up", "summary"]

Format: TypeAlias = Literal["auto", "json", "console"]

_LEVELS: Final = logging.getLevelNamesMapping()
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class _Writer:
    """Writes a line and flushes it. A log that cannot be written must not stop deliveries."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the pipe's reader is gone, or the stream is closed
            return

    debug = info = warning = error = critical = msg


class _Routed(logging.Handler):
    """Hands what goes through the standard library's logging to ours."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - whatever a library's arguments do when they are printed
            text = str(record.msg)
        level = max(logging.DEBUG, min(record.levelno // 10 * 10, logging.CRITICAL))
        self._logger.log(level, text, logger=record.name, exc_info=record.exc_info)


def set_up(
    *, level: str = "info", style: Format = "auto", stream: TextIO | None = None
) -> FilteringBoundLogger:
    """Set logging up for the whole process; returns the logger for thorn_stream's own lines.

    `style` is the setting `log.format`: `auto` writes for people on a terminal and JSON elsewhere.
    `stream` is standard error when not given, since standard output belongs to data. Libraries are
    heard from `warning` on, at the level `debug` from `info` on.
    """
    to = sys.stderr if stream is None else stream
    number = _LEVELS[level.upper()]
    structlog.configure(
        processors=_processors(to, style),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Writer(to),
        cache_logger_on_first_use=False,
    )
    logger: FilteringBoundLogger = structlog.get_logger().bind()
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Routed)]:
        root.removeHandler(handler)
    root.addHandler(_Routed(logger))
    root.setLevel(logging.INFO if number <= logging.DEBUG else max(number, logging.WARNING))
    logging.captureWarnings(True)
    return logger


def summary(logger: FilteringBoundLogger, settings: BaseModel | Mapping[str, Any]) -> None:
    """One line at start: the version and the settings in force, secrets as `set`."""
    logger.info("starting", version=__version__, settings=masked(settings))


def _processors(stream: TextIO, style: Format) -> list[Processor]:
    terminal = stream.isatty()
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _scrub,
    ]
    if style == "console" or (style == "auto" and terminal):
        # rich's tracebacks, the renderer's default, show the values of variables: so, secrets
        renderer = structlog.dev.ConsoleRenderer(
            colors=terminal, exception_formatter=structlog.dev.plain_traceback
        )
        return [*shared, _escape, renderer]
    return [*shared, structlog.processors.JSONRenderer(default=str)]


def _scrub(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    del logger, method
    for name, value in line.items():
        if isinstance(value, str) and "://" in value:
            line[name] = scrubbed(value)
    return line


def _escape(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What a receiver sent must not steer the terminal it is shown on (JSON escapes by itself)."""
    del logger, method
    for name, value in line.items():
        if name != "exception" and isinstance(value, str) and _CONTROL.search(value):
            line[name] = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", value)
    return line
