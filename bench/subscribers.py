"""What many subscribers cost: memory, and a reload of all of them beside a loop that delivers.

    python -m bench.subscribers [--count 100000] [--files 100] [--format json|yaml] [--lanes]

Writes so many subscribers into files of a temporary folder, reads them as a dispatcher does, then
changes every one and reads them anew on the watcher's thread, while a loop turns once in a
millisecond. Told are the memory that they take, how long the reload took, and the longest that the
loop stood still meanwhile; and, since a busy machine has pauses of its own, the same of as long a
time before. With `--lanes` each has a Lane, as if it had been called already.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from pathlib import Path

import yaml

from thorn_stream.adapters.files.kept import KeptFiles, Reload
from thorn_stream.adapters.files.subscribers import FileSubscribers
from thorn_stream.adapters.files.watching import Watcher
from thorn_stream.core.directory import Directory, parse_subscribers
from thorn_stream.core.flow import Limits
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.schedule import RetryPolicy, Tiers, policy_for
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.dispatcher import Dispatcher
from thorn_stream.dispatch.lane import LaneSettings
from thorn_stream.dispatch.settler import Settler, Topics
from thorn_stream.testing import MemoryClock, MemorySink, MemoryTransport, RecordingObserver


def rss() -> int:
    """Bytes of this process in memory now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def write(folder: Path, count: int, files: int, kind: str, version: int) -> None:
    """`count` subscribers with patterns of several kinds; another `version` changes all of them."""
    each = count // files
    for number in range(files):
        entries = [
            {
                "id": f"customer-{one}",
                "event": [f"order.*.c{one % 5000}", f"user.{one % 977}.**"],
                "url": f"https://hooks-{one % 4000}.example.com/in/{one}?v={version}",
            }
            for one in range(number * each, (number + 1) * each)
        ]
        data = {"subscribers": entries}
        text = json.dumps(data) if kind == "json" else yaml.safe_dump(data)
        path = folder / f"part-{number:04}.{kind}"
        path.with_suffix(".new").write_text(text, encoding="utf-8")
        path.with_suffix(".new").replace(path)


class Pauses:
    """How long a loop stands still: its turns, as near to one in a millisecond as it comes."""

    def __init__(self) -> None:
        self.found: list[float] = []
        self._task = asyncio.get_running_loop().create_task(self._turn())

    async def _turn(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.found.append(now - last - 0.001)
            last = now

    def told(self) -> str:
        self._task.cancel()
        ordered = sorted(self.found)
        p99 = ordered[int(len(ordered) * 0.99)]
        median = statistics.median(ordered)
        return (
            f"longest {1000 * ordered[-1]:.0f} ms, p99 {1000 * p99:.1f} ms, "
            f"median {1000 * median:.2f} ms"
        )


def dispatcher(directory: Directory) -> Dispatcher:
    clock = MemoryClock()
    context = Context(Limits(), Tiers((5.0,)), clock, RecordingObserver(), random.random)

    def prepare(one: Subscriber) -> LaneSettings:
        requests = RequestFactory(one, (), user_agent="bench", source="bench")
        return LaneSettings(
            requests, policy_for(one, RetryPolicy(), 20), 10.0, 256, keep_alive=True
        )

    topics = Topics("dead", lambda tier: f"retry.{tier}", "parked")
    settler = Settler(MemorySink(), topics, context)
    return Dispatcher(directory, MemoryTransport(), settler, prepare, context)


async def measure(folder: Path, asked: argparse.Namespace) -> None:
    before = rss()
    globs = [f"{folder}/*.{asked.format}"]
    found = FileSubscribers(globs, str, parse_subscribers)
    kept = KeptFiles(found, str, Directory)
    begun, cpu = time.perf_counter(), time.process_time()
    ours = dispatcher(kept.load())
    took, used = time.perf_counter() - begun, time.process_time() - cpu
    print(f"read at first in {took:.1f} s ({used:.1f} s of CPU)", flush=True)
    print(f"{len(ours.directory):,} subscribers take {(rss() - before) >> 20} MiB", flush=True)
    if asked.lanes:
        for one in ours.directory:
            ours.lanes._book.make(one)  # noqa: SLF001 -- as its first delivery would
        print(f"with a lane each {(rss() - before) >> 20} MiB", flush=True)
    done: asyncio.Future[Reload] = asyncio.get_running_loop().create_future()

    def told(reload: Reload) -> None:
        assert reload.directory is not None, reload.mistakes
        ours.use(reload.directory)
        done.set_result(reload)

    quiet = Pauses()
    await asyncio.sleep(3.0)
    print(f"the loop, nothing else to do: {quiet.told()}", flush=True)
    await asyncio.to_thread(write, folder, asked.count, asked.files, asked.format, 2)
    pauses = Pauses()
    begun, cpu = time.perf_counter(), time.process_time()
    watcher = Watcher(kept, globs)
    watcher.start(told)  # which begins with a look
    reload = await done
    took, used = time.perf_counter() - begun, time.process_time() - cpu
    await asyncio.sleep(0.1)
    print(f"{reload.changed:,} changed ones were read in {took:.1f} s ({used:.1f} s of CPU)")
    print(f"the loop meanwhile: {pauses.told()}")
    print(f"after it {(rss() - before) >> 20} MiB more than at the beginning", flush=True)
    watcher.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench.subscribers", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--format", choices=["json", "yaml"], default="json")
    parser.add_argument("--lanes", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thorn-subscribers-") as folder:
        write(Path(folder), asked.count, asked.files, asked.format, 1)
        asyncio.run(measure(Path(folder), asked))


if __name__ == "__main__":
    main()
