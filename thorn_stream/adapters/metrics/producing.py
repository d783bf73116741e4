"""The metric of processes that publish events: in prometheus_client's own registry.

Such a process is a user's, with metrics and a page for them of its own; ours stands among them.
"""

from functools import lru_cache
from typing import Final

from prometheus_client import Counter

from thorn_stream.adapters.metrics.table import METRICS

__all__ = ["count_sent"]

_NAME: Final = "thorn_events_sent_total"


@lru_cache(maxsize=1)
def _counter() -> Counter:
    row = next(metric for metric in METRICS if metric.name == _NAME)
    return Counter(row.name.removesuffix("_total"), row.help, row.labels)


@lru_cache(maxsize=64)
def _child(dispatcher: str, result: str) -> Counter:
    return _counter().labels(dispatcher, result)


def count_sent(dispatcher: str, result: str, by: int = 1) -> None:
    """Count events by what became of them: ok, error, full, dropped."""
    _child(dispatcher, result).inc(by)
