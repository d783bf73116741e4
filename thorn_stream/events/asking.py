"""What one `send` asks for, beside the data and the sender."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from thorn_stream.events.callbacks import Callbacks, OnFailure, OnSuccess

__all__ = ["Asked", "asked"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What one `send` asks for."""

    on_success: OnSuccess | None = None
    on_error: OnFailure | None = None
    timeout: float | None = None
    on_timeout: OnFailure | None = None
    context: Mapping[str, Any] | None = None
    headers: Mapping[str, Any] | Sequence[tuple[str, Any]] | None = None
    key: str | bytes | int | UUID | None = None

    @property
    def callbacks(self) -> Callbacks | None:
        """What is called for each request; None when nothing is."""
        if self.on_success is None and self.on_error is None and self.on_timeout is None:
            return None
        return Callbacks(self.on_success, self.on_error, self.on_timeout)


def asked(options: Mapping[str, Any]) -> Asked:
    """Read the arguments of a `send`. Raises ValueError naming those that it does not take."""
    try:
        return Asked(**options)
    except TypeError:
        known = Asked.__dataclass_fields__
        wrong = ", ".join(name for name in options if name not in known)
        raise ValueError(f"{wrong}: send() takes {', '.join(known)}") from None
