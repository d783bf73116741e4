"""What a program wants to be told of each HTTP request of an event, and how it is told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from thorn_stream.core.deliveries import Kind
from thorn_stream.core.errors import SecurityError
from thorn_stream.events.request import Request, RequestFailed

__all__ = ["Callbacks", "OnFailure", "OnSuccess"]

OnSuccess: TypeAlias = Callable[[Request], object]
OnFailure: TypeAlias = Callable[[Request, Exception], object]


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What is called for each HTTP request."""

    on_success: OnSuccess | None = None
    on_error: OnFailure | None = None
    on_timeout: OnFailure | None = None

    def call(self, request: Request, outcome: str, error: str) -> None:
        """The one of them that fits; `outcome` and `error` as `Outcome` has them."""
        if outcome == Kind.OK:
            if self.on_success is not None:
                self.on_success(request)
        elif outcome == Kind.TIMEOUT:
            if self.on_timeout is not None:
                late = TimeoutError(f"no answer in {request.duration:.3g} s")
                self.on_timeout(request, late)
        elif self.on_error is not None:
            refused = outcome == Kind.BLOCKED
            why = error.removeprefix(f"{Kind.BLOCKED}:")
            self.on_error(request, SecurityError(why) if refused else RequestFailed(error))
