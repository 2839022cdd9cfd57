"""Starting is reading: makes the core's memory from the rows, as a leadership begins."""

from __future__ import annotations

from typing import Protocol

from tefmanager.core.books.counters import Numbers
from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.entities import Attempt, Phase, Task, Worker
from tefmanager.core.model.values import (
    AttemptEnd,
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
    """The parts of a core that are made from rows."""

    @property
    def attempts(self) -> Attempts:
        """Takes up what was in flight."""

    @property
    def backlog(self) -> Backlog:
        """Takes in what waits."""

    @property
    def departures(self) -> Departures:
        """Watches the silence of workers."""

    @property
    def ledger(self) -> Ledger:
        """Takes down what changes."""

    @property
    def numbers(self) -> Numbers:
        """Gives out numbers for attempts."""

    @property
    def stops(self) -> Stops:
        """Goes on with stops that were under way."""

    @property
    def workers(self) -> Workers:
        """Takes in the workers."""


def load(core: Parts, snapshot: Snapshot, now: Moment) -> list[Attempt]:
    """Fill a new core and return the attempts whose references must be compared with Etcd's.

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
        if task.state is TaskState.WAITING:
            core.backlog.add(task)
        elif task.state is TaskState.DEAD_LETTERING:
            core.attempts.dead_letter(task, again=True)
        else:
            in_flight.append((task, task_row))
            core.numbers.stay_above(task_row.attempt or 0)
    core.stops.load(snapshot.stops, now)
    for attempt_row in snapshot.unresolved:
        _unresolved(core, attempt_row, now)
    attempts = [_attempt(core, task, task_row, now) for task, task_row in in_flight]
    for worker in core.workers:
        core.workers.changed(worker, now)
        core.departures.watch(worker)
        core.departures.watch_leaving(worker)
    return [attempt for attempt in attempts if attempt.reserved]


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
    )


def _attempt(core: Parts, task: Task, row: TaskRow, now: Moment) -> Attempt:
    """Take up an attempt in flight. Its worker's row is there: it goes no earlier than its task.

    Whether the broker has a dispatch that was not begun, no row says: that would be a write for each task.
    So its worker has a whole dispatch timeout from now on, and if nothing comes of it, it was no attempt.
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
        doubt=row.doubt,
        first_hand=row.doubt is Doubt.STALE,
        quiet=now.monotonic if row.doubt is Doubt.DONE else None,
        confirmed=row.state is TaskState.WORKING,
    )
    if row.doubt is Doubt.LEFT:
        worker.leaving = now.monotonic
    for older in worker.queue:
        if older.task is task and attempt.phase is Phase.WORKING:
            older.phase = Phase.DISPATCHED  # one of the two has begun, the other may still stand there
    task.attempt = attempt
    core.attempts.restore(attempt)
    return attempt


def _unresolved(core: Parts, row: AttemptRow, now: Moment) -> None:
    """Remember what was taken from a worker that may still have it."""
    worker = core.workers.get(row.worker)
    task = core.backlog.by_guid.get(row.guid)
    if worker is None:
        core.ledger.resolved(row.id)
        return
    if task is None or task.spec.id != row.task_id:
        task = _finished(row)
    # It has said that it is free since it began the task: the next time it says so, that counts.
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
        quiet=now.monotonic if said_free or row.end is AttemptEnd.GIVEN_UP else None,
    )
    worker.queue.append(attempt)


def _finished(row: AttemptRow) -> Task:
    """Stand in for a task that is in history: all that matters of it now is its guid."""
    return Task(TaskSpec(row.task_id, row.guid, "", 0.0, (), None, None, 0.0))
