"""Every metric: defined once in a table, counted with plain integers, rendered when scraped."""

from thorn_stream.adapters.metrics.counting import Metrics, Pull
from thorn_stream.adapters.metrics.table import METRICS, Metric

__all__ = ["METRICS", "Metric", "Metrics", "Pull"]
