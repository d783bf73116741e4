"""Validators: what refuses a recipient, by its URL and by every address it resolves to.

The names and arguments are Thorn's. A validator is called with a URL, passes by returning None and
refuses by raising `SecurityError` or returning exactly False, so a plain function can be one. Ours
can also judge a single address, which is what a transport asks before it dials; a function of the
user's own sees the URL alone. A `Guard` is a list of them and answers with the name of the one
that refused.
"""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Any, Final, TypeAlias

from thorn_stream.core.addresses import IPAddress, IPNetwork, embedded, refused_as
from thorn_stream.core.errors import ConfigurationError, SecurityError
from thorn_stream.core.urls import RecipientUrl, Refusal, parse_url

__all__ = [
    "VALIDATORS",
    "Guard",
    "UrlValidator",
    "Validator",
    "block_cidr_network",
    "block_internal_ips",
    "deserialize_validator",
    "ensure_port",
    "ensure_protocol",
    "serialize_validator",
]

UrlValidator: TypeAlias = Callable[[str], object]
"""A validator of the user's own: None passes, False or `SecurityError` refuses."""

METADATA_NAMES: Final = frozenset(
    {
        "instance-data",
        "instance-data.ec2.internal",
        "metadata.goog",
        "metadata.google.internal",
        "metadata.tencentyun.com",
    }
)
"""Refused by name, wherever they lead; every other name is judged by the addresses it has."""


class Validator:
    """One rule. Its name (the class's, unless it says another) is what a refusal is counted under.

    One of the user's own overrides `url` or `address`, or both. It refuses by a reason, or by
    whatever else is not None, and by raising.
    """

    name: str
    arguments: tuple[Any, ...] = ()

    def __init_subclass__(cls) -> None:
        if not hasattr(cls, "name"):
            cls.name = cls.__name__

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def url(self, url: RecipientUrl) -> str | None:  # noqa: ARG002 -- most rules need it
        """Why this URL is refused; None when it passes."""
        return None

    def address(self, address: IPAddress) -> str | None:  # noqa: ARG002 -- most rules need it
        """Why this address must not be dialled; None when it may be."""
        return None

    def __call__(self, url: str) -> None:
        """Judge a URL as Thorn's validators did; raises `SecurityError`. Looks up no name."""
        parsed = parse_url(url)
        if isinstance(parsed, Refusal):
            raise SecurityError(f"{parsed.rule}: {parsed.reason}")
        reason = self.url(parsed)
        if reason is None and parsed.address is not None:
            reason = self.address(parsed.address)
        if reason is not None:
            raise SecurityError(f"{self.name}: {reason}")

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(map(repr, self.arguments))})"


class _BlockInternal(Validator):
    name = "block_internal_ips"

    def __init__(self, allowed: Sequence[IPNetwork]) -> None:
        super().__init__()
        self.allowed = tuple(allowed)

    def url(self, url: RecipientUrl) -> str | None:
        if url.host in METADATA_NAMES:
            return "the name of a cloud's metadata service"
        return None

    def address(self, address: IPAddress) -> str | None:
        what = refused_as(address, self.allowed)
        if what is None:
            return None
        return f"{address} is {what}; to allow it, list its network in `allowed_networks`"


class _EnsureProtocol(Validator):
    name = "ensure_protocol"

    def url(self, url: RecipientUrl) -> str | None:
        if url.scheme in self.arguments:
            return None
        return f"{url.scheme} is not one of {', '.join(self.arguments)}"


class _EnsurePort(Validator):
    name = "ensure_port"

    def url(self, url: RecipientUrl) -> str | None:
        if url.port in self.arguments:
            return None
        return f"port {url.port} is not one of {', '.join(map(str, self.arguments))}"


class _BlockNetworks(Validator):
    name = "block_cidr_network"

    def __init__(self, networks: Sequence[IPNetwork]) -> None:
        super().__init__(*map(str, networks))
        self._networks = networks

    def address(self, address: IPAddress) -> str | None:
        inner = embedded(address) if isinstance(address, IPv6Address) else ()
        for network in self._networks:
            if any(judged in network for judged in (address, *inner)):
                return f"{address} lies in {network}"
        return None


def block_internal_ips(*, allowed: Iterable[str | IPNetwork] = ()) -> Validator:
    """Refuse every address of `REFUSED_NETWORKS`, but for the networks allowed on purpose.

    ValueError for what is not a network.
    """
    return _BlockInternal(_networks(allowed))


def ensure_protocol(*names: str) -> Validator:
    """Refuse a URL whose scheme is none of these: `http`, `https` (`https://` is read as well)."""
    schemes = tuple(str(name).lower().removesuffix("://") for name in names)
    if not schemes or not set(schemes) <= {"http", "https"}:
        raise ValueError("takes one or both of http, https")
    return _EnsureProtocol(*schemes)


def ensure_port(*ports: int | str) -> Validator:
    """Refuse a URL whose port (its scheme's, when it has none) is none of these."""
    numbers = tuple(_port(port) for port in ports)
    if not numbers:
        raise ValueError("takes at least one port")
    return _EnsurePort(*numbers)


def block_cidr_network(*cidrs: str | IPNetwork) -> Validator:
    """Refuse every address of these networks, whatever is allowed elsewhere."""
    networks = _networks(cidrs)
    if not networks:
        raise ValueError("takes at least one network")
    return _BlockNetworks(networks)


VALIDATORS: Final[dict[str, Callable[..., Validator]]] = {
    "block_internal_ips": block_internal_ips,
    "ensure_protocol": ensure_protocol,
    "ensure_port": ensure_port,
    "block_cidr_network": block_cidr_network,
}


_OURS: Final = frozenset({_BlockInternal, _EnsureProtocol, _EnsurePort, _BlockNetworks})


def serialize_validator(validator: Any) -> list[Any]:
    """`[name]` or `[name, [arguments]]`. Raises ValueError for what has no name elsewhere.

    That is a function, and a Validator of the user's own.
    """
    if isinstance(validator, Validator) and type(validator) in _OURS:
        return (
            [validator.name, list(validator.arguments)] if validator.arguments else [validator.name]
        )
    match validator:
        case str(name) if name in VALIDATORS:
            return [name]
        case [str(name), *rest] if name in VALIDATORS:
            return [name, *map(list, rest)]
    raise ValueError(
        f"recipient_validators: {validator!r} cannot travel with an event; name it in the "
        "dispatcher's recipient_validators as !package.module:name, or use dispatcher='inline'"
    )


def deserialize_validator(written: Any) -> Validator:
    """The validator that `serialize_validator` wrote. Raises ValueError."""
    name, *arguments = serialize_validator(written)
    return VALIDATORS[name](*(arguments[0] if arguments else ()))


def _networks(cidrs: Iterable[str | IPNetwork]) -> tuple[IPNetwork, ...]:
    if isinstance(cidrs, str):
        raise ValueError("takes a list of networks, not a text")  # noqa: TRY004 -- one kind for all
    return tuple(map(_network, cidrs))


def _network(cidr: object) -> IPNetwork:
    if isinstance(cidr, IPv4Network | IPv6Network):
        return cidr
    if not isinstance(cidr, str):  # a number would be read as an address
        raise ValueError(f"{cidr!r} is not a network")  # noqa: TRY004 -- one kind for all
    return ip_network(cidr)


def _port(port: object) -> int:
    text = str(port)
    if isinstance(port, bool) or not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{port!r} is not a port")
    if not 0 < int(text) < 65536:
        raise ValueError(f"{text} is not a port from 1 to 65535")
    return int(text)


class Guard:
    """All the validators of one dispatcher, asked together; the first that refuses is named.

    A validator that fails in any other way refuses too: a guard that breaks stays shut.
    """

    def __init__(self, validators: Sequence[UrlValidator]) -> None:
        self.validators = tuple(validators)
        self._ours = tuple(rule for rule in self.validators if isinstance(rule, Validator))

    @classmethod
    def from_names(
        cls,
        rules: Sequence[Any],
        allowed_networks: Sequence[str] = (),
        place: str = "recipient_validators",
    ) -> "Guard":
        """Build from `[name]` and `[name, [arguments]]`, callables among them as they are.

        `allowed_networks` is what `block_internal_ips` lets through. ConfigurationError names all
        mistakes at once, each with its place.
        """
        validators: list[UrlValidator] = []
        mistakes: list[str] = []
        try:
            allowed = _networks(allowed_networks)
        except ValueError as error:
            allowed = ()
            mistakes.append(f"allowed_networks: {error}; write networks like 10.20.0.0/16")
        for number, rule in enumerate(rules):
            try:
                validators.append(_built(rule, allowed))
            except (ValueError, TypeError) as error:
                mistakes.append(f"{place}[{number}]: {error}")
        if mistakes:
            raise ConfigurationError("; ".join(mistakes))
        return cls(validators)

    def plus(self, more: Sequence[UrlValidator]) -> "Guard":
        """The same with more rules: they can refuse, never let through what is refused here."""
        return Guard((*self.validators, *more))

    def url(self, text: str) -> RecipientUrl | Refusal:
        """Judge a recipient's URL, its host included when that is an address. Never raises."""
        url = parse_url(text)
        if isinstance(url, Refusal):
            return url
        for rule in self.validators:
            reason = _judged(rule, url)
            if reason is not None:
                return Refusal(_name(rule), reason)
        if url.address is not None and (refusal := self.address(url.address)) is not None:
            return refusal
        return url

    def address(self, address: IPAddress) -> Refusal | None:
        """Judge one address, as every answer to a look-up is before it is dialled.

        A scope id is refused whatever the rules are: it chooses a network card of this host.
        """
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return Refusal("url", f"{address} has a scope id")
        for rule in self._ours:
            reason = _said(rule.address, address)
            if reason is not None:
                return Refusal(rule.name, reason)
        return None

    def refuses(self, address: IPAddress) -> bool:
        """Whether the settings mean this address to be refused, judged by the table itself.

        What the self-test of a transport compares its own behaviour with.
        """
        return any(
            isinstance(rule, _BlockInternal) and refused_as(address, rule.allowed) is not None
            for rule in self._ours
        )


def _built(rule: Any, allowed: Sequence[IPNetwork]) -> UrlValidator:
    if callable(rule):
        return rule  # type: ignore[no-any-return]  # a callable of the user's own
    match rule:
        case [str(name)]:
            arguments: Sequence[Any] = ()
        case [str(name), list() | tuple() as given]:
            arguments = given
        case _:
            raise ValueError("write [name] or [name, [arguments]]")
    if name not in VALIDATORS:
        raise ValueError(f"no validator {name!r}; there are {', '.join(VALIDATORS)}")
    if name == "block_internal_ips":
        if arguments:
            raise ValueError(f"{name} takes no arguments; use `allowed_networks`")
        return _BlockInternal(allowed)
    try:
        return VALIDATORS[name](*arguments)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}: {error}") from None


def _judged(rule: UrlValidator, url: RecipientUrl) -> str | None:
    """Ask one rule for a URL; one of ours is called only when it says otherwise what that does."""
    if not isinstance(rule, Validator):
        return _asked(rule, url.text)
    reason = _said(rule.url, url)
    if reason is None and type(rule).__call__ is not Validator.__call__:
        reason = _asked(rule, url.text)
    return reason


def _said(judge: Callable[[Any], object], what: object) -> str | None:
    """What a method of a Validator says; all but None refuses, and so does whatever it raises."""
    try:
        answer = judge(what)
    except Exception as error:  # noqa: BLE001 -- fail closed, whatever it is
        return _failure(error)
    if answer is None:
        return None
    return answer if isinstance(answer, str) else "refused"


def _asked(rule: UrlValidator, text: str) -> str | None:
    """Ask a callable of the user's own; what it raises beside SecurityError refuses too."""
    try:
        answer = rule(text)
    except Exception as error:  # noqa: BLE001 -- fail closed, whatever it is
        return _failure(error)
    if isinstance(answer, Coroutine):  # nobody would ever know what it had to say
        answer.close()
        return "it is asynchronous; write it with def"
    return "refused" if answer is False else None


def _failure(error: Exception) -> str:
    if isinstance(error, SecurityError):
        return " ".join(str(error).split()) or "refused"
    return f"it failed with {type(error).__name__}"


def _name(rule: UrlValidator) -> str:
    if isinstance(rule, Validator):
        return rule.name
    return str(getattr(rule, "__name__", type(rule).__name__))
