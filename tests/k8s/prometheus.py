"""A real Prometheus that scrapes dispatchers on loopback every other second."""

import json
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

import yaml

from tests.k8s.chart import CHART
from tests.k8s.having import need
from tests.support.receivers import closed_port

__all__ = ["Prometheus", "QueryRefused", "alerts"]

SCRAPE: Final = 2  # seconds, and as long a scrape may take: the machine may be busy


def alerts(seconds: int) -> dict[str, Any]:
    """The chart's rules, each waiting so many seconds instead of its minutes; else as they are."""
    text = (CHART / "files" / "alerts.yaml").read_text()
    rules: dict[str, Any] = yaml.safe_load(re.sub(r"for: \w+", f"for: {seconds}s", text))
    return rules


class QueryRefused(Exception):
    """Prometheus does not understand the query; the text is its own."""


class Prometheus:
    """Scrapes `targets` as the job and namespace of a release `thorn`; evaluates `rules`."""

    def __init__(self, tools: Path, folder: Path, targets: list[str], rules: Any) -> None:
        folder.mkdir(parents=True)
        (folder / "rules.yaml").write_text(yaml.safe_dump(rules))
        labels = {"namespace": "default"}
        scrape = {
            "job_name": "thorn-thorn-stream",
            "static_configs": [{"targets": targets, "labels": labels}],
        }
        settings = {
            "global": {"scrape_interval": f"{SCRAPE}s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [scrape],
        }
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
        port = closed_port()
        self._address = f"http://127.0.0.1:{port}"
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                need(tools / "bin" / "prometheus"),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        end = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self._address}/-/ready", timeout=5).close()
            except OSError:
                assert time.monotonic() < end, "Prometheus does not answer"
                assert self._process.poll() is None, "Prometheus ended"
                time.sleep(0.1)
            else:
                return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self._address}/api/v1/{path}", timeout=20) as told:
                return json.load(told)["data"]
        except urllib.error.HTTPError as error:
            raise QueryRefused(json.load(error).get("error", str(error))) from None

    def ask(self, query: str) -> list[Any]:
        """What an instant query is answered. Raises QueryRefused."""
        found: list[Any] = self._get(f"query?{urllib.parse.urlencode({'query': query})}")["result"]
        return found

    def course(self, query: str, between: tuple[float, float], step: float) -> list[Any]:
        """What a query is answered for these unix seconds, every `step`. Raises QueryRefused."""
        asked = {"query": query, "start": between[0], "end": between[1], "step": step}
        found: list[Any] = self._get(f"query_range?{urllib.parse.urlencode(asked)}")["result"]
        return found

    def firing(self) -> set[str]:
        """Names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def fired(self) -> set[str]:
        """Names of the alerts that fire or have fired within an hour."""
        told = self.ask('count by (alertname) (count_over_time(ALERTS{alertstate="firing"}[1h]))')
        return {one["metric"]["alertname"] for one in told}
