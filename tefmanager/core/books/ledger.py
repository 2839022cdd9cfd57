"""Collects what a turn has changed and wants done, until the turn ends."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from tefmanager.core.model.dead_copies import Copy
from tefmanager.core.model.effects import Effect, Log, Release, Reserve
from tefmanager.core.model.endings import Finish, Outcome
from tefmanager.core.model.entities import Attempt, Task, Worker
from tefmanager.core.model.values import (
    AttemptRow,
    Changes,
    ManagerRow,
    Moment,
    StopRow,
    TaskRow,
    TaskSpec,
    TaskState,
)
from tefmanager.protocol.catalogue import LoggedEvent
from tefmanager.protocol.verdicts import Verdict


class Ledger:
    """Collects row changes and effects. A row that changes several times in a turn is written once."""

    def __init__(self) -> None:
        self._fresh()

    def _fresh(self) -> None:
        self._changes = Changes()
        self._effects: list[Effect] = []
        self._reservations: list[Reserve] = []
        self._releases = False
        self._new: dict[int, tuple[Task, bytes]] = {}
        self._tasks: dict[int, Task] = {}
        self._workers: dict[str, Worker] = {}
        self._left: dict[str, None] = {}
        self._finished: set[str] = set()

    def manager(self, row: ManagerRow) -> None:
        """Note that the manager's own row changed."""
        self._changes.manager = row

    def accepted(self, task: Task, body: bytes, properties: bytes | None = None) -> None:
        """Note a new task; ``properties`` are its message's properties."""
        self._new[task.spec.id] = (task, body)
        if properties is not None:
            self._changes.properties[task.spec.id] = properties

    def copies(self, copies: Mapping[int, Copy | None]) -> None:
        """Note the state of the dead queue's copies of dead tasks."""
        self._changes.copies.update(copies)

    def task(self, task: Task) -> None:
        """Note that a task changed."""
        if task.spec.id not in self._new:
            self._tasks[task.spec.id] = task

    def ended(self, attempt: AttemptRow) -> None:
        """Note that an attempt ended."""
        self._changes.attempts.append(attempt)

    def resolved(self, attempt: int) -> None:
        """Note that the worker can't have this attempt's task any more."""
        self._changes.resolved.append(attempt)

    def judged(self, attempt: int, verdict: Verdict) -> None:
        """Record what a worker has said about an attempt that had ended before."""
        self._changes.judged[attempt] = verdict

    def finished(
        self,
        task: Task,
        outcome: Outcome,
        now: Moment,
        copy: Copy | None = None,
        by: Attempt | None = None,
    ) -> None:
        """Move a task to history.

        ``copy``: the state of its copy in the dead queue. ``by``: the attempt that completed it.
        """
        self._tasks.pop(task.spec.id, None)
        end = Finish(outcome, now.wall, task.attempts, copy)
        self._changes.finished[task.spec.id] = end if by is None else _completed(end, by)
        self._finished.add(task.spec.guid)

    def finished_now(self, guid: str) -> bool:
        """Tell whether a task with that guid was finished in this turn."""
        return guid in self._finished

    def worker(self, worker: Worker) -> None:
        """Note that a worker is new or changed."""
        self._left.pop(worker.name, None)
        self._workers[worker.name] = worker

    def left(self, worker: Worker) -> None:
        """Note that a worker has left."""
        self._workers.pop(worker.name, None)
        self._left[worker.name] = None

    def paused(self, suite: str) -> None:
        """Note that a suite is paused."""
        self._changes.readied = [other for other in self._changes.readied if other != suite]
        self._changes.paused.append(suite)

    def readied(self, suite: str) -> None:
        """Note that a suite is no longer paused."""
        self._changes.paused = [other for other in self._changes.paused if other != suite]
        self._changes.readied.append(suite)

    def stop(self, row: StopRow) -> None:
        """Note that a suite is being stopped, or is stopped."""
        self._changes.stops[row.suite] = row

    def stop_forgotten(self, suite: str) -> None:
        """Remove the row of a stopped suite."""
        self._changes.stops.pop(suite, None)
        self._changes.stops_forgotten.append(suite)

    def body(self, task: Task) -> None:
        """Ask for a task's message, unless it came in this turn."""
        if task.spec.id not in self._new:
            self._changes.bodies.append(task.spec.id)

    def do(self, effect: Effect) -> None:
        """Add an effect; effects are carried out in this order after the commit."""
        self._effects.append(effect)

    def release(self, effect: Release) -> None:
        """Give references back after the commit."""
        self._releases = True
        self._effects.append(effect)

    def reserve(self, effect: Reserve) -> None:
        """Request references, after the commit or, with `reserve_early`, before it."""
        self._reservations.append(effect)

    def reserve_early(self, numbered: int) -> list[Reserve]:
        """Return the requests that may be made before the commit: those of attempts below this number.

        There are none if the turn also releases references: one transaction for both costs Etcd half as
        much as two.
        """
        if self._releases or not self._reservations:
            return []
        early = [each for each in self._reservations if each.attempt < numbered]
        self._reservations = [each for each in self._reservations if each.attempt >= numbered]
        return early

    def log(self, line: LoggedEvent, about: TaskSpec | None = None) -> None:
        """Log a line after the commit; ``about`` is the task that it concerns."""
        self._effects.append(Log(line, about))

    def close(self) -> tuple[Changes, list[Effect]]:
        """Return the turn's changes and effects, and begin the next turn."""
        changes, effects = self._changes, [*self._effects, *self._reservations]
        changes.accepted = [(self._first_row(task), body) for task, body in self._new.values()]
        changes.tasks = {number: task.row() for number, task in self._tasks.items()}
        changes.workers = {name: worker.row() for name, worker in self._workers.items()}
        changes.left = list(self._left)
        self._fresh()
        return changes, effects

    def _first_row(self, task: Task) -> TaskRow:
        """Return a new task's row. A task that finished in the same turn is written as waiting first."""
        row = task.row()
        finished = task.spec.id in self._changes.finished
        return replace(row, state=TaskState.WAITING, attempt=None, worker=None) if finished else row


def _completed(end: Finish, by: Attempt) -> Finish:
    """Add to a task's end what its worker said about it, and which attempt completed it."""
    said = by.said.verdict
    return end._replace(
        result=said.result, message=said.message, attempt=by.id or None, worker=by.worker.name
    )
