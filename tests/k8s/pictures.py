"""Draws a dashboard from a running Prometheus, about as Grafana lays it out: an SVG to look at."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.sax.saxutils import escape

__all__ = ["draw", "legend"]

Series = list[tuple[str, list[tuple[float, float]]]]
"""Legend and points (unix seconds, value) of each line of a panel."""

_COLUMN, _ROW = 60, 30  # pixels of Grafana's grid
_COLOURS: Final = ("#2a7", "#c60", "#27c", "#b2b", "#a80", "#088", "#d33", "#555", "#7a3", "#96f")
_GAP: Final = 5.0  # seconds without a point that a line does not bridge
_SECONDS: Final = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))


def legend(template: str, labels: dict[str, str]) -> str:
    """As Grafana fills it in. Raises KeyError for a label that the series does not have."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels[found[1]], template)


def shown(value: float, unit: str) -> str:
    """A value in its panel's unit."""
    if math.isnan(value):
        return "NaN"
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        size, name = next((one for one in _SECONDS if abs(value) >= one[0]), (1.0, "s"))
        return f"{value / size:.3g} {name}"
    if unit == "bytes":
        power = min(3, int(math.log(abs(value), 1024))) if abs(value) >= 1 else 0
        return f"{value / 1024**power:.3g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
    return f"{value:.4g}{' /s' if unit == 'ops' else ''}"


def _text(x: float, y: float, words: str, size: int = 11, colour: str = "#333") -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}">{escape(words)}</text>'
    )


def _lines(
    panel: dict[str, Any], series: Series, box: tuple[int, int, int, int], time: tuple[float, float]
) -> Iterator[str]:
    """Axes with three values, a line per series, and the legend below."""
    x, y, width, height = box
    unit = panel["fieldConfig"]["defaults"]["unit"]
    points = [point for _, line in series for point in line if not math.isnan(point[1])]
    if not points:
        yield _text(x + width / 2 - 25, y + height / 2, "No data", 13, "#d33")
        return
    first, last = time
    low, high = min(0.0, *(value for _, value in points)), max(value for _, value in points)
    high = high if high > low else low + 1
    rows = (len(series) + 1) // 2
    left, top, wide, tall = x + 70, y + 28, width - 80, height - 44 - 14 * rows
    for share in (0.0, 0.5, 1.0):
        at = top + tall * (1 - share)
        yield f'<path d="M{left} {at:.0f}h{wide}" stroke="#ddd"/>'
        yield _text(x + 4, at + 4, shown(low + share * (high - low), unit))
    for number, (name, line) in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        path, before = "", -math.inf
        for at, value in line:
            if math.isnan(value):
                continue
            across = left + wide * (at - first) / (last - first)
            up = top + tall * (1 - (value - low) / (high - low))
            path += f"{'L' if at - before < _GAP else 'M'}{across:.1f} {up:.1f}"
            before = at
        yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        column, row = number % 2, number // 2
        words = name if len(name) < (most := width // 14) else f"{name[: most - 1]}…"
        yield _text(x + 8 + column * (width // 2), top + tall + 18 + 14 * row, words, 10, colour)


def _panel(panel: dict[str, Any], series: Series, time: tuple[float, float]) -> Iterator[str]:
    place = panel["gridPos"]
    x, y = place["x"] * _COLUMN, place["y"] * _ROW
    width, height = place["w"] * _COLUMN - 6, place["h"] * _ROW - 6
    if panel["type"] == "row":
        yield _text(x + 4, y + 20, panel["title"], 15, "#000")
        return
    yield f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="#fff" stroke="#ccc"/>'
    yield _text(x + 6, y + 16, panel["title"], 12, "#000")
    if panel["type"] == "timeseries":
        yield from _lines(panel, series, (x, y, width, height), time)
        return
    unit = panel["fieldConfig"]["defaults"]["unit"]
    size = 26 if panel["type"] == "stat" else 12
    for number, (name, line) in enumerate(series or [("No data", [])]):
        words = f"{name} {shown(line[-1][1], unit)}" if line else name
        yield _text(x + 20, y + 60 + number * 16, words.strip(), size)


def draw(
    dashboard: dict[str, Any], course: Callable[[str], list[Any]], time: tuple[float, float]
) -> str:
    """The whole of it; `course` asks Prometheus for a query's answers over the time shown.

    `time` is that: unix seconds, from and to.

    Raises KeyError when a legend names a label that a series does not have.
    """
    parts: list[str] = []
    for panel in dashboard["panels"]:
        series: Series = []
        for target in panel.get("targets", []):
            for one in course(target["expr"]):
                labels = one["metric"]
                name = legend(target["legendFormat"], labels)
                if panel["type"] == "table":
                    name = " ".join(f"{key}={value}" for key, value in labels.items())
                series.append((name, [(at, float(value)) for at, value in one["values"]]))
        parts += _panel(panel, series, time)
    tall = max((one["gridPos"]["y"] + one["gridPos"]["h"]) * _ROW for one in dashboard["panels"])
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{24 * _COLUMN}" height="{tall}"'
    ground = f'<rect width="{24 * _COLUMN}" height="{tall}" fill="#f4f4f4"/>'
    return f'{head} font-family="DejaVu Sans, sans-serif">{ground}{"".join(parts)}</svg>\n'
