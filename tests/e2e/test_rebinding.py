"""A receiver's name that turns inward while a dispatcher runs: blocked, counted, never dialled."""

import asyncio
import select
import socket
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from tests.e2e.rig import read_all
from tests.support.brokers import Broker
from tests.support.canary import Canary
from tests.support.dns import NameServer
from tests.support.receivers import Receiver, closed_port
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.app import Application
from thorn_stream.config import load_settings

WITHIN = 60.0
OUTSIDE = "127.0.0.1"  # let through, as a public address would be
INSIDE = "127.0.0.2"


async def until(application: Application, text: str) -> None:
    end = asyncio.get_running_loop().time() + WITHIN
    while text not in application.metrics.render()[0].decode().splitlines():
        assert asyncio.get_running_loop().time() < end, f"after {WITHIN} s still not: {text}"
        await asyncio.sleep(0.02)


def application(folder: Path, server: NameServer, settings: dict[str, Any]) -> Application:
    file = folder / "thorn.yaml"
    file.write_text(yaml.safe_dump(settings))
    resolver = Resolver(look_up=server.look_up, keep=0)
    return Application(load_settings(file, {}), structlog.get_logger(), resolver)


@pytest.mark.parametrize("transport", ["native", "httpx"])
def test_a_name_that_turns_inward_gives_dead_letters(
    embedded_broker: Broker, tmp_path: Path, transport: str
) -> None:
    """The first event arrives; those after the turn are dead, `blocked`, and counted."""
    broker = embedded_broker
    topic = broker.topic("in", partitions=1)
    with (
        NameServer({"hooks.example": [[OUTSIDE], [INSIDE]]}) as server,
        Receiver() as receiver,
        socket.socket() as inside,
        Canary() as canary,
    ):
        inside.bind((INSIDE, receiver.port))
        inside.listen(8)
        settings = {
            "kafka": broker.client,
            "group": broker.prefix,
            "topics": [topic],
            "http": {"host": "127.0.0.1", "port": closed_port()},
            "subscriber_files": [],
            "allowed_networks": [f"{OUTSIDE}/32"],
            "recipient_validators": [["block_internal_ips"], ["ensure_protocol", ["http"]]],
            "transport": transport,
            "allow_keepalive": False,
            "event_timeout": 30,
            "subscribers": [
                {"id": "one", "event": "*", "url": receiver.url("/ok", host="hooks.example")}
            ],
        }
        one = application(tmp_path, server, settings)

        async def run() -> None:
            await one.start()
            try:
                await asyncio.to_thread(broker.produce, topic, [b'{"event": "a.b"}'])
                await until(one, 'thorn_deliveries_total{settlement="delivered"} 1.0')
                await asyncio.to_thread(broker.produce, topic, [b'{"event": "a.b"}'] * 3)
                await until(one, 'thorn_dead_letters_total{reason="blocked"} 3.0')
                await until(one, 'thorn_blocked_total{validator="block_internal_ips"} 3.0')
            finally:
                assert await one.stop()

        asyncio.run(run())
        assert INSIDE not in canary.dialled
        assert not select.select([inside], [], [], 0)[0]
        assert receiver.connections == 1
    letters = read_all(broker.real.bootstrap_servers, f"{broker.prefix}.dead")
    told = [dict(letter.headers() or []) for letter in letters]
    assert [one["thorn-error"] for one in told] == [b"blocked:block_internal_ips"] * 3
