"""Faults by a seed: dispatchers killed, stopped, paused; the broker stalled and killed."""

import random
import signal
import time
from pathlib import Path
from typing import Any, Final

from tests.e2e.rig import Dispatcher
from tests.support.apache_kafka import ApacheKafka

__all__ = ["FAULTS", "Faults"]

FAULTS: Final = ("kill", "pause 2", "pause 12", "term", "stall")
"""Drawn from in turn, in an order of the seed; once in the middle the broker is killed."""


class Faults:
    """Some dispatchers of one group, and what happens to them. `log` tells of it."""

    def __init__(self, folder: Path, settings: dict[str, Any], broker: ApacheKafka) -> None:
        self.dispatchers: list[Dispatcher] = []
        self.everyone: list[Dispatcher] = []
        self.log: list[str] = []
        self._folder = folder
        self._settings = settings
        self._broker = broker
        self._paused: dict[Dispatcher, float] = {}
        self._began = time.monotonic()

    def spawn(self) -> None:
        one = Dispatcher(self._folder / f"dispatcher-{len(self.everyone)}", self._settings)
        self.everyone.append(one)
        self.dispatchers.append(one)

    def run(self, dice: random.Random, seconds: float, gap: tuple[float, float]) -> None:
        """One after another for so long; pauses overlap with what comes next."""
        end = time.monotonic() + seconds
        broker_dies = time.monotonic() + seconds * dice.uniform(0.3, 0.7)
        deck: list[str] = []
        while time.monotonic() < end:
            self._wait(dice.uniform(*gap))
            if broker_dies and time.monotonic() > broker_dies:
                broker_dies = 0
                self._kill_broker()
                continue
            if not deck:
                deck = dice.sample(FAULTS, len(FAULTS))
            self._do(deck.pop(), dice.choice(self._awake()))
        while self._paused:
            self._wait(0.1)

    def _awake(self) -> list[Dispatcher]:
        while not (awake := [one for one in self.dispatchers if one not in self._paused]):
            self._wait(0.1)
        return awake

    def _do(self, fault: str, one: Dispatcher) -> None:
        self._say(f"{fault} {one.folder.name}")
        if fault == "kill":
            one.kill()
            self._replace(one)
        elif fault == "term":
            if status := one.stop():
                self._say(f"WRONG: {one.folder.name} ended with {status}")
            self._replace(one)
        elif fault == "stall":
            self._broker.signal(signal.SIGSTOP)
            self._wait(5)
            self._broker.signal(signal.SIGCONT)
        else:
            one.process.send_signal(signal.SIGSTOP)
            self._paused[one] = time.monotonic() + float(fault.split()[1])

    def _kill_broker(self) -> None:
        self._say("kill broker")
        self._broker.kill()
        self._broker.start()
        self._say("broker is back")

    def _replace(self, one: Dispatcher) -> None:
        self.dispatchers.remove(one)
        self.spawn()

    def _wait(self, seconds: float) -> None:
        """Let time pass; wake whose pause is over, and notice who died of himself."""
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            for one in [one for one, until in self._paused.items() if until <= now]:
                del self._paused[one]
                one.process.send_signal(signal.SIGCONT)
            for one in [one for one in self.dispatchers if one.ended]:
                self._say(f"WRONG: {one.folder.name} ended by itself: {one.process.returncode}")
                self._replace(one)
            time.sleep(0.05)

    def _say(self, text: str) -> None:
        self.log.append(f"{time.monotonic() - self._began:6.1f} s  {text}")

    @property
    def wrong(self) -> list[str]:
        return [line for line in self.log if "WRONG" in line]

    def end(self) -> None:
        for one in self.everyone:
            if not one.ended:
                one.process.send_signal(signal.SIGCONT)
                one.kill()
