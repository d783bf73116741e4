"""The demo as it is seen: a live table on a terminal, plain lines elsewhere, a summary."""

from collections.abc import Callable, Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from thorn_stream.ops.demo.account import Account, Books
from thorn_stream.ops.demo.figures import count, duration, percentile
from thorn_stream.ops.demo.report import Result, notes, verdict

__all__ = ["Moment", "live", "plain", "state", "summary"]

_WORDS = 16  # characters
_RECENT = 2000  # latencies that the live figures are of
_DIM, _GOOD, _BAD, _WAIT = "dim", "green", "bold red", "yellow"


class Moment:
    """What is shown of one moment. `seconds` since the first event, None before it."""

    def __init__(
        self,
        books: Books,
        total: int,
        seconds: float | None,
        down_for: Callable[[str], float] = lambda _: 0.0,
        circuits: Iterable[str] = (),
    ) -> None:
        self.books = books
        self.total = total
        self.seconds = seconds
        self.down_for = down_for
        self.circuits = frozenset(circuits)

    @property
    def all_sent(self) -> bool:
        return self.books.sent >= self.total


def state(moment: Moment, account: Account) -> tuple[str, str]:
    """How this subscriber is doing, in at most 16 characters, and the style to say it in."""
    down = moment.down_for(account.part.id)
    if down:
        return f"down, {down:.0f} s left" if down >= 0.5 else "down", _WAIT
    if not account.waiting and moment.all_sent:
        return "done", _GOOD
    if account.part.id in moment.circuits:
        return "circuit open", _WAIT
    if account.part.behaviour.status == 410:
        return "to dead letters", _DIM
    if moment.all_sent:
        return "finishing", _WAIT
    return "delivering", _DIM


def live(moment: Moment) -> RenderableType:
    """The table while it runs."""
    table = _table("delivered", "waiting", "retried", "dead", "p50", "p99")
    for account in moment.books.accounts.values():
        word, style = state(moment, account)
        table.add_row(
            _two(account.part.id, account.part.does),
            _two(account.part.pattern, word, style),
            _number(len(account.delivered)),
            _number(account.waiting, _WAIT),
            _number(len(account.retried)),
            _number(len(account.dead)),
            *_percentiles(account.latencies[-_RECENT:]),
        )
    # an empty line last: an echoed ^C at the end of a full one would move everything
    return Group(_progress(moment), Text(), table, Text())


def _progress(moment: Moment) -> RenderableType:
    sent, total = moment.books.sent, moment.total
    line = Table.grid(padding=(0, 2))
    line.add_row(
        ProgressBar(total=total, completed=sent, width=30, finished_style=_GOOD),
        f"sent {count(sent)} of {count(total)}",
        Text(f"{moment.seconds or 0.0:.1f} s", _DIM),
    )
    return line


def plain(moment: Moment) -> str:
    """One line: time, what was sent, and per subscriber what is settled of what matched."""
    settled = "  ".join(
        f"{account.part.id} {count(len(account.matched) - account.waiting)}"
        f"/{count(len(account.matched))}"
        for account in moment.books.accounts.values()
    )
    return f"{moment.seconds or 0.0:5.1f} s  sent {count(moment.books.sent)}  {settled}"


def summary(result: Result) -> RenderableType:
    """The table at the end, the verdict, and what a reader should know."""
    table = _table("matched", "delivered", "dead", "retried", "p50", "p99")
    for account in result.books.accounts.values():
        table.add_row(
            _two(account.part.id, account.part.does),
            _two(account.part.pattern, *_end(account)),
            _number(len(account.matched)),
            _number(len(account.delivered)),
            _number(len(account.dead)),
            _number(len(account.retried)),
            *_percentiles(account.latencies),
        )
    said = Text(verdict(result), "bold green" if result.accounted else _BAD)
    faults = [Text(f"- {fault}", _BAD) for fault in result.faults]
    hints = [Text(f"  {hint}", _DIM) for hint in result.hints]
    return Group(
        Text(), table, Text(), said, *faults, *hints, *(Text(one, _DIM) for one in notes(result))
    )


def _end(account: Account) -> tuple[str, str]:
    """How it ended for a subscriber, in at most 16 characters, and the style to say it in."""
    if account.waiting:
        return f"{count(account.waiting)} missing", _BAD
    reasons = sorted(set(account.dead.values()))
    return (f"dead: {reasons[0]}" if reasons else "all delivered"), _DIM


def _table(*numbers: str) -> Table:
    columns = [
        Column("subscriber", no_wrap=True, min_width=_WORDS),
        Column("pattern", no_wrap=True, min_width=_WORDS),
        *(Column(name, justify="right", no_wrap=True) for name in numbers),
    ]
    return Table(
        *columns,
        box=box.SIMPLE_HEAD,
        header_style=_DIM,
        padding=0,
        show_edge=False,
        expand=True,
    )


def _two(first: str, second: str, style: str = _DIM) -> Text:
    """A cell of two lines, the second one quieter."""
    return Text.assemble(first, "\n", (second, style))


def _number(value: int, style: str = "") -> Text:
    return Text(count(value), style) if value else Text("0", _DIM)


def _percentiles(latencies: Sequence[float]) -> tuple[Text, ...]:
    values = (duration(percentile(latencies, share)) for share in (0.50, 0.99))
    return tuple(Text(value, _DIM if value == "-" else "") for value in values)
