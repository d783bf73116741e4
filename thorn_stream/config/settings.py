"""Settings: every one of them, what holds between them, and the names that follow from them.

The fields stand in `reading`, `delivering` and `running`, in the order of the sample file.
"""

import re
from typing import Any, Self

from pydantic import ValidationInfo, model_validator

from thorn_stream.config.delivering import Delivering
from thorn_stream.config.kafka import EMBEDDED, librdkafka
from thorn_stream.config.reading import Reading
from thorn_stream.config.relations import mistakes
from thorn_stream.config.running import Running

__all__ = ["COLLECTING", "Settings", "wait_text"]

COLLECTING = {"collecting": True}
"""Validation context of a caller that asks for `relations.mistakes` itself."""


def wait_text(seconds: float) -> str:
    """A tier's wait as it stands in the name of its topic: `5s`, `0.5s`, `7200s`."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".") + "s"


# pydantic collects fields from the last base to the first
class Settings(Running, Delivering, Reading):
    """Everything that can be set. Frozen; secrets are resolved and never printed."""

    @model_validator(mode="after")
    def _consistent(self, info: ValidationInfo) -> Self:
        if info.context == COLLECTING:
            return self
        wrong = [f"{'.'.join(map(str, found.at))}: {found.text}" for found in mistakes(self)]
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def __repr_args__(self) -> Any:
        """Without `subscribers` and `kafka`, whose headers and keys are for nobody's log."""
        return [pair for pair in super().__repr_args__() if pair[0] not in {"subscribers", "kafka"}]

    @property
    def embedded(self) -> bool:
        """Whether the embedded broker is meant."""
        return bool(self.kafka["bootstrap.servers"] == EMBEDDED)

    def librdkafka(self, servers: str | None = None) -> dict[str, str]:
        """What a Kafka client is made with, secrets in the clear.

        `servers` is the address of the embedded broker, once it is found.
        """
        return librdkafka(self.kafka, servers)

    def retry_topic(self, wait: float) -> str:
        """Topic of the tier that waits so many seconds."""
        return f"{self.retry_prefix}.{wait_text(wait)}"

    @property
    def retry_prefix(self) -> str:
        return self.retry_topic_prefix or f"{self.group}.retry"

    @property
    def retry_topics(self) -> dict[str, float]:
        """Topic of each tier to its wait in seconds, rising."""
        return {self.retry_topic(wait): wait for wait in self.retry_tiers}

    @property
    def dead(self) -> str:
        return self.dead_topic or f"{self.group}.dead"

    @property
    def parked(self) -> str:
        return self.parked_topic or f"{self.group}.parked"

    @property
    def cursors(self) -> str:
        return self.cursors_topic or f"{self.group}.cursors"

    @property
    def managed(self) -> str | None:
        """Topic of the subscribers managed at run time; None when there is none."""
        if self.subscribers_topic == "off":
            return None
        return self.subscribers_topic or f"{self.group}.subscribers"

    @property
    def results_topic(self) -> str:
        return self.results.topic or f"{self.group}.results"

    @property
    def own_topics(self) -> frozenset[str]:
        """The topics this group writes itself, with the names they would have if switched on."""
        fixed = {self.dead, self.parked, self.cursors, self.results_topic}
        return frozenset(
            fixed | set(self.retry_topics) | ({self.managed} if self.managed else set())
        )

    def is_own(self, topic: str) -> bool:
        """Whether a topic is this group's own, a tier that is no longer set included."""
        return topic in self.own_topics or self.tier_wait(topic) is not None

    def tier_wait(self, topic: str) -> float | None:
        """Seconds that a retry topic of this group waits, set today or not; None for others."""
        found = re.fullmatch(re.escape(self.retry_prefix) + r"\.(\d+(?:\.\d{1,3})?)s", topic)
        return float(found[1]) if found else None
