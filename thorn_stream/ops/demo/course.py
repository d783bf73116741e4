"""The demo from its first line to its last."""

import asyncio
import logging
import os
import secrets
import signal
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from thorn_stream.adapters.embedded import EmbeddedBroker
from thorn_stream.core.errors import KafkaError
from thorn_stream.ops.demo import view
from thorn_stream.ops.demo.account import Books, DeadLetter
from thorn_stream.ops.demo.cast import cast, happenings, outage
from thorn_stream.ops.demo.dispatcher import (
    DispatcherProcess,
    Sample,
    free_port,
    new_secret,
    settings_for,
    write_configuration,
)
from thorn_stream.ops.demo.figures import count
from thorn_stream.ops.demo.kafka import Cluster, DeadLetters, login_from, produce
from thorn_stream.ops.demo.receivers import Receivers
from thorn_stream.ops.demo.report import Result, counted_by_dispatcher, where_it_waits
from thorn_stream.ops.demo.screen import Screen

__all__ = ["Options", "run"]

_ASK_EVERY: Final = 1.0
_DRAIN_WITHIN: Final = 12.0
_STOP_WITHIN: Final = 1.5
_LATEST: Final = 60.0
_AFTER_LAST: Final = 50.0


@dataclass(frozen=True, slots=True)
class Options:
    """`rate` in events a second; `kafka` is a broker's HOST:PORT, None the embedded one."""

    events: int = 2000
    rate: float = 200.0
    kafka: str | None = None
    json: bool = False

    @property
    def deadline(self) -> float:
        """Seconds after the first event at which it is over, done or not."""
        return max(_LATEST, self.events / self.rate + _AFTER_LAST)


def run(options: Options) -> int:
    """Run it; returns the exit status: 0 it adds up, 1 it does not, 130 interrupted.

    Raises `LocalError` when a part does not start or ends too early, `KafkaError` when the
    broker asked for is not there.
    """
    # what the parts log is for the dispatcher's operators; here it would tear the table
    logging.getLogger("thorn_stream").addHandler(logging.NullHandler())
    return asyncio.run(_until_interrupted(options))


async def _until_interrupted(options: Options) -> int:
    """The first signal ends everything in order, within seconds; more of them change nothing."""
    screen = Screen(json=options.json)
    course = asyncio.create_task(Course(options, screen).run())
    interrupted: list[int] = []

    def stop(number: int) -> None:
        if not interrupted:
            course.cancel()
        interrupted.append(number)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        result = await course
    except asyncio.CancelledError:
        screen.say("Interrupted: broker, dispatcher and receivers are stopped.")
        return 128 + interrupted[0]
    screen.finish(result)
    return 0 if result.accounted else 1


def _opening(options: Options) -> str:
    where = f"Kafka at {options.kafka}" if options.kafka else "embedded broker"
    events = f"{count(options.events, 'event')} at {options.rate:g}/s"
    return f"thorn-stream demo: {events}, {where}, five receivers"


class Course:
    """Start everything, send, wait until it is settled or too late, stop, add up."""

    def __init__(self, options: Options, screen: Screen) -> None:
        self._options = options
        self._screen = screen
        self._parts = cast(outage(options.events, options.rate))
        self._books = Books(self._parts)
        self._keys = {part.id: new_secret() for part in self._parts}
        self._changed_at = self._began_at = 0.0
        self._circuits: list[str] = []
        self._deleted: list[str] = []
        self._left_behind: list[str] = []

    async def run(self) -> Result:
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="thorn-demo-")))
            self._screen.say(_opening(self._options))
            with self._screen.busy("starting broker, dispatcher and receivers ..."):
                began = time.monotonic()
                cluster = self._cluster(stack)
                await cluster.create_input()
                stack.push_async_callback(self._tidy, cluster)
                receivers = await self._receivers(stack)
                dispatcher = await self._dispatcher(stack, folder, cluster, receivers)
                await self._dead_letters(stack, cluster)
            self._screen.say(f"ready in {time.monotonic() - began:.1f} s")
            samples = await self._send_and_wait(cluster, dispatcher, receivers)
            result = await self._end(cluster, dispatcher, samples)
        result.deleted, result.left_behind = self._deleted, self._left_behind
        return result

    # --- start ---------------------------------------------------------------------------------

    def _cluster(self, stack: AsyncExitStack) -> Cluster:
        group = f"thorn-demo-{secrets.token_hex(4)}"
        if self._options.kafka is not None:
            login = login_from(os.environ)
            return Cluster(self._options.kafka, group, embedded=False, login=login)
        broker = stack.enter_context(EmbeddedBroker())
        return Cluster(broker.bootstrap_servers, group, embedded=True)

    async def _receivers(self, stack: AsyncExitStack) -> Receivers:
        accounts = list(self._books.accounts.values())
        receivers = Receivers(accounts, self._keys, self._changed)
        stack.push_async_callback(receivers.stop)
        await receivers.start()
        return receivers

    async def _dispatcher(
        self, stack: AsyncExitStack, folder: Path, cluster: Cluster, receivers: Receivers
    ) -> DispatcherProcess:
        port = free_port()
        settings = settings_for(cluster.servers, cluster.group, port)
        config = write_configuration(folder, settings, self._parts, receivers.urls, self._keys)
        dispatcher = DispatcherProcess(config, port, own_broker=not cluster.embedded)
        stack.push_async_callback(dispatcher.stop, _STOP_WITHIN)
        dispatcher.start()
        await dispatcher.ready()
        return dispatcher

    async def _dead_letters(self, stack: AsyncExitStack, cluster: Cluster) -> None:
        def found(letter: DeadLetter) -> None:
            self._books.died(letter)
            self._changed()

        letters = DeadLetters(cluster, found)
        stack.push_async_callback(letters.stop, _STOP_WITHIN)
        letters.start()

    def _changed(self) -> None:
        self._changed_at = time.monotonic()

    # --- run -----------------------------------------------------------------------------------

    async def _send_and_wait(
        self, cluster: Cluster, dispatcher: DispatcherProcess, receivers: Receivers
    ) -> list[Sample]:
        """Until all is settled, or it is too late; returns the dispatcher's metrics of then."""
        options = self._options
        self._began_at = self._changed_at = time.monotonic()
        receivers.first_event()
        events = happenings(options.events)
        producing = asyncio.create_task(produce(cluster, events, options.rate, self._books))
        watching = asyncio.create_task(self._watch(dispatcher))
        try:
            with self._screen.live(lambda: self._moment(receivers)) as refresh:
                while not (producing.done() and self._books.settled) and not self._too_late():
                    if watching.done():
                        watching.result()  # raises: the dispatcher has ended
                    refresh()
                    await asyncio.sleep(0.05)
                refresh()
            if producing.done():
                producing.result()
        finally:
            for task in (producing, watching):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return await dispatcher.metrics()

    async def _watch(self, dispatcher: DispatcherProcess) -> None:
        """See that the dispatcher lives, and which circuits are open, until cancelled."""
        while True:
            dispatcher.check()
            self._circuits = [
                labels.get("subscriber", "")
                for name, labels, value in await dispatcher.metrics()
                if name == "thorn_circuit_open" and value
            ]
            await asyncio.sleep(_ASK_EVERY)

    def _moment(self, receivers: Receivers) -> view.Moment:
        return view.Moment(
            self._books,
            self._options.events,
            time.monotonic() - self._began_at,
            receivers.down_for,
            self._circuits,
        )

    def _too_late(self) -> bool:
        return time.monotonic() - self._began_at > self._options.deadline

    # --- end -----------------------------------------------------------------------------------

    async def _end(
        self, cluster: Cluster, dispatcher: DispatcherProcess, samples: list[Sample]
    ) -> Result:
        """Stop the dispatcher first: what it still has under way belongs to the sum."""
        result = Result(self._books, cluster.embedded, self._changed_at - self._began_at)
        settled = self._books.settled
        status = await dispatcher.stop(_DRAIN_WITHIN if settled else _STOP_WITHIN)
        result.faults = self._books.faults()
        result.dispatcher = counted_by_dispatcher(samples)
        if settled and status != 0:
            how = "had to be killed" if status is None else f"ended with status {status}"
            result.faults.append(f"the dispatcher was asked to drain and {how}")
        if result.faults:
            result.hints = [*where_it_waits(samples), *dispatcher.last_lines()]
        return result

    async def _tidy(self, cluster: Cluster) -> None:
        """Last of all, interrupted or not: somebody's broker is left as it was."""
        if cluster.embedded:
            return
        try:
            self._deleted, self._left_behind = await cluster.delete_topics()
        except KafkaError:
            self._left_behind = [f"{cluster.group}.*"]
