"""The restricted Pod Security Standard of Kubernetes, as far as a chart can break it.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from collections.abc import Iterator
from typing import Any, Final

__all__ = ["faults", "pod_of"]

_VOLUMES: Final = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
_HOST: Final = ("hostNetwork", "hostPID", "hostIPC")


def pod_of(one: dict[str, Any]) -> dict[str, Any] | None:
    """The pod's spec in a Pod, or in what makes pods."""
    if one["kind"] == "Pod":
        found: dict[str, Any] = one["spec"]
        return found
    template = one.get("spec", {}).get("template")
    return template["spec"] if template else None


def faults(pod: dict[str, Any]) -> Iterator[str]:
    """What the standard forbids, a text each."""
    rights = pod.get("securityContext", {})
    yield from (name for name in _HOST if pod.get(name))
    for volume in pod.get("volumes", []):
        yield from (f"volume {kind}" for kind in volume.keys() - {"name"} - _VOLUMES)
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        for fault in _of_container(container, rights):
            yield f"{container['name']}: {fault}"


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**pod, **own}
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if own.get("privileged"):
        yield "privileged"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield "may run as root"
    if both.get("seccompProfile", {}).get("type") not in {"RuntimeDefault", "Localhost"}:
        yield "seccompProfile is not set"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"
