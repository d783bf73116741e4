"""The chart on a real Kubernetes API: taken strictly, installed, upgraded, rolled back, tested."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.chart import CHART, EXAMPLES, Chart, kinds, values
from tests.k8s.cluster import Cluster, Failed

pytestmark = [pytest.mark.k8s, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not (tools / "bin" / "kwok").exists():
        pytest.skip("there is no cluster in the tools: `tests/k8s/tools cluster` builds it")
    with Cluster(tools, tmp_path_factory.mktemp("cluster")) as one:
        one.namespace("default")
        yield one


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_server_takes_every_example(cluster: Cluster, chart: Chart, example: str) -> None:
    """A strict dry run on the server: its defaults, rules and admission, CRDs included."""
    objects = chart.objects(values(example))
    account = {"apiVersion": "v1", "kind": "ServiceAccount"}
    names = {"webhooks", *(one["metadata"]["name"] for one in kinds(objects, "ServiceAccount"))}
    # a pod is admitted only where its account exists
    cluster.apply(*({**account, "metadata": {"name": name}} for name in sorted(names)))
    said = cluster(
        "kubectl",
        *("apply", "--dry-run=server", "--validate=strict", "-n", "default", "-f", "-"),
        text=yaml.safe_dump_all(objects),
    )
    assert len(said.splitlines()) >= len(objects)
    assert "Warning" not in said.replace("Warning: resource serviceaccounts/", "")


def test_the_server_would_refuse_what_no_schema_sees(cluster: Cluster, chart: Chart) -> None:
    """A quantity that is none: the check above means something."""
    objects = chart.objects({"resources": {"requests": {"cpu": "100zz"}}})
    with pytest.raises(Failed, match="quantities must match"):
        cluster(
            "kubectl",
            *("apply", "--dry-run=server", "-n", "default", "-f", "-"),
            text=yaml.safe_dump_all(kinds(objects, "Deployment")),
        )


@pytest.mark.parametrize("program", ["helm", "helm3"])
def test_a_release_lives(cluster: Cluster, program: str, tmp_path: Path) -> None:
    """Install, test, upgrade, roll back, uninstall, in a namespace that holds to the standard."""
    space = f"hooks-{program}"
    cluster.namespace(space)
    first = values("everything-values.yaml")
    first_file, second_file = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first_file.write_text(yaml.safe_dump(first))
    second: dict[str, Any] = {**first, "config": {**first["config"], "retry_jitter": 0.5}}
    second_file.write_text(yaml.safe_dump(second))
    wait = ("-n", space, "--wait", "--timeout=120s")

    def deployment() -> dict[str, Any]:
        return cluster.get(space, "deployment/thorn-thorn-stream")

    def checksum() -> str:
        meta = deployment()["spec"]["template"]["metadata"]
        return str(meta["annotations"]["checksum/config"])

    cluster(program, "install", "thorn", str(CHART), "-f", str(first_file), *wait)
    assert deployment()["status"]["readyReplicas"] >= 1
    before = checksum()
    assert "Succeeded" in cluster(program, "test", "thorn", "-n", space)
    pods = cluster.get(space, "pods")["items"]
    nodes = {one["spec"]["nodeName"] for one in pods if "pod-template-hash" in str(one)}
    assert nodes

    cluster(program, "upgrade", "thorn", str(CHART), "-f", str(second_file), *wait)
    assert checksum() != before
    cluster(program, "rollback", "thorn", "1", *wait)
    assert checksum() == before

    budget = cluster.get(space, "poddisruptionbudget/thorn-thorn-stream")
    assert budget["spec"]["maxUnavailable"] == 1
    who = f"system:serviceaccount:{space}:thorn-thorn-stream"
    with pytest.raises(Failed, match="no"):
        cluster("kubectl", "auth", "can-i", "list", "secrets", "-n", space, f"--as={who}")

    cluster(program, "uninstall", "thorn", *wait)
    left = cluster.get(space, "deployments,services,configmaps,poddisruptionbudgets")["items"]
    names = {one["metadata"]["name"] for one in left}
    assert names <= {"kube-root-ca.crt", "thorn-thorn-stream-test"}


def test_a_pod_that_breaks_the_standard_is_not_admitted(cluster: Cluster, tmp_path: Path) -> None:
    """Without its securityContext the release never gets ready: the check above means something."""
    cluster.namespace("broken")
    path = tmp_path / "broken.yaml"
    path.write_text(yaml.safe_dump({"securityContext": {"allowPrivilegeEscalation": True}}))
    words = ("-n", "broken", "-f", str(path), "--wait", "--timeout=5s")
    with pytest.raises(Failed):
        cluster("helm", "install", "thorn", str(CHART), *words)
    events = cluster("kubectl", "-n", "broken", "get", "events")
    assert "violates PodSecurity" in events
