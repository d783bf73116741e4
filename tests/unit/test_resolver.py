"""The resolver: shared, bounded, remembered look-ups that cannot starve each other."""

import asyncio
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.support.waiting import until
from thorn_stream.adapters.resolver import Resolver

PUBLIC = ip_address("8.8.8.8")


class Names:
    """A name server in memory: counts what it is asked, and is stuck on some names."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.let_go = threading.Event()

    def __call__(self, name: str) -> list[str]:
        self.asked[name] += 1
        if name.startswith("stuck"):
            self.let_go.wait(10)
        if name.startswith("missing"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if name.startswith("odd"):
            return ["not an address"]
        if name.startswith("empty"):
            return []
        return ["8.8.8.8", "2606:4700::1111", "8.8.8.8", "127.0.0.1", "fe80::1%1"]


@pytest.fixture
def names() -> Iterator[Names]:
    names = Names()
    yield names
    names.let_go.set()


def test_every_answer_is_handed_over_once(names: Names) -> None:
    """All addresses come back, in order, without doubles, inner and scoped ones included."""

    async def scenario() -> None:
        resolver = Resolver(look_up=names)
        found = await resolver.resolve("a.example", 5)
        assert [str(address) for address in found] == [
            "8.8.8.8",
            "2606:4700::1111",
            "127.0.0.1",
            "fe80::1%1",
        ]
        resolver.stop()

    asyncio.run(scenario())


def test_look_ups_of_one_name_at_a_time_are_one(names: Names) -> None:
    """Fifty who ask at once cause one look-up, and all get its answer."""

    async def scenario() -> None:
        resolver = Resolver(look_up=names)
        answers = await asyncio.gather(*(resolver.resolve("a.example", 5) for _ in range(50)))
        assert {answer[0] for answer in answers} == {PUBLIC}
        assert names.asked == {"a.example": 1}
        resolver.stop()

    asyncio.run(scenario())


def test_answers_are_kept_for_their_time_and_failures_more_briefly(names: Names) -> None:
    """A good answer is asked for again after `keep` seconds, a failure after `keep_failed`."""
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        resolver = Resolver(look_up=names, keep=30, keep_failed=5, clock=lambda: now)
        for moment in (0, 4, 6, 29, 31):
            now = float(moment)
            await resolver.resolve("a.example", 5)
            with pytest.raises(socket.gaierror):
                await resolver.resolve("missing.example", 5)
        assert names.asked == {"a.example": 2, "missing.example": 3}
        resolver.stop()

    asyncio.run(scenario())


def test_a_name_whose_addresses_did_not_answer_is_looked_up_anew(names: Names) -> None:
    """`forget` drops a good answer, never a failure."""

    async def scenario() -> None:
        resolver = Resolver(look_up=names)
        for _ in range(2):
            await resolver.resolve("a.example", 5)
            resolver.forget("a.example")
            with pytest.raises(socket.gaierror):
                await resolver.resolve("missing.example", 5)
            resolver.forget("missing.example")
        resolver.forget("never.asked")
        assert names.asked == {"a.example": 2, "missing.example": 1}
        resolver.stop()

    asyncio.run(scenario())


def test_what_is_remembered_is_bounded(names: Names) -> None:
    """With room for two, the name asked first is looked up again."""

    async def scenario() -> None:
        resolver = Resolver(look_up=names, entries=2)
        for name in ("a", "b", "c", "c", "a"):
            await resolver.resolve(name, 5)
        assert names.asked == {"a": 2, "b": 1, "c": 1}
        resolver.stop()

    asyncio.run(scenario())


@pytest.mark.parametrize("name", ["odd.example", "empty.example", "missing.example"])
def test_what_is_no_answer_is_a_failed_look_up(names: Names, name: str) -> None:
    """Errors, empty answers and garbage all come as `gaierror`."""

    async def scenario() -> None:
        resolver = Resolver(look_up=names)
        with pytest.raises(socket.gaierror):
            await resolver.resolve(name, 5)
        resolver.stop()

    asyncio.run(scenario())


def test_a_caller_waits_no_longer_than_it_said(names: Names) -> None:
    """A stuck name ends with TimeoutError; who still waits for it gets its answer later."""

    async def scenario() -> None:
        resolver = Resolver(look_up=names)
        patient = asyncio.create_task(resolver.resolve("stuck", 5))
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            await resolver.resolve("stuck", 0.05)
        assert time.monotonic() - begun < 1
        names.let_go.set()
        assert (await patient)[0] == PUBLIC
        assert names.asked == {"stuck": 1}
        resolver.stop()

    asyncio.run(scenario())


def test_stuck_names_starve_nobody(names: Names) -> None:
    """With every thread stuck on a name of its own, another name is still answered in time."""

    async def scenario() -> None:
        resolver = Resolver(look_up=names, threads=4)
        stuck = [asyncio.create_task(resolver.resolve(f"stuck{n}", 9)) for n in range(4)]
        await until(lambda: resolver.busy == 4)
        assert (await resolver.resolve("a.example", 3))[0] == PUBLIC
        assert not any(task.done() for task in stuck)
        names.let_go.set()
        await asyncio.gather(*stuck)
        resolver.stop()

    asyncio.run(scenario())


def test_names_that_were_answered_before_have_threads_kept_for_them(names: Names) -> None:
    """However many new names are stuck, at the bound of all threads, a proven one is answered."""

    async def scenario() -> None:
        resolver = Resolver(look_up=names, threads=4, stuck=0, keep=0)
        assert (await resolver.resolve("a.example", 30))[0] == PUBLIC
        stuck = [asyncio.create_task(resolver.resolve(f"stuck{n}", 99)) for n in range(20)]
        await until(lambda: resolver.busy == 3)
        assert (await resolver.resolve("a.example", 30))[0] == PUBLIC
        new = asyncio.create_task(resolver.resolve("new.example", 99))
        assert (await resolver.resolve("a.example", 30))[0] == PUBLIC
        assert resolver.busy == 3
        assert not new.done()
        names.let_go.set()
        await asyncio.gather(new, *stuck)
        resolver.stop()

    asyncio.run(scenario())


def test_names_that_were_slow_before_use_few_threads(names: Names) -> None:
    """A name that once was slow waits for one of the slow places, whatever else is free."""
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        resolver = Resolver(look_up=names, threads=8, keep=0, clock=lambda: now)
        first = [asyncio.create_task(resolver.resolve(f"stuck{n}", 99)) for n in range(6)]
        await until(lambda: resolver.busy == 6)
        now = 2.0
        names.let_go.set()
        await asyncio.gather(*first)
        names.let_go.clear()
        again = [asyncio.create_task(resolver.resolve(f"stuck{n}", 99)) for n in range(6)]
        await until(lambda: resolver.busy == 2)
        assert (await resolver.resolve("a.example", 3))[0] == PUBLIC
        assert resolver.busy == 2
        names.let_go.set()
        await asyncio.gather(*again)
        resolver.stop()

    asyncio.run(scenario())


def test_only_so_many_names_wait(names: Names) -> None:
    """Beyond the bound a look-up fails at once; what nobody waits for any more is passed over."""
    now = 0.0

    async def scenario() -> None:
        nonlocal now
        resolver = Resolver(look_up=names, threads=1, waiting=1, clock=lambda: now)
        running = asyncio.create_task(resolver.resolve("stuck", 99))
        await until(lambda: resolver.busy == 1)
        with pytest.raises(TimeoutError):
            await resolver.resolve("waits", 0.01)
        with pytest.raises(socket.gaierror, match="too many"):
            await resolver.resolve("refused", 5)
        now = 0.5
        names.let_go.set()
        await running
        assert (await resolver.resolve("a.example", 3))[0] == PUBLIC
        assert set(names.asked) == {"stuck", "a.example"}
        resolver.stop()

    asyncio.run(scenario())


def test_stopping_ends_who_waits(names: Names) -> None:
    """After `stop` nobody waits, not even for a name that is stuck."""

    async def scenario() -> None:
        resolver = Resolver(look_up=names, threads=1)
        waiting = [asyncio.create_task(resolver.resolve(n, 99)) for n in ("stuck", "b")]
        await until(lambda: resolver.busy == 1)
        resolver.stop()
        for task in waiting:
            with pytest.raises(socket.gaierror, match="stopped"):
                await task

    asyncio.run(scenario())


def test_the_system_is_asked_by_default() -> None:
    """`localhost` is found by the system's own resolver, as loopback."""

    async def scenario() -> None:
        resolver = Resolver()
        assert all(a.is_loopback for a in await resolver.resolve("localhost", 5))
        with pytest.raises(socket.gaierror):
            await resolver.resolve("b\u00fccher.example", 5)
        resolver.stop()

    asyncio.run(scenario())
