"""A real Kubernetes API on loopback with fake nodes: Deployments roll out, no container ever runs.

etcd, API server (RBAC, Pod Security admission), controllers and scheduler of Kubernetes; kwok plays
the nodes: their pods turn ready at once, those of Jobs and of `helm test` succeed. Needs what
`tests/k8s/tools cluster` builds.
"""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import yaml

__all__ = ["Cluster", "Failed"]

_NODES: Final = 3
_TEST_STAGE: Final = {
    "apiVersion": "kwok.x-k8s.io/v1alpha1",
    "kind": "Stage",
    "metadata": {"name": "helm-test"},
    "spec": {
        "resourceRef": {"apiGroup": "v1", "kind": "Pod"},
        "selector": {
            "matchAnnotations": {"helm.sh/hook": "test"},
            "matchExpressions": [{"key": ".status.phase", "operator": "In", "values": ["Running"]}],
        },
        "next": {"statusTemplate": "phase: Succeeded"},
    },
}


class Failed(Exception):
    """A command did not end with 0; the text is its own."""


class Cluster:
    """Its files stand in `folder`; everything in it is gone when it is left."""

    def __init__(self, tools: Path, folder: Path) -> None:
        self._bin = tools / "bin"
        self._tools = tools
        self._folder = folder
        self._started: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(folder / "kubeconfig"),
            "HELM_CACHE_HOME": str(folder / "helm"),
            "HELM_CONFIG_HOME": str(folder / "helm"),
            "HELM_DATA_HOME": str(folder / "helm"),
        }

    def __call__(self, program: str, *words: str, text: str | None = None) -> str:
        """What kubectl, helm or helm3 prints. Raises Failed."""
        done = subprocess.run(
            [self._bin / program, *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            env=self._environment,
        )
        if done.returncode:
            raise Failed(done.stdout + done.stderr)
        return done.stdout + done.stderr

    def get(self, namespace: str, what: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            self("kubectl", "-n", namespace, "get", what, "-o", "json")
        )
        return found

    def namespace(self, name: str) -> None:
        """One that holds its pods to the restricted standard."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        meta = {"name": name, "labels": labels}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        self._await(60, "a service account", lambda: self.get(name, "serviceaccount/default"))

    def apply(self, *objects: dict[str, Any]) -> None:
        self("kubectl", "apply", "-f", "-", text=yaml.safe_dump_all(objects))

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._stop)
            self._start_api(*_free_ports(3))
            self._start_controllers(*_free_ports(2))
            self("kubectl", "apply", "--server-side", "-f", str(self._tools / "crds"))
            self._start_nodes()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start_api(self, client: int, peer: int, api: int) -> None:
        pki = self._folder / "pki"
        pki.mkdir(parents=True)
        key, token = pki / "sa.key", secrets.token_hex(16)
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (pki / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
        etcd = f"http://127.0.0.1:{client}"
        self._start(
            "etcd",
            "--name=k8s",
            f"--data-dir={self._folder / 'etcd'}",
            "--unsafe-no-fsync",
            "--log-level=warn",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=k8s=http://127.0.0.1:{peer}",
        )
        self._start(
            "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--secure-port={api}",
            f"--cert-dir={pki}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=RBAC",
            f"--token-auth-file={pki / 'tokens.csv'}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
        )
        authority = pki / "apiserver.crt"
        server = {"server": f"https://127.0.0.1:{api}", "certificate-authority": str(authority)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "local",
            "contexts": [{"name": "local", "context": {"cluster": "local", "user": "admin"}}],
            "clusters": [{"name": "local", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": token}}],
        }
        (self._folder / "kubeconfig").write_text(yaml.safe_dump(config))
        (self._folder / "kubeconfig").chmod(0o600)
        self._await(180, "the API", lambda: self("kubectl", "get", "--raw", "/readyz"))

    def _start_controllers(self, manager: int, scheduler: int) -> None:
        pki = self._folder / "pki"
        common = (
            f"--kubeconfig={self._folder / 'kubeconfig'}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={pki}",
            "--leader-elect=false",
        )
        self._start(
            "kube-controller-manager",
            *common,
            f"--secure-port={manager}",
            f"--service-account-private-key-file={pki / 'sa.key'}",
            f"--root-ca-file={pki / 'apiserver.crt'}",
            "--controllers=*,-node-route-controller,-cloud-node-lifecycle-controller",
        )
        self._start("kube-scheduler", *common, f"--secure-port={scheduler}")

    def _start_nodes(self) -> None:
        stages = self._folder / "stages.yaml"
        text = (self._tools / "stages.yaml").read_text()
        stages.write_text(text + yaml.safe_dump(_TEST_STAGE))
        self._start(
            "kwok",
            f"--kubeconfig={self._folder / 'kubeconfig'}",
            f"--config={stages}",
            "--manage-all-nodes",
            "--node-lease-duration-seconds=40",
        )
        self.apply(*(_node(number) for number in range(_NODES)))
        wait = ("wait", "--for=condition=Ready", "node", "--all", "--timeout=1s")
        self._await(90, "ready nodes", lambda: self("kubectl", *wait))

    def _start(self, program: str, *words: str) -> None:
        with (self._folder / f"{program}.log").open("wb") as log:
            process = subprocess.Popen(
                [self._bin / program, *words], stdout=log, stderr=log, cwd=self._folder
            )
        self._started.append((program, process))

    def _await(self, seconds: float, what: str, ask: Callable[[], object]) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                ask()
            except Failed as error:
                gone = [name for name, process in self._started if process.poll() is not None]
                if gone or time.monotonic() > end:
                    said = "; ".join(self._said(name) for name in gone)
                    raise Failed(f"{what} did not come in {seconds} s: {said or error}") from None
                time.sleep(0.3)
            else:
                return

    def _said(self, name: str) -> str:
        text = (self._folder / f"{name}.log").read_text(errors="replace")
        return f"{name} ended: {text[-500:]}"

    def _stop(self) -> None:
        for _, process in reversed(self._started):
            process.terminate()
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()  # nothing in there is worth a slow farewell
                process.wait(10)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with ExitStack() as held:
        taken = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in taken]


def _node(number: int) -> dict[str, Any]:
    size = {"cpu": "8", "memory": "32Gi", "pods": "110"}
    labels = {
        "kubernetes.io/hostname": f"node-{number}",
        "kubernetes.io/os": "linux",
        "topology.kubernetes.io/zone": f"zone-{number}",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{number}", "labels": labels},
        "status": {"allocatable": size, "capacity": size},
    }
