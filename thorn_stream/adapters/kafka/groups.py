"""Consumer groups from outside: where one begins, which are empty, how long a session is.

All of it waits: call it in a thread.
"""

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public; its stubs forget to say so
    AdminClient,
    ConfigResource,
)

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.positions import (
    Positions,
    Topics,
    committed,
    places,
    watermarks,
)
from thorn_stream.adapters.kafka.settings import (
    SourceSettings,
    common,
    consumer_settings,
    make,
    session,
)
from thorn_stream.adapters.kafka.trouble import wording
from thorn_stream.core import errors
from thorn_stream.core.records import Partition, Position

__all__ = [
    "begin_group",
    "committed_by",
    "delete_groups",
    "empty_groups",
    "ends_of",
    "session_seconds",
]

_ASK: Final = 2.0  # seconds for one question
_POLL: Final = 0.05
_LIVE: Final = frozenset({KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION})
_PASSING: Final = codes.COORDINATOR_MOVING | codes.PASSING | codes.NO_ANSWER
_SESSION: Final = 10.0


def begin_group(settings: SourceSettings, like: str, timeout: float) -> bool:
    """Let a group that never committed anything begin where the group `like` stands.

    Partitions of which that one has no commit: where it would begin by the rule of
    `settings.start`. True when that was committed; a group that has commits, or members, is left
    as it is. Raises `KafkaRefused` and, after `timeout` seconds, `KafkaUnreachable`.
    """
    end = time.monotonic() + timeout
    while True:
        try:
            return _begin(settings, like, end)
        except (KafkaException, TimeoutError) as error:
            code = error.args[0].code() if isinstance(error, KafkaException) else codes.TIMED_OUT
            if code in _LIVE:
                return False
            if code not in _PASSING:
                told = wording(error.args[0])
                raise errors.KafkaRefused(f"group {settings.group}: {told}") from None
            if time.monotonic() >= end:
                raise _no_answer(settings.group) from None
        time.sleep(_POLL)


def _begin(settings: SourceSettings, like: str, end: float) -> bool:
    excluded = Topics(settings.exclude)
    with _consumer(settings) as own:
        positions = Positions(settings, excluded)
        partitions = positions.all_partitions(own.consumer, (), _ASK)
        if not partitions or committed(own.consumer, partitions, _ASK):
            return False
        other = replace(settings, group=like)
        with _consumer(other) as others:
            begin = Positions(other, excluded).begin(others.consumer, partitions, _ASK)
        bare = {partition: Position(at.offset) for partition, at in begin.items()}
        own.commit(bare, end)
    return True


def committed_by(settings: SourceSettings, timeout: float) -> dict[Partition, Position]:
    """What a group has committed of its topics. Raises as `begin_group`."""
    end = time.monotonic() + timeout
    while True:
        try:
            with _consumer(settings) as own:
                excluded = Topics(settings.exclude)
                partitions = Positions(settings, excluded).all_partitions(own.consumer, (), _ASK)
                return committed(own.consumer, partitions, _ASK)
        except KafkaException as error:
            if error.args[0].code() not in _PASSING:
                told = wording(error.args[0])
                raise errors.KafkaRefused(f"group {settings.group}: {told}") from None
            if time.monotonic() >= end:
                raise _no_answer(settings.group) from None
        time.sleep(_POLL)


def ends_of(
    settings: SourceSettings, partitions: Sequence[Partition], timeout: float
) -> dict[Partition, int]:
    """The offset after the last record of each. Raises `KafkaUnreachable`."""
    try:
        with _consumer(settings) as own:
            return {p: watermarks(own.consumer, p, timeout)[1] for p in partitions}
    except (KafkaException, TimeoutError):
        raise _no_answer(settings.group) from None


class _Outsider:
    """A client that knows a group and is no member of it."""

    def __init__(self, settings: SourceSettings) -> None:
        self._answer: list[KafkaError | None] = []
        self._unanswered = False
        told: dict[str, Any] = {"on_commit": self._committed}
        # the newer protocol is one of members; whose group it is does not matter here
        classic = replace(settings, protocol="classic")
        self.consumer = make(Consumer, consumer_settings(classic), **told)

    def _committed(self, error: KafkaError | None, told: list[TopicPartition]) -> None:
        wrong = [place.error for place in told if place.error is not None]
        self._answer.append(error or (wrong[0] if wrong else None))

    def commit(self, positions: Mapping[Partition, Position], end: float) -> None:
        """Commit and wait for the answer, at most until `end`. Raises `KafkaException`."""
        self._unanswered = True
        self.consumer.commit(offsets=places(positions), asynchronous=True)
        while not self._answer:
            if time.monotonic() >= end:
                raise TimeoutError
            self.consumer.poll(_POLL)
        self._unanswered = False
        error = self._answer.pop()
        if error is not None:
            raise KafkaException(error)

    def close(self) -> None:
        if self._unanswered:  # a close would wait for the answer
            last = [self.consumer]
            del self.consumer
            threading.Thread(target=last.clear, name="kafka-discard", daemon=True).start()
        else:
            self.consumer.close()


def _consumer(settings: SourceSettings) -> "contextlib.closing[_Outsider]":
    return contextlib.closing(_Outsider(settings))


# --- groups that nobody needs any more ----------------------------------------------------------


def empty_groups(client: Mapping[str, Any], prefix: str, timeout: float) -> list[str]:
    """Names of the groups without members that begin with `prefix`. Raises `KafkaError`."""
    admin = make(AdminClient, common(client))
    asked = admin.list_consumer_groups(states={ConsumerGroupState.EMPTY}, request_timeout=timeout)
    told = _result(asked, timeout, "groups")
    return sorted(group.group_id for group in told.valid if group.group_id.startswith(prefix))


def delete_groups(client: Mapping[str, Any], names: Sequence[str], timeout: float) -> list[str]:
    """Delete groups without members, and what they committed; returns the names of those deleted.

    One that has members again is left. Raises `KafkaRefused` and `KafkaUnreachable`.
    """
    admin = make(AdminClient, common(client))
    deleted = []
    for name, asked in admin.delete_consumer_groups(list(names), request_timeout=timeout).items():
        with contextlib.suppress(_StillThereError):
            _result(asked, timeout, name)
            deleted.append(name)
    return deleted


class _StillThereError(Exception):
    """It has members, or is gone already."""


def _result(asked: Any, timeout: float, what: str) -> Any:
    try:
        return asked.result(timeout=timeout)
    except NoAnswer:
        raise _no_answer(what) from None
    except KafkaException as error:
        code = error.args[0].code()
        if code in (KafkaError.NON_EMPTY_GROUP, KafkaError.GROUP_ID_NOT_FOUND):
            raise _StillThereError from None
        if code in codes.FORBIDDEN:
            raise errors.KafkaRefused(wording(error.args[0], what)) from None
        raise _no_answer(what) from None


# --- sessions -----------------------------------------------------------------------------------


def session_seconds(settings: SourceSettings, timeout: float) -> float:
    """How long a member of the group may be silent before its partitions go to others.

    With the newer protocol the broker decides; where it does not say, as with us by default.
    """
    known = session(settings)
    if known is not None:
        return known[0]
    resource = ConfigResource(ConfigResource.Type.GROUP, settings.group)
    admin = make(AdminClient, common(settings.client))
    try:
        [asked] = admin.describe_configs([resource], request_timeout=timeout).values()
        entry = asked.result(timeout=timeout)["consumer.session.timeout.ms"]
        return float(entry.value) / 1000
    except (KafkaException, NoAnswer, KeyError, TypeError, ValueError):
        return _SESSION


def _no_answer(what: str) -> errors.KafkaUnreachable:
    return errors.KafkaUnreachable(f"Kafka did not answer about {what} in time: is it well?")
