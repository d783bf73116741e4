"""Alerts, dashboards, runbooks and samples agree with the code; needs nothing but YAML and JSON."""

import configparser
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.k8s.chart import CHART, EXAMPLES, ROOT, values
from tests.k8s.generate import made
from thorn_stream.adapters.metrics import METRICS
from thorn_stream.config import load_settings
from thorn_stream.ops.match import read_directory
from thorn_stream.version import __version__

ALERTS: Final = {
    "ThornReceiverDead",
    "ThornBacklogAge",
    "ThornCircuitOpen",
    "ThornDeadLetters",
    "ThornCommitsFailing",
    "ThornConsumerStuck",
    "ThornHandOverFailing",
    "ThornMemoryHigh",
    "ThornDown",
}
_METRIC: Final = re.compile(r"\b(?:thorn|process)_[a-z_]+\b")
_LIBRARY: Final = {  # of prometheus_client, not of our table
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}
_LOOK_BACK: Final = re.compile(r"\[(\w+)(?::\w*)?\]|offset\s+(\w+)")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboards() -> list[tuple[str, dict[str, Any]]]:
    return [
        (path.name, json.loads(path.read_text()))
        for path in sorted((CHART / "dashboards").glob("*.json"))
    ]


def queries(dashboard: dict[str, Any]) -> list[str]:
    """Of all panels and variables."""
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    variables = dashboard["templating"]["list"]
    return found + [one["query"]["query"] for one in variables if one["type"] == "query"]


def defined() -> dict[str, set[str]]:
    """Each name that may stand in a query, and its labels."""
    names = {name: set[str]() for name in _LIBRARY}
    for metric in METRICS:
        labels = set(metric.labels)
        names[metric.name] = labels
        if metric.kind == "histogram":
            names |= {f"{metric.name}_{end}": labels for end in ("bucket", "sum", "count")}
    return names


def test_alerts_and_dashboards_name_metrics_that_exist() -> None:
    """Each name in a query is one that the code defines."""
    asked = [rule["expr"] for rule in rules()]
    for _, dashboard in dashboards():
        asked += queries(dashboard)
    named = {name for query in asked for name in _METRIC.findall(query)}
    assert named - defined().keys() == set()
    assert len(named) > 25


def test_alerts_and_dashboards_match_labels_that_exist() -> None:
    """A matcher on a label that its metric does not have would find nothing, silently."""
    scraped = {"namespace", "job", "instance"}
    asked = [rule["expr"] for rule in rules()]
    for _, dashboard in dashboards():
        asked += queries(dashboard)
    wrong = []
    for query in asked:
        for name, matchers in re.findall(r"\b((?:thorn|process)_[a-z_]+)\{([^}]*)\}", query):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
            if not labels <= defined()[name] | scraped:
                wrong.append((name, labels))
    assert wrong == []


def test_every_metric_is_looked_at() -> None:
    """What the code measures can be seen on a dashboard; but for what producers count."""
    shown = {
        name
        for _, dashboard in dashboards()
        for query in queries(dashboard)
        for name in _METRIC.findall(query)
    }
    shown |= {name.removesuffix("_bucket") for name in shown}
    assert {metric.name for metric in METRICS} - shown == {"thorn_events_sent_total"}


def test_the_nine_alerts_are_there_and_wait_only_by_for() -> None:
    """No expression looks back further than five minutes: what must last is said by `for`."""
    assert {rule["alert"] for rule in rules()} == ALERTS
    for rule in rules():
        for pair in _LOOK_BACK.findall(rule["expr"]):
            length = pair[0] or pair[1]
            assert re.fullmatch(r"[1-5]m|[0-9]+s", length), (rule["alert"], length)


def test_each_alert_has_a_runbook_that_names_it() -> None:
    """A page of its own, which says what it means, where to look, and how it ends."""
    pages = set()
    for rule in rules():
        page = Path(rule["annotations"]["runbook_url"])
        assert page.parent == Path("docs/runbooks")
        text = (ROOT / page).read_text()
        assert text.startswith(f"# {rule['alert']}\n")
        assert "**Means:**" in text
        assert "\n## Look\n" in text
        assert "\n## Over\n" in text
        pages.add(page.name)
    assert pages == {path.name for path in (ROOT / "docs/runbooks").glob("*.md")} - {"README.md"}
    listed = (ROOT / "docs/runbooks/README.md").read_text()
    assert all(f"`{alert}`" in listed for alert in ALERTS)


def test_links_of_runbooks_lead_somewhere() -> None:
    """Every relative link is a file."""
    wrong = []
    for path in [*(ROOT / "docs/runbooks").glob("*.md"), ROOT / "docs/kubernetes.md"]:
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())
        wrong += [f"{path.name}: {link}" for link in links if not (path.parent / link).exists()]
    assert wrong == []


@pytest.mark.parametrize("name", [name for name, _ in dashboards()])
def test_a_dashboard_is_narrowed_by_its_variables(name: str) -> None:
    """Each query is matched with `=~` on the variables, which may be several or all."""
    dashboard = dict(dashboards())[name]
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    for query in queries(dashboard):
        used = re.findall(r'(=~|!=|!~|=)\s*"[^"]*\$(\w+)', query)
        assert all(operator == "=~" for operator, _ in used), query
        assert {one for _, one in used} <= variables
        series = re.findall(r"\b(?:thorn|process)_[a-z_]+\{", query)
        assert len(used) >= 3 * len(series) or query.startswith("label_values(")


def test_dashboards_are_three_and_do_not_overlap() -> None:
    """One uid each, panels with ids of their own, no two in one place."""
    found = dashboards()
    assert [name for name, _ in found] == [
        "kafka-and-process.json",
        "overview.json",
        "subscriber.json",
    ]
    assert len({dashboard["uid"] for _, dashboard in found}) == 3
    for name, dashboard in found:
        panels = dashboard["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: dict[tuple[int, int], str] = {}
        for panel in panels:
            at = panel["gridPos"]
            assert at["x"] + at["w"] <= 24
            for x in range(at["x"], at["x"] + at["w"]):
                for y in range(at["y"], at["y"] + at["h"]):
                    assert taken.setdefault((x, y), panel["title"]) == panel["title"], name


def test_what_the_chart_has_of_the_code_is_true() -> None:
    """README, schema of config, dashboards and refused networks are as `make docs` makes them."""
    stale = [str(path) for path, text in made().items() if path.read_text() != text]
    assert stale == [], "run `make docs`"


def test_the_chart_has_the_version_of_the_code() -> None:
    """The image's tag is the chart's appVersion."""
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_there_are_examples_for_the_logins_to_kafka() -> None:
    """Eight sets at least; SCRAM, mutual TLS and OAUTHBEARER among them."""
    assert len(EXAMPLES) >= 8
    kafka = [values(name).get("config", {}).get("kafka", {}) for name in EXAMPLES]
    mechanisms = {one.get("sasl.mechanism") for one in kafka}
    assert {"SCRAM-SHA-512", "OAUTHBEARER"} <= mechanisms
    assert any("ssl.key.location" in one for one in kafka)


def test_no_example_has_a_secret_in_it() -> None:
    """What is secret is referred to."""
    for name in EXAMPLES:
        for key, value in values(name).get("config", {}).get("kafka", {}).items():
            if "password" in key or key.endswith("secret"):
                assert value.startswith(("env:", "file:")), (name, key)


def test_the_compose_file_mounts_what_exists() -> None:
    """Each file or folder that a service mounts is in the repository."""
    folder = ROOT / "config" / "compose"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    assert {"kafka", "topics", "dispatcher", "receiver", "prometheus", "grafana"} == set(services)
    mounts = [mount for one in services.values() for mount in one.get("volumes", [])]
    sources = [mount.split(":")[0] for mount in mounts if mount.startswith(".")]
    assert len(sources) >= 5
    assert [source for source in sources if not (folder / source).exists()] == []


def test_the_compose_settings_call_their_receiver() -> None:
    """The settings are taken as they are, and its network is let through."""
    path = ROOT / "config" / "compose" / "thorn.yaml"
    loaded = load_settings(path, {})
    assert [one.id for one in read_directory(loaded)] == ["receiver"]
    compose = yaml.safe_load((path.parent / "compose.yaml").read_text())
    (subnet,) = compose["networks"]["inner"]["ipam"]["config"]
    assert [subnet["subnet"]] == [str(one) for one in loaded.settings.allowed_networks]


def test_prometheus_and_grafana_find_what_compose_mounts() -> None:
    """Paths and names in their files are those of the compose file."""
    config = ROOT / "config"
    mounts = yaml.safe_load((config / "compose" / "compose.yaml").read_text())["services"]
    prometheus = yaml.safe_load((config / "prometheus" / "prometheus.yaml").read_text())
    (scrape,) = prometheus["scrape_configs"]
    assert scrape["dns_sd_configs"][0]["names"] == ["dispatcher"]
    assert any(
        f"/etc/prometheus/{prometheus['rule_files'][0]}" in mount
        for mount in mounts["prometheus"]["volumes"]
    )
    provisioning = config / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    assert source["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/thorn-stream.yaml").read_text())[
        "providers"
    ]
    assert any(
        mount.split(":")[1] == provider["options"]["path"] for mount in mounts["grafana"]["volumes"]
    )


def test_the_systemd_unit_gives_a_dispatcher_time_to_drain() -> None:
    """One instance, one port; more time to stop than drain_timeout; nothing that needs root."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    unit.read(ROOT / "config" / "systemd" / "thorn-stream@.service")
    service = unit["Service"]
    assert "%i" in service["Environment"]
    assert int(service["TimeoutStopSec"]) > load_settings(None, {}).settings.drain_timeout + 12
    assert service["ExecStart"].split()[1] == "run"
    assert service["DynamicUser"] == "yes"
    assert "LimitNOFILE" in service


def test_the_dockerfile_begins_with_its_base_and_ends_with_a_number() -> None:
    """So another base can be given, and Kubernetes sees that it is not root."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert lines[0] == "ARG BASE=python:3.11-slim"
    assert re.fullmatch(r"USER \d+:\d+", lines[-1])
    assert not any(line.startswith("HEALTHCHECK") for line in lines)
