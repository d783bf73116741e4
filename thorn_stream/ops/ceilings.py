"""What subscribers ask for beyond the ceilings of the settings: it is cut, and said."""

from collections.abc import Iterable, Iterator

from thorn_stream.config import Settings
from thorn_stream.core.subscribers import Subscriber

__all__ = ["cut"]


def cut(settings: Settings, subscribers: Iterable[Subscriber]) -> list[str]:
    """A line for each value that is cut, with subscriber, value and ceiling."""
    return [line for one in subscribers for line in _of(settings, one)]


def _of(settings: Settings, one: Subscriber) -> Iterator[str]:
    asked: tuple[tuple[str, float | None, str, float], ...] = (
        ("timeout", one.timeout, "event_timeout_max", settings.event_timeout_max),
        ("retry_max", one.retry_max, "retry_max_max", settings.retry_max_max),
        ("retry_delay", one.retry_delay, "retry_delay_max", settings.retry_delay_max),
    )
    for name, value, ceiling, most in asked:
        if value is not None and value > most:
            yield (
                f"subscriber {one.id}: {name} {value:g} is cut to {most:g}: lower it, or raise "
                f"{ceiling}"
            )
    waits = len(one.retry_schedule or ())
    if waits > settings.retry_max_max:
        yield (
            f"subscriber {one.id}: retry_schedule has {waits} waits and is cut to the first "
            f"{settings.retry_max_max}: shorten it, or raise retry_max_max"
        )
