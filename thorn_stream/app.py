"""The composition root: settings in, a wired dispatcher out. The one file that knows every room."""

import asyncio
import random
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from structlog.typing import FilteringBoundLogger

from thorn_stream.adapters.embedded import EmbeddedBroker, find
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.kafka import (
    Cluster,
    KafkaReplay,
    KafkaSink,
    KafkaSource,
    ReplaySettings,
    SinkSettings,
    SourceSettings,
    check_client,
    describe,
    session,
)
from thorn_stream.adapters.logs import LogObserver
from thorn_stream.adapters.metrics import Metrics
from thorn_stream.adapters.observers import Observers
from thorn_stream.adapters.probes import Probes
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.config import Loaded, Settings
from thorn_stream.core.circuit import CircuitRules
from thorn_stream.core.clocks import SKEW_TOLD
from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import ConfigurationError, KafkaUnreachable
from thorn_stream.core.extra import EventSubscriber
from thorn_stream.core.flow import STALL, Limits, ahead, patience
from thorn_stream.core.overrides import EventRules
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.schedule import RetryPolicy, Tiers, policy_for
from thorn_stream.core.signing import derived_secret
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import Guard
from thorn_stream.dispatch.context import Context
from thorn_stream.dispatch.dispatcher import Dispatcher
from thorn_stream.dispatch.lane import LaneSettings
from thorn_stream.dispatch.ordered import OrderedRead
from thorn_stream.dispatch.ordered_reads import OrderedReads
from thorn_stream.dispatch.parked import Parked, ParkedTopics
from thorn_stream.dispatch.pending import oldest_pending
from thorn_stream.dispatch.results import Results
from thorn_stream.dispatch.settler import Settler, Topics
from thorn_stream.dispatch.waiting import Waiting
from thorn_stream.dispatch.worker import Worker
from thorn_stream.ops.guarding import guard_for
from thorn_stream.ops.ordering import Forgotten, Groups, OrderingRules, within
from thorn_stream.ops.reloading import Reloading
from thorn_stream.ops.topics import never_input
from thorn_stream.ops.upkeep import Found, Upkeep
from thorn_stream.ports import Source, Transport, Trouble
from thorn_stream.version import __version__

if TYPE_CHECKING:
    from thorn_stream.adapters.http.httpx_transport import HttpxTransport

__all__ = ["NOT_THERE", "Application", "SystemClock", "refuse_what_is_not_there"]

_ASK_EVERY: Final = 0.5
_ASK_FOR: Final = 5.0
_FILES_KEPT_BACK: Final = 128
_MOST_CONNECTIONS: Final = 16_384
_RECORDS_AT_ONCE: Final = 20_000
_LEAVE_WITHIN: Final = 3.0
_LEAVE_PATIENTLY: Final = 12.0
_TICK: Final = 1.0


class SystemClock:
    """The time of this machine (`ports.Clock`)."""

    def wall(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class Application:
    """One dispatcher: `start` it, let it run, `stop` it.

    `resolver` looks up receivers' names; without one the system is asked. Raises
    `ConfigurationError` for settings that cannot be put to work together.
    """

    def __init__(
        self, loaded: Loaded, log: FilteringBoundLogger, resolver: Resolver | None = None
    ) -> None:
        self._log = log
        self.settings = settings = loaded.settings
        self._master = settings.hmac_secret.get_secret_value() if settings.hmac_secret else None
        self._prepare = _lane_settings(settings, self._master_now)
        check_client(settings.librdkafka())
        self.metrics = Metrics(subscriber_limit=settings.metrics_subscriber_limit)
        guard = guard_for(settings)
        self._subscribers = Reloading(
            loaded,
            guard,
            partial(_check, settings, OrderingRules(settings)),
            self.metrics,
            log,
        )
        self._logs = LogObserver(log, successes=settings.log.successes)
        self._observer = Observers(self.metrics, self._logs)
        self._connections = settings.max_connections or _connections_this_process_may_open()
        self.transport = _transport(settings, guard, resolver or Resolver(), self._connections)
        self.probes = Probes(reasons=self.reasons, metrics=self.metrics.render)
        self.worker: Worker | None = None
        self._sink: KafkaSink | None = None
        self._results: Results | None = None
        self._sources: tuple[KafkaSource, ...] = ()
        self._replay: KafkaReplay | None = None
        self._upkeep: Upkeep | None = None
        self._ordered: OrderedReads | None = None
        self._forgotten: Forgotten | None = None
        self._broker: EmbeddedBroker | None = None
        self._timer: asyncio.TimerHandle | None = None

    # --- begin ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the probes, reach Kafka, see to the topics, join the groups.

        Raises `LocalError` (port taken), `SecurityError` (the guard does not hold),
        `KafkaUnreachable` after `start_timeout`, `KafkaRefused`.
        """
        await self.probes.start(self.settings.http.host, self.settings.http.port)
        await self.transport.self_test()
        servers = self._embedded_servers()
        client = self.settings.librdkafka(servers)
        cluster = await self._reach(client)
        self._upkeep = Upkeep(
            self.settings, client, self._log, partial(self._observer.trouble, self.settings.group)
        )
        found = await self._upkeep.start(cluster)
        groups = Groups(self.settings, self._reading(client, cluster), self._log)
        await groups.start()
        self._prepare = within(self._prepare, groups.longest)
        self.worker = self._wire(client, cluster, found)
        self._ordered = self._read_in_order(self.worker, groups)
        # before the main group moves: what is published from now on is theirs as well
        await self._ordered.begin(self.directory)
        self.worker.start()
        self._subscribers.start(self._use, self._sign_with)
        if not cluster.embedded:  # it cannot tell, and does not outlive its groups
            known = partial(getattr, self, "directory")
            self._forgotten = Forgotten(self.settings, client, known, self._log)
            self._forgotten.start()
        self._tick()

    def _use(self, directory: Directory) -> None:
        assert self.worker is not None
        assert self._ordered is not None
        self.worker.dispatcher.use(directory)
        self._ordered.use(directory)

    def _read_in_order(self, worker: Worker, groups: Groups) -> OrderedReads:
        """A read of its own for each ordered subscriber."""
        dispatcher, context = worker.dispatcher, worker.context

        def make(subscriber: Subscriber, source: tuple[str, Source]) -> OrderedRead:
            made = (dispatcher, self.transport, context)
            return OrderedRead(subscriber, source, *made, groups.longest)

        reads = OrderedReads(groups.open, make, self.settings.memory_limit // 8)
        worker.serve(reads)
        return reads

    def _master_now(self) -> str | None:
        return self._master

    def _sign_with(self, master: str) -> None:
        """The master secret's file holds another one: whatever is sent from now on has it."""
        assert self.worker is not None
        self._master = master
        for lane in self.worker.dispatcher.lanes:
            lane.settings = self._prepare(lane.subscriber)

    @property
    def directory(self) -> Directory:
        return self._subscribers.directory

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TICK, self._tick)
        self._logs.tick()
        self._look_at_clock()

    def _look_at_clock(self) -> None:
        """Due times are written by one host and read by another: say when clocks differ."""
        skew = self._skew().get((), 0.0)
        text = f"Kafka's clock and this one differ by {skew:.0f} s: synchronise both (NTP)"
        told = Trouble("clock", text if abs(skew) > SKEW_TOLD else None)
        self._observer.trouble(self.settings.group, told)

    def _skew(self) -> Mapping[str | tuple[str, ...], float]:
        """Nothing while Kafka has not told its time."""
        skew = self._sink.skew if self._sink is not None else None
        return {} if skew is None else {(): skew}

    def _embedded_servers(self) -> str | None:
        if not self.settings.embedded:
            return None
        servers = find()
        if servers is None:
            self._broker = EmbeddedBroker().start()
            servers = self._broker.bootstrap_servers
            self._log.info("embedded broker started: it keeps nothing", bootstrap_servers=servers)
        return servers

    async def _reach(self, client: Mapping[str, str]) -> Cluster:
        """Ask until Kafka answers; a refused login is final, silence only after a while."""
        until = time.monotonic() + self.settings.start_timeout
        while True:
            patience = min(_ASK_FOR, max(_ASK_EVERY, until - time.monotonic()))
            try:
                return await asyncio.to_thread(describe, client, patience)
            except KafkaUnreachable:
                if time.monotonic() + _ASK_EVERY >= until:
                    raise
                await asyncio.sleep(_ASK_EVERY)

    def _reading(self, client: Mapping[str, str], cluster: Cluster) -> SourceSettings:
        """How the input topics are read."""
        settings = self.settings
        return SourceSettings(
            client,
            group=settings.group,
            topics=settings.topics,
            exclude=never_input(settings),
            start=settings.start,
            protocol=settings.group_protocol,
            embedded=cluster.embedded,
            records=_RECORDS_AT_ONCE,
            size=settings.memory_limit // 2,
        )

    def _wire(self, client: Mapping[str, str], cluster: Cluster, found: Found) -> Worker:
        settings = self.settings
        main_settings = self._reading(client, cluster)
        self._results = self._result_writer(client)
        context = Context(
            limits=_limits(settings, self._connections, session(main_settings)),
            tiers=Tiers(tuple(settings.retry_tiers)),
            clock=SystemClock(),
            observer=self._observer,
            dice=random.random,
            rules=_event_rules(settings),
            circuit=CircuitRules(**settings.circuit.model_dump()),
            results=self._results,
        )
        largest = {"message.max.bytes": str(found.message_max)}
        self._sink = KafkaSink(SinkSettings({**client, **largest}, found.batch_size))
        topics = Topics(settings.dead, settings.retry_topic, settings.parked)
        settler = Settler(self._sink, topics, context)
        dispatcher = Dispatcher(
            self.directory,
            self.transport,
            settler,
            self._prepare,
            context,
        )
        main = KafkaSource(main_settings)
        retry = KafkaSource(
            SourceSettings(
                client,
                group=f"{settings.group}.retry",
                topics=tuple(found.tiers),
                protocol=settings.group_protocol,
                embedded=cluster.embedded,
                records=1_000_000,  # the look-ahead of each partition is the bound
                size=ahead(settings.memory_limit // 4),  # more as it is looked at
                enough=1,  # while much is held it never has half of that again
            )
        )
        parked = KafkaSource(
            SourceSettings(
                client,
                group=f"{settings.group}.parked",
                topics=(settings.parked,),
                protocol=settings.group_protocol,
                embedded=cluster.embedded,
                size=settings.memory_limit // 16,
            )
        )
        replay = ReplaySettings(client, parked.group, embedded=cluster.embedded)
        self._replay = KafkaReplay(replay)
        self._sources = (main, retry, parked)
        waiting = Waiting(dispatcher, dict(found.tiers), context)
        worker = Worker(dispatcher, waiting, (main.group, main), (retry.group, retry), context)
        worker.read_parked(
            Parked(
                dispatcher,
                (parked.group, parked),
                (self._replay, self._sink),
                ParkedTopics(settings.parked, settings.cursors),
                context,
            )
        )
        self._show(worker)
        return worker

    def _result_writer(self, client: Mapping[str, str]) -> Results:
        """With a producer of its own: what becomes of results must not touch hand-overs."""
        return Results(
            self.settings.results_topic,
            lambda: KafkaSink(SinkSettings(client)),
            self._observer,
            SystemClock(),
            every=self.settings.results.enabled,
        )

    def _show(self, worker: Worker) -> None:
        """What is asked for when the metrics are scraped."""
        lanes = worker.dispatcher.lanes
        gauge = self.metrics.gauge
        gauge("thorn_in_flight", lambda: {(): lanes.in_flight})
        gauge(
            "thorn_lane_depth",
            lambda: {(lane.subscriber.id,): lane.depth for lane in lanes},
        )
        gauge(  # the open ones first: there may be more subscribers than series
            "thorn_circuit_open",
            lambda: {
                (lane.subscriber.id,): float(lane.is_open)
                for lane in sorted(lanes, key=lambda lane: not lane.is_open)
            },
        )
        gauge(
            "thorn_memory_bytes",
            lambda: {
                ("live",): worker.main.open_bytes,
                ("retry",): worker.retry.open_bytes,
                ("parked",): worker.parked.held_bytes if worker.parked is not None else 0,
                ("ordered",): sum(read.intake.open_bytes for read in worker.ordered or ()),
            },
        )
        gauge("thorn_memory_limit_bytes", lambda: {(): self.settings.memory_limit})
        gauge("thorn_consumer_lag", self._lag)
        gauge("thorn_clock_skew_seconds", self._skew)
        gauge("thorn_oldest_pending_seconds", partial(_ages, worker, self.transport))
        gauge(
            "thorn_ordered_blocked",
            lambda: {
                (read.subscriber.id,): read.blocked
                for read in sorted(worker.ordered or (), key=lambda read: -read.blocked)
            },
        )

    def _lag(self) -> Mapping[str | tuple[str, ...], float]:
        assert self.worker is not None
        return {
            (source.group, partition.topic, str(partition.number)): max(
                0, end - intake.ledgers[partition].committed
            )
            for source, intake in (
                *zip(self._sources, self.worker.intakes, strict=True),
                *((source, read.intake) for source, read in _with_sources(self.worker)),
            )
            for partition, end in source.ends.items()
            if partition in intake.ledgers
        }

    # --- how it is, and how it ends -------------------------------------------------------------

    def reasons(self) -> list[str]:
        """Why it is not ready, a line each."""
        if self.worker is None:
            return ["starting: Kafka has not answered yet"]
        missing = self._upkeep.reasons if self._upkeep is not None else []
        return [*missing, *self.worker.reasons()]

    async def stop(self) -> bool:
        """Drain within `drain_timeout`, leave, let go of everything; True when all was done."""
        done = True
        self._subscribers.stop()
        if self._upkeep is not None:
            self._upkeep.stop()
        if self._forgotten is not None:
            self._forgotten.stop()
        if self._ordered is not None:
            self._ordered.stop()
        if self.worker is not None and self._sink is not None and self._results is not None:
            began = time.monotonic()
            done = await self.worker.drain(self.settings.drain_timeout)
            # A group that waits for a member that died lets nobody leave before it gives that one
            # up (10 s); gone without leaving, we would be the next one it waits for.
            spared = self.settings.drain_timeout - (time.monotonic() - began)
            left, unsent, _ = await asyncio.gather(
                self.worker.leave(max(_LEAVE_WITHIN, min(spared, _LEAVE_PATIENTLY))),
                self._sink.stop(_LEAVE_WITHIN),
                self._results.stop(_LEAVE_WITHIN),
            )
            done = done and left and not unsent
        if self._replay is not None:
            await self._replay.stop(_LEAVE_WITHIN)
        if self._timer is not None:
            self._timer.cancel()
        await self.transport.stop()
        await self.probes.stop()
        if self._broker is not None and done:
            self._broker.stop()
        return done


# --- settings to what each room is given --------------------------------------------------------


def _transport(
    settings: Settings, guard: Guard, resolver: Resolver, connections: int
) -> "NativeTransport | HttpxTransport":
    """Our own, or httpx's: as the settings are, `http2` and `proxy` come with `httpx` alone."""
    if settings.transport == "native":
        return NativeTransport(
            guard,
            resolver,
            max_connections=connections,
            ca_file=settings.tls.ca_file,
            keep_response=settings.keep_response,
        )
    # httpx is loaded only where it is used
    from thorn_stream.adapters.http.httpx_transport import HttpxTransport  # noqa: PLC0415
    from thorn_stream.adapters.http.httpx_ways import Way, own_transport  # noqa: PLC0415

    own = own_transport(settings.transport) if settings.transport.startswith("!") else None
    proxy = None if settings.proxy is None else settings.proxy.get_secret_value()
    return HttpxTransport(
        guard,
        resolver,
        max_connections=connections,
        ca_file=settings.tls.ca_file,
        keep_response=settings.keep_response,
        way=Way(settings.http2, proxy, own),
    )


def _ages(worker: Worker, transport: Transport) -> Mapping[str | tuple[str, ...], float]:
    found = oldest_pending(worker, transport, time.time_ns() // 1_000_000)
    return {(name,): seconds for name, seconds in found.items()}


def _with_sources(worker: Worker) -> Iterator[tuple[KafkaSource, OrderedRead]]:
    for read in worker.ordered or ():
        if isinstance(read.source, KafkaSource):
            yield read.source, read


def _limits(settings: Settings, connections: int, membership: tuple[float, float] | None) -> Limits:
    """`membership`: the group's session and heartbeat interval, where they are known."""
    return Limits(
        max_in_flight=settings.max_in_flight,
        max_connections=connections,
        lane_size=settings.lane_size,
        lane_wait_max=settings.lane_wait_max,
        window=settings.window,
        lookahead=settings.retry_lookahead,
        memory=settings.memory_limit,
        commit_interval=settings.commit_interval,
        commit_patience=STALL if membership is None else patience(*membership),
        unknown_grace=settings.unknown_subscriber_grace,
        max_event_age=settings.max_event_age,
        park_max=settings.park_max,
    )


def _event_rules(settings: Settings) -> EventRules:
    """What an event may ask for itself."""
    return EventRules(
        timeout_max=settings.event_timeout_max,
        retry_max=settings.retry_max_max,
        retry_delay_max=settings.retry_delay_max,
        max_in_flight=settings.max_in_flight,
        subscribers=settings.allow_event_subscribers,
        allowed_networks=tuple(str(network) for network in settings.allowed_networks),
    )


def _lane_settings(
    settings: Settings, master_now: Callable[[], str | None]
) -> Callable[[Subscriber], LaneSettings]:
    """How a Subscriber's Lane is prepared: its own values, else the settings'."""
    defaults = RetryPolicy(
        retry=settings.retry,
        retry_max=settings.retry_max,
        delay=settings.retry_delay,
        backoff=settings.retry_backoff,
        delay_max=settings.retry_delay_max,
        schedule=settings.retry_schedule,
        jitter=settings.retry_jitter,
        retry_after_max=settings.retry_after_max,
        dead_on=settings.dead_on,
    )
    agent = settings.user_agent or f"thorn-stream/{__version__}"

    def prepare(subscriber: Subscriber) -> LaneSettings:
        secrets = [secret.get_secret_value() for secret in subscriber.hmac_secret]
        master = master_now()
        if not secrets and master and not isinstance(subscriber, EventSubscriber):
            secrets = [derived_secret(master, subscriber.id)]
        asked = settings.event_timeout if subscriber.timeout is None else subscriber.timeout
        return LaneSettings(
            RequestFactory(
                subscriber, secrets, user_agent=agent, source=f"thorn-stream/{settings.group}"
            ),
            policy_for(subscriber, defaults, settings.retry_max_max),
            min(asked, settings.event_timeout_max),
            subscriber.max_in_flight or settings.max_in_flight,
            keep_alive=settings.allow_keepalive,
        )

    return prepare


def _connections_this_process_may_open() -> int:
    """From the limit on open files, less what Kafka, logs and probes need."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(16, min(soft - _FILES_KEPT_BACK, _MOST_CONNECTIONS))


NOT_THERE: Final[Mapping[str, Callable[[Settings], bool]]] = {
    "api.enabled": lambda settings: settings.api.enabled,
    "tracing.enabled": lambda settings: settings.tracing.enabled,
}
"""Settings that this version cannot keep, and when they ask for it; the docs name them, too."""


def _check(settings: Settings, rules: OrderingRules, directory: Directory) -> None:
    refuse_what_is_not_there(settings)
    rules.check(directory)


def refuse_what_is_not_there(settings: Settings) -> None:
    """A setting that this version cannot keep is refused: ignored, it would be a false promise."""
    asked = {name: is_asked(settings) for name, is_asked in NOT_THERE.items()}
    wrong = [
        f"{name}: not available in version {__version__}: remove it"
        for name in asked
        if asked[name]
    ]
    if wrong:
        raise ConfigurationError("\n".join(wrong))
