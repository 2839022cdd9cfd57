"""How workers go: they say so, fall silent, can't be reached, or are missing until they are forgotten."""

from __future__ import annotations

from functools import partial

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.endings import AttemptEnd
from tefmanager.core.model.entities import Attempt, Phase, Worker
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.timers import Timers
from tefmanager.core.model.values import Moment
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.running.workers import Workers
from tefmanager.protocol import catalogue


class Departures:
    """Removes workers that have gone, and checks those that are silent."""

    def __init__(
        self,
        limits: Limits,
        ledger: Ledger,
        workers: Workers,
        timers: Timers,
        attempts: Attempts,
    ) -> None:
        self._limits = limits
        self._ledger = ledger
        self._workers = workers
        self._timers = timers
        self._attempts = attempts

    def limit(self, limits: Limits) -> None:
        """Apply other limits from now on, also to workers already registered."""
        self._limits = limits
        for worker in self._workers:
            self.arm(worker)

    def back(self, worker: Worker, now: Moment) -> None:
        """Note that a worker has been heard: it is not missing any more."""
        if worker.missing:
            self._workers.mark(worker, now, missing=False)
            self._ledger.log(catalogue.WORKER_BACK(worker.name, worker.worker_type, "missing"))
            self.arm(worker)

    def offline(self, name: str, now: Moment, *, again: bool) -> None:
        """Handle a worker's goodbye; ``again``: the broker may have delivered it before."""
        worker = self._workers.get(name)
        if worker is None:
            self._ledger.log(catalogue.WORKER_OFFLINE(name))
        elif again:
            self._may_have_left(worker, now)
        else:
            self._leave(worker, now)

    def _may_have_left(self, worker: Worker, now: Moment) -> None:
        """Wait for the next message of a worker that may have come back under the same name since.

        Whatever it has said since is redelivered too, or comes soon. Until then it gets no task.
        """
        worker.leaving = now.monotonic
        if worker.booked is not None:
            self._attempts.unbook(worker.booked, now)
        if (live := worker.live) is not None:
            self._attempts.hear(live, live.said.left_again())
        self._workers.changed(worker, now)
        self.arm_leaving(worker)

    def arm_leaving(self, worker: Worker) -> None:
        """Set a timer for a worker that may have left: if it stays silent, it has."""
        if worker.leaving is not None:
            self._timers.at(worker.leaving + self._limits.release_grace, partial(self._look_gone, worker))

    def _look_gone(self, worker: Worker, now: Moment) -> None:
        if worker.leaving is None or self._workers.get(worker.name) is not worker:
            return
        if now.monotonic < worker.leaving + self._limits.release_grace:
            self.arm_leaving(worker)
        else:
            self._leave(worker, now)

    def stays(self, worker: Worker, now: Moment, *, free: bool) -> None:
        """Note that a worker has not left, or has come back; ``free``: it says that it is free."""
        if worker.leaving is None:
            return
        worker.leaving = None
        live = worker.live
        if live is not None:
            self._attempts.settle_doubt(live)
            if free and live.phase is Phase.WORKING:
                self._attempts.sent_only(live, now)

    def _leave(self, worker: Worker, now: Moment) -> None:
        self._ledger.log(catalogue.WORKER_OFFLINE(worker.name))
        if worker.booked is not None:
            self._attempts.unbook(worker.booked, now)
        if (live := worker.live) is not None:
            self._attempts.take_back(live, AttemptEnd.OFFLINE, now)
        self._remove(worker, now)

    def _remove(self, worker: Worker, now: Moment) -> None:
        for attempt in list(worker.queue):
            self._attempts.resolve(attempt, now)
        self._timers.cancel(worker.timer)
        self._workers.remove(worker)

    def forget(self, today: float, now: Moment) -> None:
        """Remove workers that have been missing for long: restarted ones come under new names.

        ``today``: unix time, from a calendar that does not jump.
        """
        for worker in list(self._workers):
            if worker.missing and today - worker.since > self._limits.forget_after:
                self._ledger.log(catalogue.WORKER_FORGOTTEN(worker.name, worker.worker_type))
                self._remove(worker, now)

    def undelivered(self, attempt: Attempt, reason: str, now: Moment) -> None:
        """Undo a dispatch that reached no queue, and mark the worker as missing."""
        worker, spec = attempt.worker, attempt.task.spec
        self._ledger.log(catalogue.DISPATCH_FAILED(spec.task_type, spec.guid, worker.name, reason))
        if attempt.live:
            self._attempts.take_back(attempt, AttemptEnd.UNDELIVERED, now)
            self._lose(worker, now)
        elif attempt in worker.queue:
            self._attempts.resolve(attempt, now)

    def unsendable(self, attempt: Attempt, reason: str, now: Moment) -> None:
        """Undo a dispatch whose message the broker refuses, and hold the task back."""
        worker, task = attempt.worker, attempt.task
        spec = task.spec
        self._ledger.log(catalogue.DISPATCH_FAILED(spec.task_type, spec.guid, worker.name, reason))
        if attempt.live:
            self._attempts.hold_back(task, reason, now)
            self._attempts.take_back(attempt, AttemptEnd.UNDELIVERED, now)
        elif attempt in worker.queue:
            self._attempts.resolve(attempt, now)
        self._workers.changed(worker, now)

    def deserted(self, worker: Worker, now: Moment) -> None:
        """Remove a silent worker whose queue nobody consumes any more; its tasks go to others."""
        self._ledger.log(catalogue.QUEUE_DESERTED(worker.name, worker.worker_type, worker.exchange_name))
        if (live := worker.live) is not None:
            live.confirmed = live.phase is Phase.WORKING  # what is still in its queue was no attempt
            self._attempts.take_back(live, AttemptEnd.MISSING, now, unresolved=True)
        self._lose(worker, now)

    def arm(self, worker: Worker) -> None:
        """Set the timer by which a worker is checked once it was silent for the missing interval."""
        due = worker.heard + self._limits.missing_interval
        worker.timer = self._timers.no_later(worker.timer, due, partial(self._look, worker))

    def _look(self, worker: Worker, now: Moment) -> None:
        if self._workers.get(worker.name) is not worker or worker.missing:
            return
        if now.monotonic < worker.heard + self._limits.missing_interval:
            self.arm(worker)
            return
        if (live := worker.live) is not None:
            self._attempts.take_back(live, AttemptEnd.MISSING, now, unresolved=True)
        self._lose(worker, now)

    def _lose(self, worker: Worker, now: Moment) -> None:
        if worker.booked is not None:
            self._attempts.unbook(worker.booked, now)
        self._workers.mark(worker, now, missing=True)
        self._ledger.log(catalogue.WORKER_MISSING(worker.name, worker.worker_type))
