"""`dispatcher: memory`: events are kept, for the tests of whoever sends them."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thorn_stream.adapters.metrics.producing import count_sent
from thorn_stream.core.filters import subscriber_filter
from thorn_stream.core.patterns import compile_pattern
from thorn_stream.events.outgoing import Dispatcher, Outgoing

__all__ = ["Memory", "SentEvent"]


@dataclass(frozen=True, slots=True)
class SentEvent:
    """One event as a dispatcher would read it: what was sent has been through JSON.

    `envelope` is all of it; `headers` are the record's (`thorn-timeout`, `thorn-http-X`), as text.
    """

    name: str
    ref: str | None
    sender: Any
    data: Any
    key: bytes | None
    id: str
    headers: Mapping[str, str]
    envelope: Mapping[str, Any]


class Memory(Dispatcher):
    """Keeps every event in `sent`, in order. Functions as validators are refused, as by kafka."""

    name = "memory"
    runs_functions = False

    def __init__(self) -> None:
        self.sent: list[SentEvent] = []
        self._lock = threading.Lock()

    def publish(self, outgoing: Outgoing, *, patiently: float = 0.0) -> None:
        del patiently
        envelope = json.loads(outgoing.value)
        headers = {name: (value or b"").decode() for name, value in outgoing.headers}
        event = SentEvent(
            name=envelope["event"],
            ref=envelope.get("ref"),
            sender=envelope.get("sender"),
            data=envelope.get("data"),
            key=outgoing.key,
            id=outgoing.handle.id,
            headers=headers,
            envelope=envelope,
        )
        with self._lock:
            self.sent.append(event)
        count_sent(self.name, "ok")
        outgoing.handle.settle()

    def clear(self) -> None:
        self.sent.clear()

    def matching(self, pattern: str = "**", **conditions: Any) -> list[SentEvent]:
        """Those whose name matches, and whose envelope fulfils the conditions (as a filter's)."""
        compiled = compile_pattern(pattern)
        wanted = subscriber_filter(conditions)
        return [
            event
            for event in self.sent
            if compiled.matches(event.name) and wanted.matches(dict(event.envelope))
        ]

    def assert_sent(
        self, pattern: str = "**", *, count: int | None = None, **conditions: Any
    ) -> list[SentEvent]:
        """The events that match: at least one, or exactly `count`.

        Raises AssertionError, which tells what was sent.
        """
        found = self.matching(pattern, **conditions)
        if (count is None and not found) or (count is not None and len(found) != count):
            wanted = "an event" if count is None else f"{count} events"
            narrowed = "".join(f", {name}={value!r}" for name, value in conditions.items())
            sent = "; ".join(json.dumps(dict(one.envelope))[:200] for one in self.sent) or "none"
            raise AssertionError(
                f"{wanted} {pattern!r}{narrowed} expected, {len(found)} sent. All of them: {sent}"
            )
        return found

    def assert_not_sent(self, pattern: str = "**", **conditions: Any) -> None:
        self.assert_sent(pattern, count=0, **conditions)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
