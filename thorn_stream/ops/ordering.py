"""Ordered subscribers and their groups: what is refused, where one begins, when it is deleted."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from structlog.typing import FilteringBoundLogger

from thorn_stream.adapters.kafka import (
    KafkaSource,
    SourceSettings,
    begin_group,
    delete_groups,
    empty_groups,
    session_seconds,
)
from thorn_stream.config import Settings
from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import ConfigurationError, KafkaError
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.dispatch.lane import LaneSettings

__all__ = ["Forgotten", "Groups", "OrderingRules", "group_of", "within"]

_PATIENCE: Final = 10.0
_MARGIN: Final = 2.0
"""Seconds by which a request ends before the session: as long as a partition's last positions are
waited for."""
_LEAST: Final = 1.0
_LOOK_EVERY: Final = 600.0
_KEEP: Final = 86_400.0


def group_of(settings: Settings, subscriber: str) -> str:
    """The consumer group that reads for an ordered subscriber."""
    return f"{settings.group}.o.{subscriber}"


class OrderingRules:
    """What is refused of subscribers with `ordering: key`, at start and at each reload."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.ordered_max
        self._before = Directory()

    def check(self, directory: Directory) -> None:
        """Raises ConfigurationError with a line for each mistake."""
        wrong = [
            f"subscriber {one.id}: ordering: cannot be changed from {was.ordering} to "
            f"{one.ordering}, for what waits would lose its place: give it a new id"
            for one in directory
            if (was := self._before.get(one.id)) is not None and was.ordering != one.ordering
        ]
        if len(directory.ordered) > self._most:
            named = ", ".join(sorted(directory.ordered))
            wrong.append(
                f"ordered_max: {len(directory.ordered)} subscribers have `ordering: key`, "
                f"{self._most} may ({named}): each is one more read of the topics; raise it, or "
                "let some be unordered"
            )
        if wrong:
            raise ConfigurationError("\n".join(wrong))
        self._before = directory


def within(
    prepare: Callable[[Subscriber], LaneSettings], longest: float
) -> Callable[[Subscriber], LaneSettings]:
    """The same, with an ordered Subscriber's timeout cut to so many seconds."""

    def prepared(subscriber: Subscriber) -> LaneSettings:
        made = prepare(subscriber)
        if subscriber.ordering == "key":
            made.timeout = min(made.timeout, longest)
        return made

    return prepared


class Groups:
    """Opens the read of each ordered Subscriber. `main` is how the input topics are read."""

    def __init__(self, settings: Settings, main: SourceSettings, log: FilteringBoundLogger) -> None:
        self._settings = settings
        self._main = main
        self._log = log
        self.longest = _LEAST
        """Seconds a request of theirs may take: it has ended before another member can begin."""

    async def start(self) -> None:
        """Learn how long a session is."""
        seconds = await asyncio.to_thread(session_seconds, self._main, _PATIENCE)
        self.longest = max(_LEAST, seconds - _MARGIN)

    async def open(self, subscriber: Subscriber, size: int) -> tuple[str, KafkaSource]:
        """Let its group begin where the main one stands, if it is new. Raises `KafkaError`."""
        self._tell_of_cut(subscriber)
        group = group_of(self._settings, subscriber.id)
        own = replace(self._main, group=group, size=size)
        if await asyncio.to_thread(begin_group, own, self._main.group, _PATIENCE):
            self._log.info("ordered subscriber begins", subscriber=subscriber.id, group=group)
        # what is not committed by now appears later, and is read from its first record
        return group, KafkaSource(replace(own, start="earliest"))

    def _tell_of_cut(self, subscriber: Subscriber) -> None:
        asked = subscriber.timeout or self._settings.event_timeout
        if min(asked, self._settings.event_timeout_max) > self.longest:
            self._log.warning(
                "timeout cut",
                subscriber=subscriber.id,
                timeout=asked,
                cut_to=self.longest,
            )


class Forgotten:
    """Deletes the groups of ordered subscribers that are gone, after a day.

    Kafka does not tell since when a group is empty. So one that this process has found without
    members, and without a subscriber, at every look for a day is deleted; a restart begins anew.
    """

    def __init__(
        self,
        settings: Settings,
        client: Mapping[str, str],
        known: Callable[[], Directory],
        log: FilteringBoundLogger,
    ) -> None:
        self._prefix = group_of(settings, "")
        self._client = client
        self._known = known
        self._log = log
        self._since: dict[str, float] = {}
        self._refused = False
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()

    async def _watch(self) -> None:
        while True:
            try:
                await self.look(time.monotonic())
            except KafkaError as error:
                if not self._refused:
                    self._log.warning("groups left behind are not looked at", why=str(error))
                self._refused = True
            await asyncio.sleep(_LOOK_EVERY)

    async def look(self, now: float) -> list[str]:
        """Look once, at `now` (seconds); returns the groups deleted. Raises `KafkaError`."""
        found = await asyncio.to_thread(empty_groups, self._client, self._prefix, _PATIENCE)
        known = self._known().ordered
        gone = [name for name in found if name.removeprefix(self._prefix) not in known]
        self._since = {name: self._since.get(name, now) for name in gone}
        old = [name for name, since in self._since.items() if now - since >= _KEEP]
        if not old:
            return []
        deleted = await asyncio.to_thread(delete_groups, self._client, old, _PATIENCE)
        self._log.info("groups of former ordered subscribers deleted", groups=deleted)
        return deleted
