"""Runs jobs on resources in order and in batches, never two at a time on the same resource."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from tefmanager.core.model.reservations import Outcome
from tefmanager.interfaces.etcd import ReservationsLost


class Kind(Enum):
    """Whether references are taken or given back."""

    TAKE = auto()
    GIVE = auto()


@dataclass(slots=True, eq=False)
class Job:
    """One attempt's references to take or to give back.

    Attributes:
        names: the resources, sorted, each once.
        kept: names that the attempt already holds.
        outcome: the result, once ``done`` has fired.
        error: why there is no result, or None.
        done: fires once, with None, never with an error.
    """

    kind: Kind
    attempt: int
    names: tuple[str, ...]
    kept: tuple[str, ...] = ()
    outcome: Outcome | None = None
    error: Exception | None = None
    done: Deferred[None] = field(default_factory=Deferred)

    def references(self) -> Iterable[tuple[int, str]]:
        """Return the pairs of attempt and resource that the job handles. Each is handled once at a time."""
        return ((self.attempt, name) for name in self.names)

    @property
    def answer(self) -> Outcome:
        """Return the outcome of a reservation."""
        if self.outcome is None:
            raise TypeError("a reservation has no outcome")
        return self.outcome

    def finish(self, outcome: Outcome | None) -> None:
        """Finish with an outcome."""
        if not self.done.called:
            self.outcome = outcome
            self.done.callback(None)

    def fail(self, error: Exception) -> None:
        """Finish with an error."""
        if not self.done.called:
            self.error = error
            self.done.callback(None)


class Capacity(Protocol):
    """The remaining capacity of a batch."""

    def admits(self, job: Job) -> bool:
        """Tell whether a job fits too; if it does, reserve its place."""


class Jobs:
    """Starts jobs: as many together as fit, and on each resource in the order in which they came.

    Args:
        work: carries out a batch, finishing each of its jobs or raising.
        new_capacity: returns the capacity of an empty batch.
        max_batches: how many batches may be under way at a time.
        soon: calls a function after all jobs of this moment have been added.
    """

    _log = Logger()

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Coroutine[Deferred[Any], Any, None]],
        new_capacity: Callable[[], Capacity],
        max_batches: int,
        soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._work = work
        self._new_capacity = new_capacity
        self._max_batches = max_batches
        self._soon = soon
        self._pumping = False
        self._waiting: list[Job] = []
        self._under_way: dict[Deferred[None], Sequence[Job]] = {}
        self._busy: set[str] = set()

    def add(self, jobs: Sequence[Job]) -> None:
        """Add jobs."""
        self._waiting.extend(jobs)
        if not self._pumping:
            self._pumping = True
            self._soon(self._pump)

    def taking(self) -> set[int]:
        """Return the attempts for which references are being taken."""
        batches = [*self._under_way.values(), self._waiting]
        return {job.attempt for batch in batches for job in batch if job.kind is Kind.TAKE}

    def fail_waiting(self, error: Exception) -> None:
        """Fail the jobs that have not begun."""
        waiting, self._waiting = self._waiting, []
        for job in waiting:
            job.fail(error)

    def cancel(self) -> None:
        """Cancel all jobs."""
        self.fail_waiting(ReservationsLost("stopped"))
        for deferred in list(self._under_way):
            deferred.cancel()

    def _pump(self) -> None:
        self._pumping = False
        while self._waiting and len(self._under_way) < self._max_batches:
            batch = self._next_batch()
            if not batch:
                return
            self._begin(batch)

    def _next_batch(self) -> list[Job]:
        batch: list[Job] = []
        rest: list[Job] = []
        blocked = set(self._busy)
        references: set[tuple[int, str]] = set()
        capacity = self._new_capacity()
        alone = False
        for job in self._waiting:
            free = blocked.isdisjoint(job.names) and references.isdisjoint(job.references())
            # A job that does not fit into an empty batch gets a batch of its own.
            if free and not alone and ((fits := capacity.admits(job)) or not batch):
                alone = not fits
                batch.append(job)
                references.update(job.references())
            else:
                blocked.update(job.names)
                rest.append(job)
        self._waiting = rest
        return batch

    def _begin(self, batch: Sequence[Job]) -> None:
        names = {name for job in batch for name in job.names}
        self._busy |= names
        deferred = Deferred.fromCoroutine(self._work(batch))
        self._under_way[deferred] = batch

        def ended(result: object) -> object:
            self._busy -= names
            del self._under_way[deferred]
            return result

        deferred.addBoth(ended)
        deferred.addErrback(_fail_all, batch)
        deferred.addCallback(lambda _: self._pump())
        deferred.addErrback(lambda failure: self._log.failure("jobs could not be started", failure))


def all_done(jobs: Sequence[Job]) -> Deferred[None]:
    """Return a Deferred that fires when all jobs have finished. Cancelling it leaves the jobs running."""
    done: Deferred[None] = Deferred()

    def fire(_: object) -> None:
        if not done.called:
            done.callback(None)

    DeferredList([job.done for job in jobs]).addCallback(fire)
    return done


def _fail_all(failure: Failure, jobs: Sequence[Job]) -> None:
    error = failure.value
    if not isinstance(error, Exception) or isinstance(error, CancelledError):
        error = ReservationsLost("stopped")
    for job in jobs:
        job.fail(error)
