"""Kafka's own Java command-line tools, fetched by Maven once."""

import os
import subprocess
from pathlib import Path
from typing import Final

__all__ = ["console_producer"]

# the newest that is published beside the broker
_VERSION: Final = "4.3.0"
_POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>test</groupId><artifactId>kafka-tools</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId>
      <version>{_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def console_producer(servers: str, topic: str, value: bytes) -> None:
    """Write one record with `kafka-console-producer`, as a person would."""
    words = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{_fetched()}/*"]
    words += ["org.apache.kafka.tools.ConsoleProducer"]
    words += ["--bootstrap-server", servers, "--topic", topic]
    done = subprocess.run(words, input=value + b"\n", capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def _fetched() -> Path:
    cache = os.environ.get("THORN_KAFKA_CACHE") or Path.home() / ".cache/thorn-stream/kafka"
    jars = Path(cache, f"tools-{_VERSION}")
    complete = jars / "complete"
    if not complete.exists():
        jars.mkdir(parents=True, exist_ok=True)
        (jars / "pom.xml").write_text(_POM)
        words = ["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        subprocess.run(words, cwd=jars, check=True, capture_output=True, timeout=300)
        complete.touch()
    return jars
