"""The values that rows, messages and the core have in common. All frozen, none knows any other layer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from math import inf
from typing import NamedTuple, TypeAlias

from msgspec import Struct, field

from tefmanager.core.model.dead_copies import Copy
from tefmanager.protocol.messages import ManagerState


class Moment(Struct, frozen=True):
    """One reading of the clocks, taken once for each event.

    Attributes:
        monotonic: seconds on a clock that never jumps; for durations.
        wall: seconds since 1970; for records.
        local: naive local time; for windows of resources.
    """

    monotonic: float
    wall: float
    local: datetime


class TaskState(StrEnum):
    """The states of a task that is not finished."""

    WAITING = "waiting"
    DISPATCHED = "dispatched"
    WORKING = "working"
    DEAD_LETTERING = "dead_lettering"
    """Out of attempts, its copy not yet confirmed by the dead queue."""


class Outcome(StrEnum):
    """How a task ended; it is in history then."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    DEAD = "dead"


SuiteEnds: TypeAlias = Mapping[str, Mapping[Outcome, int]]
"""How many tasks of a suite ended how; an outcome that none had may be left out."""


class Finish(NamedTuple):
    """The end of a task: how, when (unix time), after how many attempts; what the dead queue has of it."""

    outcome: Outcome
    at: float
    attempts: int = 0
    copy: Copy | None = None


class Doubt(StrEnum):
    """What a message that the broker delivered again may mean for an attempt; the next words tell.

    It is kept in the task's row: so the message is acknowledged at once, and a crash takes nothing along.
    """

    DONE = "done"
    """The task is done, unless *working* follows within the release grace."""
    STALE = "stale"
    """The same, but *working* was heard first-hand before: only what is heard first-hand decides."""
    LEFT = "left"
    """Its worker has left, unless it says anything within the release grace."""


class AttemptEnd(StrEnum):
    """How one attempt at a task ended."""

    COMPLETED = "completed"
    UNDELIVERED = "undelivered"
    UNCONFIRMED = "unconfirmed"
    """The broker did not say within the dispatch timeout whether it has the message."""
    DISPATCH_TIMEOUT = "dispatch_timeout"
    GIVEN_UP = "given_up"
    OFFLINE = "offline"
    MISSING = "missing"
    STALLED = "stalled"
    SUPERSEDED = "superseded"
    """Another worker completed the task first."""


class WorkerStatus(StrEnum):
    """A worker's state, as ``get_workers`` names it."""

    IDLE = "idle"
    DISPATCHED = "dispatched"
    WORKING = "working"
    STALLED = "stalled"
    MISSING = "missing"


Order: TypeAlias = tuple[float, int]
"""Place of a task among those of its lane: higher priority first, then the older."""

NOTHING: Order = (-inf, 0)
"""The place before all of them."""


class TaskSpec(Struct, frozen=True):
    """What a sender said of a task, but for its body. Never changes.

    Attributes:
        id: number from the database; the smaller, the older.
        guid: the sender's name for it.
        task_type: the worker type it needs.
        priority: higher first.
        resources: names, sorted, each once.
        suite: its suite's guid, or None.
        time_limit: seconds it may be *working*, or None for the worker limit.
        received: unix time at which the manager took it in.
    """

    id: int
    guid: str
    task_type: str
    priority: float
    resources: tuple[str, ...]
    suite: str | None
    time_limit: float | None
    received: float

    @property
    def order(self) -> Order:
        """Its place in its lane."""
        return (-self.priority, self.id)


class TaskRow(Struct, frozen=True):
    """A task that is not finished, as its row says.

    Attributes:
        spec: what the sender said.
        state: where it is.
        attempts: how many attempts have been begun, the present one included.
        attempt: the present attempt's number (from the database), or None while it waits.
        worker: who has it, or None while it waits.
        dispatched: unix time of the present attempt's dispatch, or None.
        started: unix time at which its worker said *working*, or None.
        avoid: workers that let it stall; it goes to others.
        doubt: what the present attempt is doubted for, or None.
        short_since: unix time from which it has been first in line but for its resources, or None.
        tried: it was sent to a worker once, whether or not that counts as an attempt.
    """

    spec: TaskSpec
    state: TaskState = TaskState.WAITING
    attempts: int = 0
    attempt: int | None = None
    worker: str | None = None
    dispatched: float | None = None
    started: float | None = None
    avoid: tuple[str, ...] = ()
    doubt: Doubt | None = None
    short_since: float | None = None
    tried: bool = False

    @property
    def plain(self) -> bool:
        """Whether it waits and nothing was ever done with it; others are always in memory."""
        return self.state is TaskState.WAITING and not (self.attempts or self.tried or self.avoid)


class AttemptRow(Struct, frozen=True):
    """An attempt that ended.

    Attributes:
        id: number from the database, never used again.
        task_id: the task's ``spec.id``.
        guid: the task's guid.
        number: 1 for the task's first attempt.
        worker: its name.
        dispatched, started, ended: unix times; ``started`` is None where nobody said *working*.
        end: how it ended.
        unresolved: the task was taken from the worker, which may still have it.
    """

    id: int
    task_id: int
    guid: str
    number: int
    worker: str
    dispatched: float
    started: float | None
    ended: float
    end: AttemptEnd
    unresolved: bool = False


class FinishedRow(Struct, frozen=True):
    """A task in history: its row as it was, how it ended, and when (unix time)."""

    row: TaskRow
    outcome: Outcome
    at: float


class DeadRow(Struct, frozen=True):
    """A dead task of which nobody has settled what becomes of it, and how its last attempt ended.

    Attributes:
        finished: the task.
        worker, end: of the last attempt, or None where there was none.
    """

    finished: FinishedRow
    worker: str | None
    end: AttemptEnd | None


class WorkerRow(Struct, frozen=True):
    """A worker of the grid. Its heartbeats change no row.

    Attributes:
        name: unique.
        worker_type: the task type it takes.
        exchange_name: where dispatches to it go.
        status: as ``get_workers`` names it.
        since: unix time at which ``status`` became what it is.
        heard: unix time of its last message before the row was written, or None where nobody knows.
    """

    name: str
    worker_type: str
    exchange_name: str
    status: WorkerStatus
    since: float
    heard: float | None = None


class StopRow(Struct, frozen=True):
    """A suite that is being stopped, or was a while ago.

    Attributes:
        suite: its guid.
        below: tasks of this id and above came after the command.
        spared: ids of tasks that were in flight when the command came.
        commands: how many commands there were, each of which may be delivered again.
        stopped: how many tasks were stopped so far.
        over: all are.
    """

    suite: str
    below: int
    spared: tuple[int, ...] = ()
    commands: int = 1
    stopped: int = 0
    over: bool = False


class ManagerRow(Struct, frozen=True):
    """The manager's own state.

    Attributes:
        state: set by ``set_state``.
        task_ids: ids below this one may have been given to tasks.
        attempt_ids: ids below this one may have been given to attempts.
        state_since: unix time at which ``state`` became what it is, or None where nobody knows.
        calendar: unix time that tells what is old, as it was written last, or None where it never was.
    """

    state: ManagerState = ManagerState.RUNNING
    task_ids: int = 1
    attempt_ids: int = 1
    state_since: float | None = None
    calendar: float | None = None


class Unread(Struct, frozen=True):
    """Waiting tasks that are alike in type and resources and that are not read.

    Attributes:
        task_type, resources: theirs.
        count: how many.
        best: none has a higher priority.
    """

    task_type: str
    resources: tuple[str, ...]
    count: int
    best: float


class Stretch(Struct, frozen=True):
    """Part of a lane, to be read.

    Attributes:
        task_type, resources, suite: the lane's.
        after: place of what goes before.
        at_most: tasks.
        below: no task of this id or above, unless it is None.
    """

    task_type: str
    resources: tuple[str, ...]
    suite: str | None
    after: Order
    at_most: int
    below: int | None = None


class Snapshot(Struct, frozen=True):
    """All rows, as a leadership begins.

    Attributes:
        manager: the manager's own row.
        tasks: the tasks that are not finished and were read, by id.
        workers: the workers.
        paused_suites: guids.
        stops: suites that are being stopped, or were a while ago.
        unresolved: ended attempts that their workers may still have, by id.
        unread: the tasks that were not read.
        unread_suites: how many of them there are, by type and suite.
    """

    manager: ManagerRow = ManagerRow()
    tasks: tuple[TaskRow, ...] = ()
    workers: tuple[WorkerRow, ...] = ()
    paused_suites: frozenset[str] = frozenset()
    stops: tuple[StopRow, ...] = ()
    unresolved: tuple[AttemptRow, ...] = ()
    unread: tuple[Unread, ...] = ()
    unread_suites: Mapping[tuple[str, str | None], int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many tasks are not finished."""
        return len(self.tasks) + sum(demand.count for demand in self.unread)


class Changes(Struct):
    """The row changes of one turn; what a row says at the end of the turn counts.

    Written in the order of the attributes, in one transaction.

    Attributes:
        manager: the manager's row, where it changed.
        accepted: new tasks with their bodies.
        properties: what else came with their messages, where anything did, by task id.
        tasks: new rows of tasks that were there before the turn, by task id.
        attempts: attempts that ended.
        resolved: ids of attempts that are no longer unresolved.
        finished: tasks (also ones accepted in this turn) that move to history, by task id.
        copies: what the dead queue has of dead tasks now, by task id.
        workers: new or changed workers, by name.
        left: names of workers to remove.
        paused: suites to add to the paused ones.
        readied: suites to take from them.
        stops: suites that are being stopped, or were, by guid.
        stops_forgotten: suites of which that need not be known any more.
        bodies: ids of tasks, accepted before this turn, whose bodies the commit is to bring along.
    """

    manager: ManagerRow | None = None
    accepted: list[tuple[TaskRow, bytes]] = field(default_factory=list)
    properties: dict[int, bytes] = field(default_factory=dict)
    tasks: dict[int, TaskRow] = field(default_factory=dict)
    attempts: list[AttemptRow] = field(default_factory=list)
    resolved: list[int] = field(default_factory=list)
    finished: dict[int, Finish] = field(default_factory=dict)
    copies: dict[int, Copy | None] = field(default_factory=dict)
    workers: dict[str, WorkerRow] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    readied: list[str] = field(default_factory=list)
    stops: dict[str, StopRow] = field(default_factory=dict)
    stops_forgotten: list[str] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Tell whether anything is to be written or read."""
        return any(getattr(self, name) for name in self.__struct_fields__)


Bodies = Mapping[int, bytes]
"""Messages of tasks, byte for byte as they came, by task id."""
