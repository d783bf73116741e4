"""Memory is bounded by settings, whatever the backlog and however slow the receiver."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest
from confluent_kafka import Producer

from tests.e2e.conftest import Settings
from tests.e2e.rig import Dispatcher, committed, dispatcher, until
from tests.support.brokers import Broker

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.timeout(600),
    pytest.mark.parametrize("broker", ["apache"], indirect=True),
]

LIMIT = 256 << 20  # memory_limit by default
BESIDE = 150 << 20  # what the program, its libraries and their buffers may have
WATCH = 60.0  # seconds


class Crawler:
    """Answers each request 200 after two seconds; keeps nothing but how many there were."""

    def __init__(self) -> None:
        self.answered = 0
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0.1)  # aborted connections are closed in the loop's next rounds

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                while left:
                    left -= len(await reader.read(min(left, 65536)))
                await asyncio.sleep(2)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                self.answered += 1
        except (OSError, asyncio.IncompleteReadError):
            writer.transport.abort()


@pytest.fixture
def crawler() -> Iterator[Crawler]:
    with Crawler() as one:
        yield one


def fill(broker: Broker, topic: str, count: int, size: int) -> None:
    """Write `count` events of about `size` bytes each."""
    producer = Producer(
        {"bootstrap.servers": broker.real.bootstrap_servers, "linger.ms": 20, "acks": 1}
    )
    value = b'{"event": "order.created", "data": {"text": "%s"}}'
    body = value % (b"x" * (size - len(value) + 2))
    for number in range(count):
        while True:
            try:
                producer.produce(topic, body, key=b"%d" % number)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    assert producer.flush(120) == 0


def most_memory(running: Dispatcher) -> int:
    """The most bytes the process has ever had in memory."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def watch(running: Dispatcher, crawler: Crawler) -> list[tuple[int, int]]:
    """(answered, most bytes) as time goes by."""
    seen = []
    end = time.monotonic() + WATCH
    while time.monotonic() < end:
        time.sleep(1)
        seen.append((crawler.answered, most_memory(running)))
        assert not running.ended, running.said()
        assert running.get("/livez")[0] == 200
    return seen


def tell(what: str, seen: list[tuple[int, int]], running: Dispatcher, place: object) -> None:
    held = {use: running.metric("thorn_memory_bytes", use=use) / 2**20 for use in ("live", "retry")}
    print(
        f"{what}: {seen[-1][0]} answered in {WATCH:.0f} s, committed {place}, "
        f"most memory {seen[-1][1] / 2**20:.0f} MB, payload held (MB) {held}"
    )


@pytest.mark.parametrize(
    ("count", "size"), [(1_000_000, 200), (500, 900_000)], ids=["1M x 200 B", "500 x 900 KB"]
)
def test_a_backlog_and_a_crawling_receiver(
    count: int, size: int, broker: Broker, crawler: Crawler, settings: Settings, tmp_path: Path
) -> None:
    """Memory stays within its bound, and calls and commits go on."""
    topic = broker.topic("in")
    fill(broker, topic, count, size)
    url = f"http://127.0.0.1:{crawler.port}/"
    made = settings(subscribers=[{"id": "one", "event": "order.*", "url": url, "max_in_flight": 8}])
    del made["retry_tiers"], made["retry_delay"]
    with dispatcher(tmp_path, made) as running:
        running.ready()
        until(lambda: crawler.answered > 0, 30, "a first answer")
        seen = watch(running, crawler)
        place = committed(broker.real.bootstrap_servers, broker.prefix, topic)
        tell(f"{count} x {size} B", seen, running, place)
        answered = [each for each, _ in seen]
        if answered[-1] < count:
            assert answered[-1] > answered[len(answered) * 2 // 3], "nothing is called any more"
        assert place[0] > 0
        assert max(most for _, most in seen) <= LIMIT + BESIDE
