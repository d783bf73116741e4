"""An event that is about to be sent, and what a dispatcher (Thorn's word for how) does with it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from thorn_stream.adapters.metrics.producing import count_sent
from thorn_stream.core.records import Headers
from thorn_stream.core.validators import UrlValidator
from thorn_stream.events.callbacks import Callbacks
from thorn_stream.events.handle import Handle
from thorn_stream.events.travel import recipients

__all__ = ["Disabled", "Dispatcher", "Outgoing"]


@dataclass(slots=True, eq=False)
class Outgoing:
    """One event: the record's key, value and headers, and what no record can carry.

    `envelope` is what `value` was made of. `validators` are functions of the caller's own, run by
    `inline` alone.
    """

    handle: Handle
    envelope: Mapping[str, Any]
    value: bytes
    key: bytes | None = None
    headers: Headers = field(default_factory=list)
    validators: tuple[UrlValidator, ...] = ()
    callbacks: Callbacks | None = None

    @property
    def name(self) -> str:
        return self.handle.event


class Dispatcher(ABC):
    """How events are sent. `name` is what the metric counts it under.

    `runs_functions`: validators that are functions are run.
    """

    name: ClassVar[str]
    runs_functions: ClassVar[bool] = True

    @abstractmethod
    def publish(self, outgoing: Outgoing, *, patiently: float = 0.0) -> None:
        """Send; the handle is settled now or later. With `patiently` it waits so long for room.

        Raises EventNotSent when there is no room (on_full: raise), ConfigurationError, LocalError.
        """

    def subscribers_for_event(
        self,
        name: str,
        sender: Any = None,
        context: Mapping[str, Any] | None = None,
        extra_subscribers: Any = None,
    ) -> list[Any]:
        """Whom this process knows of: the event's own, as they would travel."""
        return recipients(extra_subscribers, name, sender, context or {})

    def flush(self, timeout: float) -> int:  # noqa: ARG002 - most decide at once
        """Wait until all is decided, at most `timeout` seconds; how many events are not."""
        return 0

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what it holds; it is made anew when it is used again."""

    def after_fork(self) -> None:  # noqa: B027 - most hold nothing
        """In a child: forget what is the parent's."""


class Disabled(Dispatcher):
    """Counts, and sends nothing."""

    name = "disabled"

    def publish(self, outgoing: Outgoing, *, patiently: float = 0.0) -> None:
        del patiently
        count_sent(self.name, "ok")
        outgoing.handle.settle()
