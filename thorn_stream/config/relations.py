"""What must hold between settings that are right each by itself."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from thorn_stream.config.kinds import REFERENCE, invalid_topic
from thorn_stream.core.validators import VALIDATORS

if TYPE_CHECKING:  # it imports this module
    from thorn_stream.config.settings import Settings

__all__ = ["Mistake", "mistakes", "warnings"]


class Mistake(NamedTuple):
    """`at` is the path of the setting to change; `also` the others that are compared with it."""

    at: tuple[str | int, ...]
    text: str
    also: tuple[str, ...] = ()


def mistakes(settings: "Settings") -> list[Mistake]:
    """All of them, in the order of the sample file."""
    return [found for check in _CHECKS for found in check(settings)]


def warnings(settings: "Settings") -> list[str]:
    """What is allowed and is seldom meant."""
    found = []
    if not any(name == "block_internal_ips" for name, _ in settings.recipient_validators):
        found.append(
            "recipient_validators: block_internal_ips is not among them, so receivers in the inner "
            "network are called; allowed_networks opens single networks"
        )
    found += [
        f"allowed_networks: {network} lets every address through"
        for network in settings.allowed_networks
        if network.prefixlen == 0
    ]
    return found


def _tiers(settings: "Settings") -> Iterator[Mistake]:
    waits = settings.retry_tiers
    for at, wait in enumerate(waits):
        if at and wait <= waits[at - 1]:
            text = f"must be ascending: {wait:g} follows {waits[at - 1]:g}"
            yield Mistake(("retry_tiers",), text)
        if round(wait, 3) != wait:
            text = f"must be whole milliseconds: {wait!r} has more than three decimals"
            yield Mistake(("retry_tiers",), text)


def _own_names(settings: "Settings") -> Iterator[Mistake]:
    """A name that was set must tell the group; all of them must differ, as Kafka tells names."""
    group = settings.group
    named = _named(settings)
    for path, topic in named:
        if not topic.startswith((f"{group}.", f"{group}-", f"{group}_")):
            text = (
                f"must begin with the group's name, so that two groups never share a topic: "
                f"write {group}.{topic}, or change `group`"
            )
            yield Mistake(path, text, ("group",))
    seen: dict[str, tuple[str | int, ...]] = {}
    for path, topic in _all_names(settings):
        if wrong := invalid_topic(topic):
            yield Mistake(path, f"makes the topic name {topic}, which {wrong}", ("group",))
        other = seen.setdefault(topic.replace("_", "."), path)
        if other != path:
            text = (
                f"{topic} is also the name of {other[0]} (Kafka takes . and _ for one in names): "
                "give each a topic of its own"
            )
            at, also = (path, other) if path in dict(named) else (other, path)
            yield Mistake(at, text, (str(also[0]), "group"))


def _named(settings: "Settings") -> list[tuple[tuple[str | int, ...], str]]:
    given: list[tuple[tuple[str | int, ...], str | None]] = [
        (("retry_topic_prefix",), settings.retry_topic_prefix),
        (("dead_topic",), settings.dead_topic),
        (("parked_topic",), settings.parked_topic),
        (("cursors_topic",), settings.cursors_topic),
        (("subscribers_topic",), settings.subscribers_topic),
        (("results", "topic"), settings.results.topic),
    ]
    return [(path, name) for path, name in given if name is not None and name != "off"]


def _all_names(settings: "Settings") -> Iterator[tuple[tuple[str | int, ...], str]]:
    for topic in settings.retry_topics:
        yield ("retry_topic_prefix",), topic
    yield ("dead_topic",), settings.dead
    yield ("parked_topic",), settings.parked
    yield ("cursors_topic",), settings.cursors
    if settings.managed is not None:
        yield ("subscribers_topic",), settings.managed
    yield ("results", "topic"), settings.results_topic


def _inputs(settings: "Settings") -> Iterator[Mistake]:
    names = ("group", "retry_topic_prefix", *(str(path[0]) for path, _ in _all_names(settings)))
    for at, topic in enumerate(settings.topics):
        if settings.is_own(topic):
            text = f"{topic} is written by thorn_stream itself and can be no input: remove it"
            yield Mistake(("topics", at), text, names)
        if topic in settings.topics[:at]:
            yield Mistake(("topics", at), f"{topic} is there twice: remove one")


def _ceilings(settings: "Settings") -> Iterator[Mistake]:
    pairs = (
        ("event_timeout", settings.event_timeout, settings.event_timeout_max),
        ("retry_max", settings.retry_max, settings.retry_max_max),
        ("retry_delay", settings.retry_delay, settings.retry_delay_max),
    )
    for name, value, most in pairs:
        if value > most:
            text = f"must be at most {name}_max, which is {most:g}: lower it, or raise {name}_max"
            yield Mistake((name,), text, (f"{name}_max",))
    waits = settings.retry_schedule
    if waits is not None and len(waits) > settings.retry_max_max:
        text = (
            f"has {len(waits)} waits, retry_max_max allows {settings.retry_max_max}: shorten it, "
            "or raise retry_max_max"
        )
        yield Mistake(("retry_schedule",), text, ("retry_max_max",))
    circuit = settings.circuit
    if circuit.open_for > circuit.open_for_max:
        text = f"must be at most open_for_max, which is {circuit.open_for_max:g}"
        yield Mistake(("circuit", "open_for"), text)


def _validators(settings: "Settings") -> Iterator[Mistake]:
    for at, (name, arguments) in enumerate(settings.recipient_validators):
        wrong = _wrong_validator(name, arguments)
        if wrong is not None:
            yield Mistake(("recipient_validators", at), wrong)


def _wrong_validator(name: str, arguments: tuple[Any, ...]) -> str | None:
    if name.startswith("!"):
        return None if REFERENCE.fullmatch(name) else f"{name} must look like !package.module:name"
    if name not in VALIDATORS:
        known = ", ".join(VALIDATORS)
        return f"{name} is no validator: write one of {known}, or !package.module:name"
    if name == "block_internal_ips" and arguments:
        return f"{name} takes no arguments: open networks with allowed_networks"
    try:
        VALIDATORS[name](*arguments)
    except (ValueError, TypeError) as error:
        return f"{name}: {error}"
    return None


def _transport(settings: "Settings") -> Iterator[Mistake]:
    transport = settings.transport
    if transport not in {"native", "httpx"} and not transport.startswith("!"):
        text = f"must be native, httpx or !package.module:name, not {transport!r}"
        yield Mistake(("transport",), text)
        return
    for name, asked in (("http2", settings.http2), ("proxy", settings.proxy is not None)):
        if asked and transport != "httpx":
            yield Mistake(
                (name,), "needs the httpx transport: add `transport: httpx`", ("transport",)
            )
    if settings.proxy is not None and not _is_proxy(settings.proxy.get_secret_value()):
        text = "is not the URL of a proxy; write it like http://user:password@host:3128"
        yield Mistake(("proxy",), text)


def _is_proxy(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0


def _own_http(settings: "Settings") -> Iterator[Mistake]:
    http, api = settings.http, settings.api
    if api.enabled and not api.tokens:
        yield Mistake(("api", "tokens"), "is empty, so nobody could be let in: add a token")
    if api.enabled and http.port == api.port != 0:
        text = f"{api.port} is the port of health and metrics (http.port) as well: change one"
        yield Mistake(("api", "port"), text, ("http",))


_CHECKS: Final[tuple[Callable[["Settings"], Iterator[Mistake]], ...]] = (
    _inputs,
    _own_names,
    _tiers,
    _ceilings,
    _validators,
    _transport,
    _own_http,
)
