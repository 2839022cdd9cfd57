"""Stops suites: step by step, across restarts, and once for each command."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.entities import Task
from tefmanager.core.model.timers import Timers
from tefmanager.core.model.values import Moment, StopRow
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.waiting.backlog import Backlog
from tefmanager.core.waiting.sweeps import STEP
from tefmanager.protocol import catalogue

KEPT = 300.0
"""Seconds after which a command can't be redelivered any more, if its channel still stands."""

REMEMBERED = 1000
"""How many stopped suites are remembered: the last ones."""


@dataclass(slots=True, eq=False)
class _Stop:
    """A suite that is being stopped, or was stopped.

    Attributes:
        row: as the database has it.
        repeats: how many of its commands may still be redelivered on this channel.
        until: monotonic time after which none of them can be redelivered.
    """

    row: StopRow
    repeats: int
    until: float


class Stops:
    """Stops suites. A command applies to the tasks that wait when it is first handled, not to later ones.

    The turn that handles the command writes down the last task that it applies to. So a restart continues
    the stop, and a redelivered command whose acknowledgement was lost is recognized.
    """

    def __init__(self, ledger: Ledger, backlog: Backlog, timers: Timers, attempts: Attempts) -> None:
        self._ledger = ledger
        self._backlog = backlog
        self._timers = timers
        self._attempts = attempts
        self._stops: dict[str, _Stop] = {}
        self._tidying = False

    def load(self, rows: tuple[StopRow, ...], now: Moment) -> None:
        """Continue the stops of the last leadership."""
        for row in rows:
            self._stops[row.suite] = _Stop(row, row.commands, now.monotonic + KEPT)
            if not row.over:
                self._backlog.sweep(row.suite, row.below, row.spared)
        self._tidy_later(now)

    def command(self, suite: str, below: int, now: Moment, *, redelivered: bool) -> None:
        """Begin to stop the waiting tasks of a suite with ids less than ``below``."""
        known = self._stops.pop(suite, None)
        if known is not None:
            self._stops[suite] = known
            if redelivered and known.repeats:
                known.repeats -= 1  # this command was handled; its acknowledgement was lost
                return
        in_flight = [attempt.task.spec for attempt in self._attempts.in_flight.values()]
        spared = tuple(spec.id for spec in in_flight if spec.suite == suite)
        before = None if known is None or known.row.over else known.row
        commands = 1 if known is None else known.row.commands + 1
        row = StopRow(suite, below, spared, commands, 0 if before is None else before.stopped)
        repeats = 0 if known is None else known.repeats
        stop = self._stops[suite] = _Stop(row, repeats, now.monotonic + KEPT)
        self._write(stop)
        self._backlog.sweep(suite, below, spared)
        self._tidy_later(now)
        self._bound()

    def step(self, now: Moment) -> None:
        """Stop the next tasks of the suites in turn."""
        room = STEP
        for suite in list(self._backlog.sweeps):
            if room <= 0:
                return
            room -= self._step(suite, room, now)

    def _step(self, suite: str, room: int, now: Moment) -> int:
        sweep = self._backlog.sweeps.pop(suite)
        self._backlog.sweeps[suite] = sweep  # so that the other suites are next
        tasks, stop = sweep.take(room), self._stops[suite]
        for task in tasks:
            self._take(stop, task, now)
        if sweep.over:
            self._write(stop, over=True)
            self._backlog.swept(suite)
            self._ledger.log(catalogue.SUITE_STOPPED(suite, stop.row.stopped))
        return len(tasks)

    def stop_now(self, guid: str, now: Moment) -> None:
        """Stop this task at once if it is still to be stopped: a new task with its guid has come."""
        task = self._backlog.by_guid.get(guid)
        if task is not None and self._backlog.sweeping(task):
            self._take(self._stops[task.spec.suite or ""], task, now)

    def _take(self, stop: _Stop, task: Task, now: Moment) -> None:
        if task.lane is None:
            return  # completed, or taken over by a worker that evidently runs it
        spec = task.spec
        self._backlog.remove(task)
        self._ledger.log(catalogue.TASK_STOPPED(spec.task_type, spec.guid, stop.row.suite), spec)
        self._attempts.finish(task, Outcome.STOPPED, now)
        self._write(stop, stopped=stop.row.stopped + 1)

    def _write(self, stop: _Stop, **changes: int) -> None:
        stop.row = replace(stop.row, **changes)
        self._ledger.stop(stop.row)

    # --- which commands may come again ---

    def deliveries_resumed(self, now: Moment) -> None:
        """Note a new channel: RabbitMQ redelivers on it what was not acknowledged on the last one."""
        for stop in self._stops.values():
            stop.repeats = stop.row.commands
            stop.until = now.monotonic + KEPT

    def _bound(self) -> None:
        if len(self._stops) > REMEMBERED:
            over = (suite for suite, stop in self._stops.items() if stop.row.over)
            if (oldest := next(over, None)) is not None:
                self._forget(oldest)

    def _forget(self, suite: str) -> None:
        del self._stops[suite]
        self._ledger.stop_forgotten(suite)

    def _tidy_later(self, now: Moment) -> None:
        if self._stops and not self._tidying:
            self._tidying = True
            self._timers.at(now.monotonic + KEPT, self._tidy)

    def _tidy(self, now: Moment) -> None:
        self._tidying = False
        gone = [
            suite for suite, stop in self._stops.items() if stop.row.over and stop.until <= now.monotonic
        ]
        for suite in gone:
            self._forget(suite)
        self._tidy_later(now)
