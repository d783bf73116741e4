"""The dispatcher process: its configuration, its start, its health, its end."""

import asyncio
import base64
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

import yaml

from thorn_stream.core.errors import LocalError
from thorn_stream.ops.demo.cast import Part
from thorn_stream.ops.demo.kafka import kafka_variables

__all__ = [
    "DispatcherProcess",
    "Sample",
    "free_port",
    "metrics_of",
    "new_secret",
    "settings_for",
    "write_configuration",
]

_READY_WITHIN: Final = 40.0
_TOLD: Final = 4  # lines of its log
_DAILY: Final = re.compile(r"\] (attempt|dead letter)\s|^Traceback ")
_SAMPLE: Final = re.compile(r"(\w+)(?:\{(.*)\})? (\S+)(?: \d+)?")
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Sample = tuple[str, dict[str, str], float]


def new_secret() -> str:
    """One for a subscriber, as Standard Webhooks writes them."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode("ascii")


def settings_for(servers: str, group: str, port: int) -> dict[str, Any]:
    """What the dispatcher is set to: impatient, and let in to this machine.

    The waits between attempts add up to far more than an outage, and 16 attempts are more than a
    receiver that fails 30 % needs: what dies in the demo dies by its receiver's own word.
    """
    return {
        "kafka": {"bootstrap_servers": servers},
        "group": group,
        "topics": [f"{group}.events"],
        "subscribers_topic": "off",
        "subscriber_files": ["subscribers.yaml"],
        "event_timeout": 3,
        "retry_tiers": [1, 2, 5],
        "retry_delay": 1,
        "retry_backoff": 1.5,
        "retry_delay_max": 3,
        "retry_max": 15,
        "retry_jitter": 0.1,
        "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http"]]],
        "allowed_networks": ["127.0.0.1/32"],
        "circuit": {"failures": 10, "open_for": 1, "open_for_max": 2},
        "drain_timeout": 10,
        "http": {"host": "127.0.0.1", "port": port},
        "log": {"level": "warning", "format": "console"},
    }


def write_configuration(
    folder: Path,
    settings: Mapping[str, Any],
    parts: Sequence[Part],
    urls: Mapping[str, str],
    keys: Mapping[str, str],
) -> Path:
    """Write `thorn.yaml` and `subscribers.yaml` as a user would; returns the first."""
    subscribers = [
        {
            "id": part.id,
            "event": part.pattern,
            "url": urls[part.id],
            "hmac_secret": keys[part.id],
            "description": part.does,
        }
        for part in parts
    ]
    main = folder / "thorn.yaml"
    main.write_text(yaml.safe_dump(dict(settings), sort_keys=False), "utf-8")
    (folder / "subscribers.yaml").write_text(
        yaml.safe_dump({"subscribers": subscribers}, sort_keys=False), "utf-8"
    )
    return main


class DispatcherProcess:
    """`thorn-stream run` in a process of its own. `port` is where its health is asked."""

    def __init__(self, config: Path, port: int, *, own_broker: bool = False) -> None:
        self._config = config
        self._port = port
        self._environ = _environment(own_broker=own_broker)
        self._log = config.parent / "dispatcher.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                [
                    sys.executable,
                    "-m",
                    "thorn_stream.ops.demo.child",
                    "run",
                    "--config",
                    str(self._config),
                ],
                cwd=self._config.parent,
                env=self._environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is for the demo, which then stops it in order
            )

    async def ready(self) -> None:
        """Wait until it says so. Raises `LocalError` when it ends, or takes too long."""
        until = time.monotonic() + _READY_WITHIN
        reason = "it does not answer"
        while time.monotonic() < until:
            self.check()
            answer = await self._ask("/readyz")
            if answer is not None:
                status, text = answer
                if status == 200:
                    return
                reason = " ".join(text.split())[:300]
            await asyncio.sleep(0.05)
        raise LocalError(f"the dispatcher was not ready in {_READY_WITHIN:.0f} s: {reason}")

    def check(self) -> None:
        """Raise `LocalError` with its last words when it has ended."""
        assert self._process is not None
        status = self._process.poll()
        if status is not None:
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            told = "; ".join(self.last_lines()) or "it did not say why"
            raise LocalError(f"the dispatcher process ended {how}: {told}")

    def last_lines(self, number: int = _TOLD) -> list[str]:
        """The end of its log, without what is daily bread here: failed attempts, dead letters.

        Of a traceback only what was raised.
        """
        try:
            lines = self._log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return []
        told = [line for line in lines if line[:1].strip() and not _DAILY.search(line)]
        return [" ".join(line.split()) for line in told[-number:]]

    async def metrics(self) -> list[Sample]:
        """All its samples; none when it does not answer."""
        answer = await self._ask("/metrics")
        return metrics_of(answer[1]) if answer is not None and answer[0] == 200 else []

    async def stop(self, grace: float) -> int | None:
        """Ask it to drain and leave, and wait `grace` seconds; killed then, which gives None."""
        process = self._process
        if process is None:
            return 0
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(process.wait, grace)
        return self.kill()

    def kill(self) -> int | None:
        """End it now if it still runs (None then); else its exit status."""
        process = self._process
        if process is None:
            return 0
        status = process.poll()
        if status is None:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()
        return status

    async def _ask(self, path: str) -> tuple[int, str] | None:
        return await asyncio.to_thread(_get, self._port, path)


def free_port() -> int:
    """A port of loopback that is free now, and most likely still is in a moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def metrics_of(text: str) -> list[Sample]:
    """Prometheus' text format to (name, labels, value); what is no sample is passed over."""
    found = (_SAMPLE.fullmatch(line) for line in text.splitlines())
    return [
        (match[1], dict(_LABEL.findall(match[2] or "")), float(match[3]))
        for match in found
        if match is not None
    ]


def _get(port: int, path: str) -> tuple[int, str] | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _environment(*, own_broker: bool) -> dict[str, str]:
    """Ours without THORN_ variables: they would beat the demo's file, and lead it elsewhere.

    On a broker of the user's own, how to log in there stays: so no secret stands in a file.
    """
    others = {name: text for name, text in os.environ.items() if not name.startswith("THORN_")}
    return others | (kafka_variables(os.environ) if own_broker else {})
