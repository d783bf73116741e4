"""For tests of programs that use thorn_stream: events that are kept, and every port in memory.

With pytest nothing has to be imported: the fixture `thorn_events` comes with the package.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from thorn_stream.adapters.memory import (
    Answer,
    Call,
    MemoryClock,
    MemoryReplay,
    MemorySink,
    MemorySource,
    MemorySubscribers,
    MemoryTransport,
    RecordingObserver,
)
from thorn_stream.events.memory import Memory as SentEvents
from thorn_stream.events.memory import SentEvent
from thorn_stream.events.state import override, overriding

__all__ = [
    "Answer",
    "Call",
    "MemoryClock",
    "MemoryReplay",
    "MemorySink",
    "MemorySource",
    "MemorySubscribers",
    "MemoryTransport",
    "RecordingObserver",
    "SentEvent",
    "SentEvents",
    "keeping_events",
]


@contextmanager
def keeping_events() -> Iterator[SentEvents]:
    """Keep every event of this process instead of sending it, whatever its dispatcher.

    Only events whose dispatcher is an object with Thorn's interface go their own way. Model events
    are kept when the transaction commits, as they would be sent.
    """
    events, before = SentEvents(), overriding()
    override(events)
    try:
        yield events
    finally:
        override(before)
