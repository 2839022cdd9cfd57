"""Decides when attempts are checked, and what silence means: timeouts, time limits, release grace."""

from __future__ import annotations

from collections.abc import Container
from functools import partial
from math import inf
from typing import Protocol

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.endings import AttemptEnd
from tefmanager.core.model.entities import Attempt, Phase, Worker
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.timers import Timers
from tefmanager.core.model.values import Doubt, Moment
from tefmanager.core.running.workers import Workers
from tefmanager.protocol import catalogue

ENDING = 10.0
"""Additional seconds for a worker that itself ends tasks that exceed their time limit."""

_HEARTBEATS = 3
"""How many heartbeats a missing worker has left out."""


class Endings(Protocol):
    """The ways in which an attempt may end when its time is up; `Attempts` has them."""

    limits: Limits

    @property
    def unconfirmed(self) -> Container[int]:
        """Attempts of which RabbitMQ has not said whether it has the message."""

    def take_back(
        self, attempt: Attempt, end: AttemptEnd, now: Moment, *, unresolved: bool = False
    ) -> None:
        """Take the task from its worker."""

    def end_by_worker(self, attempt: Attempt, now: Moment) -> None:
        """Believe that the worker has ended the task."""

    def resolve(self, attempt: Attempt, now: Moment) -> None:
        """Note that the worker can't have the task any more."""

    def log(self, event: catalogue.EventType, attempt: Attempt) -> None:
        """Log an event of the attempt."""


class Deadlines:
    """Checks attempts when their time is up, and ends them."""

    def __init__(self, ledger: Ledger, workers: Workers, timers: Timers, attempts: Endings) -> None:
        self._ledger = ledger
        self._workers = workers
        self._timers = timers
        self._attempts = attempts

    def arm(self, attempt: Attempt) -> None:
        """Set the timer of an attempt to the time at which it must be checked."""
        check = partial(self._look, attempt)
        attempt.timer = self._timers.no_later(attempt.timer, self._due(attempt), check)

    def disarm(self, attempt: Attempt) -> None:
        """Cancel the timer of an attempt."""
        self._timers.cancel(attempt.timer)
        attempt.timer = None

    def _due(self, attempt: Attempt) -> float:
        limits, said = self._attempts.limits, attempt.said
        if not attempt.live:
            return inf if said.seen_free is None else said.seen_free + limits.release_grace
        if attempt.phase is Phase.DISPATCHED:
            return attempt.since + limits.dispatch_timeout
        due = attempt.since + limits.time_limit_of(attempt.task.spec)
        due += ENDING if attempt.worker.limits else 0.0
        return due if said.quiet is None else min(due, said.quiet + limits.release_grace)

    def _look(self, attempt: Attempt, now: Moment) -> None:
        quiet = attempt.said.quiet
        if not attempt.live:
            self._settle(attempt, now)
        elif now.monotonic < self._due(attempt):
            self.arm(attempt)
        elif attempt.phase is Phase.DISPATCHED:
            self._never_began(attempt, now)
        elif quiet is not None and now.monotonic >= quiet + self._attempts.limits.release_grace:
            self._fell_silent(attempt, now)
        else:
            self._stall(attempt, now)

    def seen_free(self, worker: Worker, now: Moment) -> None:
        """Decide what it means that a worker says it is free while a dispatch to it is not settled.

        If the worker has had enough time to begin the task, it does not have it, unless it has only just
        been started and is about to look into its queue. If it had begun the task and given it up, no time
        has to pass. A message that the broker has not confirmed may still arrive at any time.
        """
        for attempt in worker.queue:
            if attempt.id in self._attempts.unconfirmed:
                continue
            if worker.busy:
                attempt.since = now.monotonic
            patience = 0.0 if attempt.given_up else self._attempts.limits.dispatch_timeout
            if attempt.said.seen_free is None and now.monotonic >= attempt.since + patience:
                self.ended_silently(attempt, now)

    def ended_silently(self, attempt: Attempt, now: Moment) -> None:
        """Believe a worker that says it is free during its task, unless it says otherwise in time."""
        attempt.said = attempt.said.free_at_last(now.monotonic)
        self.arm(attempt)

    def _settle(self, attempt: Attempt, now: Moment) -> None:
        """Settle an attempt that has not begun, whose worker said late enough that it is free."""
        worker = attempt.worker
        if attempt not in worker.queue or (attempt.phase is Phase.WORKING and not attempt.said.beats):
            return
        if worker.doubtful:
            self._attempts.resolve(attempt, now)
        else:
            attempt.said = attempt.said.free_at_last(None)

    def _never_began(self, attempt: Attempt, now: Moment) -> None:
        worker = attempt.worker
        silence = now.monotonic - worker.heard
        silent = (
            worker.heard <= attempt.since
            and silence >= self._attempts.limits.missing_interval / _HEARTBEATS
        )
        if attempt.id in self._attempts.unconfirmed:
            self._attempts.log(catalogue.DISPATCH_UNCONFIRMED, attempt)
            end = AttemptEnd.UNCONFIRMED
        else:
            self._attempts.log(catalogue.DISPATCH_TIMEOUT, attempt)
            end = AttemptEnd.DISPATCH_TIMEOUT
        self._attempts.take_back(attempt, end, now, unresolved=True)
        if silent:
            self._workers.mark(worker, now, missing=True)
            self._ledger.log(catalogue.WORKER_MISSING(worker.name, worker.worker_type))
        self._workers.last(worker, now)

    def _fell_silent(self, attempt: Attempt, now: Moment) -> None:
        worker = attempt.worker
        worker.busy = False
        if attempt.said.doubt in (Doubt.DONE, Doubt.STALE):
            self._attempts.end_by_worker(attempt, now)
        else:
            # The message may have crossed its *working*: then it still has the task.
            self._attempts.take_back(attempt, AttemptEnd.GIVEN_UP, now, unresolved=True)

    def _stall(self, attempt: Attempt, now: Moment) -> None:
        task, worker = attempt.task, attempt.worker
        task.avoid |= {worker.name}
        task.shun -= {worker.name}
        self._workers.mark(worker, now, stalled=True)
        line = catalogue.WORKER_STALLED(worker.name, worker.worker_type, task.spec.guid)
        self._ledger.log(line, task.spec)
        self._attempts.take_back(attempt, AttemptEnd.STALLED, now, unresolved=True)
