"""Name look-up on a few threads of its own.

`getaddrinfo` cannot be cancelled, so a name server that does not answer keeps a thread for as long
as the system's resolver waits. What keeps such names from starving the others: all who ask for
a name share one look-up of it, a thread that is stuck is replaced by another (within a bound),
some threads are kept for names that were answered promptly before, names that were slow before use
only a few, and failures are remembered for a moment.

All state lives on the event loop; the threads do nothing but look up. They are daemons: a process
that ends does not wait for a name server.
"""

import asyncio
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, TypeAlias

from thorn_stream.core.addresses import IPAddress

__all__ = ["Resolver", "look_up"]

_Answer: TypeAlias = tuple[IPAddress, ...] | OSError
_LookUp: TypeAlias = Callable[[str], Sequence[str]]

_SLOW: Final = 1.0
_PROVEN, _NEW, _KNOWN_SLOW = range(3)  # in this order they are given threads
_FORGOTTEN: Final = "this name was not looked up: too many are waiting"


def look_up(name: str) -> list[str]:
    """Every address the system knows for a name, in the system's order of preference.

    Encoded here: the standard library's own encoding (IDNA 2003) folds characters into others.
    """
    found = socket.getaddrinfo(
        name.encode("ascii"), None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    return [str(address[0]) for *_, address in found]


class _Question:
    """One look-up under way or waiting for a thread, and how long anybody will wait for it."""

    __slots__ = ("answered", "deadline", "name", "rank", "started")

    def __init__(self, name: str, deadline: float, rank: int) -> None:
        self.name = name
        self.deadline = deadline
        self.rank = rank
        self.started = 0.0
        self.answered: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()


class Resolver:
    """Names to addresses; used from one event loop.

    `threads` look up at the same time: a quarter of them is kept for names that were answered
    promptly before, and names that were slow before have a quarter at most. Up to `stuck` more
    replace those that wait for a name server; `waiting` names may wait for a thread. Good answers
    are kept `keep` seconds, failures `keep_failed` seconds, `entries` of them at most.
    """

    def __init__(  # noqa: PLR0913 -- bounds, each with a default and a name at the call
        self,
        *,
        threads: int = 16,
        stuck: int = 112,
        waiting: int = 1024,
        keep: float = 30.0,
        keep_failed: float = 5.0,
        entries: int = 4096,
        look_up: _LookUp = look_up,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads = threads
        self._stuck = stuck
        self._kept_back = threads // 4
        self._slow_threads = max(1, threads // 4)
        self._waiting_max = waiting
        self._keep = keep
        self._keep_failed = keep_failed
        self._entries = entries
        self._look_up = look_up
        self._clock = clock
        self._cache: dict[str, tuple[float, _Answer]] = {}
        self._slow_names: dict[str, None] = {}
        self._proven: dict[str, None] = {}
        self._questions: dict[str, _Question] = {}
        self._waiting: tuple[deque[_Question], ...] = (deque(), deque(), deque())
        self._under_way: set[_Question] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._started = 0
        self._work: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, _Question] | None] = (
            queue.SimpleQueue()
        )

    @property
    def busy(self) -> int:
        """Look-ups under way now."""
        return len(self._under_way)

    async def resolve(self, name: str, seconds: float) -> tuple[IPAddress, ...]:
        """Every address of a name, for the caller to check.

        Raises `socket.gaierror` when there is none and TimeoutError after `seconds`.
        """
        now = self._clock()
        known = self._cache.get(name)
        if known is not None and now < known[0]:
            return _given(known[1])
        question = self._questions.get(name)
        if question is None:
            question = self._ask(name, now + seconds)
        else:
            question.deadline = max(question.deadline, now + seconds)
        async with asyncio.timeout(seconds):
            return _given(await asyncio.shield(question.answered))

    def forget(self, name: str) -> None:
        """Look this name up anew next time: its addresses did not answer."""
        known = self._cache.get(name)
        if known is not None and not isinstance(known[1], OSError):
            del self._cache[name]

    def stop(self) -> None:
        """Let the threads go; whoever still waits is told that the name was not found."""
        for question in list(self._questions.values()):
            self._settle(question, socket.gaierror(socket.EAI_AGAIN, "stopped"))
        for waiting in self._waiting:
            waiting.clear()
        if self._alarm is not None:
            self._alarm.cancel()
        for _ in range(self._started):
            self._work.put(None)
        self._started = 0

    def _ask(self, name: str, deadline: float) -> _Question:
        rank = _PROVEN if name in self._proven else _NEW
        rank = _KNOWN_SLOW if name in self._slow_names else rank
        waiting = self._waiting[rank]
        if len(waiting) >= self._waiting_max:
            raise socket.gaierror(socket.EAI_AGAIN, _FORGOTTEN)
        question = self._questions[name] = _Question(name, deadline, rank)
        waiting.append(question)
        self._hand_out()
        return question

    def _hand_out(self) -> None:
        """Give threads to who waits; slow names last, and never more than their share."""
        now = self._clock()
        stuck = sum(1 for question in self._under_way if now - question.started >= _SLOW)
        room = self._threads + min(stuck, self._stuck)
        under_way = [0, 0, 0]
        for question in self._under_way:
            under_way[question.rank] += 1
        for rank, waiting in enumerate(self._waiting):
            while waiting and self._may_start(rank, under_way, room):
                question = waiting.popleft()
                if question.deadline <= now:  # nobody waits for it any more
                    self._settle(question, socket.gaierror(socket.EAI_AGAIN, _FORGOTTEN))
                    continue
                under_way[rank] += 1
                self._start(question, now)
        if self._alarm is None and any(self._waiting):
            self._alarm = asyncio.get_running_loop().call_later(_SLOW, self._look_again)

    def _may_start(self, rank: int, under_way: list[int], room: int) -> bool:
        if self.busy >= room or rank == _PROVEN:
            return self.busy < room
        if rank == _KNOWN_SLOW and under_way[_KNOWN_SLOW] >= self._slow_threads:
            return False
        return under_way[_NEW] + under_way[_KNOWN_SLOW] < room - self._kept_back

    def _look_again(self) -> None:
        """Nothing was answered for a while: some threads may count as stuck by now."""
        self._alarm = None
        self._hand_out()

    def _start(self, question: _Question, now: float) -> None:
        question.started = now
        self._under_way.add(question)
        if self._started < self.busy:
            self._start_thread()
        self._work.put((asyncio.get_running_loop(), question))

    def _start_thread(self) -> None:
        self._started += 1
        name = f"thorn-resolver-{self._started}"
        threading.Thread(target=self._run, name=name, daemon=True).start()

    def _run(self) -> None:
        while (task := self._work.get()) is not None:
            loop, question = task
            answer: _Answer
            try:
                answer = tuple(dict.fromkeys(map(ip_address, self._look_up(question.name))))
                if not answer:
                    answer = socket.gaierror(socket.EAI_NONAME, "no address")
            except OSError as error:
                answer = error
            except ValueError:  # a label that cannot be asked for, or an answer of no known family
                answer = socket.gaierror(socket.EAI_NONAME, "not a name that can be looked up")
            try:
                loop.call_soon_threadsafe(self._answered, question, answer)
            except RuntimeError:  # the loop has ended before the name server answered
                return

    def _answered(self, question: _Question, answer: _Answer) -> None:
        now = self._clock()
        self._under_way.discard(question)
        for names in (self._slow_names, self._proven):
            names.pop(question.name, None)
        names = self._slow_names if now - question.started >= _SLOW else self._proven
        names[question.name] = None
        if len(names) > self._entries:
            del names[next(iter(names))]
        self._cache.pop(question.name, None)
        keep = self._keep_failed if isinstance(answer, OSError) else self._keep
        self._cache[question.name] = (now + keep, answer)
        if len(self._cache) > self._entries:
            del self._cache[next(iter(self._cache))]
        self._settle(question, answer)
        self._hand_out()

    def _settle(self, question: _Question, answer: _Answer) -> None:
        if self._questions.get(question.name) is question:
            del self._questions[question.name]
        if not question.answered.done():
            question.answered.set_result(answer)


def _given(answer: _Answer) -> tuple[IPAddress, ...]:
    if isinstance(answer, OSError):
        raise type(answer)(*answer.args)
    return answer
