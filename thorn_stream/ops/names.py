"""`config check --resolve`: where the names of all receivers lead today.

The same look-up and the same judgement as before a connect, and nothing is connected to. It is a
report: what a name leads to may change at any time, so each connect judges it anew.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from thorn_stream.core.addresses import IPAddress
from thorn_stream.core.directory import Directory
from thorn_stream.core.urls import RecipientUrl
from thorn_stream.core.validators import Guard

__all__ = ["Inward", "Names", "Unknown", "look_up_names"]

_AT_ONCE: Final = 16
_PATIENCE: Final = 5.0


class _Resolver(Protocol):
    async def resolve(self, name: str, seconds: float) -> Sequence[IPAddress]: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Inward:
    """A name one of whose addresses a validator refuses."""

    name: str
    address: str
    validator: str
    reason: str
    subscribers: tuple[str, ...]

    @property
    def line(self) -> str:
        return (
            f"{self.name} is refused by {self.validator}: {self.reason} "
            f"(subscribers: {', '.join(self.subscribers)})"
        )


@dataclass(frozen=True, slots=True)
class Unknown:
    """A name that has no address, or for which nobody answered in time."""

    name: str
    why: str
    subscribers: tuple[str, ...]

    @property
    def line(self) -> str:
        return f"{self.name}: {self.why} (subscribers: {', '.join(self.subscribers)})"


@dataclass(frozen=True, slots=True)
class Names:
    """What was found out about `looked_up` names."""

    looked_up: int
    inward: tuple[Inward, ...]
    unknown: tuple[Unknown, ...]

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "looked_up": self.looked_up,
            "inward": [
                {
                    "name": one.name,
                    "address": one.address,
                    "validator": one.validator,
                    "reason": one.reason,
                    "subscribers": list(one.subscribers),
                }
                for one in self.inward
            ],
            "unknown": [
                {"name": one.name, "why": one.why, "subscribers": list(one.subscribers)}
                for one in self.unknown
            ],
        }


def look_up_names(directory: Directory, guard: Guard, resolver: _Resolver) -> Names:
    """Look up every name that a URL has, and judge every address; stops the resolver."""
    return asyncio.run(_look_up(directory, guard, resolver))


async def _look_up(directory: Directory, guard: Guard, resolver: _Resolver) -> Names:
    asked: dict[str, list[str]] = {}
    for subscriber in directory:
        url = guard.url(subscriber.url)
        if isinstance(url, RecipientUrl) and url.address is None:
            asked.setdefault(url.host, []).append(subscriber.id)
    room = asyncio.Semaphore(_AT_ONCE)

    async def judge(name: str) -> Inward | Unknown | None:
        who = tuple(asked[name])
        async with room:
            try:
                addresses = await resolver.resolve(name, _PATIENCE)
            except TimeoutError:
                return Unknown(name, f"no answer within {_PATIENCE:g} s", who)
            except OSError:
                return Unknown(name, "not found", who)
        for address in addresses:
            refusal = guard.address(address)
            if refusal is not None:
                return Inward(name, str(address), refusal.rule, refusal.reason, who)
        return None

    try:
        found = await asyncio.gather(*map(judge, sorted(asked)))
    finally:
        resolver.stop()
    return Names(
        len(asked),
        tuple(one for one in found if isinstance(one, Inward)),
        tuple(one for one in found if isinstance(one, Unknown)),
    )
