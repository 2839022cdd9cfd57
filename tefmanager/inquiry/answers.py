"""The answers, as values that become JSON unchanged. Times are unix times, durations seconds."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from tefmanager.support.outages import Outage


class Waiting(Struct, frozen=True):
    """How many tasks wait.

    Attributes:
        total: all of them, including those whose resources are being reserved.
        unread: how many of them are in the database only.
        by_type: by task type, the largest 100 of them.
        types: how many task types there are, which may be more than ``by_type`` has.
        by_suite: by suite, the largest first; ``""`` stands for tasks without a suite.
        suites: how many suites there are, which may be more than ``by_suite`` has.
        by_priority: by priority, the highest first, of the tasks that were looked at.
        by_priority_of: how many tasks were looked at; less than ``total`` if there are very many.
        oldest: when the oldest of these was received, or None.
    """

    total: int
    unread: int
    by_type: Mapping[str, int]
    types: int
    by_suite: Mapping[str, int]
    suites: int
    by_priority: Mapping[str, int]
    by_priority_of: int
    oldest: float | None


class HeldBackInfo(Struct, frozen=True):
    """Something that waits only because a service refuses it; it is tried again from time to time.

    Attributes:
        what: a task, or the tasks that need some resources, in words.
        reason: why, mostly in the words of the service that refuses.
        since: when it was refused first.
    """

    what: str
    reason: str
    since: float


class Status(Struct, frozen=True):
    """The manager's state.

    Attributes:
        state: ``running``, ``paused`` or ``stopped``.
        state_since: since when, or None if unknown: since before an upgrade from a version that did not
            record it.
        active_since: since when this manager is the active one.
        etcd_ready: whether the resources have been read; until then, tasks with resources wait.
        waiting: tasks that wait.
        dispatched, working: number of tasks that workers have, and have not begun, or have begun.
        dead_lettering: number of tasks out of attempts that are on their way to the dead queue.
        workers: number of workers by status; all five statuses are there.
        worker_types: number of idle workers by type; the 100 types with most of them.
        paused_suites: number of paused suites.
        short: resources that tasks wait for.
        held_back: what services refuse to reserve or send, as far as there is room.
        time: when this was true.
        outages: what is away, refuses or does not answer, the longest first.
    """

    state: str
    state_since: float | None
    active_since: float
    etcd_ready: bool
    waiting: Waiting
    dispatched: int
    working: int
    dead_lettering: int
    workers: Mapping[str, int]
    worker_types: Mapping[str, int]
    paused_suites: int
    short: tuple[str, ...]
    held_back: tuple[HeldBackInfo, ...]
    time: float
    outages: tuple[Outage, ...] = ()


class WorkerDetail(Struct, frozen=True):
    """A worker.

    Attributes:
        name, worker_type, work_queue: as it says.
        status: as in ``get_workers``.
        since: since when it has this status.
        silent: seconds since its last message.
        task: guid of the task it has, or None.
        attempt: number of the attempt, as in lock keys, or None.
        booked: guid of a task that will be sent to it when its resources are reserved, or None.
    """

    name: str
    worker_type: str
    work_queue: str
    status: str
    since: float
    silent: float
    task: str | None
    attempt: int | None
    booked: str | None


class Workers(Struct, frozen=True):
    """Matching workers, by type and name; ``total`` of them, of which a limited number is listed."""

    total: int
    workers: tuple[WorkerDetail, ...]


class TaskInfo(Struct, frozen=True):
    """A task.

    Attributes:
        guid, task_type, priority, resources, suite: as its sender said.
        state: ``waiting``, ``reserving``, ``dispatched``, ``working`` or ``dead_lettering``; for finished
            tasks ``completed``, ``stopped`` or ``dead``.
        received: when it was received.
        attempts: number of attempts so far, including the present one.
        attempt: number of the present attempt, as in lock keys, or None. Of a finished task, the attempt
            that completed it, or the last one.
        worker: the worker that has it, will get it or had that attempt, or None.
        dispatched, started: when it was sent, and when its worker said *working*, or None.
        finished: when it ended, or None.
        time_limit: seconds it may be *working*, or None for the manager's limit.
        avoid: workers that it is not given to: they let it stall, or blamed their surroundings.
        held_back: why it can't be reserved or sent, though nothing else keeps it, or None. It is tried
            again now and then.
        result: ``passed``, ``failed``, ``error`` or ``unknown`` where it was completed, otherwise None.
        message: why, as its worker says, or None.
        progress: how far it has come, as its worker says, or None.
    """

    guid: str
    task_type: str
    priority: float
    resources: tuple[str, ...]
    suite: str | None
    state: str
    received: float
    attempts: int
    attempt: int | None = None
    worker: str | None = None
    dispatched: float | None = None
    started: float | None = None
    finished: float | None = None
    time_limit: float | None = None
    avoid: tuple[str, ...] = ()
    held_back: str | None = None
    result: str | None = None
    message: str | None = None
    progress: str | None = None


class Tasks(Struct, frozen=True):
    """Matching unfinished tasks: those in flight first, then the others in their probable order.

    Attributes:
        total: number of matches as far as known: those looked at, and unread ones by their counts.
        unread: how many of ``total`` are in the database only, and are not listed.
        complete: False if there were more tasks than are looked at: ``total`` is a lower bound.
        tasks: at most as many as requested.
    """

    total: int
    unread: int
    complete: bool
    tasks: tuple[TaskInfo, ...]


class AttemptInfo(Struct, frozen=True):
    """An attempt at a task; ``end`` and ``ended`` are None while it is under way.

    ``result``, ``message`` and ``details`` (any JSON) are what its worker said of it, or None.
    """

    id: int
    number: int
    worker: str
    dispatched: float | None
    started: float | None
    ended: float | None
    end: str | None
    result: str | None = None
    message: str | None = None
    details: msgspec.Raw | None = None


class TaskDetail(Struct, frozen=True):
    """A task with all its attempts, oldest first."""

    task: TaskInfo
    attempts: tuple[AttemptInfo, ...]


class DeadTask(Struct, frozen=True):
    """A task that is out of attempts.

    Attributes:
        guid, task_type, priority, suite: as its sender said.
        received: when it was received.
        died: when its last attempt failed.
        attempts: number of attempts.
        worker: the worker that had the last one, or None.
        end: how that one ended, as in ``TASK_RELEASED``, or None.
    """

    guid: str
    task_type: str
    priority: float
    suite: str | None
    received: float
    died: float
    attempts: int
    worker: str | None
    end: str | None


class DeadTasks(Struct, frozen=True):
    """Dead tasks that nobody has dropped or retried, the last ones first; ``total`` of them."""

    total: int
    tasks: tuple[DeadTask, ...]


class SuiteInfo(Struct, frozen=True):
    """A suite that has unfinished tasks, or that is paused.

    Attributes:
        suite: its guid.
        paused: whether its waiting tasks are held back.
        waiting, dispatched, working: number of its tasks in these states.
    """

    suite: str
    paused: bool
    waiting: int
    dispatched: int
    working: int


class Suites(Struct, frozen=True):
    """Suites, the largest first; ``total`` of them, of which a limited number is listed."""

    total: int
    suites: tuple[SuiteInfo, ...]


class Holder(Struct, frozen=True):
    """One of the manager's attempts that holds a reference to a resource.

    Attributes:
        attempt: its number, as in lock keys.
        guid, worker, suite: the task, its worker and its suite; None if unknown, because the reference is
            being given back.
        state: ``reserving``, ``dispatched``, ``working`` or ``releasing``.
        since: when it was dispatched, or None.
    """

    attempt: int
    guid: str | None
    worker: str | None
    suite: str | None
    state: str
    since: float | None


class Waiter(Struct, frozen=True):
    """A task that is first in line and lacks only resources.

    Attributes:
        guid, task_type, suite, priority: as the task's sender said.
        since: since when it is first in line.
        claims: it has a claim: others of its or a lower priority may use only what it leaves.
    """

    guid: str
    task_type: str
    suite: str | None
    priority: float
    since: float
    claims: bool


class ResourceInfo(Struct, frozen=True):
    """A resource, as last seen in Etcd.

    Attributes:
        name: its name.
        held: references held by everybody.
        limit: the present limit, windows included; -1 is no limit, 0 is closed.
        own_limit: ``ref_limit``, without windows.
        available: False if ``available`` is ``0``.
        window: id of the window that counts now, or None.
        faults: what is invalid in its entry.
        holders: the manager's attempts that hold it, oldest first.
        others: references of other programs, as far as known.
        waiters: tasks that are first in line and lack only resources, this one included; longest first.
        waiting: how many lanes (tasks of the same type, suite and resources) wait for it.
    """

    name: str
    held: int
    limit: int
    own_limit: int
    available: bool
    window: str | None
    faults: tuple[str, ...]
    holders: tuple[Holder, ...]
    others: int
    waiters: tuple[Waiter, ...]
    waiting: int


class Resources(Struct, frozen=True):
    """Resources, by name.

    Attributes:
        ready: whether they have been read; if not, the list may be old.
        total: number of resources, of which a limited number is listed.
        resources: the listed ones.
        unknown: names without an entry in Etcd that waiting tasks need, or that resemble an existing one.
        resembling: for the last names without an entry, the existing names that they resemble.
    """

    ready: bool
    total: int
    resources: tuple[ResourceInfo, ...]
    unknown: tuple[str, ...]
    resembling: Mapping[str, str] = {}


class Reason(Struct, frozen=True, omit_defaults=True):
    """One reason why a task does not run.

    Attributes:
        kind: ``manager_paused``, ``suite_paused``, ``no_worker`` (none of its type is known),
        ``workers_gone`` (all are missing, stalled, or to be avoided), ``workers_busy``, ``held_back`` (a
        service refuses what it needs), ``unconfirmed`` (RabbitMQ has not said whether it has its last
        dispatch), ``rabbitmq_away``, ``etcd_away``, ``queue_refuses`` (the dead queue takes nothing),
        ``resource_closed``, ``resource_short``, ``resource_unknown``, ``claimed`` (others have claims
            before it), ``reserving``, ``turn`` (only others are before it).
        text: a sentence for people.
        resource: the resource, if it is about one.
        held, limit: of the resource.
        holders: the manager's attempts that hold it.
        others: references to it that other programs hold.
        claims: tasks that have a claim on it before this one.
        worker_types: types that are known, if it is about workers.
        since: since when a service is away, if it is about one.
    """

    kind: str
    text: str
    resource: str | None = None
    held: int | None = None
    limit: int | None = None
    holders: tuple[Holder, ...] = ()
    others: int | None = None
    claims: tuple[Waiter, ...] = ()
    worker_types: tuple[str, ...] = ()
    since: float | None = None


class Explanation(Struct, frozen=True):
    """Why a task is not running.

    Attributes:
        task: the task.
        reasons: all reasons, the most general first; empty if it runs or is finished.
        ahead: how many waiting tasks of its type have a higher priority, or the same and are older; None if
            it does not wait. Since suites are served in turn, some of them may go after it.
        ahead_complete: False if there are more tasks than are looked at: ``ahead`` is a lower bound.
        text: a sentence for people.
    """

    task: TaskInfo
    reasons: tuple[Reason, ...]
    ahead: int | None
    ahead_complete: bool
    text: str
