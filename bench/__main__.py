"""CPU per delivery of one dispatcher process, as a ratio to a bare socket loop of the same run.

    python -m bench [--rounds 5] [--events 60000] [--size 200] [--fan-out 1]

Core 0 has what is measured, core 1 everything else: broker, receiver, producer. Each round fills a
topic of its own, starts a dispatcher on it and counts its CPU, all threads, from its first
delivery to its last; then the bare loop has its turn. A round in which the receiver has not had
exactly the requests that were asked for is an error, not a figure.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml
from confluent_kafka import Producer

from tests.support.apache_kafka import ApacheKafka, available
from tests.support.brokers import EmbeddedProcess
from thorn_stream.adapters.kafka import TopicSpec, create_topics

CLOCK = os.sysconf("SC_CLK_TCK")
OTHERS = {1}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--size", type=int, default=200)
    parser.add_argument("--fan-out", type=int, default=1)
    parser.add_argument("--broker", choices=["apache", "embedded"], default=None)
    asked = parser.parse_args()
    os.sched_setaffinity(0, OTHERS)
    with ExitStack() as stack:
        kind, servers = stack.enter_context(running_broker(asked.broker))
        port = stack.enter_context(sink())
        print(f"{asked.events} events of {asked.size} B, fan-out {asked.fan_out}, {kind} broker")
        rows = []
        for number in range(asked.rounds):
            ours, rate, rss = dispatcher(servers, port, asked, number)
            floor = bare(port, asked)
            rows.append((ours, floor, ours / floor, rate))
            print(
                f"  round {number + 1}: {ours:6.1f} us per delivery, bare {floor:5.1f} us,"
                f" ratio {ours / floor:4.2f}, {rate:7.0f}/s, RSS {rss} MiB",
                flush=True,
            )
    ours, floor, ratio, rate = (statistics.median(row[i] for row in rows) for i in range(4))
    print(
        f"  median:  {ours:6.1f} us per delivery, bare {floor:5.1f} us,"
        f" ratio {ratio:4.2f}, {rate:7.0f}/s"
    )


@contextmanager
def running_broker(wanted: str | None) -> Iterator[tuple[str, str]]:
    """Apache Kafka where it can be had, else the embedded broker; its kind and its address."""
    if wanted == "embedded" or (wanted is None and available()):
        broker: EmbeddedProcess | ApacheKafka = EmbeddedProcess()
        kind = "embedded"
    else:
        broker = ApacheKafka(Path(tempfile.mkdtemp(prefix="thorn-bench-")))
        broker.start()
        kind = "Apache Kafka"
    try:
        yield kind, broker.bootstrap_servers
    finally:
        broker.stop()


@contextmanager
def sink() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-m", "bench.sink"], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()


def received(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count", timeout=10) as answer:
        return int(answer.read())


def bare(port: int, asked: argparse.Namespace) -> float:
    requests = asked.events * asked.fan_out
    words = [sys.executable, "-m", "bench.bare", *map(str, (port, requests, asked.size, 64))]
    told = subprocess.run(pinned(words), check=True, capture_output=True)
    return float(told.stdout)


def pinned(words: list[str]) -> list[str]:
    return ["taskset", "--cpu-list", "0", *words]


def dispatcher(
    servers: str, port: int, asked: argparse.Namespace, number: int
) -> tuple[float, float, int]:
    """CPU microseconds per delivery, deliveries per second, resident MiB."""
    group = f"bench{os.getpid()}-{number}"
    fill(servers, f"{group}.in", asked.events, asked.size)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "thorn.yaml")
        config.write_text(yaml.safe_dump(settings(servers, group, port, asked.fan_out)))
        before = received(port)
        wanted = before + asked.events * asked.fan_out
        process = subprocess.Popen(
            pinned([sys.executable, "-m", "thorn_stream", "run", "--config", str(config)]),
            stderr=subprocess.DEVNULL,
        )
        try:
            first = wait_for(port, before + 1, process)
            cpu_first, at_first = cpu(process.pid), time.monotonic()
            last = wait_for(port, wanted, process)
            cpu_last, at_last = cpu(process.pid), time.monotonic()
            rss = resident(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(40)
        if received(port) != wanted:
            sys.exit(f"the receiver had {received(port) - before} requests")
    count = last - first
    return (cpu_last - cpu_first) / count * 1e6, count / (at_last - at_first), rss


def settings(servers: str, group: str, port: int, fan_out: int) -> dict[str, object]:
    return {
        "kafka": {"bootstrap_servers": servers},
        "group": group,
        "topics": [f"{group}.in"],
        "allowed_networks": ["127.0.0.0/8"],
        "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http"]]],
        "hmac_secret": "a-master-secret-for-the-bench",
        "http": {"host": "127.0.0.1", "port": 0},
        "event_timeout": 30,  # a machine that stalls must not make a delivery twice
        "subscriber_files": [],
        "subscribers": [
            {"id": f"s{i}", "event": "order.*", "url": f"http://127.0.0.1:{port}/{i}"}
            for i in range(fan_out)
        ],
    }


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


def wait_for(port: int, count: int, process: subprocess.Popen[bytes]) -> int:
    """Requests the receiver has had, once there are so many; the last ones count together."""
    until = time.monotonic() + 120
    while (seen := received(port)) < count:
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"the dispatcher stopped at {seen} of {count} requests")
        time.sleep(0.02)
    return seen


def cpu(pid: int) -> float:
    """CPU seconds of all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20


if __name__ == "__main__":
    main()
