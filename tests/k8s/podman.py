"""A rendered pod's container, run by podman as the chart says.

Image, command, arguments, environment, ConfigMaps as read-only folders, user and groups, read-only
root, capabilities, privilege escalation, memory limit. Left out: the pod's own network (the
machine's is used, so a broker on loopback is in reach), and the kubelet: the tests ask the probes.
"""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.k8s.chart import kinds

__all__ = ["Podman"]

_HERE: Final = Path(__file__).parent


class Podman:
    """Runs containers of rendered objects; `folder` is where their volumes are laid out."""

    def __init__(self, objects: list[dict[str, Any]], folder: Path) -> None:
        self._maps = {one["metadata"]["name"]: one["data"] for one in kinds(objects, "ConfigMap")}
        self._folder = folder
        # what podman needs where there is no systemd, as `base --env` tells
        told = subprocess.run(
            [_HERE / "base", "--env"], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        pairs = (word.split("=", 1) for word in told.split()[1:])
        self._environment = {**os.environ, **{key: text.strip("'") for key, text in pairs}}

    def __call__(self, *words: str, check: bool = True, seconds: float = 120) -> str:
        """What podman prints; AssertionError with its words when it fails."""
        done = subprocess.run(
            ["podman", *words],
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=self._environment,
        )
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return (done.stdout + done.stderr).strip()

    def start(self, name: str, pod: dict[str, Any], more: Sequence[str] = ()) -> None:
        """Run the pod's only container in the background, under this name."""
        self("run", "--detach", "--replace", f"--name={name}", *more, *self._flags(name, pod))

    def state(self, name: str) -> tuple[str, int]:
        """Its status and exit code."""
        told = self("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name).split()
        return told[0], int(told[1])

    def logs(self, name: str) -> str:
        return self("logs", name, check=False)

    def remove(self, name: str) -> None:
        self("rm", "--force", "--time", "0", name, check=False)

    def _flags(self, name: str, pod: dict[str, Any]) -> list[str]:
        (container,) = pod["containers"]
        rights = {**pod["securityContext"], **container["securityContext"]}
        memory = container["resources"]["limits"]["memory"].replace("Mi", "m")
        flags = [
            "--network=host",
            f"--user={rights['runAsUser']}:{rights['runAsGroup']}",
            f"--group-add={rights['fsGroup']}",
            f"--memory={memory}",
            *(f"--cap-drop={one}" for one in rights["capabilities"]["drop"]),
        ]
        if rights["readOnlyRootFilesystem"]:
            flags += ["--read-only", "--read-only-tmpfs=false"]
        if rights["allowPrivilegeEscalation"] is False:
            flags.append("--security-opt=no-new-privileges")
        flags += [f"--env={one['name']}={one['value']}" for one in container.get("env", [])]
        volumes = {one["name"]: self._volume(name, one) for one in pod["volumes"]}
        flags += [
            f"--volume={volumes[one['name']]}:{one['mountPath']}:ro"
            for one in container["volumeMounts"]
        ]
        command = container.get("command", [])
        if command:
            flags.append(f"--entrypoint={command[0]}")
        return [*flags, container["image"], *command[1:], *container["args"]]

    def _volume(self, name: str, volume: dict[str, Any]) -> Path:
        path = self._folder / name / str(volume["name"])
        path.mkdir(parents=True, exist_ok=True)
        for file, text in (self._maps[volume["configMap"]["name"]] or {}).items():
            (path / file).write_text(text)
        for one in (path, *path.parents):
            if self._folder in (one, *one.parents):
                one.chmod(0o755)
        return path
