"""The store in memory: it accepts and refuses the same, and fails on demand."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from math import isfinite
from uuid import uuid4

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from zope.interface import implementer

from tefmanager.core.model.dead_copies import Copy, CopyRow, DeadMessage, Stored
from tefmanager.core.model.endings import Finish, Outcome, SuiteEnds
from tefmanager.core.model.identity import Life
from tefmanager.core.model.past import NOW, PastFilter, PastPage, Place
from tefmanager.core.model.values import (
    AttemptRow,
    Bodies,
    Changes,
    DeadRow,
    FinishedRow,
    ManagerRow,
    Snapshot,
    StopRow,
    Stretch,
    TaskRow,
    TaskState,
    Unread,
    WorkerRow,
)
from tefmanager.interfaces.store import (
    MOST_ATTEMPTS,
    CantRead,
    ILeadership,
    IReader,
    IStore,
    LeadershipOver,
    StoreConflict,
    StoreLost,
)
from tefmanager.protocol.verdicts import Result
from tefmanager.store.failures import LEADERSHIP_OVER_TEXT


@dataclass(frozen=True, slots=True)
class FinishedTask:
    """A task in history."""

    row: TaskRow
    outcome: Outcome
    finished_at: float
    body: bytes
    properties: bytes | None = None
    settled: bool = False
    copy: Copy | None = None
    result: Result | None = None
    message: str | None = None
    attempt: int | None = None
    worker: str | None = None


@dataclass
class Rows:
    """The contents of a database. A commit works on a copy, which counts only if all of it succeeds."""

    manager: ManagerRow = field(default_factory=ManagerRow)
    epoch: int = 0
    turns: int = 0
    lives: tuple[str, ...] = ()
    tasks: dict[int, tuple[TaskRow, bytes]] = field(default_factory=dict)
    properties: dict[int, bytes] = field(default_factory=dict)
    attempts: dict[int, AttemptRow] = field(default_factory=dict)
    history: dict[int, FinishedTask] = field(default_factory=dict)
    workers: dict[str, WorkerRow] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    stops: dict[str, StopRow] = field(default_factory=dict)

    def copy(self) -> Rows:
        """Return an independent copy."""
        return Rows(
            self.manager,
            self.epoch,
            self.turns,
            self.lives,
            dict(self.tasks),
            dict(self.properties),
            dict(self.attempts),
            dict(self.history),
            dict(self.workers),
            set(self.paused),
            dict(self.stops),
        )


class Breaks(Enum):
    """When a commit loses its session."""

    BEFORE = "before it took effect"
    AFTER = "after it took effect"


class FakeDatabase:
    """The database that the stores of several managers share.

    Attributes:
        rows: what was committed; tests may read and change it.
        identity: of the grid.
        commits: number of successful commits.
        breaks: when the next commit loses its session, or None; reset by that commit.
        full: why nothing can be written, or None; a real store finds this out before a leadership begins.
    """

    def __init__(self) -> None:
        self.rows = Rows()
        self.identity = uuid4().hex
        self.commits = 0
        self.breaks: Breaks | None = None
        self.full: str | None = None
        self._newest = 0
        self._trouble: str | None = None
        self._holders: dict[str, FakeLeadership] = {}
        self._changed: list[Deferred[None]] = []
        self._gate: Deferred[None] | None = None

    def go_away(self, trouble: str) -> None:
        """End all sessions, and refuse new ones until `come_back`."""
        self._trouble = trouble
        for leadership in list(self._holders.values()):
            leadership.lose(trouble)
        self.notify()

    def come_back(self) -> None:
        """Accept sessions again."""
        self._trouble = None
        self.notify()

    @property
    def trouble(self) -> str | None:
        """Why it is away, or None."""
        return self._trouble

    def hold(self) -> None:
        """Make commits wait until `go_on`."""
        self._gate = self._gate or Deferred()

    def go_on(self) -> None:
        """Let waiting commits continue."""
        gate, self._gate = self._gate, None
        if gate is not None:
            gate.callback(None)

    def gate(self) -> Deferred[None] | None:
        """Return what a commit has to wait for, or None."""
        if self._gate is None:
            return None
        waiter: Deferred[None] = Deferred()
        self._gate.addCallback(waiter.callback)
        return waiter

    def blocker(self, lock_name: str) -> str | None:
        """Return why no leadership can begin now, or None."""
        trouble = self._trouble or self.full
        if trouble is not None:
            return trouble
        return "another manager is active" if lock_name in self._holders else None

    def crown(self, lock_name: str) -> FakeLeadership:
        """Begin a leadership."""
        self._newest = self.rows.epoch = max(self.rows.epoch, self._newest) + 1
        self.rows.manager = _above_all(self.rows)
        token, *earlier = self.rows.lives = (uuid4().hex, *self.rows.lives[:15])
        life = Life(self.identity, token, tuple(earlier), f"{id(self)}", "fake")
        leadership = FakeLeadership(self, lock_name, self.rows.epoch, self.rows.turns, life)
        self._holders[lock_name] = leadership
        return leadership

    def released(self, lock_name: str, leadership: FakeLeadership) -> None:
        """Release the lock, if this leadership has it."""
        if self._holders.get(lock_name) is leadership:
            del self._holders[lock_name]
        self.notify()

    def change(self) -> Deferred[None]:
        """Return a Deferred that fires when `blocker` may have changed."""
        waiter: Deferred[None] = Deferred(lambda gone: self._changed.remove(gone))
        self._changed.append(waiter)
        return waiter

    def notify(self) -> None:
        """Fire what `change` returned."""
        waiters, self._changed = self._changed, []
        for waiter in waiters:
            waiter.callback(None)


@implementer(IStore)
class FakeStore:
    """The connection of one manager to a `FakeDatabase`."""

    def __init__(self, database: FakeDatabase, lock_name: str = "test") -> None:
        self._database = database
        self._lock_name = lock_name

    async def leadership(self, on_wait: Callable[[str], None], room: int = 0) -> FakeLeadership:
        """See `IStore.leadership`."""
        told = None
        while (blocker := self._database.blocker(self._lock_name)) is not None:
            if blocker != told:
                on_wait(blocker)
            told = blocker
            await self._database.change()
        return self._database.crown(self._lock_name)


@implementer(IReader)
class FakeReader:
    """Reads a `FakeDatabase`; it looks at all of history for each page."""

    def __init__(self, database: FakeDatabase) -> None:
        self._database = database

    async def past(self, wanted: PastFilter, at_most: int, before: Place = NOW) -> PastPage:
        """See `IReader.past`."""
        if self._database.trouble is not None:
            raise CantRead(f"the database can't be read: {self._database.trouble}")
        rows = self._database.rows
        places = sorted((Place(task.finished_at, id) for id, task in rows.history.items()), reverse=True)
        found = [at for at in places if at < before and _is_wanted(rows.history[at.id], wanted)][:at_most]
        tasks = tuple(_past(rows, at.id) for at in found)
        return PastPage(tasks, found[-1] if len(found) == at_most else None)


@implementer(ILeadership)
class FakeLeadership:
    """A session with a `FakeDatabase`."""

    def __init__(self, database: FakeDatabase, lock_name: str, epoch: int, turns: int, life: Life) -> None:
        self.epoch = epoch
        self.life = life
        self.reader = FakeReader(database)
        self._turns = turns
        self._database = database
        self._lock_name = lock_name
        self._over: StoreLost | None = None
        self._watchers: list[Callable[[StoreLost], None]] = []
        self._ended = False

    @property
    def over(self) -> StoreLost | None:
        """Why it is over, or None."""
        return self._over

    def lose(self, reason: str) -> None:
        """End the session as if its server process had been killed."""
        self._fail(StoreLost(reason))

    def on_lost(self, tell: Callable[[StoreLost], None]) -> None:
        """See `ILeadership.on_lost`."""
        if self._over is None:
            self._watchers.append(tell)
        elif not self._ended:
            tell(self._over)

    async def load(self, at_most: int | None = None) -> Snapshot:
        """See `ILeadership.load`."""
        self._check()
        rows = self._database.rows
        all_fit = at_most is None or len(rows.tasks) <= at_most
        unread = [] if all_fit else list(self._plain())
        for _, demand in groupby(sorted(unread, key=_demand), _demand):
            unread.remove(min(demand, key=lambda row: row.spec.order))
        return Snapshot(
            manager=rows.manager,
            tasks=tuple(row for _, (row, _) in sorted(rows.tasks.items()) if row not in unread),
            unread=tuple(_unread(demand) for _, demand in groupby(sorted(unread, key=_demand), _demand)),
            unread_suites=Counter((row.spec.task_type, row.spec.suite) for row in unread),
            workers=tuple(worker for _, worker in sorted(rows.workers.items())),
            paused_suites=frozenset(rows.paused),
            stops=tuple(row for _, row in sorted(rows.stops.items())),
            unresolved=tuple(row for _, row in sorted(rows.attempts.items()) if row.unresolved),
        )

    def _plain(self) -> Iterable[TaskRow]:
        """Return the plain tasks, in their order."""
        rows = [row for row, _ in self._database.rows.tasks.values() if row.plain]
        return sorted(rows, key=lambda row: row.spec.order)

    async def tasks(self, guids: Sequence[str]) -> Sequence[TaskRow]:
        """See `ILeadership.tasks`."""
        self._check()
        return [row for _, (row, _) in sorted(self._database.rows.tasks.items()) if row.spec.guid in guids]

    async def heads(self, task_type: str, resources: Sequence[str], each: int) -> Sequence[TaskRow]:
        """See `ILeadership.heads`."""
        self._check()
        suites: dict[str | None, list[TaskRow]] = {}
        for row in self._plain():
            if _demand(row) == (task_type, tuple(resources)):
                suites.setdefault(row.spec.suite, []).append(row)
        return [row for rows in suites.values() for row in rows[:each]]

    async def following(self, stretches: Sequence[Stretch]) -> Sequence[Sequence[TaskRow]]:
        """See `ILeadership.following`."""
        self._check()
        return [
            [
                row
                for row in self._plain()
                if _demand(row) == (stretch.task_type, stretch.resources)
                if row.spec.suite == stretch.suite and row.spec.order > stretch.after
                if stretch.below is None or row.spec.id < stretch.below
            ][: stretch.at_most]
            for stretch in stretches
        ]

    async def commit(self, changes: Changes) -> Bodies:
        """See `ILeadership.commit`."""
        self._check()
        gate = self._database.gate()
        if gate is not None:
            await gate
            self._check()
        breaks, self._database.breaks = self._database.breaks, None
        if breaks is Breaks.BEFORE:
            raise self._fail(StoreLost(f"lost {breaks.value}"))
        bodies = self._write(changes)
        if breaks is Breaks.AFTER:
            raise self._fail(StoreLost(f"lost {breaks.value}"))
        return bodies

    def _write(self, changes: Changes) -> Bodies:
        self._fence()
        rows = self._database.rows.copy()
        try:
            bodies = _apply(rows, changes)
        except StoreConflict as conflict:
            raise self._fail(conflict) from None
        self._database.rows = rows
        self._database.commits += 1
        return bodies

    async def finished(self, guids: Sequence[str]) -> frozenset[str]:
        """See `ILeadership.finished`."""
        self._check()
        known = {task.row.spec.guid for task in self._database.rows.history.values()}
        return frozenset(guids) & known

    async def history(self, guids: Sequence[str]) -> Sequence[FinishedRow]:
        """See `ILeadership.history`."""
        self._check()
        rows = self._database.rows
        last = {task.row.spec.guid: id for id, task in sorted(rows.history.items())}
        return [_past(rows, last[guid]) for guid in sorted(last.keys() & guids)]

    async def suite_ends(self, suites: Sequence[str]) -> SuiteEnds:
        """See `ILeadership.suite_ends`."""
        self._check()
        tasks = self._database.rows.history.values()
        ended = [(task.row.spec.suite, task.result or task.outcome) for task in tasks]
        return {suite: Counter(how for whose, how in ended if whose == suite) for suite in suites}

    async def attempts(self, task_id: int) -> Sequence[AttemptRow]:
        """See `ILeadership.attempts`."""
        self._check()
        ended = sorted(self._database.rows.attempts.items())
        return [row for _, row in ended if row.task_id == task_id][-MOST_ATTEMPTS:]

    async def dead(self, at_most: int) -> tuple[int, Sequence[DeadRow]]:
        """See `ILeadership.dead`."""
        self._check()
        rows = self._database.rows
        found = [_dead(rows, id) for id, task in _unsettled(rows) if _is_listed(rows, id)]
        return len(found), found[:at_most]

    async def message(self, task_id: int) -> Stored | None:
        """See `ILeadership.message`."""
        self._check()
        rows = self._database.rows
        if task_id in rows.tasks:
            return Stored(rows.tasks[task_id][1], rows.properties.get(task_id))
        task = rows.history.get(task_id)
        return None if task is None else Stored(task.body, task.properties)

    async def dead_messages(self, guids: Sequence[str]) -> Sequence[DeadMessage]:
        """See `ILeadership.dead_messages`."""
        self._check()
        rows = self._database.rows
        found = [(id, task) for id, task in _unsettled(rows) if _is_listed(rows, id)]
        return [
            DeadMessage(id, task.row.spec.guid, Stored(task.body, task.properties))
            for id, task in found
            if task.row.spec.guid in guids
        ]

    async def copies(self, at_most: int) -> Sequence[CopyRow]:
        """See `ILeadership.copies`."""
        self._check()
        rows = self._database.rows
        found = [
            CopyRow(id, task.row.spec.guid, task.row.attempts, task.copy, not _is_listed(rows, id))
            for id, task in sorted(rows.history.items())
            if task.copy is not None
        ]
        return [row for row in found if row.settled or row.copy is not Copy.THERE][:at_most]

    async def settle(self, guids: Sequence[str]) -> Sequence[str]:
        """See `ILeadership.settle`."""
        self._check()
        self._fence()
        rows = self._database.rows
        found = {id: task for id, task in rows.history.items() if _is_unsettled(task, guids)}
        for id, task in found.items():
            rows.history[id] = dataclasses.replace(task, settled=True)
        return sorted({task.row.spec.guid for task in found.values()})

    async def forget(self, before: float, at_most: int) -> int:
        """See `ILeadership.forget`."""
        self._check()
        self._fence()
        rows = self._database.rows
        kept = {id for id, _ in _unsettled(rows) if _is_listed(rows, id)}
        kept |= {id for id, task in rows.history.items() if task.copy}
        old = sorted((task.finished_at, id) for id, task in rows.history.items() if id not in kept)
        gone = {id for at, id in old[:at_most] if at < before}
        for id in gone:
            del rows.history[id]
        rows.attempts = {id: row for id, row in rows.attempts.items() if row.task_id not in gone}
        return len(gone)

    async def end(self) -> None:
        """See `ILeadership.end`."""
        self._ended = True
        self._watchers.clear()
        self._fail(StoreLost("the session was closed"))

    def _check(self) -> None:
        if self._over is not None:
            raise self._over

    def _fence(self) -> None:
        rows = self._database.rows
        if self._database.full is not None:
            raise self._fail(StoreLost(self._database.full))
        if (rows.epoch, rows.turns) != (self.epoch, self._turns):
            raise self._fail(LeadershipOver(LEADERSHIP_OVER_TEXT))
        rows.turns = self._turns = self._turns + 1

    def _fail(self, error: StoreLost) -> StoreLost:
        if self._over is None:
            self._over = error
            watchers, self._watchers = self._watchers, []
            self._database.released(self._lock_name, self)
            for tell in watchers:
                tell(error)
        return error


def _above_all(rows: Rows) -> ManagerRow:
    """Return the manager's row with numbers above all that are in use."""
    tasks = [*rows.tasks, *rows.history, *(attempt.task_id for attempt in rows.attempts.values())]
    task_ids = max([rows.manager.task_ids, *(id + 1 for id in tasks)])
    attempt_ids = max([rows.manager.attempt_ids, *(id + 1 for id in rows.attempts)])
    return replace(rows.manager, task_ids=task_ids, attempt_ids=attempt_ids)


def _demand(row: TaskRow) -> tuple[str, tuple[str, ...]]:
    return row.spec.task_type, row.spec.resources


def _unread(demand: Iterable[TaskRow]) -> Unread:
    rows = list(demand)
    return Unread(*_demand(rows[0]), len(rows), max(row.spec.priority for row in rows))


def _unsettled(rows: Rows) -> list[tuple[int, FinishedTask]]:
    """Return dead tasks that nobody has settled and whose guid has no later end."""
    last = {task.row.spec.guid: id for id, task in sorted(rows.history.items())}
    found = [(id, rows.history[id]) for id in sorted(last.values(), reverse=True)]
    return [(id, task) for id, task in found if _is_unsettled(task)]


def _is_unsettled(task: FinishedTask, guids: Container[str] | None = None) -> bool:
    meant = guids is None or task.row.spec.guid in guids
    return meant and task.outcome is Outcome.DEAD and not task.settled


def _is_listed(rows: Rows, id: int) -> bool:
    """Tell whether a dead task is not settled, and no task with its guid came after it."""
    task = rows.history[id]
    guid = task.row.spec.guid
    later = [row.spec.id for row, _ in rows.tasks.values() if row.spec.guid == guid]
    later += [other for other, task in rows.history.items() if task.row.spec.guid == guid]
    return not task.settled and max(later) <= id


def _dead(rows: Rows, id: int) -> DeadRow:
    task = rows.history[id]
    row = TaskRow(task.row.spec, attempts=task.row.attempts)
    attempts = [attempt for _, attempt in sorted(rows.attempts.items()) if attempt.task_id == id]
    worker, end = (attempts[-1].worker, attempts[-1].end) if attempts else (None, None)
    return DeadRow(FinishedRow(row, task.outcome, task.finished_at), worker, end)


def _is_wanted(task: FinishedTask, wanted: PastFilter) -> bool:
    spec = task.row.spec
    has = (spec.suite, spec.task_type, task.worker, task.outcome, task.result)
    asked = (wanted.suite, wanted.task_type, wanted.worker, wanted.outcome, wanted.result)
    fits = all(each in (None, value) for each, value in zip(asked, has, strict=True))
    begins = wanted.guid is None or spec.guid.startswith(wanted.guid)
    return fits and begins and wanted.since <= task.finished_at < wanted.until


def _past(rows: Rows, id: int) -> FinishedRow:
    task = rows.history[id]
    by = None if task.attempt is None else rows.attempts.get(task.attempt)
    dispatched, started = (None, None) if by is None else (by.dispatched, by.started)
    row = TaskRow(
        task.row.spec,
        attempts=task.row.attempts,
        attempt=task.attempt,
        worker=task.worker,
        dispatched=dispatched,
        started=started,
    )
    return FinishedRow(row, task.outcome, task.finished_at, task.result, task.message)


def _apply(rows: Rows, changes: Changes) -> Bodies:
    """Write changes in their order. Raises `StoreConflict`."""
    rows.manager = changes.manager or rows.manager
    _write_tasks(rows, changes)
    _write_attempts(rows, changes)
    for id, end in changes.finished.items():
        _finish(rows, id, end)
    _write_copies(rows, changes)
    rows.workers.update(changes.workers)
    for name in changes.left:
        rows.workers.pop(name, None)
    rows.paused = (rows.paused | set(changes.paused)) - set(changes.readied)
    for suite in changes.stops_forgotten:
        rows.stops.pop(suite, None)
    rows.stops.update(changes.stops)
    if len({row.spec.guid for row, _ in rows.tasks.values()}) < len(rows.tasks):
        raise StoreConflict("a guid is there twice")
    return {id: _body(rows, id) for id in changes.bodies}


def _finish(rows: Rows, id: int, end: Finish) -> None:
    row, body = rows.tasks.pop(_known(rows.tasks, id))
    by = end.attempt, end.worker
    if end.worker is None:
        last = max(
            (each for each in rows.attempts.values() if each.task_id == id), default=None, key=_number
        )
        by = (None, None) if last is None else (last.id, last.worker)
    rows.history[_new(rows.history, id)] = FinishedTask(
        replace(row, attempts=end.attempts),
        end.outcome,
        max(end.at, rows.manager.calendar or end.at),
        body,
        rows.properties.pop(id, None),
        copy=end.copy,
        result=end.result,
        message=end.message,
        attempt=by[0],
        worker=by[1],
    )


def _number(attempt: AttemptRow) -> int:
    return attempt.id


def _write_tasks(rows: Rows, changes: Changes) -> None:
    for row, body in changes.accepted:
        rows.tasks[_new(rows.tasks, row.spec.id)] = (_checked(row), body)
        if row.spec.id in changes.properties:
            rows.properties[row.spec.id] = changes.properties[row.spec.id]
    for id, row in changes.tasks.items():
        old, body = rows.tasks[_known(rows.tasks, id)]
        rows.tasks[id] = (replace(_checked(row), spec=old.spec), body)


def _write_copies(rows: Rows, changes: Changes) -> None:
    """Record what the dead queue has of dead tasks; those that are settled must have nothing there."""
    for id, copy in changes.copies.items():
        if id in rows.history and rows.history[id].copy is not None:
            kept = copy is not Copy.DUE or _is_listed(rows, id)
            rows.history[id] = dataclasses.replace(rows.history[id], copy=copy if kept else None)


def _write_attempts(rows: Rows, changes: Changes) -> None:
    for attempt in changes.attempts:
        rows.attempts[_new(rows.attempts, attempt.id)] = attempt
    for id, said in changes.judged.items():
        if id in rows.attempts:
            rows.attempts[id] = replace(
                rows.attempts[id], result=said.result, message=said.message, details=said.details
            )
    for id in changes.resolved:
        if id in rows.attempts:
            rows.attempts[id] = replace(rows.attempts[id], unresolved=False)


def _body(rows: Rows, id: int) -> bytes:
    if id in rows.tasks:
        return rows.tasks[id][1]
    if id in rows.history:
        return rows.history[id].body
    raise StoreConflict(f"no body of task {id}")


def _new(table: Container[int], id: int) -> int:
    if id in table:
        raise StoreConflict(f"{id} is there already")
    return id


def _known(table: Container[int], id: int) -> int:
    if id not in table:
        raise StoreConflict(f"task {id} is not there")
    return id


def _checked(row: TaskRow) -> TaskRow:
    """Raise if the real table's constraints would refuse a row."""
    placed = (row.attempt, row.worker)
    match row.state:
        case TaskState.WAITING:
            fits = placed == (None, None)
        case TaskState.DEAD_LETTERING:
            fits = True
        case _:
            fits = None not in placed and row.dispatched is not None
    limit = row.spec.time_limit
    if not (fits and isfinite(row.spec.priority) and (limit is None or limit > 0) and row.attempts >= 0):
        raise StoreConflict(f"task {row.spec.id} is in no possible state: {row.state}")
    return row
