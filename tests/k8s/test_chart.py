"""The chart over every example of values: rendered, linted, validated; and what it refuses."""

import ast
import copy
import itertools
import json
import os
import re
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.k8s.chart import CHART, EXAMPLES, ROOT, Chart, Refused, kinds, values
from tests.k8s.having import need
from tests.k8s.pod_security import faults, pod_of
from thorn_stream.config import load_settings
from thorn_stream.core.addresses import REFUSED_NETWORKS, refused_as

pytestmark = [pytest.mark.k8s, pytest.mark.timeout(180)]

VERSIONS: Final = ("1.30", "1.34", "1.36")
EVERYTHING: Final = "everything-values.yaml"


def run(tools: Path, *words: str | Path, text: str | None = None) -> str:
    """What a tool prints; AssertionError with its words when it is not content."""
    done = subprocess.run(
        [need(tools / "bin" / words[0]), *words[1:]],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def kubeconform(tools: Path, version: str, text: str) -> str:
    folder = need(tools / "schemas" / version)
    return run(
        tools,
        "kubeconform",
        "-strict",
        "-summary",
        "-schema-location",
        f"{folder}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
        "-schema-location",
        f"{folder}/{{{{.Group}}}}_{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json",
        text=text,
    )


def deployment(chart: Chart, given: dict[str, Any]) -> dict[str, Any]:
    (found,) = kinds(chart.objects(given), "Deployment")
    return found


@pytest.mark.parametrize("example", EXAMPLES)
def test_lint_finds_nothing(chart: Chart, example: str) -> None:
    """`helm lint --strict` is content with every example."""
    assert chart.lint(values(example)) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(chart: Chart, tools: Path, version: str) -> None:
    """All that is rendered fits the strict schemas of that version, and of the CRDs."""
    rendered = [one for example in EXAMPLES for one in chart.objects(values(example))]
    said = kubeconform(tools, version, yaml.safe_dump_all(rendered))
    assert f"Valid: {len(rendered)}, Invalid: 0, Errors: 0, Skipped: 0" in said
    assert len(rendered) > 60


def test_the_schemas_would_find_a_mistake(chart: Chart, tools: Path) -> None:
    """A field that nobody knows, in a Deployment and in a CRD: the check above means something."""
    for kind, route in (("Deployment", "replicaz"), ("ServiceMonitor", "endpointz")):
        (one,) = kinds(chart.objects(values(EVERYTHING)), kind)
        broken = copy.deepcopy(one)
        broken["spec"][route] = 3
        with pytest.raises(AssertionError, match=route):
            kubeconform(tools, VERSIONS[-1], yaml.safe_dump(broken))


@pytest.mark.parametrize("example", EXAMPLES)
def test_pods_fit_the_restricted_standard(chart: Chart, example: str) -> None:
    """Each pod, that of the Job and of the test as well; and none may write its root."""
    pods = [pod for one in chart.objects(values(example)) if (pod := pod_of(one))]
    assert pods
    for pod in pods:
        assert list(faults(pod)) == []
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_secret_is_rendered(chart: Chart, example: str) -> None:
    """Secrets are referred to, never made."""
    assert kinds(chart.objects(values(example)), "Secret") == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_program_takes_the_settings(chart: Chart, example: str, tmp_path: Path) -> None:
    """The rendered thorn.yaml has no mistake, once what `env:` and `file:` name is there."""
    pod = deployment(chart, values(example))["spec"]["template"]["spec"]
    maps = {
        one["metadata"]["name"]: one for one in kinds(chart.objects(values(example)), "ConfigMap")
    }
    name = next(one["configMap"]["name"] for one in pod["volumes"] if one["name"] == "config")
    text = maps[name]["data"]["thorn.yaml"]
    password = tmp_path / "password"
    password.write_text("secret")
    path = tmp_path / "thorn.yaml"
    path.write_text(re.sub(r"file:\S+", f"file:{password}", text))
    environment = {one["name"]: "secret" for one in pod["containers"][0].get("env", [])}
    given = values(example).get("config", {})
    settings = load_settings(path, environment).settings
    assert settings.group == given.get("group", "thorn")
    assert settings.memory_limit == given.get("memory_limit", 268_435_456)
    assert pod["terminationGracePeriodSeconds"] > settings.drain_timeout + 12
    port = pod["containers"][0]["ports"][0]["containerPort"]
    assert port == settings.http.port


@pytest.mark.parametrize("example", EXAMPLES)
def test_what_is_mounted_exists(chart: Chart, example: str) -> None:
    """Each mount has its volume, each ConfigMap of the chart's own is rendered."""
    objects = chart.objects(values(example))
    made = {one["metadata"]["name"] for one in kinds(objects, "ConfigMap")}
    existing = values(example).get("subscribers", {}).get("existingConfigMap")
    for pod in [pod for one in objects if (pod := pod_of(one))]:
        volumes = {one["name"]: one for one in pod["volumes"]}
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert {one["name"] for one in container.get("volumeMounts", [])} <= volumes.keys()
        named = {one["configMap"]["name"] for one in volumes.values() if "configMap" in one}
        assert named <= made | {existing}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"replicas": 3}, "replicas"),
        ({"image": {"tags": "1"}}, "tags"),
        ({"config": {"retry_maxx": 3}}, "retry_maxx"),
        ({"config": {"retry_max": "many"}}, "retry_max"),
        ({"config": {"log": {"levle": "info"}}}, "levle"),
        ({"networkPolicy": {"enable": True}}, "enable"),
        ({"hpa": {"enabled": "yes"}}, "enabled"),
        ({"prometheusRule": {"disabled": ["ThornDawn"]}}, "disabled"),
        ({"prometheusRule": {"overrides": {"ThornDown": {"four": "1h"}}}}, "four"),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, "maxUnavailable"),
        ({"subscribers": {"files": {"billing.txt": "x"}}}, "billing.txt"),
        ({"test": {"url": "receiver.example.com"}}, "url"),
        ({"hpa": {"enabled": True}, "keda": {"enabled": True}}, "choose one"),
        ({"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}, "choose one"),
        ({"keda": {"enabled": True, "minReplicas": 9, "maxReplicas": 3}}, "minReplicas"),
        ({"terminationGracePeriodSeconds": 25}, "drain_timeout"),
        ({"config": {"kafka": {"bootstrap_servers": "embedded"}}}, "embedded"),
        ({"config": {"http": {"port": 0}}}, "port"),
    ],
    ids=lambda case: json.dumps(case) if isinstance(case, dict) else "",
)
def test_mistakes_are_refused(chart: Chart, given: dict[str, Any], said: str) -> None:
    """A typing error, or values that contradict each other: Helm names them and makes nothing."""
    with pytest.raises(Refused, match=said):
        chart.files(given)


def test_the_budget_lets_one_go(chart: Chart) -> None:
    """`maxUnavailable: 1`, and the pods it speaks of are the Deployment's alone."""
    objects = chart.objects({"topics": {"enabled": True}})
    (budget,) = kinds(objects, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    wanted = budget["spec"]["selector"]["matchLabels"].items()
    (job,) = kinds(objects, "Job")
    assert not wanted <= job["spec"]["template"]["metadata"]["labels"].items()
    assert wanted <= deployment(chart, {})["spec"]["template"]["metadata"]["labels"].items()


def test_a_change_of_settings_rolls_the_pods(chart: Chart) -> None:
    """The checksum follows the settings, and not the subscribers, which are read again."""

    def checksum(given: dict[str, Any]) -> str:
        meta = deployment(chart, given)["spec"]["template"]["metadata"]
        return str(meta["annotations"]["checksum/config"])

    assert checksum({}) != checksum({"config": {"retry_max": 4}})
    files: dict[str, Any] = {"a.yaml": {"subscribers": []}}
    assert checksum({}) == checksum({"subscribers": {"files": files}})


def test_an_autoscaler_has_the_replicas_to_itself(chart: Chart) -> None:
    """The Deployment names no number beside one: an upgrade would undo it."""
    assert deployment(chart, {})["spec"]["replicas"] == 2
    for name in ("hpa", "keda"):
        assert "replicas" not in deployment(chart, {name: {"enabled": True}})["spec"]


def test_keda_asks_for_the_lag_of_the_main_group(chart: Chart) -> None:
    """A trigger for each topic, for the main group, never more dispatchers than partitions."""
    (scaled,) = kinds(chart.objects(values("keda-values.yaml")), "ScaledObject")
    triggers = [one["metadata"] for one in scaled["spec"]["triggers"]]
    assert [one["topic"] for one in triggers] == ["orders", "invoices"]
    assert {one["consumerGroup"] for one in triggers} == {"thorn"}
    assert {one["allowIdleConsumers"] for one in triggers} == {"false"}
    (pattern,) = kinds(chart.objects(values("keda-pattern-values.yaml")), "ScaledObject")
    (trigger,) = pattern["spec"]["triggers"]
    assert "topic" not in trigger["metadata"]
    assert trigger["metadata"]["bootstrapServers"] == "kafka.example.com:9092"


def test_the_network_policy_refuses_what_the_validators_refuse(chart: Chart) -> None:
    """Both ends of every refused network, and their neighbours, are judged alike by both."""
    given = {"networkPolicy": {"enabled": True}}
    (policy,) = kinds(chart.objects(given), "NetworkPolicy")
    blocks = [one["ipBlock"] for one in policy["spec"]["egress"][2]["to"]]

    def reached(address: Any) -> bool:
        return any(
            address in ip_network(block["cidr"])
            and not any(address in ip_network(one) for one in block["except"])
            for block in blocks
        )

    ends = {row.network[at] for row in REFUSED_NETWORKS for at in (0, -1)}
    near = {
        ip_address(int(end) + step)
        for end, step in itertools.product(ends, (-1, 1))
        if end.version == 4 and 0 <= int(end) + step < 2**32
    }
    public = {ip_address(text) for text in ("1.1.1.1", "93.184.216.34", "2606:4700::1111")}
    for address in ends | near | public:
        assert reached(address) == (refused_as(address) is None), address


def test_the_network_policy_lets_allowed_networks_through(chart: Chart) -> None:
    """Those of the settings; a single address is a network of one."""
    (policy,) = kinds(chart.objects(values(EVERYTHING)), "NetworkPolicy")
    blocks = [one["ipBlock"]["cidr"] for one in policy["spec"]["egress"][2]["to"]]
    assert blocks[2:] == ["10.20.0.0/16", "fd12:3456::/32", "10.9.8.7/32"]


def test_every_switch_makes_its_objects(chart: Chart) -> None:
    """On: they are there; off: they are not."""
    made = {
        "serviceAccount": "ServiceAccount",
        "podDisruptionBudget": "PodDisruptionBudget",
        "hpa": "HorizontalPodAutoscaler",
        "keda": "ScaledObject",
        "service": "Service",
        "serviceMonitor": "ServiceMonitor",
        "podMonitor": "PodMonitor",
        "prometheusRule": "PrometheusRule",
        "networkPolicy": "NetworkPolicy",
        "topics": "Job",
        "test": "Pod",
    }
    for switch, kind in made.items():
        assert len(kinds(chart.objects({switch: {"enabled": True}}), kind)) == 1, switch
        assert kinds(chart.objects({switch: {"enabled": False}}), kind) == [], switch
    plain = len(kinds(chart.objects({}), "ConfigMap"))
    shown = kinds(chart.objects({"dashboards": {"enabled": True}}), "ConfigMap")
    assert len(shown) == plain + 3


def test_dashboards_come_with_the_label_of_the_sidecar(chart: Chart) -> None:
    """As they are in the repository, each in a ConfigMap of its own."""
    found: dict[str, str] = {}
    for one in kinds(chart.objects({"dashboards": {"enabled": True}}), "ConfigMap"):
        if one["metadata"]["labels"].get("grafana_dashboard") == "1":
            found |= one["data"]
    for path in (CHART / "dashboards").glob("*.json"):
        assert json.loads(found[f"thorn-{path.name}"]) == json.loads(path.read_text())


def test_the_test_runs_the_program_of_the_chart(chart: Chart) -> None:
    """What `helm test` mounts is the program as it is, with the dispatchers' settings."""
    objects = chart.objects({"test": {"event": "order.test", "url": "https://r.example.com/"}})
    (pod,) = kinds(objects, "Pod")
    program = (CHART / "files" / "delivery.py").read_text()
    (mounted,) = [
        one["data"]["delivery.py"]
        for one in kinds(objects, "ConfigMap")
        if "delivery.py" in one["data"]
    ]
    assert ast.dump(ast.parse(mounted)) == ast.dump(ast.parse(program))
    assert pod["spec"]["containers"][0]["args"][1:] == ["order.test", "60"]
    assert any(
        "helm-test.yaml" in one["data"] for one in kinds(objects, "ConfigMap") if one["data"]
    )


def test_the_notes_say_what_to_do_next(chart: Chart) -> None:
    """That nobody is subscribed, no image pushed, no alert made; where it is so alone."""
    (bare,) = [text for name, text in chart.files({}).items() if name.endswith("NOTES.txt")]
    assert "helm test thorn" in bare
    assert "Nobody is subscribed" in bare
    assert "There are no alerts" in bare
    assert "set image.repository" in bare
    (alone,) = [
        text
        for name, text in chart.files({"prometheusRule": {"enabled": True}}).items()
        if name.endswith("NOTES.txt")
    ]
    assert "set prometheusRule.runbookBase" in alone
    given = values(EVERYTHING)
    (full,) = [text for name, text in chart.files(given).items() if name.endswith("NOTES.txt")]
    assert "Nobody" not in full
    assert "alerts" not in full
    assert "image.repository" not in full


# --- alerts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rendered", [False, True], ids=["as a file", "as the chart renders them"])
def test_alerts_fire_in_their_situation_alone(
    chart: Chart, tools: Path, tmp_path: Path, *, rendered: bool
) -> None:
    """promtool runs each alert through a situation made for it, and through one that is well."""
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    base, down = "docs/runbooks", "{severity: critical}"
    if rendered:
        given = {"prometheusRule": {"enabled": True, "runbookBase": "https://books.example.com/"}}
        (found,) = kinds(chart.objects(given), "PrometheusRule")
        rules, base = found["spec"], "https://books.example.com"
        down = "{severity: critical, namespace: default, job: thorn-thorn-stream}"
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(rules))
    assert "9 rules found" in run(tools, "promtool", "check", "rules", path)
    text = Path(__file__).with_name("alerts_test.yaml").read_text()
    for word, meant in (("[RULES]", f"[{path}]"), ("BASE/", f"{base}/"), (" DOWN", f" {down}")):
        text = text.replace(word, meant)
    situations = tmp_path / "situations.yaml"
    situations.write_text(text)
    run(tools, "promtool", "test", "rules", situations)


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    """In the situations above each of the nine has at least one of both."""
    text = Path(__file__).with_name("alerts_test.yaml").read_text()
    asked = [one for test in yaml.safe_load(text)["tests"] for one in test["alert_rule_test"]]
    fires = {one["alertname"] for one in asked if one.get("exp_alerts")}
    silent = {one["alertname"] for one in asked if not one.get("exp_alerts")}
    groups = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())["groups"]
    named = {rule["alert"] for group in groups for rule in group["rules"]}
    assert fires == silent == named


def test_alerts_are_changed_by_values(chart: Chart) -> None:
    """Left out, waited for longer, labelled; the rest as it was."""
    (found,) = kinds(chart.objects(values(EVERYTHING)), "PrometheusRule")
    rules = {rule["alert"]: rule for rule in found["spec"]["groups"][0]["rules"]}
    assert len(rules) == 8
    assert "ThornMemoryHigh" not in rules
    assert rules["ThornBacklogAge"]["for"] == "1h"
    assert rules["ThornBacklogAge"]["labels"] == {"severity": "critical", "team": "integrations"}
    assert rules["ThornReceiverDead"]["labels"]["severity"] == "warning"
    for rule in rules.values():
        assert 'namespace="default",job="thorn-thorn-stream"' in rule["expr"]
        assert 'job=~".+"' not in rule["expr"]


# --- image ----------------------------------------------------------------------------------------


def test_hadolint_finds_nothing(tools: Path) -> None:
    """In the Dockerfile, at any level."""
    assert run(tools, "hadolint", ROOT / "Dockerfile") == ""


def test_helm_itself_agrees(tools: Path) -> None:
    """The commands helm 4 and helm 3, where they were built: strict lint of every example."""
    found = [name for name in ("helm", "helm3") if (tools / "bin" / name).exists()]
    if not found:
        pytest.skip("no helm in the tools: `make k8s-tools` builds it")
    environment = {**os.environ, "HELM_CACHE_HOME": str(tools / "helm-cache")}
    for name, example in itertools.product(found, EXAMPLES):
        words: list[str | Path] = [tools / "bin" / name, "lint", "--strict", CHART]
        words += ["-f", CHART / "ci" / example]
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=120, check=False, env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr


# --- dashboards -----------------------------------------------------------------------------------


def test_dashboards_are_what_grafana_declares(tools: Path, tmp_path: Path) -> None:
    """Each is of Grafana's own type Dashboard, by its TypeScript declarations."""
    modules = need(tools / "grafana" / "node_modules")
    (tmp_path / "node_modules").symlink_to(modules)
    head = 'import { ThresholdsMode, type Dashboard } from "@grafana/schema";\n'
    for path in (CHART / "dashboards").glob("*.json"):
        # a name of an enumeration is no text in TypeScript
        text = path.read_text().replace('"mode": "absolute"', '"mode": ThresholdsMode.Absolute')
        (tmp_path / f"{path.stem}.ts").write_text(f"{head}export const d: Dashboard = {text}")
    strict = ("--noEmit", "--strict", "--skipLibCheck", "--target", "es2022")
    modern = ("--module", "esnext", "--moduleResolution", "bundler")
    done = subprocess.run(
        [modules / ".bin" / "tsc", *strict, *modern, *sorted(tmp_path.glob("*.ts"))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "")
