"""One run: start everything, break it, mend it, wait, end it and judge."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extras import RealDictCursor
from psycopg2.sql import SQL, Identifier
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.python.failure import Failure

from tefmanager.sandbox import Sandbox
from tests.chaos import facts
from tests.chaos.breaker import Breaker, drawn
from tests.chaos.fault import rest
from tests.chaos.grid import LIMITS, PREFIX, Grid
from tests.chaos.journal import Journal
from tests.chaos.judge import Count, judge
from tests.chaos.screen import Screen, View
from tests.integration.daemon import Daemon
from tests.services import Services

AFTERMATH = 120.0
"""Seconds after mending within which something must end: if nothing does, waiting tasks are lost."""

_GLANCE = 0.25
_LOOK = 1.0
_EVENTS = 8


@dataclass(frozen=True)
class Plan:
    """The parameters of a run.

    Attributes:
        tasks: how many tasks must be confirmed.
        faults: how many faults to strike.
        seconds: about how long to strike them.
        seed: for all random decisions; timing is not reproducible.
        folder: for journals and logs.
        only: a fault's name must contain one of these texts; empty: all faults.
    """

    tasks: int
    faults: int
    seconds: float
    seed: int
    folder: Path
    only: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run."""

    counts: list[Count]
    faults: dict[str, int]
    seconds: float

    @property
    def well(self) -> bool:
        """Whether nothing forbidden happened."""
        return not any(count.wrong for count in self.counts)


async def play(plan: Plan, screen: Screen) -> Outcome:
    """Do the run, and leave nothing behind except journals and logs."""
    sandbox = Sandbox(reactor, fast=True)
    try:
        screen.show(View(phase="starting the servers"))
        direct = Services.of(sandbox, await sandbox.start())
        run = Run(plan, Grid(sandbox, direct, plan.folder, random.Random(plan.seed)), screen)
        return await run.whole()
    finally:
        await sandbox.stop()


class Run:
    """The grid, and what is known about it."""

    def __init__(self, plan: Plan, grid: Grid, screen: Screen) -> None:
        self._plan = plan
        self._grid = grid
        self._screen = screen
        self._breaker = Breaker(
            grid,
            drawn(plan.seed, plan.only),
            random.Random(plan.seed + 1),
            Journal(plan.folder / "faults.jsonl"),
        )
        self._database = Daemon(grid.direct, plan.folder / "judge", PREFIX)
        self._database.prefix = PREFIX
        self._begin = time.monotonic()
        self._view = View(wanted_faults=plan.faults, tasks=plan.tasks)
        self._exits: list[str] = []
        self._failures: list[Failure] = []

    async def whole(self) -> Outcome:
        """Start, break, mend, wait, end, judge."""
        glances = [LoopingCall(self._glance), LoopingCall(self._look)]
        for glance, interval in zip(glances, (_GLANCE, _LOOK), strict=True):
            glance.start(interval).addErrback(self._failures.append)
        try:
            await self._start()
            self._view.phase = "breaking things"
            await self._breaker.strike(self._plan.faults, self._plan.seconds)
            self._view.phase = "all is mended: the rest gets done"
            await self._aftermath()
            self._view.phase = "the managers end"
            await self._end()
        finally:
            self._grid.end()
            for glance in glances:
                if glance.running:
                    glance.stop()
        for failure in self._failures:
            failure.raiseException()
        counts = await deferToThread(self._judge)
        return Outcome(counts, self._breaker.counts, time.monotonic() - self._begin)

    async def _start(self) -> None:
        await self._grid.make_resources()
        for manager in self._grid.managers:
            self._grid.start_manager(manager)
        for worker in self._grid.workers:
            self._grid.start_worker(worker)
        while not any(manager.active for manager in self._grid.managers):
            await rest(0.1)
        await deferToThread(self._grid.space.prepare)
        self._grid.start_sender(self._plan.tasks, self._plan.seconds, self._plan.seed)

    async def _aftermath(self) -> None:
        """Wait until all tasks have ended, or no more end."""
        since, ended = time.monotonic(), -1
        while time.monotonic() < since + AFTERMATH:
            if self._view.ended != ended:
                since, ended = time.monotonic(), self._view.ended
            if not self._grid.sender.alive and await deferToThread(self._nothing_waits):
                return
            await rest(0.3)

    def _nothing_waits(self) -> bool:
        waiting: list[Any] = self._database.rows("tasks")
        return not waiting and not any(each.count for each in self._grid.resources())

    async def _end(self) -> None:
        for manager in self._grid.managers:
            manager.wanted = False
            if manager.alive:
                manager.terminate()
        limit = time.monotonic() + 20.0
        while any(manager.alive for manager in self._grid.managers):
            if time.monotonic() > limit:
                self._exits.append("a manager did not end when it was told to")
                return
            await rest(0.1)

    def _judge(self) -> list[Count]:
        return judge(facts.collect(self._grid, self._database, self._exits))

    # --- display ---

    def _glance(self) -> None:
        """Check what costs nothing, and show it."""
        grid, view = self._grid, self._view
        for manager in grid.managers:
            if manager.wanted and not manager.alive:
                self._exits.append(manager.name)
                manager.wanted = False
        for worker in grid.workers:
            if worker.ended_by_itself and worker.name not in self._exits:
                self._exits.append(worker.name)
        view.elapsed = time.monotonic() - self._begin
        view.faults = self._breaker.struck
        view.managers = {manager.name: manager.state for manager in grid.managers}
        view.services = dict(self._breaker.under_way)
        view.workers = Counter(
            "frozen" if each.frozen else "well" if each.alive else "dead" for each in grid.workers
        )
        view.events = next(
            (manager.log.events()[-_EVENTS:] for manager in grid.managers if manager.state == "active"), ()
        )
        self._screen.show(view)

    def _look(self) -> Deferred[None]:
        """Check what may take long. The next check waits for this one."""
        return deferToThread(self._ask)

    def _ask(self) -> None:
        sender = self._plan.folder / "sender.jsonl"
        if sender.exists():
            self._view.confirmed = sender.read_bytes().count(b'"confirmed"')
        for ask in (self._ask_etcd, self._ask_database):
            _if_it_can(ask)

    def _ask_etcd(self) -> None:
        self._view.resources = {
            each.name: (each.count, LIMITS[each.name]) for each in self._grid.resources()
        }

    def _ask_database(self) -> None:
        connection = psycopg2.connect(
            **self._grid.direct.database, connect_timeout=2, cursor_factory=RealDictCursor
        )
        try:
            with connection, connection.cursor() as cursor:
                history = Identifier(self._database.table("history"))
                cursor.execute(SQL("select count(*) as ended from {}").format(history))
                (found,) = cursor.fetchall()
                self._view.ended = found["ended"]
        finally:
            connection.close()


def _if_it_can(ask: Callable[[], None]) -> None:
    """Query a service that may be broken just now; then nothing new is shown."""
    try:
        ask()
    except (OSError, psycopg2.Error, ValueError, AssertionError):
        return
