"""The few doors between what is decided and moved (core, dispatch) and the world (adapters).

All of it is called on the event loop, by one thread. An adapter that runs threads of its own
hands what they learn over with `call_soon_threadsafe`, in batches.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

from thorn_stream.core.deliveries import Attempt, Delivery, Outcome, Settlement
from thorn_stream.core.records import Headers, Partition, Position, Record
from thorn_stream.core.subscribers import Subscriber

__all__ = [
    "NOT_ASSIGNED",
    "Ask",
    "Assigned",
    "Clock",
    "Committed",
    "Lost",
    "LostRecords",
    "Observer",
    "PlacedSink",
    "Records",
    "Replay",
    "Revoked",
    "SendFailed",
    "Sink",
    "Slice",
    "Source",
    "SourceEvent",
    "SubscriberSource",
    "Transport",
    "Trouble",
]


# --- reading from Kafka ------------------------------------------------------------------------


@dataclass(slots=True)
class Assigned:
    """These partitions are ours from now on, and are read from these positions."""

    positions: Mapping[Partition, Position]


@dataclass(slots=True)
class Revoked:
    """These go to another member. `answer` takes the last positions to commit, once, soon.

    The source waits at most two seconds for the answer; without one it commits nothing.
    """

    partitions: Sequence[Partition]
    answer: Callable[[Mapping[Partition, Position]], None]


@dataclass(slots=True)
class Lost:
    """These are gone already: nothing may be committed for them."""

    partitions: Sequence[Partition]


@dataclass(slots=True)
class Records:
    """Read, in rising order of offsets within a partition."""

    records: Sequence[Record]


@dataclass(slots=True)
class LostRecords:
    """Kafka deleted records of this partition before they were read: `count` of them, exactly."""

    partition: Partition
    count: int


@dataclass(slots=True)
class Committed:
    """The answer to one `commit`: None where Kafka has it, else why it was refused."""

    positions: Mapping[Partition, Position]
    errors: Mapping[Partition, str | None]


NOT_ASSIGNED: Final = "not assigned any more"
"""In `Committed.errors`: the partition had gone to another member before the commit was made."""


@dataclass(slots=True)
class Trouble:
    """Something an operator must know, kept as state until it clears.

    `key` names the trouble (`topic:orders`, `login`, `group`, `broker`), `text` says what is
    wrong and what to do; None means it is over. `fatal_at_start` marks a refused login or
    permission.
    """

    key: str
    text: str | None
    fatal_at_start: bool = False


SourceEvent: TypeAlias = Assigned | Revoked | Lost | Records | LostRecords | Committed | Trouble


class Source(Protocol):
    """One consumer group handle, owned by one thread of its own."""

    def start(self, handle: Callable[[Sequence[SourceEvent]], None]) -> None:
        """Join the group. Everything learnt is handed to `handle` on the loop, in order."""

    def commit(self, positions: Mapping[Partition, Position]) -> None:
        """Ask for a commit; the answer comes as `Committed`. Never blocks."""

    def pause(self, partitions: Sequence[Partition]) -> None:
        """Stop reading these; records already on their way may still come."""

    def resume(self, partitions: Sequence[Partition]) -> None: ...

    def credit(self, records: int, size: int) -> None:
        """Allow so many more records and bytes to be handed over.

        A source starts with a credit of its own (given when it was made) and stops handing over
        when either is used up.
        """

    @property
    def total(self) -> int:
        """Partitions of the group's topics, whoever has them; 0 while that is not known."""

    async def stop(self, grace: float) -> bool:
        """Leave the group; True when it was left within `grace` seconds."""


# --- writing to Kafka --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SendFailed:
    """Kafka did not take a record. `too_large`: it never will, even alone."""

    error: str
    too_large: bool = False


class Sink(Protocol):
    """Writes records; what it holds is bounded by what its callers hold."""

    def send(
        self,
        topic: str,
        record: tuple[bytes | None, bytes | None, Headers],
        done: Callable[[Any, SendFailed | None], None],
        token: Any,
    ) -> None:
        """Write (key, value, headers). `done(token, None)` comes when every replica has it.

        Never blocks and never raises; `done` is called later, on the loop, exactly once.
        """

    async def stop(self, grace: float) -> int:
        """Wait for what is under way; returns how many records were not acknowledged."""


class PlacedSink(Protocol):
    """Writes records to a partition that the caller chooses."""

    def send_to(
        self,
        partition: Partition,
        record: tuple[bytes | None, bytes | None, Headers],
        done: Callable[[Any, SendFailed | None], None],
        token: Any,
    ) -> None:
        """As `Sink.send`; a value of None deletes the key of a compacted topic."""


# --- reading again, outside of any group ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ask:
    """One slice of a partition: records from `begin` up to `end`, or to what there is now (None).

    `wanted` maps keys to the first offset wanted of each, None stands for every record. It ends
    after `records` of them, or `size` bytes. `identify`: the topic's id is asked for, too.
    """

    partition: Partition
    begin: int
    end: int | None = None
    wanted: Mapping[bytes | None, int] | None = None
    records: int = 1000
    size: int = 4_194_304
    identify: bool = False


@dataclass(slots=True)
class Slice:
    """What was read for an `Ask`: all that is wanted from its `begin` up to `next` is in `records`.

    `low` is the first offset that Kafka still has, `high` the one after the last. With an `error`
    nothing was read. `topic` is Kafka's own id of it (KIP-516), where it was asked for and is
    known: a topic that is made again under its name has another.
    """

    records: Sequence[Record] = ()
    next: int = 0
    low: int = 0
    high: int = 0
    error: str | None = None
    topic: str = ""


class Replay(Protocol):
    """Reads any partition from any offset, without a group and without commits."""

    def read(self, ask: Ask, done: Callable[[Ask, Slice], None]) -> None:
        """Read one slice. `done` is called later, on the loop, exactly once.

        A slice takes a second at most, when Kafka answers. One after another, in the order asked.
        Never blocks and never raises.
        """

    async def stop(self, grace: float) -> bool:
        """Let go of Kafka; True when that was done within `grace` seconds."""


# --- calling receivers -------------------------------------------------------------------------


class Transport(Protocol):
    """Makes HTTP requests. Failures are Outcomes; nothing is raised to the caller of `send`."""

    def target(self, subscriber: Subscriber) -> object:
        """Prepare a Subscriber's URL (and TLS identity) once.

        Never raises: for a URL that the validators refuse, `send` ends each Attempt as `blocked`.
        """

    def send(self, attempt: Attempt) -> None:
        """Start one request; `attempt.ended(attempt, outcome)` follows, on the loop, once.

        `attempt.guard`, where there is one, judges the URL and every address beside the Transport's
        own validators, kept connections included: what it refuses ends as `blocked`.
        """

    def under_way(self) -> Iterable[Attempt]:
        """Those that were sent and have not ended."""

    def abort(self, which: Callable[[Attempt], bool]) -> None:
        """End requests under way that `which` picks, at once, as `connect`, and their connections.

        `ended` may be called from inside.
        """

    async def stop(self) -> None:
        """Close every connection; requests under way end as `connect`."""


# --- who is called -----------------------------------------------------------------------------


class SubscriberSource(Protocol):
    """Where subscribers come from: settings, files, a topic."""

    name: str

    def load(self) -> Sequence[Subscriber]:
        """All it knows now. Raises `ConfigurationError` naming every mistake and its place."""


# --- what time it is ----------------------------------------------------------------------------


class Clock(Protocol):
    def wall(self) -> int:
        """Unix milliseconds, as due times are written."""

    def monotonic(self) -> float:
        """Seconds that never go back, for waits inside the process."""


# --- who watches -------------------------------------------------------------------------------


class Observer(Protocol):
    """Told what happened: metrics and logs are made behind it, never inside the logic."""

    def consumed(self, group: str, topic: str, count: int) -> None: ...

    def unmatched(self) -> None: ...

    def tombstone(self) -> None: ...

    def undecodable(self, record: Record, why: str) -> None: ...

    def ignored(self, what: str) -> None:
        """Something that came with an event could not be used and was left out."""

    def clamped(self, header: str) -> None:
        """What an event asks for by this header is beyond a ceiling of the settings, and cut."""

    def attempted(self, delivery: Delivery, outcome: Outcome, settlement: Settlement) -> None:
        """One Attempt has ended. `delivery.attempts` counts it already."""

    def settled(self, settlement: Settlement) -> None:
        """What was decided for a Delivery, with or without an Attempt."""

    def dropped(self, cause: str) -> None:
        """An event, or a Delivery, was passed over on purpose: `too_old`, `unsubscribed`."""

    def dead(self, reason: str) -> None:
        """A dead letter is in its topic."""

    def handed_over(self, kind: str, error: str | None) -> None:
        """Kafka took (or refused: `error`) a record of `kind` retry, parked or dead."""

    def committed(self, group: str, error: str | None) -> None: ...

    def lost_records(self, group: str, partition: Partition, count: int) -> None: ...

    def circuit_opened(self, subscriber: str, failures: int, error: str) -> None:
        """So many failures in a row, the last with this error: nothing is sent but probes."""

    def circuit_closed(self, subscriber: str, lasted: float, probes: int) -> None:
        """Its receiver is there again, after so many seconds and probes."""

    def late_outcome(self) -> None:
        """An Attempt of an assignment that has ended came back: nothing was changed by it."""

    def trouble(self, group: str, trouble: Trouble) -> None: ...

    def assigned(self, group: str, partitions: Sequence[Partition]) -> None: ...

    def unassigned(self, group: str, partitions: Sequence[Partition], *, lost: bool) -> None: ...
