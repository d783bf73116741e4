"""One receiver per test, and settings that call it."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.rig import SECRET
from tests.support.brokers import Broker
from tests.support.receivers import Receiver

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


@pytest.fixture
def settings(broker: Broker, receiver: Receiver) -> Settings:
    """Make settings for one subscriber to a path of the receiver, or for several."""

    def make(path: str = "/ok", **more: Any) -> dict[str, Any]:
        return {
            "kafka": broker.client,
            "group": broker.prefix,
            "topics": [broker.name("in")],
            "allowed_networks": ["127.0.0.0/8"],
            "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http"]]],
            "event_timeout": 30,  # a busy machine must not turn one call into two
            "retry_tiers": [1, 2],
            "retry_delay": 1,
            "subscriber_files": [],
            "subscribers": [
                {
                    "id": "one",
                    "event": "order.*",
                    "url": receiver.url(path),
                    "hmac_secret": SECRET,
                }
            ],
        } | more

    return make


@pytest.fixture
def kcat() -> str:
    """Path of kcat; without it a skip that says so, a failure where Kafka is required."""
    found = shutil.which("kcat")
    if found is None:
        if os.environ.get("THORN_REQUIRE_KAFKA") == "1":
            pytest.fail("kcat is required here, but is not installed (Debian: kcat)")
        pytest.skip("kcat is not installed (Debian: kcat)")
    return found
