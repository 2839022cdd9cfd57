"""The answers, as values that become JSON as they stand. Times are unix times, durations seconds."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from tefmanager.support.outages import Outage


class Waiting(Struct, frozen=True):
    """How many tasks wait.

    Attributes:
        total: all of them, those that are being given to a worker included.
        unread: how many of them stand in the database alone.
        by_type: by task type, the largest 100 of them.
        types: how many task types there are, which may be more than ``by_type`` has.
        by_suite: by suite, the largest first; ``""`` stands for tasks of no suite.
        suites: how many suites there are, which may be more than ``by_suite`` has.
        by_priority: by priority, the highest first, of the tasks that were looked at.
        by_priority_of: how many tasks that were; less than ``total`` where there are very many.
        oldest: when the oldest that was looked at came in, or None.
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
    """What waits though nothing but a reason of its own keeps it; it is tried again now and then.

    Attributes:
        what: a task, or the tasks that need some resources, in words.
        reason: why, mostly in the words of the service that refuses.
        since: when it was refused first.
    """

    what: str
    reason: str
    since: float


class Status(Struct, frozen=True):
    """How the manager stands.

    Attributes:
        state: ``running``, ``paused`` or ``stopped``.
        state_since: when it became so, or None where nobody knows: it was before an upgrade from a version
            that did not keep it.
        active_since: since when this manager is the active one.
        etcd_ready: whether the resources have been read; while not, tasks with resources wait.
        waiting: tasks that wait.
        dispatched, working: how many tasks are with workers and have not begun, or have.
        dead-lettering: tasks out of attempts, on their way to the dead queue.
        workers: how many there are, by status; all five are there.
        worker_types: the types of the workers there are, with how many are idle; the 100 with most of them.
        paused_suites: how many suites are paused.
        short: resources that tasks wait for.
        held_back: what can't be reserved or sent for a reason of its own, as far as there is room.
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
        name, worker_type, work_queue: as it says of itself.
        status: as ``get_workers`` names it.
        since: when the status became so.
        silent: seconds since it was heard.
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
    """Workers that fit, by type and name; ``total`` of them, of which at most a number is listed."""

    total: int
    workers: tuple[WorkerDetail, ...]


class TaskInfo(Struct, frozen=True):
    """A task.

    Attributes:
        guid, task_type, priority, resources, suite: as its sender said.
        state: ``waiting``, ``reserving``, ``dispatched``, ``working`` or ``dead_lettering``; where it is
            finished ``completed``, ``stopped`` or ``dead``.
        received: when it came in.
        attempts: how many attempts have been made, the present one included.
        attempt: number of the present attempt, as in lock keys, or None.
        worker: who has it, or will get it, or None.
        dispatched, started: when it was sent, and when its worker said *working*, or None.
        finished: when it ended, or None.
        time_limit: seconds it may be *working*, or None for the manager's limit.
        avoid: workers that let it stall.
        held_back: why it can't be reserved or sent, though nothing else keeps it, or None. It is tried
            again now and then.
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


class Tasks(Struct, frozen=True):
    """Tasks that are not finished and fit, in flight first, then as they are likely to go.

    Attributes:
        total: how many fit, as far as known: those looked at, and unread ones by their counts.
        unread: how many of ``total`` stand in the database alone, and are not listed.
        complete: False where there were more than are looked at; ``total`` is a lower bound then.
        tasks: at most as many as were asked for.
    """

    total: int
    unread: int
    complete: bool
    tasks: tuple[TaskInfo, ...]


class AttemptInfo(Struct, frozen=True):
    """An attempt at a task; ``end`` and ``ended`` are None while it is under way."""

    id: int
    number: int
    worker: str
    dispatched: float | None
    started: float | None
    ended: float | None
    end: str | None


class TaskDetail(Struct, frozen=True):
    """A task with all its attempts, oldest first."""

    task: TaskInfo
    attempts: tuple[AttemptInfo, ...]


class DeadTask(Struct, frozen=True):
    """A task that was given back too often.

    Attributes:
        guid, task_type, priority, suite: as its sender said.
        received: when it came in.
        died: when it was given up.
        attempts: how many there were.
        worker: who had the last one, or None.
        end: how that ended, as in ``TASK_RELEASED``, or None.
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
    """Dead tasks that nobody has dropped or sent again, the last ones first; ``total`` of them."""

    total: int
    tasks: tuple[DeadTask, ...]


class SuiteInfo(Struct, frozen=True):
    """A suite of which something is not finished, or that is paused.

    Attributes:
        suite: its guid.
        paused: whether its waiting tasks are held back.
        waiting, dispatched, working: how many of its tasks are.
    """

    suite: str
    paused: bool
    waiting: int
    dispatched: int
    working: int


class Suites(Struct, frozen=True):
    """Suites, the largest first; ``total`` of them, of which at most a number is listed."""

    total: int
    suites: tuple[SuiteInfo, ...]


class Holder(Struct, frozen=True):
    """An attempt of ours that holds a reference to a resource.

    Attributes:
        attempt: its number, as in lock keys.
        guid, worker, suite: the task's and who has it; None where they are not known any more: the
            reference is being given back.
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
    """A task that was first in line but for its resources.

    Attributes:
        guid, task_type, suite, priority: the task's.
        since: since when it waits like that.
        claims: it has a claim: others of its priority, or a lower one, may use only what is left over.
    """

    guid: str
    task_type: str
    suite: str | None
    priority: float
    since: float
    claims: bool


class ResourceInfo(Struct, frozen=True):
    """A resource, as seen last in Etcd.

    Attributes:
        name: its name.
        held: references held by everyone.
        limit: most references at present, windows counted in; -1 is no limit, 0 is closed.
        own_limit: ``ref_limit``, windows left out.
        available: False where ``available`` is ``0``.
        window: id of a window that counts now, or None.
        faults: what could not be read of it.
        holders: our attempts that hold it, oldest first.
        others: references that are none of ours, as far as known: those of other programs.
        waiters: tasks that were first in line but for their resources, and need this one; longest first.
        waiting: how many lanes (tasks of the same type, suite and resources) stand at it.
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
        ready: whether they have been read; what is listed is old where it is False.
        total: how many there are, of which at most a number is listed.
        resources: those listed.
        unknown: names that waiting tasks stand at and that have no entry in Etcd, and those resembling one.
        resembling: of the last names without an entry, the existing ones that they resemble.
    """

    ready: bool
    total: int
    resources: tuple[ResourceInfo, ...]
    unknown: tuple[str, ...]
    resembling: Mapping[str, str] = {}


class Reason(Struct, frozen=True, omit_defaults=True):
    """One thing that keeps a task from running.

    Attributes:
        kind: ``manager_paused``, ``suite_paused``, ``no_worker`` (none of its type is known),
            ``workers_gone`` (all are missing, stalled, or to be avoided), ``workers_busy``,
            ``held_back`` (what it asks for is refused, for a reason of its own),
            ``unconfirmed`` (RabbitMQ has not said whether it has its last dispatch),
            ``rabbitmq_away``, ``etcd_away``, ``queue_refuses`` (the dead queue takes nothing),
            ``resource_closed``, ``resource_short``, ``resource_unknown``, ``claimed`` (others have claims
            before it), ``reserving``, ``turn`` (nothing but others before it).
        text: a sentence for people.
        resource: which one, where it is about one.
        held, limit: of the resource.
        holders: our attempts that hold it.
        others: references to it that are none of ours.
        claims: tasks that have a claim on it before this one.
        worker_types: types that are known, where it is about workers.
        since: since when a service is away, where it is about one.
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
        reasons: all that keeps it, the most general first; none where it runs or is finished.
        ahead: how many waiting tasks of its type have a higher priority, or the same and are older, or
            None where it does not wait. Suites take turns, so some of them may go after it.
        ahead_complete: False where there are more tasks than are looked at: ``ahead`` is a lower bound.
        text: a sentence for people.
    """

    task: TaskInfo
    reasons: tuple[Reason, ...]
    ahead: int | None
    ahead_complete: bool
    text: str
