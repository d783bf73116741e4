"""The embedded broker: librdkafka's mock cluster, which ships inside confluent-kafka.

For trying out and for tests, never for keeping: everything is in memory, and of each partition
the oldest records are dropped without a word beyond 5 MiB or 100,000 batches. There are no
transactions, no compaction and no topic administration, and an empty fetch waits its whole
`fetch.wait.max.ms`. Any client on this machine can join; the port is chosen by the system.

librdkafka calls this interface experimental, so each function is looked up with care.
"""

import ctypes
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from confluent_kafka import cimpl

from thorn_stream.core.errors import LocalError

__all__ = ["ADDRESS_FILE", "EmbeddedBroker", "find", "run_forever"]

ADDRESS_FILE: Final = Path(".thorn/broker")
"""Where `run_forever` leaves its address: relative to the working directory."""

PRODUCE: Final = 0
OFFSET_COMMIT: Final = 8
"""Numbers of requests (Kafka's protocol guide, "API keys") for `fail_next`."""

_PRODUCER_HANDLE: Final = 0
_LOG_NOTHING: Final = b"0"

_pointer, _text, _int = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
_SIGNATURES: Final[dict[str, tuple[Any, list[Any]]]] = {
    "conf_new": (_pointer, []),
    "conf_set": (_int, [_pointer, _text, _text, _text, ctypes.c_size_t]),
    "new": (_pointer, [_int, _pointer, _text, ctypes.c_size_t]),
    "destroy": (None, [_pointer]),
    "mock_cluster_new": (_pointer, [_pointer, _int]),
    "mock_cluster_destroy": (None, [_pointer]),
    "mock_cluster_bootstraps": (_text, [_pointer]),
    "mock_topic_create": (_int, [_pointer, _text, _int, _int]),
    "mock_group_initial_rebalance_delay_ms": (None, [_pointer, ctypes.c_int32]),
    "mock_broker_set_down": (_int, [_pointer, ctypes.c_int32]),
    "mock_broker_set_up": (_int, [_pointer, ctypes.c_int32]),
    "mock_push_request_errors_array": (
        None,
        [_pointer, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(_int)],
    ),
    "mock_partition_delete_records": (
        _int,
        [_pointer, _text, ctypes.c_int32, ctypes.c_int64],
    ),
}


def _function(name: str) -> Callable[..., Any]:
    """Look up one function of librdkafka, through the extension module that is linked to it."""
    result, arguments = _SIGNATURES[name]
    try:
        found = getattr(ctypes.CDLL(cimpl.__file__), f"rd_kafka_{name}")
    except (OSError, AttributeError):
        raise LocalError(
            f"the embedded broker does not work with this build of confluent-kafka "
            f"(rd_kafka_{name} is missing): install a wheel from PyPI, or use a real Kafka"
        ) from None
    found.restype, found.argtypes = result, arguments
    call: Callable[..., Any] = found
    return call


class EmbeddedBroker:
    """One broker in this process, on a port of loopback that the system chooses.

    `partitions` is what `create_topic` makes unless told otherwise. A topic that a client asks
    for and that does not exist is made with 4, whatever this says: librdkafka has no setting
    for it.
    """

    def __init__(self, partitions: int = 4) -> None:
        self.partitions = partitions
        self._handle: int | None = None
        self._cluster: int | None = None

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect: `127.0.0.1:PORT`."""
        servers: bytes = _function("mock_cluster_bootstraps")(self._running())
        return servers.decode("ascii")

    def start(self) -> Self:
        """Listen. Raises `LocalError` when this build of librdkafka cannot."""
        if self._cluster is not None:
            return self
        error = ctypes.create_string_buffer(512)
        conf = _function("conf_new")()
        _function("conf_set")(conf, b"log_level", _LOG_NOTHING, error, 512)
        handle = _function("new")(_PRODUCER_HANDLE, conf, error, 512)
        if not handle:
            raise LocalError(f"the embedded broker did not start: {error.value.decode()}")
        cluster = _function("mock_cluster_new")(handle, 1)
        if not cluster:
            _function("destroy")(handle)
            raise LocalError("the embedded broker did not start: no port of 127.0.0.1 is free")
        self._handle, self._cluster = handle, cluster
        _function("mock_group_initial_rebalance_delay_ms")(cluster, 0)
        return self

    def stop(self) -> None:
        """Stop listening and forget everything. May be called twice."""
        if self._cluster is not None:
            _function("mock_cluster_destroy")(self._cluster)
            _function("destroy")(self._handle)
        self._handle = self._cluster = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def create_topic(self, name: str, partitions: int | None = None) -> None:
        """Make a topic. Raises `LocalError` when it exists or the name is no topic name."""
        count = partitions or self.partitions
        code = _function("mock_topic_create")(self._running(), name.encode(), count, 1)
        if code:
            raise LocalError(f"the embedded broker did not make {name} (librdkafka error {code})")

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Drop the records below this offset, as a real broker's retention does."""
        code = _function("mock_partition_delete_records")(
            self._running(), topic.encode(), partition, before
        )
        if code:
            raise LocalError(f"no records of {topic}[{partition}] deleted (librdkafka {code})")

    def fail_next(self, request: int, codes: Sequence[int]) -> None:
        """Answer the next requests of this kind with these error codes, one each."""
        array = (ctypes.c_int * len(codes))(*codes)
        _function("mock_push_request_errors_array")(self._running(), request, len(codes), array)

    def go_down(self) -> None:
        """Close every connection and refuse new ones; what is stored stays."""
        _function("mock_broker_set_down")(self._running(), 1)

    def come_up(self) -> None:
        _function("mock_broker_set_up")(self._running(), 1)

    def _running(self) -> int:
        if self._cluster is None:
            raise LocalError("the embedded broker is not running: start it first")
        return self._cluster


def find(file: Path = ADDRESS_FILE) -> str | None:
    """Bootstrap servers of the broker that `run_forever` runs in this directory, or None.

    A file left by a process that is gone, or whose port nobody answers on, counts as none.
    """
    try:
        told = json.loads(file.read_text("utf-8"))
        pid, servers = int(told["pid"]), str(told["bootstrap_servers"])
        host, _, port = servers.rpartition(":")
        os.kill(pid, 0)
        socket.create_connection((host, int(port)), timeout=1).close()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return servers


def run_forever(
    on_ready: Callable[[EmbeddedBroker], None],
    *,
    file: Path = ADDRESS_FILE,
    stop: threading.Event | None = None,
) -> None:
    """Run a broker until SIGTERM, SIGINT or `stop`, its address in `file` for `find`.

    `on_ready` is called once, when clients can connect. Raises `LocalError` when a broker runs
    for this directory already, or the file cannot be written.
    """
    if there := find(file):
        raise LocalError(f"a broker runs here already, on {there}: use it, or stop it first")
    ended = stop or threading.Event()
    with EmbeddedBroker() as broker, _address_in(file, broker), _signals() as signals:
        on_ready(broker)
        while not signals and not ended.wait(0.2):
            pass


@contextmanager
def _address_in(file: Path, broker: EmbeddedBroker) -> Iterator[None]:
    text = json.dumps({"pid": os.getpid(), "bootstrap_servers": broker.bootstrap_servers})
    whole = file.with_name(f"{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(text, "utf-8")
        whole.replace(file)  # a reader sees all of it or nothing
    except OSError as error:
        raise LocalError(
            f"cannot write {file}, where other commands look for the broker: {error.strerror}"
        ) from None
    try:
        yield
    finally:
        if file.exists() and file.read_text("utf-8") == text:
            file.unlink()


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT; outside the main thread Python does not allow it.

    A handler may not set an Event: it can interrupt the very wait that holds the Event's lock.
    """
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    names = (signal.SIGTERM, signal.SIGINT)
    before = {name: signal.signal(name, lambda number, _: seen.append(number)) for name in names}
    try:
        yield seen
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
