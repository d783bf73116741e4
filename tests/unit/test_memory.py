"""The in-memory adapters keep the rules of the ports they stand in for."""

import asyncio
from collections.abc import Sequence

import pytest

from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.ledger import Ledger, Tally
from thorn_stream.core.records import Partition, Position, Record
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.ports import (
    Assigned,
    Clock,
    Committed,
    Lost,
    Observer,
    Records,
    Revoked,
    SendFailed,
    Sink,
    Source,
    SourceEvent,
    SubscriberSource,
    Transport,
    Trouble,
)
from thorn_stream.testing import (
    MemoryClock,
    MemorySink,
    MemorySource,
    MemorySubscribers,
    MemoryTransport,
    RecordingObserver,
)

# mypy refuses this file when one of them no longer fits its port
_CLOCK: type[Clock] = MemoryClock
_SOURCE: type[Source] = MemorySource
_SINK: type[Sink] = MemorySink
_TRANSPORT: type[Transport] = MemoryTransport
_SUBSCRIBERS: type[SubscriberSource] = MemorySubscribers
_OBSERVER: type[Observer] = RecordingObserver

ORDERS = Partition("orders", 0)
OK = Outcome(Kind.OK, 200)
VALUE = b'{"event": "order.created"}'


def record(offset: int, value: bytes = VALUE) -> Record:
    return Record("orders", 0, offset, None, value, [], 1_700_000_000_000)


class Heard(list[SourceEvent]):
    """What a source handed over, in order."""

    def take(self, events: Sequence[SourceEvent]) -> None:
        self.extend(events)

    @property
    def batches(self) -> list[Records]:
        return [event for event in self if isinstance(event, Records)]

    @property
    def offsets(self) -> list[int]:
        return [each.offset for batch in self.batches for each in batch.records]


def make_attempt(url: str, ended: list[tuple[Attempt, Outcome]], timeout: float = 5.0) -> Attempt:
    subscriber = Subscriber(id="billing", event=("*",), url=url)
    envelope = decode(record(0))
    assert isinstance(envelope, Envelope)
    entry = Ledger(ORDERS, 0, 100, Tally()).enter(0, 1)
    assert entry is not None
    delivery = Delivery(envelope, subscriber, "d1", entry)
    return Attempt(
        delivery, url, b"", b"", timeout, keep_alive=True, ended=lambda a, o: ended.append((a, o))
    )


async def settle() -> None:
    """Let everything that is on the loop already run, and what that puts there."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_source_hands_over_assignment_then_records_later() -> None:
    """Nothing is handed over inside `start`; then the assignment comes before its records."""

    async def run() -> None:
        source, heard = MemorySource([ORDERS]), Heard()
        source.feed([record(0), record(1)])
        source.start(heard.take)
        assert heard == []
        await settle()
        assert isinstance(heard[0], Assigned)
        assert heard[0].positions == {ORDERS: Position(0)}
        assert heard.offsets == [0, 1]

    asyncio.run(run())


def test_a_source_stops_at_its_credit_in_records_or_bytes() -> None:
    """Handing over stops when either credit is used up and goes on when both are renewed."""

    async def run() -> None:
        source, heard = MemorySource([ORDERS], records=2, size=1_000_000), Heard()
        source.start(heard.take)
        source.feed(record(each) for each in range(6))
        await settle()
        assert heard.offsets == [0, 1]
        source.credit(1, 0)
        await settle()
        assert heard.offsets == [0, 1, 2]
        source.credit(10, -1_000_000)
        await settle()
        assert heard.offsets == [0, 1, 2]
        source.credit(0, 1_000_000)
        await settle()
        assert heard.offsets == [0, 1, 2, 3, 4, 5]

    asyncio.run(run())


def test_a_paused_partition_is_not_read_until_it_is_resumed() -> None:
    """Records of a paused partition wait; those of another go on."""

    async def run() -> None:
        other = Partition("orders", 1)
        source, heard = MemorySource([ORDERS, other]), Heard()
        source.start(heard.take)
        source.pause([ORDERS])
        source.feed([record(0)])
        source.publish("orders", VALUE, partition=1)
        await settle()
        assert heard.batches[0].records[0].partition == 1
        source.resume([ORDERS])
        await settle()
        assert heard.offsets == [0, 0]

    asyncio.run(run())


def test_a_commit_is_answered_later_and_kept() -> None:
    """The answer to a commit comes on the loop, and a new assignment begins there."""

    async def run() -> None:
        source, heard = MemorySource([ORDERS]), Heard()
        source.feed(record(each) for each in range(3))
        source.start(heard.take)
        await settle()
        heard.clear()
        source.commit({ORDERS: Position(2, "note")})
        assert heard == []
        await settle()
        assert heard == [Committed({ORDERS: Position(2, "note")}, {ORDERS: None})]
        source.lose(ORDERS)
        source.assign(ORDERS)
        await settle()
        assert heard[1] == Lost((ORDERS,))
        assert heard[2] == Assigned({ORDERS: Position(2, "note")})
        assert heard.offsets == [2]

    asyncio.run(run())


def test_refused_held_and_foreign_commits_change_nothing() -> None:
    """A commit refused, or of a partition not ours, is answered with why; one held back waits."""

    async def run() -> None:
        source, heard = MemorySource([ORDERS]), Heard()
        source.start(heard.take)
        await settle()
        heard.clear()
        source.refuse = "Broker: Unknown member"
        source.commit({ORDERS: Position(1), Partition("else", 0): Position(1)})
        await settle()
        assert isinstance(heard[0], Committed)
        assert heard[0].errors == {
            ORDERS: "Broker: Unknown member",
            Partition("else", 0): "not assigned to this member",
        }
        assert source.committed == {}
        source.refuse, source.hold_commits = None, True
        source.commit({ORDERS: Position(5)})
        await settle()
        assert len(heard) == 1
        source.answer_commits()
        await settle()
        assert heard[1:] == [Committed({ORDERS: Position(5)}, {ORDERS: None})]
        assert source.committed == {ORDERS: Position(5)}

    asyncio.run(run())


def test_revocation_commits_the_answer_when_it_comes_in_time() -> None:
    """The last positions are committed; an answer that comes too late commits nothing."""

    async def run() -> None:
        source, heard = MemorySource([ORDERS]), Heard()

        def answer(events: Sequence[SourceEvent]) -> None:
            heard.take(events)
            for event in events:
                if isinstance(event, Revoked):
                    event.answer({ORDERS: Position(7)})

        source.start(answer)
        await settle()
        assert await source.revoke(ORDERS)
        assert source.committed == {ORDERS: Position(7)}

        late = MemorySource([ORDERS])
        late.start(heard.take)
        assert not await late.revoke(ORDERS, wait=0.001)
        assert isinstance(heard[-1], Revoked)
        heard[-1].answer({ORDERS: Position(9)})
        assert late.committed == {}

    asyncio.run(run())


def test_a_stopped_source_hands_nothing_over() -> None:
    """After `stop` has returned nothing comes any more, whatever is fed or told."""

    async def run() -> None:
        source, heard = MemorySource([ORDERS]), Heard()
        source.start(heard.take)
        await settle()
        source.commit({ORDERS: Position(1)})
        assert await source.stop(1.0)
        count = len(heard)
        assert isinstance(heard[-1], Committed)
        source.feed([record(0)])
        source.tell(Trouble("broker", "gone"))
        await settle()
        assert len(heard) == count

    asyncio.run(run())


def test_a_memory_clock_moves_only_when_it_is_told_to() -> None:
    """Both faces of the clock move by the same time; what is published carries its wall time."""

    async def run() -> None:
        clock = MemoryClock(wall=1_000)
        source = MemorySource(clock=clock)
        assert source.publish("t", b"").timestamp == 1_000
        clock.advance(1.5)
        assert source.publish("t", b"").timestamp == 2_500
        assert clock.monotonic() == 1.5

    asyncio.run(run())


def test_a_sink_acknowledges_later_once_and_keeps_the_record() -> None:
    """`done` is never called from inside `send`; afterwards the record stands in its topic."""

    async def run() -> None:
        sink, done = MemorySink(), list[tuple[str, SendFailed | None]]()
        sink.send("t", (b"k", b"v", [("a", b"1")]), lambda *said: done.append(said), "token")
        assert done == []
        assert await sink.stop(1.0) == 0
        assert done == [("token", None)]
        (kept,) = sink.topics["t"]
        assert (kept.key, kept.value, kept.headers, kept.offset) == (b"k", b"v", [("a", b"1")], 0)

    asyncio.run(run())


def test_a_sink_fails_as_it_is_told() -> None:
    """Failures come in turn, a value over the topic's limit is too large; neither is written."""

    async def run() -> None:
        sink, done = MemorySink(), list[SendFailed | None]()
        sink.fail(1, "no replicas")
        sink.limits["t"] = 3
        for value in (b"1", b"1234", b"123"):
            sink.send("t", (None, value, []), lambda _, failed: done.append(failed), None)
        await settle()
        assert [failed and failed.too_large for failed in done] == [False, True, None]
        assert [kept.value for kept in sink.topics["t"]] == [b"123"]

    asyncio.run(run())


def test_a_sink_that_holds_acknowledges_when_released() -> None:
    """While held, nothing is acknowledged and `stop` counts it; released, all of it is."""

    async def run() -> None:
        sink, done = MemorySink(), list[int]()
        sink.hold = True
        sink.send("t", (None, b"", []), lambda token, _: done.append(token), 1)
        assert await sink.stop(0.001) == 1
        assert done == []
        sink.release()
        assert await sink.stop(1.0) == 0
        assert done == [1]

    asyncio.run(run())


def test_what_a_sink_took_can_be_read_back_by_a_source() -> None:
    """A record written to a retry topic arrives at a source of that topic."""

    async def run() -> None:
        source, heard = MemorySource([Partition("t", 0)]), Heard()
        source.start(heard.take)
        sink = MemorySink(into=source.feed)
        sink.send("t", (None, b"v", []), lambda *_: None, None)
        await settle()
        assert heard.offsets == [0]

    asyncio.run(run())


def test_a_transport_ends_each_attempt_later_and_once() -> None:
    """`ended` is never called from inside `send`, and a second end of an Attempt does nothing."""

    async def run() -> None:
        transport, ended = MemoryTransport(), list[tuple[Attempt, Outcome]]()
        attempt = make_attempt("http://a", ended)
        transport.send(attempt)
        assert ended == []
        await settle()
        transport.end(attempt, Outcome(Kind.CONNECT))
        await settle()
        assert ended == [(attempt, OK)]
        assert transport.attempts == [attempt]

    asyncio.run(run())


def test_a_transport_answers_by_url() -> None:
    """Lists answer in turn, functions are asked, and at an unknown URL nobody is there."""

    async def slow(attempt: Attempt) -> Outcome:
        await asyncio.sleep(0)
        return Outcome(Kind.STATUS, 500)

    async def run() -> None:
        transport = MemoryTransport(
            {
                "http://list": [Outcome(Kind.STATUS, 503), OK],
                "http://call": lambda attempt: Outcome(Kind.DNS),
                "http://slow": slow,
            }
        )
        ended = list[tuple[Attempt, Outcome]]()
        names = ["list", "list", "list", "call", "slow", "none"]
        for name in names:
            transport.send(make_attempt(f"http://{name}", ended))
        await settle()
        got = {name: [o.error for a, o in ended if a.target == f"http://{name}"] for name in names}
        assert got == {
            "list": ["status:503", "ok", "ok"],
            "call": ["dns"],
            "slow": ["status:500"],
            "none": ["connect:nobody is there"],
        }

    asyncio.run(run())


def test_an_answer_that_takes_too_long_is_a_timeout() -> None:
    """An async answer slower than the Attempt's timeout ends it as `timeout`."""

    async def never(attempt: Attempt) -> Outcome:
        await asyncio.Event().wait()
        return OK

    async def run() -> None:
        transport, ended = MemoryTransport(never), asyncio.Queue[Outcome]()
        attempt = make_attempt("http://a", [], timeout=0.001)
        attempt.ended = lambda _, outcome: ended.put_nowait(outcome)
        transport.send(attempt)
        outcome = await asyncio.wait_for(ended.get(), 5)
        assert outcome.kind is Kind.TIMEOUT

    asyncio.run(run())


@pytest.mark.parametrize("known", [True, False])
def test_stopping_a_transport_ends_what_is_under_way_as_connect(known: bool) -> None:
    """Whether it waits for the test or for a task, and even before it began, it ends once."""

    async def never(attempt: Attempt) -> Outcome:
        await asyncio.Event().wait()
        return OK

    async def run() -> None:
        transport = MemoryTransport(None if known else never)
        ended = list[tuple[Attempt, Outcome]]()
        transport.send(make_attempt("http://a", ended))
        await settle()
        transport.send(make_attempt("http://b", ended))
        await transport.stop()
        await settle()
        assert [outcome.error for _, outcome in ended] == ["connect:stopped"] * 2
        assert transport.waiting == {}

    asyncio.run(run())


def test_memory_subscribers_load_what_they_hold_or_raise() -> None:
    """`load` gives the list as it is now, and raises what a test has set."""
    one = Subscriber(id="a", event=("*",), url="http://a")
    source = MemorySubscribers(one)
    assert source.load() == (one,)
    assert MemoryTransport().target(one) == "http://a"
    source.error = ConfigurationError("a.yaml: no such pattern")
    with pytest.raises(ConfigurationError, match="no such pattern"):
        source.load()


def test_a_recording_observer_keeps_every_call_in_order() -> None:
    """Each method of the port leaves its name and arguments."""
    observer = RecordingObserver()
    observer.consumed("g", "t", 3)
    observer.unmatched()
    observer.unassigned("g", [ORDERS], lost=True)
    observer.consumed("g", "t", 4)
    assert [call.name for call in observer.calls] == [
        "consumed",
        "unmatched",
        "unassigned",
        "consumed",
    ]
    assert observer.named("consumed") == [("g", "t", 3), ("g", "t", 4)]
    assert observer.named("unassigned") == [("g", [ORDERS], True)]
