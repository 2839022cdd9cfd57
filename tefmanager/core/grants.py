"""Handles what Etcd says: answers to reservations, changes of resources, and full reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tefmanager.core.books.counters import Counters
from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model import events
from tefmanager.core.model.entities import Attempt, Phase, Task
from tefmanager.core.model.values import Moment
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.sharing.lookalikes import Resembling
from tefmanager.core.sharing.pool import Pool
from tefmanager.core.sharing.resource_faults import ResourceFaults
from tefmanager.core.waiting.backlog import Backlog
from tefmanager.protocol import catalogue


class Grants:
    """Handles what Etcd says, for each attempt that wants, holds or lacks references.

    Args:
        faults: logs invalid entries of resources.
        resembling: compares unknown names with those of resources.
        may_dispatch: tells whether a task may be dispatched now.
    """

    def __init__(
        self,
        ledger: Ledger,
        backlog: Backlog,
        pool: Pool,
        attempts: Attempts,
        counters: Counters,
        faults: ResourceFaults,
        resembling: Resembling,
        may_dispatch: Callable[[Task], bool],
    ) -> None:
        self._ledger = ledger
        self._backlog = backlog
        self._pool = pool
        self._attempts = attempts
        self._counters = counters
        self._faults = faults
        self._resembling = resembling
        self._may_dispatch = may_dispatch

    # --- what Etcd answers ---

    def granted(self, event: events.ReservationGranted, now: Moment) -> None:
        """Dispatch the attempt, or give its references back if it is not wanted any more."""
        attempt = self._attempts.answered(event.attempt)
        if attempt is None:
            self._attempts.release(event.attempt, event.reserved)
            return
        lacked = attempt.references.lacks
        self._pool.possible(lacked)
        attempt.references = attempt.references.granted(held=bool(event.reserved))
        if not attempt.live:
            self._attempts.give_back(attempt)
        elif attempt.phase is not Phase.RESERVING:
            self._paid(attempt, lacked)
        elif self._may_dispatch(attempt.task):
            self._attempts.dispatch(attempt, now)
        else:
            self._attempts.unbook(attempt, now)

    def _paid(self, attempt: Attempt, lacked: tuple[str, ...]) -> None:
        self._attempts.owed.pop(attempt.id, None)
        self._pool.owe_no_more(attempt)
        spec, worker = attempt.task.spec, attempt.worker.name
        line = catalogue.RESERVATION_TAKEN(spec.task_type, spec.guid, worker, attempt.id, " ".join(lacked))
        self._ledger.log(line)

    def refused(self, event: events.ReservationRefused, now: Moment) -> None:
        """Release the worker: a resource has too few references."""
        self._pool.refuse(event.short)
        self._not_granted(event.attempt, now)

    def impossible(self, event: events.ReservationImpossible, now: Moment) -> None:
        """Hold back all tasks that need these resources: Etcd refuses them, and would refuse any task."""
        attempt = self._attempts.answered(event.attempt)
        if attempt is None:
            return
        spec, reason = attempt.task.spec, event.reason
        news = self._pool.hold_back(attempt.references.lacks, reason, now)
        attempt.references = attempt.references.may_hold()  # Etcd may have granted some
        if attempt.live and attempt.phase is Phase.RESERVING:
            self._pool.settle(attempt.task)
            self._attempts.unbook(attempt, now)
            if news:
                self._ledger.log(catalogue.TASK_CANNOT_RUN(spec.task_type, spec.guid, reason))
        elif not attempt.live:
            self._attempts.give_back(attempt)
        elif news:
            self._ledger.log(catalogue.RESERVATION_FAILED(spec.task_type, spec.guid, attempt.id, reason))

    def unknown(self, event: events.ReservationUnknown, now: Moment) -> None:
        """Give back what Etcd may have granted; a full read shows what an attempt in flight holds."""
        attempt = self._not_granted(event.attempt, now)
        if attempt is not None:
            spec = attempt.task.spec
            line = catalogue.RESERVATION_FAILED(spec.task_type, spec.guid, attempt.id, event.reason)
            self._ledger.log(line)
            if attempt.phase is Phase.RESERVING:
                self._attempts.release(attempt.id, attempt.references.lacks)
            else:
                # The next full read shows whether it has what it is owed. Nobody else gets that.
                attempt.references = attempt.references.may_hold()
                self._attempts.owed.pop(attempt.id, None)

    def _not_granted(self, attempt_id: int, now: Moment) -> Attempt | None:
        attempt = self._attempts.answered(attempt_id)
        if attempt is not None and attempt.live and attempt.phase is Phase.RESERVING:
            self._attempts.unbook(attempt, now)
        return attempt

    def released(self, event: events.ReservationReleased, now: Moment) -> None:
        """Forget an attempt that holds nothing any more."""
        self._attempts.releasing.pop(event.attempt, None)

    # --- what Etcd says by itself ---

    def seen(self, event: events.ResourcesSeen, now: Moment) -> None:
        """Take in changes of resources, and wake the tasks that wait for them."""
        self._pool.see(event.seen)
        self._resembling.changed(event.seen)
        self._faults.look(event.seen, now)
        self._backlog.wake(self._pool.beside(event.seen))

    def read(self, event: events.ResourcesRead, now: Moment) -> None:
        """Take in all resources, and compare the lock keys with the attempts."""
        if not self._pool.ready:
            self._ledger.log(catalogue.RESOURCES_READ(len(event.seen)))
        self._pool.read(event.seen)
        self._resembling.read(event.seen)
        self._faults.look(event.seen, now)
        self._reconcile(event.held)
        self._backlog.wake_all()

    def _reconcile(self, held: Mapping[int, frozenset[str]]) -> None:
        """Give back the lock keys that belong to no attempt, and find what attempts in flight lack."""
        mine = (self._attempts.in_flight, self._attempts.reserving, self._attempts.releasing)
        for attempt_id, names in held.items():
            self._counters.stay_above(attempt_id)
            if not any(attempt_id in known for known in mine):
                names_sorted = tuple(sorted(names))
                line = catalogue.RESERVATION_GIVEN_BACK(attempt_id, " ".join(names_sorted))
                self._ledger.log(line)
                self._attempts.release(attempt_id, names_sorted)
        for attempt in self._attempts.in_flight.values():
            # An attempt whose request is under way is settled by the answer.
            if attempt.task.spec.resources and attempt.id not in self._attempts.reserving:
                self._owe(attempt, held.get(attempt.id, frozenset()))

    def _owe(self, attempt: Attempt, held: frozenset[str]) -> None:
        """Record which references an attempt in flight lacks. It will get them again."""
        names = attempt.task.spec.resources
        lacks = tuple(name for name in names if name in self._pool.seen and name not in held)
        attempt.references = attempt.references.lacking(lacks)
        if lacks:
            self._attempts.owe(attempt)
        else:
            self._attempts.owed.pop(attempt.id, None)
            self._pool.owe_no_more(attempt)

    def replaced(self, event: events.ResourcesReplaced, now: Moment) -> None:
        """Log that Etcd was replaced; the following full read shows what attempts in flight have lost."""
        self._ledger.log(catalogue.RESOURCES_REPLACED(event.reason))

    def lost(self, event: events.ResourcesLost, now: Moment) -> None:
        """Forget the resources, because Etcd is away: tasks that need any wait."""
        self._pool.lose()
        self._ledger.log(catalogue.RESOURCES_LOST(event.reason))
