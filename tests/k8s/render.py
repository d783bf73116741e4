"""Helm as a library: renders and lints the chart, one JSON command and one answer per line.

Run by the Python of $TOOLS_DIR, which has the library (`tests/k8s/tools check`).

    {"do": "render", "chart": PATH, "values": {...}}  ->  {"files": {name: text}} or {"error": text}
    {"do": "lint", "chart": PATH, "values": {...}}    ->  {"errors": [...]} or {"error": text}
"""

import json
import sys
from typing import Any


def answer(command: dict[str, Any]) -> dict[str, Any]:
    import helm_python  # type: ignore[import-not-found]  # noqa: PLC0415 - in $TOOLS_DIR alone

    try:
        if command["do"] == "lint":
            found = helm_python.lint(command["chart"], command["values"], strict=True)
            return {"errors": found["errors"]}
        chart = helm_python.Chart.load(command["chart"])
        return {"files": chart.render(command["values"], name="thorn")}
    except helm_python.HelmError as error:
        return {"error": str(error)}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
