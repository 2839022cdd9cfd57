"""Tasks, attempts and workers in the core's memory. Only the core changes them."""

from __future__ import annotations

from enum import StrEnum
from math import inf
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from tefmanager.core.model.endings import AttemptEnd
from tefmanager.core.model.reservations import NO_REFERENCES, References
from tefmanager.core.model.said import UNHEARD, Said
from tefmanager.core.model.timers import Timer
from tefmanager.core.model.values import (
    NOTHING,
    AttemptRow,
    Order,
    TaskRow,
    TaskSpec,
    TaskState,
    WorkerRow,
    WorkerStatus,
)


class Phase(StrEnum):
    """The phase of an attempt. The first one is only in memory: in the database the task still waits."""

    RESERVING = "reserving"
    DISPATCHED = "dispatched"
    WORKING = "working"


_ENDED_BY_WORKER = (AttemptEnd.COMPLETED, AttemptEnd.ENVIRONMENT)


class Waiting(Protocol):
    """The place where a task waits, for code that only moves the task: its lane."""

    @property
    def held(self) -> bool:
        """Whether it does not compete because its suite is paused."""

    def move(self, task: Task) -> None:
        """Move a task of it to its present place."""

    def advance(self, task: Task) -> None:
        """Move a task of it forward, and let the lane compete with it."""


class Task(Struct, eq=False):
    """A task that is not finished.

    Attributes:
        spec: what the sender said.
        attempts: number of attempts dispatched so far.
        avoid: workers that must not get it: they let it stall, or it shuns them.
        shun: those of them whose environment was to blame; avoided while there are others.
        state: as in its row.
        attempt: its live attempt, which may still be reserving.
        lane: where it waits, or None.
        claim: number of its claim on its resources, counting up; None without a claim.
        order: its place in its lane, by `spec`.
        aside: it is held back for a reason of its own, and is not in line.
        short_since: unix time from which it has been first in line and lacked only resources, or None.
        tried: as in its row: some worker may still have it, though no attempt may count.
    """

    spec: TaskSpec
    attempts: int = 0
    avoid: frozenset[str] = frozenset()
    state: TaskState = TaskState.WAITING
    attempt: Attempt | None = None
    lane: Waiting | None = None
    claim: int | None = None
    order: Order = NOTHING
    aside: bool = False
    short_since: float | None = None
    tried: bool = False
    shun: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.order = self.spec.order

    @property
    def rank(self) -> tuple[float, int, int, int]:
        """Its rank among tasks of its lane: among equals those with a claim first, oldest claim first."""
        priority, age = self.order
        return (priority, 1, 0, age) if self.claim is None else (priority, 0, self.claim, age)

    def row(self) -> TaskRow:
        """Return its row."""
        avoid = tuple(sorted(self.avoid))
        row = TaskRow(
            self.spec,
            self.state,
            self.attempts,
            avoid=avoid,
            short_since=self.short_since,
            tried=self.tried,
            shun=tuple(sorted(self.shun)),
        )
        at = self.attempt
        if at is None or at.phase is Phase.RESERVING:
            return row
        return replace(
            row,
            attempt=at.id,
            worker=at.worker.name,
            dispatched=at.dispatched,
            started=at.started,
            doubt=at.said.doubt,
            verdict=at.said.doubtful,
        )


class Attempt(Struct, eq=False):
    """One try at a task by one worker.

    Attributes:
        id: number from the database, never used again; it identifies its references in Etcd.
        task, worker: the task, and the worker that has it.
        phase: its present phase.
        number: 1 for the task's first attempt; 0 while it is reserving.
        dispatched, started: unix times, or None.
        since: monotonic time at which its phase began.
        said: what its worker has said about it, and which doubts follow.
        confirmed: by the broker or the worker it is known that the message reached the worker's queue.
        live: False once the task was taken away or finished; the worker may still have it.
        references: which of the references that its task needs it has.
        timer: fires when it must be checked next.
        known_as: number under which its worker was sent the task, if that is another; or None.
    """

    id: int
    task: Task
    worker: Worker
    phase: Phase = Phase.RESERVING
    number: int = 0
    dispatched: float | None = None
    started: float | None = None
    since: float = 0.0
    said: Said = UNHEARD
    confirmed: bool = False
    live: bool = True
    references: References = NO_REFERENCES
    timer: Timer | None = None
    known_as: int | None = None

    def is_named(self, number: int) -> bool:
        """Tell whether its worker may call it by this number."""
        return number in (self.id, self.known_as)

    @property
    def given_up(self) -> bool:
        """Whether it was taken away because its worker said that it is free, perhaps in a late message."""
        return not self.live and self.said.quiet is not None

    def ended(self, end: AttemptEnd, wall: float, *, unresolved: bool) -> AttemptRow:
        """Return the row that says how it ended, and what its worker said about that."""
        row = self._ended(end, wall, unresolved=unresolved)
        if end not in _ENDED_BY_WORKER:
            return row
        said = self.said.verdict
        return replace(row, result=said.result, message=said.message, details=said.details)

    def _ended(self, end: AttemptEnd, wall: float, *, unresolved: bool) -> AttemptRow:
        return AttemptRow(
            id=self.id,
            task_id=self.task.spec.id,
            guid=self.task.spec.guid,
            number=self.number,
            worker=self.worker.name,
            dispatched=self.dispatched if self.dispatched is not None else wall,
            started=self.started,
            ended=wall,
            end=end,
            unresolved=unresolved,
        )


class Seen(Struct, eq=False):
    """What checks of a worker's queue have shown. Kept in memory only.

    Attributes:
        looked: monotonic time of the last check.
        learned: the queue was checked while the worker worked.
        consumed: a consumer was seen.
        stays: a consumer was seen while the worker worked.
        deserted, deserted_last: monotonic times of the first and last check that should have found a
            consumer and found none, if the worker was silent since.
    """

    looked: float = -inf
    learned: bool = False
    consumed: bool = False
    stays: bool = False
    deserted: float | None = None
    deserted_last: float = -inf


class Worker(Struct, eq=False):
    """A worker of the grid.

    Attributes:
        name, worker_type, exchange_name: as it says.
        heard: monotonic time of its last message, or the time from which its silence counts.
        heard_at: unix time of its last message, or None if unknown.
        queue: dispatches to it that are not settled, oldest first, as in its queue; at most one is live.
        booked: an attempt that is reserving its resources for this worker.
        busy: it works, or has not said since its last task that it is free.
        stalled: it let a task run out of time and has not said since that it is free.
        missing: it was silent for the missing interval, or could not be reached.
        limits: it ends tasks itself that exceed their time limit.
        leaving: monotonic time of a redelivered goodbye; the worker has left if it says nothing more.
        shown: its status, as in the row.
        since: unix time since which it has the status ``shown``.
        seen: what checks of its queue have shown.
        timer: fires when it must be checked next.
    """

    name: str
    worker_type: str
    exchange_name: str
    heard: float = 0.0
    heard_at: float | None = None
    queue: list[Attempt] = field(default_factory=list)
    booked: Attempt | None = None
    busy: bool = False
    stalled: bool = False
    missing: bool = False
    limits: bool = False
    leaving: float | None = None
    shown: WorkerStatus | None = None
    since: float = 0.0
    seen: Seen = field(default_factory=Seen)
    timer: Timer | None = None

    @property
    def live(self) -> Attempt | None:
        """The live attempt that it has, or None."""
        for attempt in self.queue:
            if attempt.live:
                return attempt
        return None

    @property
    def status(self) -> WorkerStatus:
        """Its status, as shown by ``get_workers``."""
        if self.missing:
            return WorkerStatus.MISSING
        if self.stalled:
            return WorkerStatus.STALLED
        if (attempt := self.live) is not None:
            return WorkerStatus.WORKING if attempt.phase is Phase.WORKING else WorkerStatus.DISPATCHED
        if self.busy:
            return WorkerStatus.WORKING
        return WorkerStatus.DISPATCHED if self.unsettled else WorkerStatus.IDLE

    @property
    def unsettled(self) -> bool:
        """Whether it seems to be free, but may still begin or continue a task that was taken from it."""
        return any(not attempt.live for attempt in self.queue)

    @property
    def free(self) -> bool:
        """Whether it can get any task."""
        return self.booked is None and self.leaving is None and self.status is WorkerStatus.IDLE

    @property
    def doubtful(self) -> bool:
        """Whether it can get only a task that it may have already.

        It names no task: if it got another one, nobody could tell which of them it has done.
        """
        held = self.busy or self.missing or self.stalled or self.booked is not None
        return not held and self.leaving is None and self.live is None and self.unsettled

    def holds(self, guid: str) -> Attempt | None:
        """Return the dispatch of a task to it that is not settled, or None."""
        return next((attempt for attempt in self.queue if attempt.task.spec.guid == guid), None)

    def row(self) -> WorkerRow:
        """Return its row."""
        return WorkerRow(
            self.name, self.worker_type, self.exchange_name, self.status, self.since, self.heard_at
        )
