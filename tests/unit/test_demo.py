"""The demo's own arithmetic: matching, accounting, figures, and how they are shown."""

import json

import pytest

from thorn_stream.ops.demo.account import Account, Books, DeadLetter
from thorn_stream.ops.demo.cast import Behaviour, Part, cast, happenings, outage, wire
from thorn_stream.ops.demo.figures import count, duration, percentile
from thorn_stream.ops.demo.matching import matches

HEALTHY = Part("healthy", "**", "answers at once", Behaviour())
GONE = Part("gone", "user.profile.*", "answers 410", Behaviour(status=410))


# --- matching -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*", "order"),
        ("*", "order.item.added"),
        ("**", "order.item.added"),
        ("order.*", "order.created"),
        ("order.*", "order.item.added"),
        ("order.**", "order"),
        ("order.**.added", "order.added"),
        ("order.**.added", "order.item.line.added"),
        ("*.created", "user.created"),
        ("{order,user}.**", "user.profile.changed"),
        ("{order,user.{profile,mail}}.changed", "user.mail.changed"),
        ("order.{item.added,paid}", "order.item.added"),
        ("or?er.[cp]*", "order.paid"),
        ("order.[!c]*", "order.paid"),
    ],
)
def test_matches(pattern: str, name: str) -> None:
    """The slow matcher finds what the rules for patterns call a match."""
    assert matches(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("order.*", "order"),
        ("order.*", "orders.created"),
        ("*.created", "user.profile.created"),
        ("order.**.added", "order.item"),
        ("{order,user}.**", "article.created"),
        ("Order.*", "order.created"),
        ("order.[!p]*", "order.paid"),
        ("order", "order.created"),
    ],
)
def test_does_not_match(pattern: str, name: str) -> None:
    """What the rules do not call a match is none."""
    assert not matches(pattern, name)


# --- what is sent -------------------------------------------------------------------------------


def test_events_are_the_same_each_time_and_reach_everybody() -> None:
    """The mixture is repeatable, has events with and without sender, and work for all five."""
    sent = list(happenings(300))
    assert sent == list(happenings(300))
    assert {one.sender is None for one in sent} == {True, False}
    for part in cast(10):
        assert any(matches(part.pattern, one.name) for one in sent), part.id
    value = json.loads(wire(sent[7], 1234))
    assert value["event"] == sent[7].name
    assert value["data"] == {"number": 7, "sent": 1234}


@pytest.mark.parametrize(
    ("events", "rate", "seconds"), [(2000, 200, 10), (60, 100, 2), (500, 100, 5)]
)
def test_the_outage_is_ten_seconds_or_as_long_as_a_short_run(
    events: int, rate: float, seconds: float
) -> None:
    """A receiver is dead for 10 s; in a run shorter than that, for as long as it lasts."""
    assert outage(events, rate) == seconds


# --- accounts -----------------------------------------------------------------------------------


def books_of(*parts: Part) -> Books:
    books = Books(parts)
    for number, name in enumerate(["order.paid", "user.profile.changed", "user.profile.seen"]):
        books.produced(number, name)
    return books


def settle(books: Books) -> Books:
    for number in range(3):
        books.accounts["healthy"].answered(f"h{number}", number, 10.0 * (number + 1))
    for number in (1, 2):
        books.died(DeadLetter("gone", "gone", number))
    return books


def test_all_adds_up() -> None:
    """Everything delivered or dead for the reason its receiver gives: no fault, nothing waits."""
    books = settle(books_of(HEALTHY, GONE))
    assert books.settled
    assert (books.sent, books.matched, books.delivered, books.dead) == (3, 5, 3, 2)
    assert books.faults() == []


def test_an_account_knows_what_is_under_way() -> None:
    """What waits is what was sent and has not come to an end."""
    account = Account(HEALTHY)
    account.claims(1)
    account.claims(2)
    assert account.waiting == 2
    account.died(1, "gone")
    account.answered("b", 2, 1.0)
    assert account.waiting == 0


def test_what_is_neither_delivered_nor_dead_is_missing() -> None:
    """An event that did not come is named by its number, and waits until then."""
    books = books_of(HEALTHY)
    books.accounts["healthy"].answered("a", 1, 5.0)
    assert not books.settled
    assert books.accounts["healthy"].waiting == 2
    assert books.faults() == ["healthy: 2 neither delivered nor dead: events 0, 2"]


def test_one_that_is_lost_is_not_made_good_by_one_that_came_twice() -> None:
    """Sets are compared, not numbers: an event under a second delivery id is a fault of its own."""
    books = books_of(HEALTHY)
    account = books.accounts["healthy"]
    for delivery, event in (("a", 0), ("b", 1), ("c", 1)):
        account.answered(delivery, event, 5.0)
    assert account.faults() == [
        "healthy: 1 neither delivered nor dead: event 2",
        "healthy: 1 came under a second delivery id",
    ]


def test_a_repeat_under_the_same_id_is_counted_and_forgiven() -> None:
    """At least once: the same delivery again is a duplicate, and counts for no latency."""
    books = settle(books_of(HEALTHY, GONE))
    books.accounts["healthy"].answered("h1", 1, 900.0)
    assert (books.duplicates, books.faults()) == (1, [])
    assert books.accounts["healthy"].p99 == 30.0


@pytest.mark.parametrize(
    ("letter", "fault"),
    [
        (DeadLetter("healthy", "exhausted", 0), "given up on for no good reason"),
        (DeadLetter("gone", "exhausted", 1), "given up on for no good reason"),
        (DeadLetter("gone", "gone", 0), "though the pattern does not match"),
        (DeadLetter("nobody", "gone", 0), "1 dead letter of nobody here: subscriber nobody"),
        (DeadLetter("", "undecodable", None), "subscriber none, reason undecodable"),
    ],
)
def test_a_dead_letter_that_should_not_be_is_a_fault(letter: DeadLetter, fault: str) -> None:
    """Only the receiver that answers 410 may have dead letters, of events it matches, `gone`."""
    books = books_of(HEALTHY, GONE)
    books.died(letter)
    assert any(fault in found for found in books.faults())


def test_delivered_and_dead_as_well_is_a_fault() -> None:
    """A delivery has one end."""
    books = settle(books_of(HEALTHY, GONE))
    books.accounts["gone"].answered("g", 1, 1.0)
    assert books.faults() == ["gone: 1 delivered and dead as well: event 1"]


def test_signatures_and_refused_events_are_faults() -> None:
    """A request that is not signed, and an event that Kafka did not take, make it fail."""
    books = settle(books_of(HEALTHY, GONE))
    books.accounts["healthy"].forged = 2
    books.refused(7, "the topic does not exist")
    assert books.faults() == [
        "healthy: 2 came with a signature that is missing or wrong",
        "Kafka did not take 1 event: the topic does not exist",
    ]


# --- figures ------------------------------------------------------------------------------------


def test_percentiles_are_of_the_nearest_rank() -> None:
    """A percentile is a value that was measured; of nothing there is none."""
    values = [float(number) for number in range(100, 0, -1)]
    assert percentile(values, 0.50) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([7.0], 0.99) == 7.0
    assert percentile([1.0, 2.0], 0.99) == 2.0
    assert percentile([], 0.5) is None


def test_numbers_are_easy_to_read() -> None:
    """Thousands are set apart, nouns agree, a duration fits into six characters."""
    assert count(1204) == "1,204"
    assert [count(1, "event"), count(1, "delivery")] == ["1 event", "1 delivery"]
    assert [count(2000, "event"), count(0, "delivery")] == ["2,000 events", "0 deliveries"]
    assert [duration(one) for one in (None, 8.4, 512.0, 999.6, 12_040.0, 184_000.0)] == [
        "-",
        "8 ms",
        "512 ms",
        "1.0 s",
        "12.0 s",
        "184 s",
    ]
