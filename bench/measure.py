"""One round of each thing that is measured."""

import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from confluent_kafka import Producer

from bench import nginx
from tests.support import apache_kafka
from tests.support.brokers import EmbeddedProcess
from tests.support.receivers import closed_port
from thorn_stream.adapters.kafka import TopicSpec, create_topics

_CLOCK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Load:
    """Events of so many bytes, each for so many subscribers."""

    size: int
    fan_out: int

    @property
    def name(self) -> str:
        return f"{self.size}x{self.fan_out}"


@dataclass(frozen=True)
class Figures:
    """CPU microseconds per delivery, deliveries per second, resident MiB."""

    cpu: float
    rate: float
    rss: int


class Sink:
    """Our own receiver; `count` and `latency` ask it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def count(self) -> int:
        return int(self._get("/count"))

    def latency(self) -> tuple[float, float]:
        p50, p99 = json.loads(self._get("/latency"))
        return p50, p99

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return bytes(answer.read())


@contextmanager
def running_broker(wanted: str | None) -> Iterator[tuple[str, str]]:
    """Apache Kafka where it can be had, else the embedded broker; its kind and its address."""
    with ExitStack() as stack:
        if wanted == "embedded" or (wanted is None and apache_kafka.available()):
            broker: EmbeddedProcess | apache_kafka.ApacheKafka = EmbeddedProcess()
            kind = "embedded broker"
        else:
            place = stack.enter_context(tempfile.TemporaryDirectory(prefix="thorn-bench-"))
            broker = apache_kafka.ApacheKafka(Path(place), memory=apache_kafka.ROOMY)
            broker.start()
            kind = f"Apache Kafka {apache_kafka.VERSION}"
        stack.callback(broker.stop)
        yield kind, broker.bootstrap_servers


@contextmanager
def receiving() -> Iterator["nginx.Nginx | Sink"]:
    """nginx, or our own receiver where it is not installed."""
    if nginx.available():
        with nginx.nginx() as one:
            yield one
    else:
        with sink() as other:
            yield other


@contextmanager
def sink() -> Iterator[Sink]:
    process = subprocess.Popen([sys.executable, "-m", "bench.sink"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield Sink(int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


def bare(receiver: "nginx.Nginx | Sink", load: Load, deliveries: int) -> float:
    """CPU microseconds per request of the bare loop."""
    words = map(str, (receiver.port, deliveries, load.size, 64))
    told = subprocess.run(
        pinned([sys.executable, "-m", "bench.bare", *words]), check=True, capture_output=True
    )
    return float(told.stdout)


def pinned(words: list[str]) -> list[str]:
    return ["taskset", "--cpu-list", "0", *words]


def dispatcher(
    servers: str, receiver: "nginx.Nginx | Sink", load: Load, deliveries: int
) -> Figures | str:
    """A topic drained by a new dispatcher; a text says why a round does not count."""
    group = f"bench{os.getpid()}-{next(_numbers)}"
    fill(servers, f"{group}.in", deliveries // load.fan_out, load.size)
    before = receiver.count()
    wanted = before + deliveries // load.fan_out * load.fan_out
    with running(servers, group, receiver.port, load.fan_out) as (pid, probes):
        first = wait_for(receiver, before + 1)
        cpu_first, at_first = cpu(pid), time.monotonic()
        last = wait_for(receiver, wanted)
        cpu_last, at_last = cpu(pid), time.monotonic()
        rss = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE >> 20
        parked = metric(probes, 'thorn_deliveries_total{settlement="parked"}')
    if receiver.count() != wanted:
        return f"the receiver had {receiver.count() - before} requests of {wanted - before}"
    if parked:
        return f"{parked:.0f} deliveries were parked: the receiver was slower than the dispatcher"
    count = last - first
    return Figures((cpu_last - cpu_first) / count * 1e6, count / (at_last - at_first), rss)


@contextmanager
def running(servers: str, group: str, port: int, fan_out: int) -> Iterator[tuple[int, int]]:
    """A dispatcher process on core 0: its pid, and the port of its probes."""
    probes = closed_port()
    settings = {
        "kafka": {"bootstrap_servers": servers},
        "group": group,
        "topics": [f"{group}.in"],
        "allowed_networks": ["127.0.0.0/8"],
        "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http"]]],
        "hmac_secret": "a-master-secret-for-the-bench",
        "http": {"host": "127.0.0.1", "port": probes},
        "event_timeout": 30,  # a machine that stalls must not make a delivery twice
        "subscriber_files": [],
        "subscribers": [
            {"id": f"s{i}", "event": "order.*", "url": f"http://127.0.0.1:{port}/{i}"}
            for i in range(fan_out)
        ],
    }
    with ExitStack() as stack:
        config = Path(stack.enter_context(tempfile.TemporaryDirectory()), "thorn.yaml")
        config.write_text(yaml.safe_dump(settings))
        process = subprocess.Popen(
            pinned([sys.executable, "-m", "thorn_stream", "run", "--config", str(config)]),
            stderr=subprocess.DEVNULL,
        )
        try:
            yield process.pid, probes
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)


def fill(servers: str, topic: str, events: int, size: int) -> None:
    create_topics({"bootstrap.servers": servers}, {topic: TopicSpec(partitions=4)}, 30)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 50})
    value = {"event": "order.created", "ref": None, "sender": 1, "data": {"pad": ""}}
    value["data"] = {"pad": "x" * max(0, size - len(json.dumps(value)))}
    text = json.dumps(value).encode()
    for number in range(events):
        while True:
            try:
                producer.produce(topic, text, key=b"%d" % (number % 997))
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        sys.exit("the topic could not be filled")


def latency(servers: str, rate: int = 1000, seconds: int = 10) -> tuple[float, float]:
    """p50 and p99 in milliseconds, from produce to the receiver's having the request."""
    group = f"bench{os.getpid()}-{next(_numbers)}"
    topic = f"{group}.in"
    create_topics({"bootstrap.servers": servers}, {topic: TopicSpec(partitions=4)}, 30)
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 0})
    with sink() as receiver, running(servers, group, receiver.port, 1):

        def send(count: int) -> None:
            begin = time.monotonic()
            for number in range(count):
                while (early := begin + number / rate - time.monotonic()) > 0:
                    time.sleep(early)
                value = b'{"event": "order.created", "data": {"sent": %d}}' % time.time_ns()
                producer.produce(topic, value, key=b"%d" % number)
                producer.poll(0)
            producer.flush(30)

        send(rate)  # connections and caches
        wait_for(receiver, rate)
        receiver.latency()
        send(rate * seconds)
        wait_for(receiver, rate * (seconds + 1))
        return receiver.latency()


def wait_for(receiver: "nginx.Nginx | Sink", count: int) -> int:
    """Requests the receiver has had, once there are so many."""
    until = time.monotonic() + 120
    while (seen := receiver.count()) < count:
        if time.monotonic() > until:
            sys.exit(f"the dispatcher stopped at {seen} of {count} requests")
        time.sleep(0.02)
    return seen


def cpu(pid: int) -> float:
    """CPU seconds of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK


def metric(port: int, sample: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as told:
        for line in told.read().decode().splitlines():
            if line.startswith(sample):
                return float(line.rpartition(" ")[2])
    return 0.0
