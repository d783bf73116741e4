"""Events that bring hostile recipients along, through a whole dispatcher: none is ever dialled."""

import asyncio
import json
from pathlib import Path

import pytest
import structlog
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.property.url_grammar import resolved, urls
from tests.support.brokers import Broker
from tests.support.canary import Canary
from tests.support.receivers import closed_port
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.app import Application
from thorn_stream.config import load_settings
from thorn_stream.core.extra import extra_recipients
from thorn_stream.core.overrides import EventRules
from thorn_stream.core.urls import RecipientUrl, parse_url

WITHIN = 60.0
EACH = 50


def hostile(port: int) -> list[str]:
    """Some hundreds from a seed that is kept, without addresses that are really public."""
    made: dict[str, None] = {}

    @seed(5)
    @settings(
        max_examples=6,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(urls())
    def collect(texts: list[str]) -> None:
        for text in texts:
            here = text.replace("PORT", str(port))
            url = parse_url(here)
            public = isinstance(url, RecipientUrl) and str(url.address) in {
                "8.8.8.8",
                "2606:4700::1111",
            }
            if not public:
                made[here.encode("utf-8", "replace").decode()] = None

    collect()
    return list(made)


def headers(some: list[str]) -> tuple[bytes, int]:
    """The header of one event, and how many recipients are read out of it."""
    text = json.dumps(some).encode()
    return text, len(extra_recipients(text, EventRules(subscribers=True)))


@pytest.mark.parametrize("transport", ["native", "httpx"])
def test_no_event_makes_a_dispatcher_dial_inward(
    embedded_broker: Broker, tmp_path: Path, transport: str
) -> None:
    """Each recipient is a dead letter, `blocked`; the canary on all of loopback is silent."""
    broker = embedded_broker
    topic = broker.topic("in", partitions=1)
    asked = {
        "kafka": broker.client,
        "group": broker.prefix,
        "topics": [topic],
        "http": {"host": "127.0.0.1", "port": closed_port()},
        "subscriber_files": [],
        "allow_event_subscribers": True,
        "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http", "https"]]],
        "transport": transport,
        "event_timeout": 30,
    }
    (tmp_path / "thorn.yaml").write_text(yaml.safe_dump(asked))
    loaded = load_settings(tmp_path / "thorn.yaml", {})

    async def run(texts: list[str]) -> None:
        one = Application(loaded, structlog.get_logger(), Resolver(look_up=resolved))
        expected = 0
        await one.start()
        try:
            for at in range(0, len(texts), EACH):
                text, count = headers(texts[at : at + EACH])
                expected += count
                value = b'{"event": "a.b"}'
                given_headers = {"thorn-subscribers": text}
                await asyncio.to_thread(broker.produce, topic, [value], headers=given_headers)
            line = f'thorn_dead_letters_total{{reason="blocked"}} {expected}.0'
            end = asyncio.get_running_loop().time() + WITHIN
            while line not in one.metrics.render()[0].decode().splitlines():
                assert asyncio.get_running_loop().time() < end, f"still not: {line}"
                await asyncio.sleep(0.05)
            assert expected > 300
            print(f"{expected} hostile recipients, each a dead letter")
        finally:
            assert await one.stop()
        assert one.transport.connects == 0

    with Canary() as canary:
        asyncio.run(run(hostile(canary.port)))
        assert canary.dialled == []
        canary.settle()
        assert canary.connections == 0
