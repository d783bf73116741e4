"""What `send` costs the program that calls it: `python -m bench.sending [--events 20000]`.

Events of 200 bytes to the embedded broker, which runs in a process of its own. Microseconds of wall
time per call: what a web request waits. Median and 99th percentile, with and without a buffer, and
with a callback (the reader of results is there already; nobody delivers, so none is called).
"""

import argparse
import multiprocessing
import statistics
import time
from multiprocessing.connection import Connection

from thorn_stream.adapters.embedded import EmbeddedBroker
from thorn_stream.events import ModelEvent, Thorn
from thorn_stream.events.callbacks import OnSuccess

__all__ = ["main"]


class _Article:
    title = "x" * 100

    def get_absolute_url(self) -> str:
        return "https://shop.example/articles/1"


def _broker(pipe: Connection) -> None:
    with EmbeddedBroker() as broker:
        pipe.send(broker.bootstrap_servers)
        pipe.recv()


def _times(
    thorn: Thorn, events: int, *, model: bool, on_success: OnSuccess | None = None
) -> list[float]:
    """Seconds of each call; what is queued is waited for now and then, so that there is room."""
    event, article = thorn.Event("order.paid", timeout=5), _Article()
    of_model: ModelEvent = thorn.ModelEvent("article.created")
    data = {"id": 7, "text": "x" * 120}
    times = []
    for number in range(events):
        began = time.perf_counter()
        if model:
            of_model.send(article, data, sender=42)
        else:
            event.send(data, sender=42, on_success=on_success)
        times.append(time.perf_counter() - began)
        if number % 5_000 == 0:
            thorn.flush(60)
    return sorted(times)


def _row(name: str, times: list[float]) -> None:
    median, late = statistics.median(times), times[int(len(times) * 0.99)]
    print(f"{name:<28}{median * 1e6:>10.1f}{late * 1e6:>10.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.sending")
    parser.add_argument("--events", type=int, default=20_000)
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_broker, args=(there,), daemon=True)
    process.start()
    thorn = Thorn(bootstrap_servers=here.recv(), set_as_current=False)
    thorn.Event("order.paid").send({}).wait()
    print(f"{'us per send':<28}{'median':>10}{'p99':>10}")
    _row("Event", _times(thorn, asked.events, model=False))
    _row("ModelEvent", _times(thorn, asked.events, model=True))
    with thorn.buffer_events(flush_freq=1000):
        _row("Event, buffer of 1,000", _times(thorn, asked.events, model=False))
    thorn.Event("order.paid").send({}, on_success=print).wait()
    _row("Event, with a callback", _times(thorn, asked.events, model=False, on_success=print))
    thorn.close()
    here.send(None)
    process.join(10)


if __name__ == "__main__":
    main()
