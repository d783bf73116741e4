"""What the demo tells: tables, plain lines, the verdict, JSON, and what it reads for them."""

import json
from io import StringIO

import pytest
from rich.console import Console

from tests.unit.test_demo import GONE, HEALTHY, books_of, settle
from thorn_stream.core.records import Record
from thorn_stream.ops.demo.account import Books, DeadLetter
from thorn_stream.ops.demo.cast import Behaviour, Part, cast, happenings
from thorn_stream.ops.demo.dispatcher import metrics_of
from thorn_stream.ops.demo.figures import count
from thorn_stream.ops.demo.kafka import dead_letter
from thorn_stream.ops.demo.report import (
    Result,
    as_json,
    counted_by_dispatcher,
    notes,
    verdict,
    where_it_waits,
)
from thorn_stream.ops.demo.view import Moment, live, plain, state, summary


def shown(what: object, width: int) -> list[str]:
    console = Console(file=StringIO(), width=width, color_system=None)
    console.print(what)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


def busy_books() -> Books:
    """The five with work of every kind, in numbers as large as they get by default."""
    books = Books(cast(10))
    for one in happenings(2000):
        books.produced(one.number, one.name)
    for account in books.accounts.values():
        for number in sorted(account.matched)[: len(account.matched) * 2 // 3]:
            account.called(f"{account.part.id}-{number}", 1 + number % 2)
            account.answered(f"{account.part.id}-{number}", number, 99_900.0)
    return books


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_the_terminal(width: int) -> None:
    """At 80 and at 100 columns no line is cut or wrapped: every number can be read."""
    books = busy_books()
    moment = Moment(books, 2000, 8.0, lambda _: 2.4)
    result = Result(books, embedded=True, seconds=20.0)
    for lines in (shown(live(moment), width), shown(summary(result), width)):
        assert all(len(line) <= width for line in lines)
        text = "\n".join(lines)
        assert "…" not in text
        for account in books.accounts.values():
            assert account.part.does in text
            assert account.part.pattern in text
            assert count(len(account.delivered)) in text
        assert "99.9 s" in text


def test_states() -> None:
    """A subscriber is down, behind a circuit, delivering, finishing or done."""
    late = Part("late", "**", "dead for 10 s", Behaviour(outage=10))
    books = books_of(late)
    account = books.accounts["late"]

    def word(down: float = 0.0, circuits: tuple[str, ...] = (), total: int = 3) -> str:
        return state(Moment(books, total, 1.0, lambda _: down, circuits), account)[0]

    assert word(down=6.2) == "down, 6 s left"
    assert word(down=0.2) == "down"
    assert word(circuits=("late",)) == "circuit open"
    assert word(total=9) == "delivering"
    assert word() == "finishing"
    for number in range(3):
        account.answered(str(number), number, 1.0)
    assert word(total=9) == "delivering"
    assert word() == "done"
    gone = Moment(books_of(GONE), 9, 1.0)
    assert state(gone, gone.books.accounts["gone"])[0] == "to dead letters"


def test_plain_line() -> None:
    """Without a terminal a line tells the time, what was sent, and who has how much of what."""
    books = settle(books_of(HEALTHY, GONE))
    books.produced(3, "order.paid")
    assert plain(Moment(books, 9, 4.0)) == "  4.0 s  sent 4  healthy 3/4  gone 2/2"


def test_a_sum_that_adds_up_is_told_in_one_sentence() -> None:
    """The verdict names events and deliveries, and says that the figures are the mock's."""
    result = Result(settle(books_of(HEALTHY, GONE)), embedded=True, seconds=1.5)
    assert verdict(result) == "3 events, 5 deliveries: every one accounted for."
    assert any("embedded broker" in note for note in notes(result))
    assert not any("embedded" in note for note in notes(Result(result.books, embedded=False)))


def test_faults_are_told_with_where_it_waits() -> None:
    """When it does not add up, the summary says so, what is missing, and where it waits."""
    result = Result(books_of(HEALTHY), embedded=True)
    result.faults = result.books.faults()
    result.hints = ["3 queued for healthy"]
    text = "\n".join(shown(summary(result), 100))
    assert "3 events, 3 deliveries: it does not add up." in text
    assert "healthy: 3 neither delivered nor dead: events 0, 1, 2" in text
    assert "3 queued for healthy" in text
    assert "3 missing" in text


def test_json_has_the_promised_shape() -> None:
    """`--json`: percentiles are null where nothing was delivered."""
    result = Result(settle(books_of(HEALTHY, GONE)), embedded=True)
    told = json.loads(as_json(result))
    assert told["events"] == 3
    assert told["accounted"] is True
    assert told["subscribers"] == [
        {
            "id": "healthy",
            "matched": 3,
            "delivered": 3,
            "dead": 0,
            "received": 3,
            "duplicates": 0,
            "retried": 0,
            "p50_ms": 20.0,
            "p99_ms": 30.0,
        },
        {
            "id": "gone",
            "matched": 2,
            "delivered": 0,
            "dead": 2,
            "received": 0,
            "duplicates": 0,
            "retried": 0,
            "p50_ms": None,
            "p99_ms": None,
        },
    ]


def test_what_became_of_the_topics_is_said() -> None:
    """On a real broker they are deleted; those that could not be are named."""
    books = settle(books_of(HEALTHY))
    told = notes(Result(books, embedded=False, deleted=["d.dead", "d.events"]))
    assert told[-1] == "Deleted from the broker: the demo's 2 topics."
    told = notes(Result(books, embedded=False, left_behind=["d.*"]))
    assert told[-1].startswith("Left on the broker")
    assert "d.*" in told[-1]


METRICS = """\
# HELP thorn_deliveries_total What was decided.
# TYPE thorn_deliveries_total counter
thorn_deliveries_total{settlement="delivered"} 41
thorn_deliveries_total{settlement="retry"} 7
thorn_dead_letters_total{reason="gone"} 2
thorn_dead_letters_total{reason="exhausted"} 1
thorn_in_flight 3
thorn_lane_depth{subscriber="slow"} 12
thorn_lane_depth{subscriber="flaky"} 0
thorn_circuit_open{subscriber="late"} 1
thorn_consumer_lag{group="d",topic="d.retry.1s",partition="2"} 9
thorn_consumer_lag{group="d",topic="d.retry.1s",partition="3"} 2
"""


def test_metrics_are_read() -> None:
    """What the dispatcher says of itself is read from Prometheus' text format."""
    samples = metrics_of(METRICS)
    assert counted_by_dispatcher(samples) == (41, 3)
    assert counted_by_dispatcher([]) is None
    assert where_it_waits(samples) == [
        "3 requests under way",
        "12 queued for slow",
        "the circuit of late is open",
        "11 not committed in d.retry.1s",
    ]


def test_dead_letters_are_read() -> None:
    """A dead letter tells its subscriber and reason in headers, its event in its value."""
    headers: list[tuple[str, bytes | None]] = [
        ("thorn-subscriber", b"gone"),
        ("thorn-reason", b"gone"),
    ]
    letter = Record("d.dead", 0, 0, None, b'{"event": "a", "data": {"number": 4}}', headers, 0)
    assert dead_letter(letter) == DeadLetter("gone", "gone", 4)
    empty = Record("d.dead", 0, 0, None, b"\xff", [], 0)
    assert dead_letter(empty) == DeadLetter("", "none", None)
