"""The life of an attempt: booked, dispatched, working, and how it ends. Each step is one method here."""

from __future__ import annotations

from collections.abc import Callable

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.books.suites import Suites
from tefmanager.core.model.dead_copies import Copy, given_back
from tefmanager.core.model.effects import DeadLetter, Publish, Release, Reserve
from tefmanager.core.model.endings import AttemptEnd, Outcome
from tefmanager.core.model.entities import Attempt, Phase, Task, Worker
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.reservations import References
from tefmanager.core.model.said import Said
from tefmanager.core.model.timers import Timers
from tefmanager.core.model.values import Moment, TaskState
from tefmanager.core.running.deadlines import Deadlines
from tefmanager.core.running.workers import Workers
from tefmanager.core.sharing.heldback import HeldBack, HoldBacks
from tefmanager.core.sharing.pool import Pool
from tefmanager.core.waiting.backlog import Backlog
from tefmanager.protocol import catalogue
from tefmanager.protocol.verdicts import NO_VERDICT


class Attempts:
    """Begins and ends attempts, and keeps tasks, workers, references and rows consistent with them.

    Args:
        number: returns a new number for an attempt.
    """

    def __init__(
        self,
        limits: Limits,
        ledger: Ledger,
        backlog: Backlog,
        workers: Workers,
        pool: Pool,
        timers: Timers,
        number: Callable[[], int],
    ) -> None:
        self.limits = limits
        self._ledger = ledger
        self._backlog = backlog
        self._workers = workers
        self._pool = pool
        self._number = number
        self.deadlines = Deadlines(ledger, workers, timers, self)
        self.suites = Suites()
        self.in_flight: dict[int, Attempt] = {}
        self.unconfirmed: dict[int, Attempt] = {}
        self.reserving: dict[int, Attempt] = {}
        self.releasing: dict[int, tuple[str, ...]] = {}
        self.owed: dict[int, Attempt] = {}
        self.dead_lettering: dict[int, Task] = {}
        self.begun: dict[Worker, None] = {}
        self.shunning: dict[Task, None] = {}
        self.held_back: HoldBacks[Task] = HoldBacks(timers, self._try_again)

    def limit(self, limits: Limits) -> None:
        """Apply other limits from now on, also to attempts under way."""
        self.limits = limits
        for attempt in self.in_flight.values():
            self.deadlines.arm(attempt)

    # --- booked: in memory, while Etcd is asked ---

    def book(self, task: Task, worker: Worker, now: Moment) -> None:
        """Choose a worker for a waiting task; dispatch at once if it needs no resources."""
        self._backlog.remove(task)
        attempt = Attempt(self._number(), task, worker, references=References(task.spec.resources))
        task.attempt = worker.booked = attempt
        self._workers.changed(worker, now)
        if attempt.references.lacks:
            self.reserve(attempt, now)
        else:
            self.dispatch(attempt, now)

    def reserve(self, attempt: Attempt, now: Moment) -> None:
        """Ask Etcd for the references that an attempt needs."""
        self._pool.book(attempt, now)
        self.reserving[attempt.id] = attempt
        self._ledger.reserve(Reserve(attempt.id, attempt.references.lacks))

    def answered(self, attempt_id: int) -> Attempt | None:
        """Note that Etcd has answered for an attempt, or never will; return it, or None if unknown."""
        attempt = self.reserving.pop(attempt_id, None)
        if attempt is not None:
            self._pool.unbook(attempt)
        return attempt

    def unbook(self, attempt: Attempt, now: Moment) -> None:
        """Let a booked task wait again, in its old place. References that are granted later go back."""
        self._unbook(attempt, now)
        self._backlog.add(attempt.task)

    def _unbook(self, attempt: Attempt, now: Moment) -> None:
        attempt.live = False
        attempt.task.attempt = attempt.worker.booked = None
        self.give_back(attempt)
        self._workers.changed(attempt.worker, now)

    # --- held back ---

    def hold_back(self, task: Task, reason: str, now: Moment) -> None:
        """Keep one task from being tried for a while, for a reason of its own; all others continue.

        The task waits, or is about to. The reason is logged once, and shown as long as it lasts. A fault of
        its resources concerns all tasks that need them: see `Pool.hold_back`.
        """
        if self.held_back.hold(task, reason, now):
            self._ledger.log(catalogue.TASK_CANNOT_RUN(task.spec.task_type, task.spec.guid, reason))
        task.aside = True
        self._pool.settle(task)
        if task.lane is not None:
            task.lane.move(task)

    def _try_again(self, task: Task, _: HeldBack, __: Moment) -> bool:
        task.aside = False
        if task.lane is not None:
            task.lane.advance(task)
        return True

    # --- dispatched and working: in the database ---

    def dispatch(self, attempt: Attempt, now: Moment) -> None:
        """Send a task whose resources are reserved to its worker."""
        task, worker = attempt.task, attempt.worker
        worker.booked = None
        task.attempts += 1
        attempt.number = task.attempts
        self._begin(attempt, Phase.DISPATCHED, now)
        self.unconfirmed[attempt.id] = attempt
        self._ledger.body(task)
        limit = self.limits.time_limit_of(task.spec)
        self._ledger.do(Publish(attempt.id, task.spec.id, worker.exchange_name, limit))

    def _begin(self, attempt: Attempt, phase: Phase, now: Moment) -> None:
        task, worker = attempt.task, attempt.worker
        attempt.dispatched = now.wall
        task.attempt = attempt
        task.tried = True
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
        self.begun[attempt.worker] = None
        self._ledger.task(attempt.task)
        self._workers.changed(attempt.worker, now)
        self.deadlines.arm(attempt)

    def settle_doubt(self, attempt: Attempt) -> None:
        """Note that an attempt is no longer in doubt."""
        if attempt.said.doubt is not None:
            self.hear(attempt, attempt.said.settled())

    def hear(self, attempt: Attempt, said: Said) -> None:
        """Record what a worker said. What is in doubt is written to the row, so that a restart knows it."""
        before, attempt.said = attempt.said, said
        if (said.doubt, said.doubtful) != (before.doubt, before.doubtful):
            self._ledger.task(attempt.task)

    def start(self, attempt: Attempt, progress: str | None, now: Moment) -> None:
        """Record that its worker says *working*."""
        attempt.confirmed = True
        attempt.said = attempt.said.begun(progress)
        self._enter(attempt, Phase.WORKING, now)
        self.log(catalogue.TASK_WORKING, attempt)

    def sent_only(self, attempt: Attempt, now: Moment) -> None:
        """Set an attempt back to dispatched: its worker came back and has to say what it does."""
        attempt.started = None
        attempt.said = attempt.said.came_back()
        self._enter(attempt, Phase.DISPATCHED, now)

    def take_over(self, task: Task, worker: Worker, now: Moment, known_as: int | None = None) -> None:
        """Assign a waiting task to a worker that evidently runs it; its references are owed.

        ``known_as``: number of the attempt in which the task was sent to this worker, or None.
        """
        if task.attempt is not None:
            self.unbook(task.attempt, now)
        self._backlog.remove(task)
        attempt = Attempt(self._number(), task, worker, references=References(task.spec.resources))
        task.attempts += 1
        attempt.number = task.attempts
        attempt.confirmed = True
        attempt.known_as = known_as
        self._begin(attempt, Phase.WORKING, now)
        if attempt.references.lacks:
            self.owe(attempt)
        self.log(catalogue.TASK_REGAINED, attempt)

    def owe(self, attempt: Attempt) -> None:
        """Note that an attempt runs without its references: it gets them before anybody else gets any."""
        self.owed[attempt.id] = attempt
        self._pool.owe(attempt)

    def restore(self, attempt: Attempt) -> None:
        """Restore an attempt that was in flight when the last leadership ended."""
        self.in_flight[attempt.id] = attempt
        attempt.worker.queue.append(attempt)
        attempt.references = References(held=bool(attempt.task.spec.resources))
        self.deadlines.arm(attempt)

    # --- how it ends ---

    def take_back(
        self, attempt: Attempt, end: AttemptEnd, now: Moment, *, unresolved: bool = False
    ) -> None:
        """Take a task from its worker; it waits again, in its old place, unless it is out of attempts.

        ``unresolved``: the worker may still have the task, and still complete it. A dispatch that may not
        have reached the worker does not count as an attempt: a broken queue must not make tasks dead.
        """
        task = attempt.task
        self._end(attempt, end, now, unresolved=unresolved)
        task.attempt = None
        task.state = TaskState.WAITING
        if end is AttemptEnd.UNDELIVERED or not attempt.confirmed:
            task.attempts -= 1
        self.log(catalogue.TASK_RELEASED, attempt, end)
        if 0 < self.limits.max_attempts <= task.attempts:
            self._die(task)
        else:
            self._backlog.add(task)
        self._ledger.task(task)

    def _die(self, task: Task) -> None:
        task.state = TaskState.DEAD_LETTERING
        self.dead_letter(task)

    def dead_letter(self, task: Task, *, again: bool = False) -> None:
        """Send a task's copy to the dead queue; after the queue's answer the task moves to history.

        ``again``: the copy may be there already.
        """
        self.dead_lettering[task.spec.id] = task
        self._pool.settle(task)
        self._ledger.do(DeadLetter(task.spec.id, task.spec.guid, given_back(task.attempts), again=again))

    def end_by_worker(self, attempt: Attempt, now: Moment) -> None:
        """Handle the end of an attempt by its worker: the task is completed, or tried elsewhere."""
        if attempt.said.verdict.retry:
            attempt.confirmed = True  # it had the task, whatever the broker has said so far
            self._shun(attempt.task, attempt.worker)
            self.take_back(attempt, AttemptEnd.ENVIRONMENT, now)
        else:
            self.complete(attempt.task, attempt, now)

    def _shun(self, task: Task, worker: Worker) -> None:
        """Give a task to other workers, as long as there are any."""
        if self._workers.serves(task.spec.task_type, task.avoid | {worker.name}):
            task.avoid |= {worker.name}
            task.shun |= {worker.name}
            self.shunning[task] = None

    def shun_no_more(self) -> None:
        """Allow waiting tasks to go to workers that they shunned, if no others are left."""
        for task in list(self.shunning):
            if not task.shun or self._backlog.by_guid.get(task.spec.guid) is not task:
                del self.shunning[task]
            elif task.lane is not None and not self._workers.serves(task.spec.task_type, task.avoid):
                self._backlog.remove(task)
                task.avoid, task.shun = task.avoid - task.shun, frozenset()
                self._backlog.add(task)
                self._ledger.task(task)

    def complete(self, task: Task, by: Attempt, now: Moment) -> None:
        """Complete a task, wherever it is; ``by`` is the attempt that did it, live or not.

        A task on its way to the dead queue is dead: its copy may be there already, even in the hands of
        others, and nothing could take it back for certain.
        """
        if task.state is TaskState.DEAD_LETTERING:
            reason = "the task is on its way to the dead queue"
            self._ledger.log(catalogue.COMPLETION_IGNORED(by.worker.name, task.spec.guid, reason))
            return
        live = task.attempt
        if live is None or live.phase is Phase.RESERVING:
            self.withdraw(task, now)
        elif live is by:
            self._end(live, AttemptEnd.COMPLETED, now, unresolved=False)
        else:
            live.worker.busy = live.worker.busy or live.phase is Phase.WORKING
            self._end(live, AttemptEnd.SUPERSEDED, now, unresolved=True)
        if live is not by and by.id and by.said.verdict != NO_VERDICT:
            self._ledger.judged(by.id, by.said.verdict)
        self.log(catalogue.TASK_COMPLETED, by, *_told(by, now))
        self.finish(task, Outcome.COMPLETED, now, by=by)

    def withdraw(self, task: Task, now: Moment) -> None:
        """Remove a waiting or booked task from wherever it is."""
        if task.attempt is not None:
            self._unbook(task.attempt, now)
        elif task.lane is not None:
            self._backlog.remove(task)

    def finish(
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
        task.attempt = None
        self.held_back.drop(task)
        self.dead_lettering.pop(task.spec.id, None)
        self._pool.settle(task)
        del self._backlog.by_guid[task.spec.guid]
        self._ledger.finished(task, outcome, now, copy, by)
        self.suites.ended(task.spec.suite, outcome if by is None else by.said.verdict.result)

    def resolve(self, attempt: Attempt, now: Moment) -> None:
        """Note that a worker can't have a task any more that was taken from it."""
        attempt.worker.queue.remove(attempt)
        self.deadlines.disarm(attempt)
        self._ledger.resolved(attempt.id)
        self._workers.changed(attempt.worker, now)

    def _end(self, attempt: Attempt, end: AttemptEnd, now: Moment, *, unresolved: bool) -> None:
        attempt.live = False
        self.settle_doubt(attempt)
        del self.in_flight[attempt.id]
        self.owed.pop(attempt.id, None)
        self._pool.owe_no_more(attempt)
        self.deadlines.disarm(attempt)
        if unresolved:
            attempt.since = now.monotonic
        else:
            attempt.worker.queue.remove(attempt)
        self._ledger.ended(attempt.ended(end, now.wall, unresolved=unresolved))
        self._workers.changed(attempt.worker, now)
        self.give_back(attempt)

    def give_back(self, attempt: Attempt) -> None:
        """Release what an attempt holds. What is still being reserved is released when it is granted."""
        if attempt.references.held:
            attempt.references = attempt.references.given_back()
            self.release(attempt.id, attempt.task.spec.resources)

    def release(self, attempt_id: int, resources: tuple[str, ...]) -> None:
        """Release references by the number of their attempt."""
        self.releasing[attempt_id] = resources
        self._ledger.release(Release(attempt_id, resources))

    def log(self, event: catalogue.EventType, attempt: Attempt, *more: object) -> None:
        """Log an event of an attempt."""
        spec = attempt.task.spec
        self._ledger.log(event(spec.task_type, spec.guid, attempt.worker.name, attempt.id, *more), spec)


def _told(by: Attempt, now: Moment) -> tuple[str, float, str | None]:
    """Return what is logged of a completion: the result, seconds since the attempt began, the message."""
    began = by.dispatched if by.started is None else by.started
    seconds = 0.0 if began is None else max(0.0, round(now.wall - began, 3))
    return by.said.verdict.result, seconds, by.said.verdict.message
