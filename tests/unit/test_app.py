"""The composition root: what it puts together works, and what it cannot keep it refuses."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from tests.support.brokers import Broker
from tests.support.receivers import Call, Receiver, closed_port
from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.http.httpx_transport import HttpxTransport
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.app import NOT_THERE, Application
from thorn_stream.config import load_settings
from thorn_stream.core.addresses import IPAddress
from thorn_stream.core.directory import Directory
from thorn_stream.core.errors import ConfigurationError, KafkaUnreachable, SecurityError
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import Guard
from thorn_stream.ops.ordering import OrderingRules

WITHIN = 20.0
ASKED: dict[str, Any] = {
    "api.enabled": {"api": {"enabled": True, "tokens": ["t"]}},
    "tracing.enabled": {"tracing": {"enabled": True}},
    "transport": {"transport": "httpx"},
    "proxy": {"transport": "httpx", "proxy": "http://proxy.example:3128"},
    "http2": {"transport": "httpx", "http2": True},
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        yield one


def application(folder: Path, **settings: Any) -> Application:
    """As `thorn-stream run` makes it, on a free port."""
    file = folder / "thorn.yaml"
    base = {"http": {"host": "127.0.0.1", "port": closed_port()}, "subscriber_files": []}
    file.write_text(yaml.safe_dump(base | settings))
    return Application(load_settings(file, {}), structlog.get_logger())


async def until(application: Application, text: str) -> None:
    """Wait until the exposition has this line."""
    end = asyncio.get_running_loop().time() + WITHIN
    while text not in application.metrics.render()[0].decode().splitlines():
        assert asyncio.get_running_loop().time() < end, f"after {WITHIN} s still not: {text}"
        await asyncio.sleep(0.02)


async def ready(application: Application) -> None:
    end = asyncio.get_running_loop().time() + WITHIN
    while reasons := application.reasons():
        assert asyncio.get_running_loop().time() < end, reasons
        await asyncio.sleep(0.02)


def test_events_go_from_the_broker_to_a_receiver(
    embedded_broker: Broker, receiver: Receiver, tmp_path: Path
) -> None:
    """One at once, one by way of a tier, one dead; then everything is committed and let go."""

    async def second_time(call: Call) -> None:
        await call.answer(200 if call.request.headers["hook-attempt"] == "2" else 503)

    async def gone(call: Call) -> None:
        await call.answer(410)

    receiver.modes |= {"second": second_time, "gone": gone}
    broker = embedded_broker
    one = application(
        tmp_path,
        kafka=broker.client,
        group=broker.prefix,
        topics=[broker.topic("in")],
        allowed_networks=["127.0.0.0/8"],
        recipient_validators=[["block_internal_ips"], ["ensure_protocol", ["http"]]],
        hmac_secret="a master secret",
        event_timeout=20,
        retry_tiers=[0.2],
        retry_delay=0.2,
        subscribers=[
            {"id": name, "event": f"{name}.*", "url": receiver.url(f"/{name}")}
            for name in ("ok", "second", "gone")
        ],
    )

    async def run() -> None:
        assert one.reasons() == ["starting: Kafka has not answered yet"]
        await one.start()
        try:
            await ready(one)
            values = [b'{"event": "%b.x"}' % name for name in (b"ok", b"second", b"gone", b"none")]
            await asyncio.to_thread(broker.produce, broker.name("in"), values)
            await until(one, 'thorn_deliveries_total{settlement="delivered"} 2.0')
            await until(one, 'thorn_dead_letters_total{reason="gone"} 1.0')
            await until(one, "thorn_events_unmatched_total 1.0")
            await until(one, "thorn_in_flight 0.0")
        finally:
            done = await one.stop()
        assert done

    asyncio.run(run())
    assert [call.headers["hook-attempt"] for call in receiver.requests].count("1") == 3
    assert all(call.headers["webhook-signature"] for call in receiver.requests)
    assert receiver.count("/second") == 2


@pytest.mark.parametrize("name", sorted(NOT_THERE))
def test_what_is_not_there_is_refused_by_name(name: str, tmp_path: Path) -> None:
    """A setting that is ignored would be a false promise."""
    with pytest.raises(
        ConfigurationError, match=rf"(?m)^{name}: not available in version .*remove it"
    ):
        application(tmp_path, **ASKED[name])


def test_more_ordered_subscribers_than_allowed_are_refused_by_name(tmp_path: Path) -> None:
    """Each is one more read of the topics; the line says who they are, and what to do."""
    subscribers = [
        {"id": name, "event": "*", "url": f"https://{name}.example/", "ordering": "key"}
        for name in ("a", "b", "c")
    ]
    with pytest.raises(ConfigurationError, match=r"ordered_max: 3 .* 2 may \(a, b, c\): .*raise"):
        application(tmp_path, subscribers=subscribers, ordered_max=2)
    application(tmp_path, subscribers=subscribers, ordered_max=3)


def test_how_a_subscriber_is_ordered_cannot_be_changed(tmp_path: Path) -> None:
    """Neither way: what waits would lose its place. Any other change is taken."""

    def directory(ordering: str, **more: str) -> Directory:
        one = {"id": "a", "event": "*", "url": "https://a.example/", "ordering": ordering, **more}
        return Directory([("test", [Subscriber.model_validate(one)])])

    for was, becomes in (("none", "key"), ("key", "none")):
        rules = OrderingRules(application(tmp_path).settings)
        rules.check(directory(was))
        with pytest.raises(ConfigurationError, match=r"subscriber a: ordering: .*give it a new id"):
            rules.check(directory(becomes))
        rules.check(directory(was, state="paused"))
        rules.check(Directory())
        rules.check(directory(becomes))  # another one, of the same name


class Open(Guard):
    """A guard that would refuse, and does not."""

    def address(self, address: IPAddress) -> None:
        return None


@pytest.mark.parametrize("kind", [NativeTransport, HttpxTransport])
def test_a_guard_that_does_not_hold_keeps_the_dispatcher_from_starting(
    tmp_path: Path, kind: Any
) -> None:
    """The self-test comes before Kafka is asked: nothing is joined, and so nothing delivered."""
    one = application(tmp_path, kafka={"bootstrap_servers": f"127.0.0.1:{closed_port()}"})
    rules = Guard.from_names([["block_internal_ips"]]).validators
    one.transport = kind(Open(rules), Resolver(), max_connections=4)

    async def run() -> None:
        with pytest.raises(SecurityError, match=r"self-test: .* nothing is delivered"):
            await one.start()
        assert one.worker is None
        await one.stop()

    asyncio.run(run())


def test_a_kafka_that_never_answers_ends_the_start_and_nothing_is_left_open(
    tmp_path: Path,
) -> None:
    """After `start_timeout` the error names the servers; the port is free again after the stop."""
    servers = f"127.0.0.1:{closed_port()}"
    one = application(tmp_path, kafka={"bootstrap_servers": servers}, start_timeout=0.7)

    async def run() -> None:
        with pytest.raises(KafkaUnreachable, match=servers):
            await one.start()
        assert await one.stop()
        http = one.settings.http
        (await asyncio.start_server(lambda _, writer: writer.close(), http.host, http.port)).close()

    asyncio.run(run())
