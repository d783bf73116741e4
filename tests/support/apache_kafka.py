"""A real Apache Kafka on loopback: one broker that is its own controller (KRaft), no container.

Needs `java`, and `mvn` once to fetch the jars into a cache (`THORN_KAFKA_CACHE`, else
`~/.cache/thorn-stream/kafka`).
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

VERSION: Final = "4.4.0"
_LOGGING_VERSION: Final = "2.24.3"
_READY: Final = b"Kafka Server started"  # an open port comes too early
_PATIENCE: Final = 60.0  # seconds: three on an idle machine, many on a busy one

_JAVA: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_SMALL: Final = ("-Xmx512m",)
ROOMY: Final = ("-Xmx1536m", "-Xmn1g")
"""For measurements: it stops for its own garbage every ten or twenty seconds, not every two."""

_LOGGING: Final = """\
Configuration:
  Appenders:
    Console:
      name: out
      target: SYSTEM_OUT
      PatternLayout: {pattern: "%d %p %m (%c{1})%n%throwable{5}"}
  Loggers:
    Root:
      level: WARN
      AppenderRef: {ref: out}
    Logger:
      - {name: kafka.server.KafkaRaftServer, level: INFO}
"""

_SETTINGS: Final = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": (
        "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,LOGIN:SASL_PLAINTEXT"
    ),
    "num.partitions": "4",
    "auto.create.topics.enable": "false",
    "default.replication.factor": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.consumer.session.timeout.ms": "6000",
    "group.consumer.heartbeat.interval.ms": "300",
    # a killed broker may come back when its old registration has run out
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "300",
    # by default the inner topics' 50 partitions and the cleaner's 128 MiB cost seconds
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "log.cleaner.dedupe.buffer.size": "2097152",
}
_LOGIN: Final = {
    "sasl.enabled.mechanisms": "PLAIN",
    "listener.name.login.plain.sasl.jaas.config": (
        "org.apache.kafka.common.security.plain.PlainLoginModule required "
        'user_thorn="right-password";'
    ),
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",
}


def available() -> str | None:
    """Why it cannot be used here; None when it can."""
    if not shutil.which("java"):
        return "java is missing (Debian: apt-get install default-jre-headless)"
    if not _complete(_jars()).exists() and not shutil.which("mvn"):
        return f"mvn is missing, and {_jars()} holds no Kafka {VERSION} (Debian: maven)"
    return None


class ApacheKafka:
    """One broker, its data and its log in `directory`.

    `login` adds a listener (`login_servers`) that wants SASL PLAIN, user `thorn`, password
    `right-password`, and grants nothing; the plain listener is then the super user's.
    """

    def __init__(
        self,
        directory: Path,
        *,
        login: bool = False,
        settings: Mapping[str, str] | None = None,
        memory: Sequence[str] = _SMALL,
    ) -> None:
        self._memory = memory
        ports = _free_ports(3)
        self.bootstrap_servers = f"127.0.0.1:{ports[0]}"
        self.login_servers = f"127.0.0.1:{ports[2]}"
        self.log = directory / "broker.log"
        self._directory = directory
        self._properties = directory / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        listeners = [f"PLAINTEXT://127.0.0.1:{ports[0]}", f"CONTROLLER://127.0.0.1:{ports[1]}"]
        if login:
            listeners.append(f"LOGIN://127.0.0.1:{ports[2]}")
        self._settings = {
            **_SETTINGS,
            **(_LOGIN if login else {}),
            "controller.quorum.voters": f"1@127.0.0.1:{ports[1]}",
            "listeners": ",".join(listeners),
            "log.dirs": str(directory / "data"),
            **(settings or {}),
        }

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, on the data it left; returns when it is ready."""
        if not self._properties.exists():
            self._format()
        begin = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            command = self._java("kafka.Kafka", str(self._properties))
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + _PATIENCE
        while _READY not in (said := self.log.read_bytes()[begin:]):
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"Kafka did not start: {said[-2000:].decode(errors='replace')}")
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP stalls it, SIGCONT lets it go on."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Stop it cleanly if it runs, then start it on the same data and ports."""
        self.stop()
        self.start()

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.kill()

    def _format(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / "log4j2.yaml").write_text(_LOGGING, "utf-8")
        lines = "".join(f"{key}={value}\n" for key, value in self._settings.items())
        self._properties.write_text(lines, "utf-8")
        cluster = urlsafe_b64encode(b"\x01" + uuid.uuid4().bytes[1:]).decode("ascii")[:22]
        tool = self._java("kafka.tools.StorageTool", "format", "-t", cluster)
        _run([*tool, "-c", str(self._properties)], self._directory)

    def _java(self, *words: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self._directory / 'log4j2.yaml'}"
        return ["java", *self._memory, *_JAVA, "-cp", f"{_fetched()}/*", logging, *words]


def _jars() -> Path:
    cache = os.environ.get("THORN_KAFKA_CACHE") or Path.home() / ".cache/thorn-stream/kafka"
    return Path(cache, VERSION)


def _complete(jars: Path) -> Path:
    return jars / "complete"


def _fetched() -> Path:
    """Let Maven resolve the broker with all it needs, once per version."""
    jars = _jars()
    if not _complete(jars).exists():
        jars.mkdir(parents=True, exist_ok=True)
        (jars / "pom.xml").write_bytes(_pom())
        _run(["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}"], jars)
        _complete(jars).touch()
    return jars


def _pom() -> bytes:
    """Make Maven's project file: nothing but the two things to be fetched."""
    project = ET.Element("project", xmlns="http://maven.apache.org/POM/4.0.0")

    def fill(parent: ET.Element, **texts: str) -> None:
        for name, text in texts.items():
            ET.SubElement(parent, name).text = text

    fill(project, modelVersion="4.0.0", groupId="test", artifactId="kafka", version="1")
    fill(project, packaging="pom")
    wanted = ET.SubElement(project, "dependencies")
    for group, artifact, version in (
        ("org.apache.kafka", "kafka_2.13", VERSION),
        ("org.apache.logging.log4j", "log4j-slf4j-impl", _LOGGING_VERSION),
    ):
        one = ET.SubElement(wanted, "dependency")
        fill(one, groupId=group, artifactId=artifact, version=version)
    return ET.tostring(project)


def _run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _free_ports(count: int) -> list[int]:
    """Find ports below the ephemeral range.

    In that range a client's own connection can take the port of a broker that is down.
    """

    def candidates() -> Iterator[int]:
        while True:
            port = random.randrange(15_000, 32_000)
            with closing(socket.socket()) as one:
                if one.connect_ex(("127.0.0.1", port)):
                    yield port

    found: set[int] = set()
    for port in candidates():
        found.add(port)
        if len(found) == count:
            break
    return sorted(found)
