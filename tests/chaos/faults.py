"""All faults. Each breaks one thing, waits, and mends it."""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable

from tests.chaos.fault import Doing, Fault, rest, service
from tests.chaos.grid import SERVICES, Grid, Manager, Worker
from tests.chaos.refusals import REFUSALS

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
    await rest(2.0)  # it needs some time to start


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
    """Make writing to the log fail, as on a full disk: this needs no privileges."""
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
    """Swallow everything; connections made meanwhile stay silent for ever."""
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
    Fault("kill manager", 5, lambda grid: _managers(grid, lambda each: each.active), _kill_manager),
    Fault("kill standby", 1, lambda grid: _managers(grid, lambda each: not each.active), _kill_manager),
    Fault("stop manager", 2, lambda grid: _managers(grid, lambda each: each.active), _stop_manager),
    Fault("freeze manager", 3, lambda grid: _managers(grid, lambda each: each.active), _freeze_manager),
    Fault("disk full for the log of", 2, lambda grid: _managers(grid, lambda each: True), _fill_disk),
    Fault("kill worker", 10, _at_work, _kill_worker),
    Fault("freeze worker", 5, _at_work, _freeze_worker),
    *(Fault("kill", 1.5, service(name), _kill_service) for name in SERVICES),
    *(Fault("stop", 0.5, service(name), _stop_service) for name in SERVICES),
    *(Fault("freeze", 1.0, service(name), _freeze_service) for name in SERVICES),
    *(Fault("cut all connections to", 3, service(name), _cut) for name in SERVICES),
    *(Fault("refuse connections to", 1.5, service(name), _refuse) for name in SERVICES),
    *(Fault("swallow all data to and from", 1.0, service(name), _silence) for name in SERVICES),
    *(Fault("slow down", 1.5, service(name), _slow) for name in SERVICES),
    *REFUSALS,
)
