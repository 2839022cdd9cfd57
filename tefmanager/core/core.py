"""The core: takes events one by one, and decides what to write and what to do.

It reads no clock and does no I/O; the same inputs give the same outputs. `Core.apply` and `Core.plan`
change the state in memory and collect row changes and effects; `Core.close` returns these at the end of a
turn. If the changes cannot be committed, this core is thrown away and a new one is loaded from the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tefmanager.core.books.calendar import Calendar
from tefmanager.core.books.counters import Counters
from tefmanager.core.books.ledger import Ledger
from tefmanager.core.grants import Grants
from tefmanager.core.intake import Intake
from tefmanager.core.loading import load
from tefmanager.core.model import events
from tefmanager.core.model.dead_copies import Copy
from tefmanager.core.model.effects import DeadLetter, Effect, KeepCopies, Reserve
from tefmanager.core.model.endings import Outcome, SuiteEnds
from tefmanager.core.model.entities import Task
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.timers import Timers, next_minute
from tefmanager.core.model.values import Changes, Moment, Snapshot
from tefmanager.core.planner import Planner
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.running.departures import Departures
from tefmanager.core.running.lookout import Lookout
from tefmanager.core.running.reports import Reports
from tefmanager.core.running.workers import Workers
from tefmanager.core.sharing.pool import Pool
from tefmanager.core.sharing.resource_faults import ResourceFaults
from tefmanager.core.stops import Stops
from tefmanager.core.waiting.backlog import Backlog
from tefmanager.protocol import catalogue
from tefmanager.protocol.messages import ManagerState


class Core:
    """One leadership's memory: all waiting tasks, all workers, and the changes of the turn under way.

    Args:
        limits: the operator's settings.
        snapshot: the rows as the leadership begins.
        now: when the leadership begins. Every timeout is counted from here.

    Attributes:
        began: unix time at which the leadership began.
        calendar: tells which history is old.
    """

    def __init__(self, limits: Limits, snapshot: Snapshot, now: Moment) -> None:
        self.began = now.wall
        self.calendar = Calendar(snapshot.manager.calendar, now)
        self.ledger = Ledger()
        self.backlog = Backlog(limits.memory, self._pinned)
        self.workers = Workers(self.ledger)
        self.timers = Timers()
        self.counters = Counters(snapshot.manager, self.ledger)
        self._date(now)
        self.pool = Pool(
            hold_unknown=limits.hold_unknown,
            runnable=self._runnable,
            free=self.workers.free,
            wake=self.backlog.wake,
            timers=self.timers,
            wanted=self._wanted,
        )
        parts = (self.ledger, self.backlog, self.workers)
        self.attempts = Attempts(limits, *parts, self.pool, self.timers, self.counters.attempt)
        self.planner = Planner(limits.patience, *parts, self.pool, self.timers, self.attempts)
        self.departures = Departures(limits, self.ledger, self.workers, self.timers, self.attempts)
        self.lookout = Lookout(
            self.ledger, self.workers, self.pool, self.timers, self.attempts, self.departures
        )
        self.reports = Reports(*parts, self.attempts, self.departures)
        self.stops = Stops(*parts[:2], self.timers, self.attempts)
        self.intake = Intake(*parts, self.pool, self.attempts, self.stops, self.counters)
        self._draining = False
        faults = ResourceFaults(self.ledger, self.timers, self.pool)
        sharing = (self.ledger, self.backlog, self.pool, self.attempts, self.counters)
        checks = (faults, self.intake.blockers.resembling, self._may_dispatch)
        self.grants = Grants(*sharing, *checks)
        load(self, snapshot, now)
        self._handlers: dict[type, Callable[[Any, Moment], None]] = {
            events.TaskSubmitted: self.intake.submitted,
            events.Commanded: self.intake.commanded,
            events.WorkerReported: self.reports.handle,
            events.ReservationGranted: self.grants.granted,
            events.ReservationRefused: self.grants.refused,
            events.ReservationImpossible: self.grants.impossible,
            events.ReservationUnknown: self.grants.unknown,
            events.ReservationReleased: self.grants.released,
            events.DispatchConfirmed: self._confirmed,
            events.DispatchFailed: self._failed,
            events.DispatchImpossible: self._unsendable,
            events.DispatchUncertain: self._uncertain,
            events.Looked: self.lookout.looked,
            events.DeadLettered: self._dead_lettered,
            events.CopiesKnown: self._copies_known,
            events.CopiesWanted: self._copies_wanted,
            events.ResourcesSeen: self.grants.seen,
            events.ResourcesRead: self.grants.read,
            events.ResourcesReplaced: self.grants.replaced,
            events.ResourcesLost: self.grants.lost,
            events.DeliveriesResumed: self._deliveries_resumed,
            events.Pass: self._pass,
            events.LimitsChanged: self._limits_changed,
        }
        self.timers.at(next_minute(now), self._minute)

    @property
    def state(self) -> ManagerState:
        """The manager's state."""
        return self.counters.state

    def apply(self, event: events.Event, now: Moment) -> None:
        """Take in one event."""
        self._handlers[type(event)](event, now)

    def advance(self, now: Moment) -> None:
        """Do what is due by ``now.monotonic``; all messages sent before that time have been heard."""
        self.stops.step(now)
        self.timers.advance(now)

    def plan(self, now: Moment) -> None:
        """Give tasks to free workers."""
        if self._draining:
            return
        if self.pool.ready:
            self.planner.pay_debts(now)
        if self.state is ManagerState.RUNNING:
            self.planner.plan(now)
        self.lookout.plan(now)

    @property
    def suites_over(self) -> Sequence[str]:
        """The suites whose last task ended in this turn; the database has their earlier tasks."""
        return self.attempts.suites.over

    def conclude(self, ends: SuiteEnds) -> None:
        """Log the suites that have ended. ``ends``: the outcomes of their tasks from before this turn.

        Called after `plan` in each turn that has ended a task.
        """
        for suite, counts in self.attempts.suites.conclude(ends):
            self.ledger.log(catalogue.SUITE_FINISHED(suite, *counts))

    def drain(self) -> None:
        """Dispatch nothing more: the manager is about to stop."""
        self._draining = True

    def reserve_early(self) -> list[Reserve]:
        """Return the reservations that may be requested before the turn is committed.

        They are not returned again by `close`. If the commit fails, the references belong to no attempt,
        and the next leadership gives them back.
        """
        return self.ledger.reserve_early(self.counters.committed)

    def committed(self, changes: Changes) -> None:
        """Note that a turn's changes are committed."""
        if changes.manager is not None:
            self.counters.committed = changes.manager.attempt_ids

    def close(self) -> tuple[Changes, list[Effect]]:
        """End the turn: return the changes to write and the effects to carry out after the commit."""
        closed = self.ledger.close()
        self.backlog.close()
        return closed

    def next_look(self) -> float | None:
        """Return the monotonic time at which `advance` has something to do, or None."""
        return self.timers.next()

    def _runnable(self, task: Task) -> bool:
        """Tell whether a task could run if it had its resources."""
        held = task.aside or self.backlog.held(task.spec.suite)
        return not held and self.workers.serves(task.spec.task_type, task.avoid)

    def _wanted(self, names: tuple[str, ...]) -> bool:
        """Tell whether a task waits for exactly these resources, or an attempt asks for or is owed them."""
        asking = (*self.attempts.reserving.values(), *self.attempts.owed.values())
        return self.backlog.awaited(names) or any(each.references.lacks == names for each in asking)

    def _may_dispatch(self, task: Task) -> bool:
        """Tell whether a task may be dispatched now."""
        held = self._draining or self.backlog.held(task.spec.suite)
        return self.state is ManagerState.RUNNING and not held

    def _pinned(self, task: Task) -> bool:
        """Tell whether memory knows more about a waiting task than its row says."""
        known = task.attempts or task.tried or task.avoid or task.spec.id in self.pool.waits
        return bool(known or self.attempts.held_back.get(task) or self.backlog.sweeping(task))

    # --- what RabbitMQ answers ---

    def _confirmed(self, event: events.DispatchConfirmed, now: Moment) -> None:
        attempt = self.attempts.unconfirmed.pop(event.attempt, None)
        if attempt is not None:
            attempt.confirmed = True
            spec = attempt.task.spec
            self.attempts.held_back.drop(attempt.task)
            self.ledger.log(catalogue.DISPATCH(spec.task_type, spec.guid, attempt.worker.name), spec)

    def _failed(self, event: events.DispatchFailed, now: Moment) -> None:
        attempt = self.attempts.unconfirmed.pop(event.attempt, None)
        if attempt is not None:
            self.departures.undelivered(attempt, event.reason, now)

    def _unsendable(self, event: events.DispatchImpossible, now: Moment) -> None:
        """Hold the task back: its message is to blame. The worker gets another task."""
        attempt = self.attempts.unconfirmed.pop(event.attempt, None)
        if attempt is not None:
            self.departures.unsendable(attempt, event.reason, now)

    def _uncertain(self, event: events.DispatchUncertain, now: Moment) -> None:
        """Log it; the dispatch timeout decides."""
        attempt = self.attempts.unconfirmed.pop(event.attempt, None)
        if attempt is not None:
            spec, worker = attempt.task.spec, attempt.worker.name
            self.ledger.log(catalogue.DISPATCH_UNCERTAIN(spec.task_type, spec.guid, worker, attempt.id))

    def _dead_lettered(self, event: events.DeadLettered, now: Moment) -> None:
        task = self.backlog.by_guid.get(event.guid)
        if task is not None and task.spec.id == event.task_id:
            spec = task.spec
            self.ledger.log(catalogue.TASK_DEAD(spec.task_type, spec.guid, task.attempts), spec)
            self.attempts.finish(task, Outcome.DEAD, now, event.copy)
            if event.copy is not Copy.THERE:
                self.ledger.do(KeepCopies((event.task_id,)))

    def _copies_known(self, event: events.CopiesKnown, now: Moment) -> None:
        self.ledger.copies(event.copies)
        self.ledger.do(KeepCopies(tuple(event.copies)))

    def _copies_wanted(self, event: events.CopiesWanted, now: Moment) -> None:
        """Mark the copies as in doubt: they may be in the queue before its answer is written."""
        self.ledger.copies({id: Copy.DOUBT for id, _, _ in event.wanted})
        for id, guid, reason in event.wanted:
            self.ledger.do(DeadLetter(id, guid, reason, late=True))

    # --- time ---

    def _deliveries_resumed(self, event: events.DeliveriesResumed, now: Moment) -> None:
        """Count all silence from now."""
        self.stops.deliveries_resumed(now)
        for worker in self.workers:
            worker.heard = now.monotonic
            if worker.leaving is not None:
                worker.leaving = now.monotonic
            for attempt in worker.queue:
                attempt.since = now.monotonic
                attempt.said = attempt.said.resumed(now.monotonic)

    def _date(self, now: Moment) -> None:
        self.counters.date(self.calendar.to_write(now))
        self.workers.day = self.calendar.day(now)

    def _pass(self, event: events.Pass, now: Moment) -> None:
        self._date(now)
        self.departures.forget(self.calendar.today(now), now)
        self.attempts.shun_no_more()
        self.pool.second_look()
        self.backlog.wake_all()

    def _limits_changed(self, event: events.LimitsChanged, now: Moment) -> None:
        limits = event.limits
        self.attempts.limit(limits)
        self.departures.limit(limits)
        self.planner.limit(limits.patience)
        self.pool.holds_unknown = limits.hold_unknown
        self.backlog.wake_all()

    def _minute(self, now: Moment) -> None:
        """Wake the tasks whose resources have limits that follow the time of day."""
        self.backlog.wake(self.pool.beside(self.pool.timed(self.backlog.shortages())))
        self.timers.at(next_minute(now), self._minute)
