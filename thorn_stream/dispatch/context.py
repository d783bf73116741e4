"""What every part of dispatch is given: the rules it works by, and who it may ask and tell."""

from collections.abc import Callable
from dataclasses import dataclass, field

from thorn_stream.core.circuit import CircuitRules
from thorn_stream.core.flow import Limits
from thorn_stream.core.overrides import EventRules
from thorn_stream.core.schedule import Tiers
from thorn_stream.dispatch.results import Results
from thorn_stream.ports import Clock, Observer

__all__ = ["Context"]


@dataclass(frozen=True, slots=True)
class Context:
    """`dice` returns 0 <= x < 1; time and chance come from here, so a test can move them.

    `rules` is what an event may ask for itself, `circuit` when a receiver counts as down.
    `results` writes result events, where there is somewhere to write them.
    """

    limits: Limits
    tiers: Tiers
    clock: Clock
    observer: Observer
    dice: Callable[[], float]
    rules: EventRules = field(default_factory=EventRules)
    circuit: CircuitRules = field(default_factory=CircuitRules)
    results: Results | None = None
