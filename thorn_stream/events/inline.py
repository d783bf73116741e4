"""`dispatcher: inline`: no Kafka; the HTTP requests are made by this process, while `send` waits.

With the matching, validators, signatures and transport of a dispatcher: of the same settings the
same requests come. One attempt each, and no retries. For scripts, tests, and receivers that have
to know before the program goes on.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from thorn_stream.adapters.http import NativeTransport
from thorn_stream.adapters.metrics.producing import count_sent
from thorn_stream.adapters.resolver import Resolver
from thorn_stream.core.deliveries import Attempt, Delivery, Kind, Outcome
from thorn_stream.core.directory import Directory
from thorn_stream.core.envelope import Envelope, decode
from thorn_stream.core.errors import ConfigurationError
from thorn_stream.core.extra import EventSubscriber, extra_recipients
from thorn_stream.core.ids import delivery_id
from thorn_stream.core.ledger import Entry
from thorn_stream.core.overrides import EventRules, Overrides, read_overrides, timeout_with
from thorn_stream.core.records import Record
from thorn_stream.core.request import RequestFactory
from thorn_stream.core.results import shown_url
from thorn_stream.core.signing import derived_secret
from thorn_stream.core.subscribers import Subscriber
from thorn_stream.core.validators import Guard
from thorn_stream.events.outgoing import Dispatcher, Outgoing
from thorn_stream.events.request import Receiver, Request
from thorn_stream.ops.guarding import guard_for
from thorn_stream.ops.match import read_directory
from thorn_stream.version import __version__

if TYPE_CHECKING:
    from thorn_stream.config import Settings
    from thorn_stream.events.app import Thorn

__all__ = ["Inline"]

_START: Final = 30.0
_MARGIN: Final = 5.0
_CONNECTIONS: Final = 64
_SEALED: Final = "recipient_validators: these cannot be read, so nothing was sent"


class Inline(Dispatcher):
    """Calls the receivers at once; `send` returns when all have answered, or their time is up."""

    name = "inline"

    def __init__(self, app: "Thorn") -> None:
        self._app = app
        self._lock = threading.Lock()
        self._line: _Line | None = None

    def publish(self, outgoing: Outgoing, *, patiently: float = 0.0) -> None:
        del patiently
        line = self._made()
        ended = line.call(outgoing)
        outgoing.handle.requests = tuple(request for request, _ in ended)
        good = all(outcome.kind is Kind.OK for _, outcome in ended)
        count_sent(self.name, "ok" if good else "error")
        outgoing.handle.settle()
        if outgoing.callbacks is not None:
            for request, outcome in ended:
                outgoing.callbacks.call(request, outcome.kind, outcome.error)

    def subscribers_for_event(
        self, name: str, sender: Any = None, context: Any = None, extra_subscribers: Any = None
    ) -> list[Any]:
        own = super().subscribers_for_event(name, sender, context, extra_subscribers)
        return [*self._made().directory.lookup(name), *own]

    def _made(self) -> "_Line":
        with self._lock:
            if self._line is None:
                self._line = _Line(self._app)
            return self._line

    def close(self) -> None:
        with self._lock:
            line, self._line = self._line, None
        if line is not None:
            line.close()

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._line = None


class _Line:
    """A thread with a loop, a transport on it, and the subscribers."""

    def __init__(self, app: "Thorn") -> None:
        loaded = app.loaded
        self._settings = settings = loaded.settings
        if settings.transport != "native":
            raise ConfigurationError(
                f"transport: {settings.transport} is not available with dispatcher='inline': "
                "use native"
            )
        self.directory: Directory = read_directory(loaded)
        self._guard = guard_for(settings)
        self._rules = _rules(settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="thorn-inline", daemon=True
        )
        self._thread.start()
        self._transport = self._do(self._make(), _START)

    def call(self, outgoing: Outgoing) -> list[tuple[Request, Outcome]]:
        """Everybody this event is for, all at once."""
        record = Record(
            "inline", 0, 0, outgoing.key, outgoing.value, outgoing.headers, _now_milliseconds()
        )
        envelope = decode(record)
        assert isinstance(envelope, Envelope), "what is sent has been encoded by us"
        own = read_overrides(outgoing.headers, self._rules)
        if own.sealed:
            raise ValueError(_SEALED)
        functions = Guard(outgoing.validators) if outgoing.validators else None
        calls = [
            self._call(envelope, one, own, functions) for one in self._recipients(envelope, own)
        ]
        timeout = self._settings.event_timeout_max + _MARGIN
        ended: list[tuple[Subscriber, Outcome]] = self._do(_all(calls), timeout)
        return [(_told(envelope, one, outcome), outcome) for one, outcome in ended]

    def _recipients(self, envelope: Envelope, own: Overrides) -> Iterator[Subscriber]:
        for subscriber in self.directory.recipients(envelope):
            if subscriber.state == "enabled":
                yield subscriber
        if own.recipients is not None:
            for extra in extra_recipients(own.recipients, self._rules):
                if extra.subscriber is None:
                    raise ValueError(f"subscribers: {extra.why}")
                yield extra.subscriber

    async def _call(
        self, envelope: Envelope, subscriber: Subscriber, own: Overrides, functions: Guard | None
    ) -> tuple[Subscriber, Outcome]:
        settings = self._settings
        factory = RequestFactory(
            subscriber,
            self._secrets(subscriber),
            user_agent=settings.user_agent or f"thorn-stream/{__version__}",
            source=f"thorn-stream/{settings.group}",
        )
        number = delivery_id(envelope.id, subscriber.id)
        headers, body = factory.build(envelope, number, 1, int(time.time()))
        asked = settings.event_timeout if subscriber.timeout is None else subscriber.timeout
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        attempt = Attempt(
            Delivery(envelope, subscriber, number, cast("Entry", None)),  # nothing to commit here
            self._transport.target(subscriber),
            headers,
            body,
            timeout_with(own, subscriber.timeout, min(asked, settings.event_timeout_max)),
            settings.allow_keepalive if own.keep_alive is None else own.keep_alive,
            lambda _, outcome: answered.set_result(outcome),
            _joined(own.guard, functions),
        )
        self._transport.send(attempt)
        return subscriber, await answered

    def _secrets(self, subscriber: Subscriber) -> list[str]:
        secrets = [secret.get_secret_value() for secret in subscriber.hmac_secret]
        master = self._settings.hmac_secret
        if not secrets and master and not isinstance(subscriber, EventSubscriber):
            return [derived_secret(master.get_secret_value(), subscriber.id)]
        return secrets

    async def _make(self) -> NativeTransport:
        transport = NativeTransport(
            self._guard,
            Resolver(),
            max_connections=self._settings.max_connections or _CONNECTIONS,
            ca_file=self._settings.tls.ca_file,
            keep_response=self._settings.keep_response,
        )
        await transport.self_test()
        return transport

    def _do(self, work: Any, timeout: float) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def close(self) -> None:
        self._do(self._transport.stop(), _START)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START)
        self._loop.close()


async def _all(calls: list[Any]) -> list[Any]:
    return list(await asyncio.gather(*calls))


def _now_milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _rules(settings: "Settings") -> EventRules:
    """An event's own subscribers are let in: the program that sends it calls them itself."""
    return EventRules(
        timeout_max=settings.event_timeout_max,
        retry_max=settings.retry_max_max,
        retry_delay_max=settings.retry_delay_max,
        max_in_flight=settings.max_in_flight,
        subscribers=True,
        allowed_networks=tuple(str(network) for network in settings.allowed_networks),
    )


def _joined(named: Guard | None, functions: Guard | None) -> Guard | None:
    if named is None or functions is None:
        return named or functions
    return named.plus(functions.validators)


def _told(envelope: Envelope, subscriber: Subscriber, outcome: Outcome) -> Request:
    fields = envelope.fields()
    shown = shown_url(subscriber.url)
    return Request(
        event=envelope.event,
        sender=fields["sender"],
        data=fields["data"],
        id=delivery_id(envelope.id, subscriber.id),
        url=shown,
        status=outcome.status,
        attempt=1,
        duration=outcome.duration,
        subscriber=Receiver(subscriber.id, shown),
    )
