"""All that is done to the grid. Each fault breaks one thing, waits, and mends it."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.chaos.grid import SERVICES, Grid, Manager, Worker

_AGAIN = 0.05
"""Seconds until another fault is chosen where one had no target."""

Doing = Coroutine[Deferred[Any], Any, None]


@dataclass(frozen=True)
class Fault:
    """One way to break something.

    Attributes:
        name: for people.
        weight: how often it is chosen, against the others.
        targets: what it can be done to now: labels of things no two faults may have at once.
        strike: breaks it and mends it; done when all is mended.
    """

    name: str
    weight: float
    targets: Callable[[Grid], list[str]]
    strike: Callable[[Grid, str, random.Random], Doing]


async def rest(seconds: float) -> None:
    """Wait."""
    await deferLater(reactor, seconds)


# --- managers ---


def _managers(grid: Grid, true: Callable[[Manager], bool]) -> list[str]:
    return [each.name for each in grid.managers if each.alive and not each.frozen and true(each)]


def _manager(grid: Grid, name: str) -> Manager:
    return next(each for each in grid.managers if each.name == name)


async def _kill_manager(grid: Grid, name: str, rng: random.Random) -> None:
    manager = _manager(grid, name)
    manager.wanted = False
    manager.kill()
    await rest(rng.uniform(0.0, 4.0))
    grid.start_manager(manager)
    await rest(2.0)  # it needs a while to come up


async def _stop_manager(grid: Grid, name: str, rng: random.Random) -> None:
    manager = _manager(grid, name)
    manager.wanted = False
    manager.terminate()
    while manager.alive:
        await rest(0.05)
    await rest(rng.uniform(0.0, 2.0))
    grid.start_manager(manager)
    await rest(2.0)


async def _freeze_manager(grid: Grid, name: str, rng: random.Random) -> None:
    manager = _manager(grid, name)
    os.kill(manager.pid, signal.SIGSTOP)
    manager.frozen = True
    await rest(rng.uniform(0.2, 16.0))
    os.kill(manager.pid, signal.SIGCONT)
    manager.frozen = False


async def _fill_disk(grid: Grid, name: str, rng: random.Random) -> None:
    """Let nothing more be written into the log, as on a full disk: no privileges are needed for this."""
    manager = _manager(grid, name)
    _, hard = resource.prlimit(manager.pid, resource.RLIMIT_FSIZE)
    manager.deaf = True
    resource.prlimit(manager.pid, resource.RLIMIT_FSIZE, (manager.log_size(), hard))
    await rest(rng.uniform(1.0, 6.0))
    resource.prlimit(manager.pid, resource.RLIMIT_FSIZE, (hard, hard))
    manager.deaf = False


# --- workers ---


def _at_work(grid: Grid) -> list[str]:
    return [each.name for each in grid.workers if each.alive and not each.frozen]


def _worker(grid: Grid, name: str) -> Worker:
    return next(each for each in grid.workers if each.name == name)


async def _kill_worker(grid: Grid, name: str, rng: random.Random) -> None:
    worker = _worker(grid, name)
    worker.kill()
    await rest(rng.uniform(0.0, 6.0))
    grid.start_worker(worker)


async def _freeze_worker(grid: Grid, name: str, rng: random.Random) -> None:
    worker = _worker(grid, name)
    worker.freeze()
    await rest(rng.uniform(0.5, 12.0))
    worker.thaw()


# --- services ---


def _up(grid: Grid) -> list[str]:
    return [name for name in SERVICES if grid.server(name).running]


def _service(name: str) -> Callable[[Grid], list[str]]:
    return lambda grid: [name] if name in _up(grid) else []


async def _kill_service(grid: Grid, name: str, rng: random.Random) -> None:
    await _down(grid, name, rng, grid.server(name).kill)


async def _stop_service(grid: Grid, name: str, rng: random.Random) -> None:
    await _down(grid, name, rng, grid.server(name).stop)


async def _down(grid: Grid, name: str, rng: random.Random, end: Callable[[], Doing]) -> None:
    begin = time.time()
    await end()
    await rest(rng.uniform(0.0, 4.0))
    await grid.server(name).start()
    grid.note_down(name, begin)


async def _freeze_service(grid: Grid, name: str, rng: random.Random) -> None:
    server = grid.server(name)
    server.freeze()
    await rest(rng.uniform(0.5, 12.0))
    server.thaw()


# --- the network ---


async def _cut(grid: Grid, name: str, rng: random.Random) -> None:
    for _ in range(rng.choice((1, 1, 3))):
        grid.proxies[name].cut()
        await rest(rng.uniform(0.0, 0.5))


async def _refuse(grid: Grid, name: str, rng: random.Random) -> None:
    proxy = grid.proxies[name]
    await proxy.close()
    await rest(rng.uniform(0.2, 4.0))
    proxy.open()


async def _silence(grid: Grid, name: str, rng: random.Random) -> None:
    """Swallow everything; the connections of that time are never heard of again."""
    proxy = grid.proxies[name]
    proxy.silence()
    await rest(rng.uniform(0.5, 12.0))
    proxy.speak()


async def _slow(grid: Grid, name: str, rng: random.Random) -> None:
    proxy = grid.proxies[name]
    proxy.delay = rng.uniform(0.02, 0.6)
    await rest(rng.uniform(1.0, 6.0))
    proxy.delay = 0.0


FAULTS = (
    Fault("kill manager", 5, lambda grid: _managers(grid, lambda each: each.reigns), _kill_manager),
    Fault("kill standby", 1, lambda grid: _managers(grid, lambda each: not each.reigns), _kill_manager),
    Fault("stop manager", 2, lambda grid: _managers(grid, lambda each: each.reigns), _stop_manager),
    Fault("freeze manager", 3, lambda grid: _managers(grid, lambda each: each.reigns), _freeze_manager),
    Fault("disk full for the log of", 2, lambda grid: _managers(grid, lambda each: True), _fill_disk),
    Fault("kill worker", 10, _at_work, _kill_worker),
    Fault("freeze worker", 5, _at_work, _freeze_worker),
    *(Fault("kill", 1.5, _service(name), _kill_service) for name in SERVICES),
    *(Fault("stop", 0.5, _service(name), _stop_service) for name in SERVICES),
    *(Fault("freeze", 1.0, _service(name), _freeze_service) for name in SERVICES),
    *(Fault("cut all connections to", 3, _service(name), _cut) for name in SERVICES),
    *(Fault("refuse connections to", 1.5, _service(name), _refuse) for name in SERVICES),
    *(Fault("swallow all data to and from", 1.0, _service(name), _silence) for name in SERVICES),
    *(Fault("slow down", 1.5, _service(name), _slow) for name in SERVICES),
)


class Breaker:
    """Strikes at random, until so many faults were struck.

    Args:
        grid: what is broken.
        rng: chooses.

    Attributes:
        under_way: what is broken now, by target; a text for people.
        counts: how often each fault was struck, by its text.
    """

    def __init__(self, grid: Grid, rng: random.Random) -> None:
        self._grid = grid
        self._rng = rng
        self.under_way: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self._doing: list[Deferred[None]] = []

    @property
    def struck(self) -> int:
        """How many faults there were."""
        return sum(self.counts.values())

    async def strike(self, faults: int, seconds: float) -> None:
        """Strike so many times in about so many seconds, and return when everything is mended."""
        while self.struck < faults:
            await rest(self._rng.expovariate(faults / seconds))
            while not self._struck_once():
                await rest(_AGAIN)
        for each in self._doing:
            await each

    def _struck_once(self) -> bool:
        """Choose a fault, and strike if there is a target for it now."""
        fault = self._rng.choices(FAULTS, [fault.weight for fault in FAULTS])[0]
        targets = [each for each in fault.targets(self._grid) if each not in self.under_way]
        if targets:
            target = self._rng.choice(targets)
            self._doing.append(Deferred.fromCoroutine(self._break(fault, target)))
        return bool(targets)

    async def _break(self, fault: Fault, target: str) -> None:
        what = fault.name if target not in SERVICES else f"{fault.name} {target}"
        self.counts[what] = self.counts.get(what, 0) + 1
        self.under_way[target] = fault.name
        try:
            with suppress(ProcessLookupError):  # what was to be broken or mended has ended by itself
                await fault.strike(self._grid, target, self._rng)
        finally:
            del self.under_way[target]
