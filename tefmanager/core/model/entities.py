"""Tasks, attempts and workers as the core holds them in memory. Only the core changes them."""

from __future__ import annotations

from enum import StrEnum
from math import inf
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from tefmanager.core.model.reservations import NO_REFERENCES, References
from tefmanager.core.model.said import UNHEARD, Said
from tefmanager.core.model.timers import Timer
from tefmanager.core.model.values import (
    NOTHING,
    AttemptEnd,
    AttemptRow,
    Order,
    TaskRow,
    TaskSpec,
    TaskState,
    WorkerRow,
    WorkerStatus,
)


class Phase(StrEnum):
    """Where an attempt is. The first is known to memory alone: its task still waits in the database."""

    RESERVING = "reserving"
    DISPATCHED = "dispatched"
    WORKING = "working"


class Waiting(Protocol):
    """Where a task waits in line, as far as those need to know it who only move the task: its lane."""

    @property
    def held(self) -> bool:
        """Whether nothing in it competes, its suite being paused."""

    def move(self, task: Task) -> None:
        """Give a task of it the place that is its now."""

    def advance(self, task: Task) -> None:
        """The same, and let the lane compete with it."""


class Task(Struct, eq=False):
    """A task that is not finished.

    Attributes:
        spec: what the sender said.
        attempts: how many attempts have been dispatched.
        avoid: workers that let it stall.
        state: as in its row.
        attempt: its live attempt, one that is reserving included.
        lane: where it waits, or None.
        claim: number of its claim on its resources, counting up; None while it has none.
        order: its place in its lane, by `spec`.
        aside: it is held back for a reason of its own, and does not stand in line.
        short_since: unix time from which it has been first in line but for its resources, or None.
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

    def __post_init__(self) -> None:
        self.order = self.spec.order

    @property
    def rank(self) -> tuple[float, int, int, int]:
        """Its rank among tasks of its lane: those with a claim go before their equals, as claims do."""
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
        )


class Attempt(Struct, eq=False):
    """One try at a task by one worker.

    Attributes:
        id: number from the database, never used again; it names the references it holds in Etcd.
        task, worker: whose it is.
        phase: where it is.
        number: 1 for the task's first attempt; 0 while it is reserving.
        dispatched, started: unix times, or None.
        since: monotonic time at which its phase began.
        said: what its worker has said of it, and what is doubted for that.
        confirmed: the broker, or its worker's words, have told that the message is in the worker's queue.
        live: False once the task was taken away or finished; the worker may still have it.
        references: what it has of the references that its task needs.
        timer: by which it is looked at next.
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

    @property
    def given_up(self) -> bool:
        """Whether it was taken away because its worker said that it is free, which may have been late."""
        return not self.live and self.said.quiet is not None

    def ended(self, end: AttemptEnd, wall: float, *, unresolved: bool) -> AttemptRow:
        """Return the row that says how it ended."""
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
    """What looks at a worker's queue have told. Known to memory alone.

    Attributes:
        looked: monotonic time of the last look.
        learned: it was looked at while it worked.
        consumed: a consumer was seen.
        stays: a consumer was seen while it worked.
        deserted, deserted_last: monotonic times of the first and last look that found nobody, where it
            should have found somebody, and nothing was heard of the worker since.
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
        name, worker_type, exchange_name: as it says of itself.
        heard: monotonic time of its last message, or the time from which its silence counts.
        heard_at: unix time of its last message, or None where nobody knows.
        queue: what was sent to it and is not settled, oldest first, as it stands in its queue; at most
            one is live.
        booked: an attempt that is reserving its resources for this worker.
        busy: it works, or has not said since its last task that it is free.
        stalled: it let a task run out of time and has not said since that it is free.
        missing: not heard for the missing interval, or could not be reached.
        leaving: monotonic time at which it was told again that it left; it did, if it says nothing more.
        shown: its status as the row says.
        since: unix time at which ``shown`` became what it is.
        seen: what looks at its queue have told.
        timer: by which it is looked at next.
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
    leaving: float | None = None
    shown: WorkerStatus | None = None
    since: float = 0.0
    seen: Seen = field(default_factory=Seen)
    timer: Timer | None = None

    @property
    def live(self) -> Attempt | None:
        """The attempt it holds, or None."""
        for attempt in self.queue:
            if attempt.live:
                return attempt
        return None

    @property
    def status(self) -> WorkerStatus:
        """Its status, as ``get_workers`` names it."""
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
        """Whether it may still begin, or go on with, what was taken from it though it seems to be free."""
        return any(not attempt.live for attempt in self.queue)

    @property
    def free(self) -> bool:
        """Whether it can be given any task."""
        return self.booked is None and self.leaving is None and self.status is WorkerStatus.IDLE

    @property
    def doubtful(self) -> bool:
        """Whether it can be given only what it may have already.

        It names no task: if it were given another one, nobody could tell which of them it has done.
        """
        held = self.busy or self.missing or self.stalled or self.booked is not None
        return not held and self.leaving is None and self.live is None and self.unsettled

    def holds(self, guid: str) -> Attempt | None:
        """Return what it was sent of a task and is not settled, or None."""
        return next((attempt for attempt in self.queue if attempt.task.spec.guid == guid), None)

    def row(self) -> WorkerRow:
        """Return its row."""
        return WorkerRow(
            self.name, self.worker_type, self.exchange_name, self.status, self.since, self.heard_at
        )
