"""The values that rows, messages and the core share. All are frozen, and none knows another layer."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from math import inf
from typing import TypeAlias

from msgspec import Struct, field

from tefmanager.core.model.dead_copies import Copy
from tefmanager.core.model.endings import AttemptEnd, Finish, Outcome
from tefmanager.protocol.messages import ManagerState
from tefmanager.protocol.verdicts import Result, Verdict


class Moment(Struct, frozen=True):
    """One reading of the clocks, taken once per event.

    Attributes:
        monotonic: seconds on a clock that never jumps; for durations.
        wall: unix time; for records.
        local: naive local time; for windows of resources.
    """

    monotonic: float
    wall: float
    local: datetime


class TaskState(StrEnum):
    """The states of an unfinished task."""

    WAITING = "waiting"
    DISPATCHED = "dispatched"
    WORKING = "working"
    DEAD_LETTERING = "dead_lettering"
    """Out of attempts; the dead queue has not yet confirmed its copy."""


class Doubt(StrEnum):
    """What a redelivered message may mean for an attempt; the worker's next words decide.

    The doubt is kept in the task's row, so the message is acknowledged at once and a crash loses nothing.
    """

    DONE = "done"
    """The task is done, unless *working* follows within the release grace."""
    STALE = "stale"
    """The same, but the worker had said *working* first-hand before. Only first-hand words decide."""
    LEFT = "left"
    """The worker has left, unless it says anything within the release grace."""


class WorkerStatus(StrEnum):
    """A worker's state, as ``get_workers`` names it."""

    IDLE = "idle"
    DISPATCHED = "dispatched"
    WORKING = "working"
    STALLED = "stalled"
    MISSING = "missing"


Order: TypeAlias = tuple[float, int]
"""A task's place in its lane: higher priority first, then the older task."""

NOTHING: Order = (-inf, 0)
"""The place before all tasks."""


class TaskSpec(Struct, frozen=True):
    """What the sender said about a task, without the body. Never changes.

    Attributes:
        id: number from the database; the smaller, the older.
        guid: the sender's name for the task.
        task_type: the worker type that it needs.
        priority: higher goes first.
        resources: names, sorted, each once.
        suite: its suite's guid, or None.
        time_limit: seconds that it may be *working*, or None for the default.
        received: unix time at which the manager accepted it.
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
        """The task's place in its lane."""
        return (-self.priority, self.id)


class TaskRow(Struct, frozen=True):
    """The row of an unfinished task.

    Attributes:
        spec: what the sender said.
        state: its state.
        attempts: how many attempts have begun, including the present one.
        attempt: the present attempt's number (from the database), or None while the task waits.
        worker: the worker that has it, or None while it waits.
        dispatched: unix time of the present attempt's dispatch, or None.
        started: unix time at which its worker said *working*, or None.
        avoid: workers that let it stall; it goes to others.
        shun: workers whose environment was to blame; it goes to others while there are any.
        doubt: what the present attempt is doubted for, or None.
        short_since: unix time from which it has been first in line but for its resources, or None.
        tried: it was sent to a worker once, whether or not that counts as an attempt.
        verdict: what the worker said of the present attempt in a message that is in doubt, or None.
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
    shun: tuple[str, ...] = ()
    verdict: Verdict | None = None

    @property
    def plain(self) -> bool:
        """Whether it waits and nothing was ever done with it. All other tasks are always in memory."""
        return self.state is TaskState.WAITING and not (self.attempts or self.tried or self.avoid)


class AttemptRow(Struct, frozen=True):
    """The row of an ended attempt.

    Attributes:
        id: number from the database, never used again.
        task_id: the task's ``spec.id``.
        guid: the task's guid.
        number: 1 for the task's first attempt.
        worker: the worker's name.
        dispatched, started, ended: unix times; ``started`` is None if the worker never said *working*.
        end: how it ended.
        unresolved: the task was taken from the worker, which may still have it.
        result, message, details: what its worker said of it, or None; details are JSON.
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
    result: Result | None = None
    message: str | None = None
    details: str | None = None


class FinishedRow(Struct, frozen=True):
    """A task in history: its last row, how and when (unix time) it ended, and its worker's verdict."""

    row: TaskRow
    outcome: Outcome
    at: float
    result: Result | None = None
    message: str | None = None


class DeadRow(Struct, frozen=True):
    """A dead task that is not settled, and how its last attempt ended.

    Attributes:
        finished: the task.
        worker, end: of the last attempt, or None if there was none.
    """

    finished: FinishedRow
    worker: str | None
    end: AttemptEnd | None


class WorkerRow(Struct, frozen=True):
    """The row of a worker. Heartbeats do not change it.

    Attributes:
        name: unique.
        worker_type: the task type that it takes.
        exchange_name: where its tasks are sent.
        status: as ``get_workers`` names it.
        since: unix time at which ``status`` last changed.
        heard: unix time of its last message before the row was written, or None if unknown.
    """

    name: str
    worker_type: str
    exchange_name: str
    status: WorkerStatus
    since: float
    heard: float | None = None


class StopRow(Struct, frozen=True):
    """A suite that is being stopped, or was stopped a while ago.

    Attributes:
        suite: its guid.
        below: tasks with this id or a higher one came after the command.
        spared: ids of tasks that were in flight when the command came.
        commands: how many stop commands came, each of which may be redelivered.
        stopped: how many tasks have been stopped so far.
        over: the stop is complete.
    """

    suite: str
    below: int
    spared: tuple[int, ...] = ()
    commands: int = 1
    stopped: int = 0
    over: bool = False


class ManagerRow(Struct, frozen=True):
    """The manager's own row.

    Attributes:
        state: set by ``set_state``.
        task_ids: only ids below this one can have been given to tasks.
        attempt_ids: only ids below this one can have been given to attempts.
        state_since: unix time at which ``state`` last changed, or None if unknown.
        calendar: the calendar's unix time when it was last written, or None if it never was.
    """

    state: ManagerState = ManagerState.RUNNING
    task_ids: int = 1
    attempt_ids: int = 1
    state_since: float | None = None
    calendar: float | None = None


class Unread(Struct, frozen=True):
    """The unread waiting tasks of one type that need the same resources.

    Attributes:
        task_type, resources: theirs.
        count: how many there are.
        best: their highest priority, at most.
    """

    task_type: str
    resources: tuple[str, ...]
    count: int
    best: float


class Stretch(Struct, frozen=True):
    """A part of a lane, to be read.

    Attributes:
        task_type, resources, suite: the lane's.
        after: the part begins after this place.
        at_most: the largest number of tasks.
        below: only tasks with ids below this one, unless it is None.
    """

    task_type: str
    resources: tuple[str, ...]
    suite: str | None
    after: Order
    at_most: int
    below: int | None = None


class Snapshot(Struct, frozen=True):
    """All rows at the beginning of a leadership.

    Attributes:
        manager: the manager's own row.
        tasks: the unfinished tasks that were read, by id.
        workers: the workers.
        paused_suites: guids.
        stops: suites that are being stopped, or were stopped a while ago.
        unresolved: ended attempts whose workers may still have the task, by id.
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
        """The number of unfinished tasks."""
        return len(self.tasks) + sum(demand.count for demand in self.unread)


class Changes(Struct):
    """The row changes of one turn; each row as it is at the end of the turn.

    Written in the order of the attributes, in one transaction.

    Attributes:
        manager: the manager's row, if it changed.
        accepted: new tasks with their bodies.
        properties: the other properties of their messages, if any, by task id.
        tasks: new rows of tasks that existed before the turn, by task id.
        attempts: attempts that ended.
        resolved: ids of attempts that are no longer unresolved.
        judged: what workers said of attempts that had ended before, by the attempts' ids.
        finished: tasks (also ones accepted in this turn) that move to history, by task id.
        copies: what the dead queue has of dead tasks now, by task id.
        workers: new or changed workers, by name.
        left: names of workers to remove.
        paused: suites to pause.
        readied: suites to pause no longer.
        stops: suites that are being stopped or were stopped, by guid.
        stops_forgotten: suites whose stop rows to remove.
        bodies: ids of tasks, accepted before this turn, whose bodies the commit returns.
    """

    manager: ManagerRow | None = None
    accepted: list[tuple[TaskRow, bytes]] = field(default_factory=list)
    properties: dict[int, bytes] = field(default_factory=dict)
    tasks: dict[int, TaskRow] = field(default_factory=dict)
    attempts: list[AttemptRow] = field(default_factory=list)
    resolved: list[int] = field(default_factory=list)
    judged: dict[int, Verdict] = field(default_factory=dict)
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
        """Tell whether there is anything to write or read."""
        return any(getattr(self, name) for name in self.__struct_fields__)


Bodies = Mapping[int, bytes]
"""The bodies of tasks, byte for byte as they came, by task id."""
