"""What the user of these settings may do, as Kafka itself tells it (KIP-430). Nothing is tried.

All of it waits: call it in a thread, or where there is no loop. The embedded broker has no
permissions and answers none of these questions.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any, Final

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # public; its stubs forget to say so
    AclOperation,
    AdminClient,
)

from thorn_stream.adapters.kafka import codes
from thorn_stream.adapters.kafka.settings import common, make
from thorn_stream.adapters.kafka.trouble import wording
from thorn_stream.core import errors

__all__ = ["Operations", "group_access", "topic_access"]

Operations = frozenset[str]
"""Names of what may be done, as Kafka has them: `READ`, `WRITE`, `DESCRIBE`, ..."""

_ASK_EVERY: Final = 0.2
_ALL: Final[Operations] = frozenset(operation.name for operation in AclOperation)


def topic_access(
    client: Mapping[str, Any], topics: Iterable[str], timeout: float
) -> dict[str, Operations | None]:
    """What may be done with each topic; None where it does not exist.

    Without the right to see it, Kafka does not tell whether it exists: nothing may be done then.
    Raises `KafkaUnreachable`, `KafkaRefused`.
    """
    names = list(topics)
    if not names:
        return {}
    admin = make(AdminClient, common(client))
    asked = admin.describe_topics(
        TopicCollection(names), include_authorized_operations=True, request_timeout=timeout
    )
    return _answers(asked, timeout, lambda name: name)


def group_access(
    client: Mapping[str, Any], groups: Collection[str], timeout: float
) -> dict[str, Operations]:
    """What may be done with each consumer group, whether it exists or not. Raises as above."""
    found: dict[str, Operations] = {}
    until = time.monotonic() + timeout
    while left := [name for name in groups if name not in found]:
        # a new client each time: one that was told of a coordinator keeps to it
        admin = make(AdminClient, common(client))
        asked = admin.describe_consumer_groups(
            left, include_authorized_operations=True, request_timeout=timeout
        )
        told = _answers(asked, timeout, lambda _: None, codes.COORDINATOR_MOVING)
        found |= {name: _ALL if may is None else may for name, may in told.items()}
        if len(told) < len(left):
            if time.monotonic() > until:
                raise errors.KafkaUnreachable(_NO_ANSWER)
            time.sleep(_ASK_EVERY)
    return found


def _answers(
    asked: Mapping[str, Any],
    timeout: float,
    topic: Callable[[str], str | None],
    passing: Collection[int] = (),
) -> dict[str, Operations | None]:
    """The answer for each; those with a `passing` error are left out, to be asked again."""
    found: dict[str, Operations | None] = {}
    for name, future in asked.items():
        try:
            told = future.result(timeout=timeout).authorized_operations
        except NoAnswer:
            raise errors.KafkaUnreachable(_NO_ANSWER) from None
        except KafkaException as error:
            code = error.args[0].code()
            if code in passing:
                continue
            if code in codes.FORBIDDEN:
                found[name] = frozenset()
            elif code in codes.MISSING_TOPIC:
                found[name] = None
            elif code in codes.NO_ANSWER:
                raise errors.KafkaUnreachable(_NO_ANSWER) from None
            else:
                raise errors.KafkaRefused(
                    f"{name}: {wording(error.args[0], topic(name))}"
                ) from None
        else:
            # a broker that does not tell them refuses in its own time
            found[name] = _ALL if told is None else frozenset(one.name for one in told)
    return found


_NO_ANSWER: Final = "Kafka did not answer in time: is the cluster well? Try again"
