"""Fills the core's memory from the rows when a leadership begins."""

from __future__ import annotations

from typing import Protocol

from tefmanager.core.books.counters import Counters
from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.endings import AttemptEnd
from tefmanager.core.model.entities import Attempt, Phase, Task, Worker
from tefmanager.core.model.said import UNHEARD, Said
from tefmanager.core.model.values import (
    AttemptRow,
    Doubt,
    Moment,
    Snapshot,
    TaskRow,
    TaskSpec,
    TaskState,
    WorkerRow,
    WorkerStatus,
)
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.running.departures import Departures
from tefmanager.core.running.workers import Workers
from tefmanager.core.stops import Stops
from tefmanager.core.waiting.backlog import Backlog


class Parts(Protocol):
    """The parts of a core that are filled from rows."""

    @property
    def attempts(self) -> Attempts:
        """The attempts in flight."""

    @property
    def backlog(self) -> Backlog:
        """The unfinished tasks."""

    @property
    def departures(self) -> Departures:
        """Watches for silent workers."""

    @property
    def ledger(self) -> Ledger:
        """Collects row changes."""

    @property
    def counters(self) -> Counters:
        """Assigns numbers to attempts."""

    @property
    def stops(self) -> Stops:
        """Continues stops that were under way."""

    @property
    def workers(self) -> Workers:
        """The workers."""


def load(core: Parts, snapshot: Snapshot, now: Moment) -> None:
    """Fill a new core.

    The manager heard nobody while it was away, so silence is counted from now.
    """
    core.backlog.paused.update(snapshot.paused_suites)
    for unread in snapshot.unread:
        core.backlog.count_unread(unread)
    for (task_type, suite), count in snapshot.unread_suites.items():
        core.backlog.count_unread_suite(task_type, suite, count)
        core.attempts.suites.came(suite, count)
    for row in snapshot.workers:
        core.workers.restore(_worker(row, now))
    in_flight = []
    for task_row in snapshot.tasks:
        task = _task(task_row)
        core.backlog.by_guid[task.spec.guid] = task
        core.attempts.suites.came(task.spec.suite)
        if task.shun:
            core.attempts.shunning[task] = None
        if task.state is TaskState.WAITING:
            core.backlog.add(task)
        elif task.state is TaskState.DEAD_LETTERING:
            core.attempts.dead_letter(task, again=True)
        else:
            in_flight.append((task, task_row))
            core.counters.stay_above(task_row.attempt or 0)
    core.stops.load(snapshot.stops, now)
    for attempt_row in snapshot.unresolved:
        _unresolved(core, attempt_row, now)
    for task, task_row in in_flight:
        _attempt(core, task, task_row, now)
    for worker in core.workers:
        core.workers.changed(worker, now)
        core.departures.arm(worker)
        core.departures.arm_leaving(worker)


def _worker(row: WorkerRow, now: Moment) -> Worker:
    return Worker(
        row.name,
        row.worker_type,
        row.exchange_name,
        heard=now.monotonic,
        heard_at=row.heard,
        busy=row.status is WorkerStatus.WORKING,
        stalled=row.status is WorkerStatus.STALLED,
        missing=row.status is WorkerStatus.MISSING,
        limits=True,  # it may say so; until it is heard it gets the benefit of the doubt
        shown=row.status,
        since=row.since,
    )


def _task(row: TaskRow) -> Task:
    return Task(
        row.spec,
        row.attempts,
        frozenset(row.avoid),
        row.state,
        short_since=row.short_since,
        tried=row.tried,
        shun=frozenset(row.shun),
    )


def _attempt(core: Parts, task: Task, row: TaskRow, now: Moment) -> None:
    """Restore an attempt in flight. Its worker has a row, which is never removed before its task's.

    No row says whether the broker has the message of an attempt that has not begun: that would cost a write
    per task. So the worker has a whole dispatch timeout from now; if it does not begin, the dispatch does
    not count as an attempt.
    """
    worker = core.workers.get(row.worker or "")
    if worker is None or row.attempt is None:
        raise ValueError(f"task {row.spec.guid!r} is {row.state} without a worker or an attempt")
    attempt = Attempt(
        id=row.attempt,
        task=task,
        worker=worker,
        phase=Phase(row.state.value),
        number=row.attempts,
        dispatched=row.dispatched,
        started=row.started,
        since=now.monotonic,
        said=Said.recorded(row.doubt, row.verdict, now.monotonic),
        confirmed=row.state is TaskState.WORKING,
    )
    if row.doubt is Doubt.LEFT:
        worker.leaving = now.monotonic
    for older in worker.queue:
        if older.task is task and attempt.phase is Phase.WORKING:
            older.phase = Phase.DISPATCHED  # one has begun; the other may still be queued
    task.attempt = attempt
    core.attempts.restore(attempt)


def _unresolved(core: Parts, row: AttemptRow, now: Moment) -> None:
    """Restore an attempt that was taken from a worker which may still have its task."""
    worker = core.workers.get(row.worker)
    task = core.backlog.by_guid.get(row.guid)
    if worker is None:
        core.ledger.resolved(row.id)
        return
    if task is None or task.spec.id != row.task_id:
        task = _finished(row)
    # The worker has said that it is free since it began the task: the next time it does, it counts.
    said_free = row.started is not None and not (worker.busy or worker.stalled or worker.missing)
    attempt = Attempt(
        id=row.id,
        task=task,
        worker=worker,
        phase=Phase.DISPATCHED if row.started is None else Phase.WORKING,
        number=row.number,
        dispatched=row.dispatched,
        started=row.started,
        since=now.monotonic,
        live=False,
        said=UNHEARD.free(now.monotonic) if said_free or row.end is AttemptEnd.GIVEN_UP else UNHEARD,
    )
    worker.queue.append(attempt)


def _finished(row: AttemptRow) -> Task:
    """Return a stand-in for a task that is in history; only its guid matters now."""
    return Task(TaskSpec(row.task_id, row.guid, "", 0.0, (), None, None, 0.0))
