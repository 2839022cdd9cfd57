"""The life of an attempt: booked, dispatched, working, and how it ends. Each step is one method here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf

from tefmanager import loglines
from tefmanager.core.backlog import Backlog, Memory
from tefmanager.core.effects import Acknowledge, Bury, Publish, Release, Reserve
from tefmanager.core.entities import Attempt, Phase, Task, Worker
from tefmanager.core.heldback import HeldBack, HoldBacks
from tefmanager.core.ledger import Ledger
from tefmanager.core.pool import Pool
from tefmanager.core.suites import Suites
from tefmanager.core.timers import Timers
from tefmanager.core.values import AttemptEnd, Moment, Outcome, TaskState
from tefmanager.core.workforce import Workforce

_HEARTBEATS = 3
"""How many heartbeats a worker that is missing has left out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the operator sets. Times are seconds.

    Attributes:
        missing_interval: silence after which a worker is missing.
        time_limit: for tasks that name none.
        dispatch_timeout: from dispatch to *working*.
        release_grace: how long a worker that says it is free may still say otherwise.
        patience: how long a task waits for resources before it claims them.
        max_attempts: attempts after which a task is dead; 0 is never.
        hold_unknown: a resource without an entry in Etcd holds a task back.
        forget_after: how long a missing worker is remembered.
        memory: how much of the backlog is in memory; no operator sets it.
    """

    missing_interval: float = 90.0
    time_limit: float = 600.0
    dispatch_timeout: float = 30.0
    release_grace: float = 2.0
    patience: float = 60.0
    max_attempts: int = 5
    hold_unknown: bool = False
    forget_after: float = 7 * 86400.0
    memory: Memory = field(default_factory=Memory)


class Attempts:
    """Begins and ends attempts, and keeps tasks, workers, references and rows in step with them.

    Args:
        number: gives out numbers for attempts.
    """

    def __init__(
        self,
        limits: Limits,
        ledger: Ledger,
        backlog: Backlog,
        workforce: Workforce,
        pool: Pool,
        timers: Timers,
        number: Callable[[], int],
    ) -> None:
        self._limits = limits
        self._ledger = ledger
        self._backlog = backlog
        self._workforce = workforce
        self._pool = pool
        self._timers = timers
        self._number = number
        self.suites = Suites()
        self.in_flight: dict[int, Attempt] = {}
        self.unconfirmed: dict[int, Attempt] = {}
        self.reserving: dict[int, Attempt] = {}
        self.releasing: dict[int, tuple[str, ...]] = {}
        self.owed: dict[int, Attempt] = {}
        self.dying: dict[int, Task] = {}
        self.held_back: HoldBacks[Task] = HoldBacks(timers, self._try_again)

    def limit(self, limits: Limits) -> None:
        """Go by other limits from now on, for what is under way as well."""
        self._limits = limits
        for attempt in self.in_flight.values():
            self.watch(attempt)

    # --- booked: in memory, while Etcd is asked ---

    def book(self, task: Task, worker: Worker, now: Moment) -> None:
        """Choose a worker for a waiting task; dispatch at once if it needs no resources."""
        self._backlog.remove(task)
        attempt = Attempt(self._number(), task, worker, wants=task.spec.resources)
        task.attempt = worker.booked = attempt
        self._workforce.changed(worker, now)
        if attempt.wants:
            self.reserve(attempt, now)
        else:
            self.dispatch(attempt, now)

    def reserve(self, attempt: Attempt, now: Moment) -> None:
        """Ask Etcd for the references that an attempt is to hold."""
        self._pool.book(attempt, now)
        self.reserving[attempt.id] = attempt
        self._ledger.reserve(Reserve(attempt.id, attempt.wants))

    def answered(self, attempt_id: int) -> Attempt | None:
        """Etcd has answered for an attempt, or will not; return it, or None where nobody asked."""
        attempt = self.reserving.pop(attempt_id, None)
        if attempt is not None:
            self._pool.unbook(attempt)
        return attempt

    def unbook(self, attempt: Attempt, now: Moment) -> None:
        """Let a task that was booked wait again, in its old place. What Etcd grants goes back."""
        self._unbook(attempt, now)
        self._backlog.add(attempt.task)

    def _unbook(self, attempt: Attempt, now: Moment) -> None:
        attempt.live = False
        attempt.task.attempt = attempt.worker.booked = None
        self.give_back(attempt)
        self._workforce.changed(attempt.worker, now)

    # --- held back ---

    def hold_back(self, task: Task, reason: str, now: Moment) -> None:
        """Keep one task from being tried for a while, for a reason of its own; all others go on.

        It waits, or is about to. Its reason is logged once, and shown as long as it lasts. What is wrong
        with its resources is wrong for all who need them: see `Pool.hold_back`.
        """
        if self.held_back.hold(task, reason, now):
            self._ledger.log(loglines.TASK_CANNOT_RUN(task.spec.task_type, task.spec.guid, reason))
        task.aside = True
        self._pool.settle(task)
        if task.lane is not None:
            task.lane.move(task)

    def _try_again(self, task: Task, _: HeldBack, __: Moment) -> bool:
        task.aside = False
        if task.lane is not None:
            task.lane.move(task)
            task.lane.road.yard.offer(task.lane)
        return True

    # --- dispatched and working: in the database ---

    def dispatch(self, attempt: Attempt, now: Moment) -> None:
        """Send a task, its resources being reserved."""
        task, worker = attempt.task, attempt.worker
        worker.booked = None
        task.attempts += 1
        attempt.number = task.attempts
        self._begin(attempt, Phase.DISPATCHED, now)
        self.unconfirmed[attempt.id] = attempt
        self._ledger.body(task)
        self._ledger.do(Publish(attempt.id, task.spec.id, worker.exchange_name))

    def _begin(self, attempt: Attempt, phase: Phase, now: Moment) -> None:
        task, worker = attempt.task, attempt.worker
        attempt.dispatched = now.wall
        task.attempt = attempt
        worker.queue.append(attempt)
        self.in_flight[attempt.id] = attempt
        self._pool.settle(task)
        self._enter(attempt, phase, now)

    def _enter(self, attempt: Attempt, phase: Phase, now: Moment) -> None:
        attempt.phase = phase
        attempt.since = now.monotonic
        if phase is Phase.WORKING:
            attempt.started = now.wall
        attempt.task.state = TaskState(phase.value)
        self._ledger.task(attempt.task)
        self._workforce.changed(attempt.worker, now)
        self.watch(attempt)

    def settle_doubt(self, attempt: Attempt) -> None:
        """It is clear again what becomes of an attempt."""
        attempt.in_doubt = False
        for receipt in attempt.receipts:
            self._ledger.do(Acknowledge(receipt))
        attempt.receipts.clear()

    def start(self, attempt: Attempt, now: Moment) -> None:
        """Its worker says *working*."""
        attempt.first_hand = True
        self._enter(attempt, Phase.WORKING, now)
        self._log(loglines.TASK_WORKING, attempt)

    def take_over(self, task: Task, worker: Worker, now: Moment) -> None:
        """A worker evidently runs a task that waits: it is its again, and its references are owed."""
        if task.attempt is not None:
            self.unbook(task.attempt, now)
        self._backlog.remove(task)
        attempt = Attempt(self._number(), task, worker, wants=task.spec.resources)
        task.attempts += 1
        attempt.number = task.attempts
        self._begin(attempt, Phase.WORKING, now)
        if attempt.wants:
            self.owed[attempt.id] = attempt
        self._log(loglines.TASK_REGAINED, attempt)

    def restore(self, attempt: Attempt) -> None:
        """Take up an attempt that was in flight when the last reign ended."""
        self.in_flight[attempt.id] = attempt
        attempt.worker.queue.append(attempt)
        attempt.reserved = bool(attempt.task.spec.resources)
        self.watch(attempt)

    # --- how it ends ---

    def take_back(
        self, attempt: Attempt, end: AttemptEnd, now: Moment, *, unresolved: bool = False
    ) -> None:
        """Take a task from its worker; it waits again, in its old place, unless it is out of attempts.

        ``unresolved``: the worker may still have it, and still complete it.
        """
        task = attempt.task
        self._end(attempt, end, now, unresolved=unresolved)
        task.attempt = None
        task.state = TaskState.WAITING
        if end is AttemptEnd.UNDELIVERED:
            task.attempts -= 1  # nobody had it: a broken worker must not bring tasks to the dead queue
        self._log(loglines.TASK_RELEASED, attempt, end)
        if 0 < self._limits.max_attempts <= task.attempts:
            self._die(task)
        else:
            self._backlog.add(task)
        self._ledger.task(task)

    def _die(self, task: Task) -> None:
        task.state = TaskState.DYING
        self.bury(task)

    def bury(self, task: Task) -> None:
        """Send a task to the queue of the dead; it moves to history when that has confirmed it."""
        self.dying[task.spec.id] = task
        self._pool.settle(task)
        self._ledger.body(task)
        often = "once" if task.attempts == 1 else f"{task.attempts} times"
        self._ledger.do(Bury(task.spec.id, task.spec.guid, f"given back {often}"))

    def complete(self, task: Task, by: Attempt, now: Moment) -> None:
        """A task is done, wherever it is; ``by`` is the attempt that did it, live or not."""
        live = task.attempt
        if live is None or live.phase is Phase.RESERVING:
            self.withdraw(task, now)
        elif live is by:
            self._end(live, AttemptEnd.COMPLETED, now, unresolved=False)
        else:
            live.worker.busy = live.worker.busy or live.phase is Phase.WORKING
            self._end(live, AttemptEnd.SUPERSEDED, now, unresolved=True)
            self._workforce.changed(live.worker, now)
        self._log(loglines.TASK_COMPLETED, by)
        self.finish(task, Outcome.COMPLETED, now)

    def withdraw(self, task: Task, now: Moment) -> None:
        """Take a task that waits, or is booked, or dying, out of wherever it is."""
        if task.attempt is not None:
            self._unbook(task.attempt, now)
        elif task.lane is not None:
            self._backlog.remove(task)

    def finish(self, task: Task, outcome: Outcome, now: Moment) -> None:
        """Move a task to history."""
        task.attempt = None
        self.held_back.drop(task)
        self.dying.pop(task.spec.id, None)
        self._pool.settle(task)
        del self._backlog.by_guid[task.spec.guid]
        self._ledger.finished(task, outcome, now)
        self.suites.ended(task.spec.suite, outcome)

    def resolve(self, attempt: Attempt) -> None:
        """A worker can have a task no longer that had been taken from it."""
        attempt.worker.queue.remove(attempt)
        self._ledger.resolved(attempt.id)

    def _end(self, attempt: Attempt, end: AttemptEnd, now: Moment, *, unresolved: bool) -> None:
        attempt.live = False
        self.settle_doubt(attempt)
        del self.in_flight[attempt.id]
        self.owed.pop(attempt.id, None)
        if unresolved:
            attempt.since = now.monotonic
        else:
            attempt.worker.queue.remove(attempt)
        self._ledger.ended(attempt.ended(end, now.wall, unresolved=unresolved))
        self.give_back(attempt)

    def give_back(self, attempt: Attempt) -> None:
        """Release what an attempt holds. What is still being asked for is released when it is granted."""
        if attempt.reserved:
            attempt.reserved = False
            self.release(attempt.id, attempt.task.spec.resources)

    def release(self, attempt_id: int, resources: tuple[str, ...]) -> None:
        """Release references by the number of their attempt."""
        self.releasing[attempt_id] = resources
        self._ledger.release(Release(attempt_id, resources))

    # --- time ---

    def watch(self, attempt: Attempt) -> None:
        """Look at an attempt when its time is up."""
        due = self._due(attempt)
        if due < attempt.watched:
            attempt.watched = due
            self._timers.at(due, partial(self._look, attempt))

    def _due(self, attempt: Attempt) -> float:
        if not attempt.live:
            return inf if attempt.seen_free is None else attempt.seen_free + self._limits.release_grace
        if attempt.phase is Phase.DISPATCHED:
            return attempt.since + self._limits.dispatch_timeout
        limit = attempt.task.spec.time_limit
        due = attempt.since + (self._limits.time_limit if limit is None else limit)
        return due if attempt.quiet is None else min(due, attempt.quiet + self._limits.release_grace)

    def _look(self, attempt: Attempt, now: Moment) -> None:
        attempt.watched = inf
        if not attempt.live:
            self._settle(attempt, now)
        elif now.monotonic < self._due(attempt):
            self.watch(attempt)
        elif attempt.phase is Phase.DISPATCHED:
            self._never_began(attempt, now)
        elif attempt.quiet is not None and now.monotonic >= attempt.quiet + self._limits.release_grace:
            self._fell_silent(attempt, now)
        else:
            self._stall(attempt, now)

    def seen_free(self, worker: Worker, now: Moment) -> None:
        """A worker says that it is free though something may stand in its queue.

        If it has had time enough to begin that, it does not have it; unless it has just been started, and
        is about to look. What was sent to it once more it would begin at once.
        """
        for attempt in worker.queue:
            if worker.busy:
                attempt.since = now.monotonic
            patience = 0.0 if attempt.given_up else self._limits.dispatch_timeout
            if attempt.seen_free is None and now.monotonic >= attempt.since + patience:
                attempt.seen_free = now.monotonic
                self.watch(attempt)

    def _settle(self, attempt: Attempt, now: Moment) -> None:
        """A worker that was seen free after long enough, and has not begun, does not have it."""
        worker = attempt.worker
        if attempt not in worker.queue or attempt.phase is Phase.WORKING:
            return
        if worker.doubtful:
            self.resolve(attempt)
            self._workforce.changed(worker, now)
        else:
            attempt.seen_free = None

    def _never_began(self, attempt: Attempt, now: Moment) -> None:
        worker = attempt.worker
        silence = now.monotonic - worker.heard
        silent = worker.heard <= attempt.since and silence >= self._limits.missing_interval / _HEARTBEATS
        self._log(loglines.DISPATCH_TIMEOUT, attempt)
        self.take_back(attempt, AttemptEnd.DISPATCH_TIMEOUT, now, unresolved=True)
        if silent:
            worker.missing = True
            self._ledger.log(loglines.WORKER_MISSING(worker.name, worker.worker_type))
        self._workforce.last(worker, now)

    def _fell_silent(self, attempt: Attempt, now: Moment) -> None:
        worker = attempt.worker
        worker.busy = False
        if attempt.in_doubt:
            self.complete(attempt.task, attempt, now)
        else:
            # What it said may have crossed its *working*: then it still has the task.
            self.take_back(attempt, AttemptEnd.GIVEN_UP, now, unresolved=True)
        self._workforce.changed(worker, now)

    def _stall(self, attempt: Attempt, now: Moment) -> None:
        task, worker = attempt.task, attempt.worker
        task.avoid |= {worker.name}
        worker.stalled = True
        line = loglines.WORKER_STALLED(worker.name, worker.worker_type, task.spec.guid)
        self._ledger.log(line, task.spec)
        self.take_back(attempt, AttemptEnd.STALLED, now, unresolved=True)
        self._workforce.changed(worker, now)

    def _log(self, event: loglines.Event, attempt: Attempt, *more: object) -> None:
        spec = attempt.task.spec
        self._ledger.log(event(spec.task_type, spec.guid, attempt.worker.name, attempt.id, *more), spec)
