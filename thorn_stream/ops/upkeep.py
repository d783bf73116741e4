"""The group's own topics while a dispatcher runs: made at start, and seen to be there."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from structlog.typing import FilteringBoundLogger

from thorn_stream.adapters.kafka import (
    Cluster,
    TopicSpec,
    create_topics,
    describe,
    topic_configs,
)
from thorn_stream.config import Settings
from thorn_stream.core.errors import KafkaError, KafkaRefused, KafkaUnreachable, TopicMissing
from thorn_stream.ops.plan import plan
from thorn_stream.ops.topics import KAFKA_DEFAULT_BYTES, needs, own_topics, required, tiers_read
from thorn_stream.ports import Trouble

__all__ = ["Found", "Upkeep", "writing"]

_EVERY: Final = 30.0
_EVERY_MISSING: Final = 2.0
_PATIENCE: Final = 3.0  # seconds: a stop may have to wait for a question under way
_OFFERED: Final = 10.0  # seconds, once, at start
_BATCH: Final = 900_000
_LARGEST: Final = 1_000_000_000  # librdkafka's own bound of message.max.bytes


@dataclass(frozen=True, slots=True)
class Found:
    """What a dispatcher has to know of its topics.

    `tiers` are the retry topics to read, each with its wait in seconds; `batch_size` and
    `message_max` (bytes) are what its producer may send at most: in a batch of many, and in one.
    """

    tiers: Mapping[str, float]
    batch_size: int
    message_max: int


class Upkeep:
    """Sees to the own topics of one group.

    `tell` is given what comes and goes as `Trouble`, under the key `own topics`.
    """

    def __init__(
        self,
        settings: Settings,
        client: Mapping[str, str],
        log: FilteringBoundLogger,
        tell: Callable[[Trouble], None],
    ) -> None:
        self._settings = settings
        self._client = client
        self._log = log
        self._tell = tell
        self._specs: dict[str, TopicSpec] = {}
        self._reason: str | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def reasons(self) -> list[str]:
        """Which own topics are missing, and why they were not made; none when all are there."""
        return [self._reason] if self._reason else []

    async def start(self, cluster: Cluster) -> Found:
        """Make what is missing, name what differs, and watch from now on.

        Raises `KafkaRefused` when a permission is missing, `KafkaUnreachable`.
        """
        configs = await self._configs(cluster)
        own = own_topics(self._settings, needs(self._settings, cluster, configs))
        missed = required(self._settings)
        self._specs = {name: spec for name, spec in own.items() if name in missed}
        for planned in plan(self._settings, cluster, configs):
            for line in planned.lines:
                self._log.warning(f"topic {line}")
        wanted = dict(self._specs)
        if cluster.embedded:  # nobody else could make the input there
            named = [topic for topic in self._settings.topics if not topic.startswith("^")]
            wanted |= {topic: TopicSpec() for topic in named}
        await self._see_to(wanted, cluster, self._settings.start_timeout)
        others = {name: spec for name, spec in own.items() if name not in self._specs}
        await self._offer(others, cluster)
        self._watching = asyncio.create_task(self._watch())
        tiers = tiers_read(self._settings, cluster.topics)
        batch_size, message_max = writing(self._client, own, configs)
        return Found(tiers, batch_size, message_max)

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _configs(self, cluster: Cluster) -> Mapping[str, Mapping[str, str]]:
        """Settings of the topics that matter, as far as they can be seen."""
        wanted = [t.topic for t in plan(self._settings, cluster, {}) if t.exists]
        with contextlib.suppress(KafkaUnreachable):  # the defaults are good enough to start with
            return await asyncio.to_thread(topic_configs, self._client, wanted, _PATIENCE)
        return {}

    async def _see_to(
        self, wanted: Mapping[str, TopicSpec], cluster: Cluster, patience: float
    ) -> None:
        missing = {name: spec for name, spec in wanted.items() if name not in cluster.topics}
        why = ""
        if missing and self._settings.create_topics:
            try:
                made = await asyncio.to_thread(create_topics, self._client, missing, patience)
            except (TopicMissing, KafkaRefused) as error:
                if isinstance(error, KafkaRefused) and self._watching is None:
                    raise  # at start; once it has run it goes on, and says why
                why = f": {error}"
            else:
                missing = {}
                if made:
                    self._log.info("topics created", topics=sorted(made))
        self._note(sorted(missing), why)

    async def _offer(self, others: Mapping[str, TopicSpec], cluster: Cluster) -> None:
        """Make what somebody may want; where that is not allowed, nothing of ours is amiss."""
        missing = {name: spec for name, spec in others.items() if name not in cluster.topics}
        if missing and self._settings.create_topics:
            with contextlib.suppress(KafkaError):
                await asyncio.to_thread(create_topics, self._client, missing, _OFFERED)

    def _note(self, missing: list[str], why: str) -> None:
        reason = None
        if missing:
            reason = (
                f"own topics are missing, or may not be seen: {', '.join(missing)}: create them "
                f"(`thorn-stream topics create`){why}"
            )
        if reason or self._reason:
            self._tell(Trouble("own topics", reason))
        self._reason = reason

    async def _watch(self) -> None:
        """Look again for ever: topics can be deleted, and made by somebody else."""
        while True:
            await asyncio.sleep(_EVERY_MISSING if self._reason else _EVERY)
            try:
                cluster = await asyncio.to_thread(describe, self._client, _PATIENCE)
                await self._see_to(self._specs, cluster, _PATIENCE)
            except KafkaError:
                continue  # that Kafka is away is told by those who read it


def writing(
    client: Mapping[str, str],
    specs: Mapping[str, TopicSpec],
    configs: Mapping[str, Mapping[str, str]],
) -> tuple[int, int]:
    """How many bytes a producer to these topics may put into a batch, and into one record.

    Kafka refuses a batch above `max.message.bytes` whole, so batches stay below that of every
    topic; a record may be as large as the widest takes. What `kafka:` sets is heeded as far as
    that allows.
    """
    sizes = [_size(configs.get(name, {}), spec) for name, spec in specs.items()]
    batch = min(_BATCH, min(sizes) * 9 // 10)
    own = {key.replace("_", "."): value for key, value in client.items()}
    if "batch.size" in own:
        batch = min(batch, int(own["batch.size"]))
    largest = max(*sizes, int(own.get("message.max.bytes", 0)))
    return max(1, batch), min(largest, _LARGEST)


def _size(config: Mapping[str, str], spec: TopicSpec) -> int:
    told = config.get("max.message.bytes") or spec.config.get("max.message.bytes")
    return int(told) if told else KAFKA_DEFAULT_BYTES
