"""Where the demo is shown: a terminal, a pipe, and standard error when JSON goes to the pipe."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live

from thorn_stream.ops.demo.report import Result, as_json
from thorn_stream.ops.demo.view import Moment, live, plain, summary

__all__ = ["Screen"]

_LIVE_EVERY: Final = 0.125
_PLAIN_EVERY: Final = 2.0
_WIDEST: Final = 96


class Screen:
    """Tells how it goes; with `json`, on standard error, so that standard output is JSON alone."""

    def __init__(self, *, json: bool) -> None:
        self._json = json
        self._console = Console(stderr=json, highlight=False)
        # rich takes FORCE_COLOR for a terminal; a table that moves is for a real one
        self._moves = self._console.file.isatty() and not self._console.is_dumb_terminal

    def say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    @contextmanager
    def busy(self, what: str) -> Iterator[None]:
        if not self._moves:
            self.say(what)
            yield
            return
        with self._console.status(what, spinner="dots"):
            yield

    @contextmanager
    def live(self, moment: Callable[[], Moment]) -> Iterator[Callable[[], None]]:
        """Give a function to be called often; it shows the moment whenever it is time to."""
        if not self._moves:
            self.say("every 2 s: what was sent, and of each subscriber what is settled / matched")
            yield _each(_PLAIN_EVERY, lambda: self.say(plain(moment())))
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as table:
            yield _each(_LIVE_EVERY, lambda: table.update(_Fitted(live(moment())), refresh=True))

    def finish(self, result: Result) -> None:
        self._console.print(_Fitted(summary(result)))
        if self._json:
            print(as_json(result))  # noqa: T201 - the one thing that goes to standard output


def _each(seconds: float, show: Callable[[], None]) -> Callable[[], None]:
    """Show at most so often."""
    last = time.monotonic()

    def maybe() -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            show()

    return maybe


class _Fitted:
    """As wide as the terminal, but no wider than is read with ease."""

    def __init__(self, what: RenderableType) -> None:
        self._what = what

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._what, options.update(width=min(options.max_width, _WIDEST)))
