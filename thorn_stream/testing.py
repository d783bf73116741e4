"""For tests of programs that use thorn_stream: every port in memory."""

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
]
