"""Drives a core like the engine, with clocks, a broker and an Etcd that a test controls."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeVar

from tefmanager.core.core import Core
from tefmanager.core.model import effects, events
from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.values import Changes, Moment, Snapshot
from tefmanager.engine.pager import Pager
from tefmanager.protocol.messages import ManagerState, SetState, SuiteCommand, TaskMessage, WorkerMessage
from tests.fakes.store import FakeDatabase, FakeLeadership

T = TypeVar("T")

START = datetime(2026, 3, 4, 12, 0)
"""A Wednesday noon."""


@dataclass
class Grid:
    """A core, one turn for each call, and the results.

    Attributes:
        confirm: the broker confirms every dispatch at once.
        grant: Etcd answers every reservation at once, by the counts kept here.
        sent: (worker's address, guid) of each dispatch, in order.
        lines: texts of all log lines.
        outcomes: how tasks ended, by guid.
    """

    limits: Limits = field(default_factory=Limits)
    snapshot: Snapshot = field(default_factory=Snapshot)
    resources: dict[str, Resource] = field(default_factory=dict)
    confirm: bool = True
    grant: bool = True

    def __post_init__(self) -> None:
        self.time = 0.0
        self.leadership: FakeLeadership | None = None
        self.core = Core(self.limits, self.snapshot, self.now)
        self.guids = {row.spec.id: row.spec.guid for row in self.snapshot.tasks}
        self.held: dict[int, tuple[str, ...]] = {}
        self.sent: list[tuple[str, str]] = []
        self.published: list[effects.Publish] = []
        self.lines: list[str] = []
        self.effects: list[effects.Effect] = []
        self.outcomes: dict[str, Outcome] = {}
        self.changes: list[Changes] = []
        self._begin()

    def _begin(self) -> None:
        self.turn()
        if self.grant:
            held = {attempt: frozenset(names) for attempt, names in self.held.items()}
            self.turn(events.ResourcesRead(dict(self.resources), held))

    def on(self, database: FakeDatabase) -> Grid:
        """Keep rows in a database from now on; only then can tasks be unread."""
        self.leadership = database.crown("test")
        return self

    def restart(self) -> Grid:
        """Begin another leadership."""
        assert self.leadership is not None
        at_most = self.limits.memory.tasks
        self.core = Core(self.limits, finish(self.leadership.load(at_most)), self.now)
        self._begin()
        return self

    @property
    def now(self) -> Moment:
        local = START + timedelta(seconds=self.time)
        return Moment(1000.0 + self.time, local.timestamp(), local)

    def turn(self, *happened: events.Event) -> Grid:
        """Take events in, and carry out what the core wants, until it wants nothing more."""
        todo = list(happened)
        while True:
            wanted = self._plan(todo)
            while self.core.backlog.needs_rows:  # the next turn begins before the effects have any result
                wanted += self._plan([])
            todo = self._carry_out(wanted)
            if not todo:
                return self

    def _plan(self, happened: list[events.Event]) -> list[effects.Effect]:
        if self.leadership is not None:
            messages = [getattr(event, "message", None) for event in happened]
            finish(Pager(self.core.backlog, self.leadership).prepare(messages))
        for event in happened:
            self.core.apply(event, self.now)
        self.core.advance(self.now)
        self.core.plan(self.now)
        over = self.core.suites_over
        self.core.conclude(
            finish(self.leadership.suite_ends(over)) if over and self.leadership is not None else {}
        )
        changes, wanted = self.core.close()
        self._write(changes)
        return wanted

    def wait(self, seconds: float) -> Grid:
        """Let time pass, stopping whenever the core has set a timer."""
        until = self.time + seconds
        while (look := self.core.next_look()) is not None and look <= 1000.0 + until:
            self.time = max(self.time, look - 1000.0)
            self.turn()
        self.time = until
        return self.turn()

    def _write(self, changes: Changes) -> None:
        self.changes.append(changes)
        if self.leadership is not None:
            finish(self.leadership.commit(changes))
        self.guids.update({row.spec.id: row.spec.guid for row, _ in changes.accepted})
        self.outcomes.update({self.guids[key]: end.outcome for key, end in changes.finished.items()})

    def _carry_out(self, wanted: list[effects.Effect]) -> list[events.Event]:
        self.effects += wanted
        return [answer for effect in wanted for answer in self._answers(effect)]

    def _answers(self, effect: effects.Effect) -> list[events.Event]:
        match effect:
            case effects.Log(line):
                self.lines.append(line.text)
            case effects.Publish(attempt, task_id, address, _):
                self.sent.append((address, self.guids[task_id]))
                self.published.append(effect)
                return [events.DispatchConfirmed(attempt)] if self.confirm else []
            case effects.Reserve(attempt, names):
                return self._reserve(attempt, names) if self.grant else []
            case effects.Release(attempt, _):
                return self._release(attempt) if self.grant else []
            case effects.DeadLetter(task_id, guid, _):
                return [events.DeadLettered(task_id, guid)]
        return []

    def _reserve(self, attempt: int, names: tuple[str, ...]) -> list[events.Event]:
        there = [self.resources[name] for name in names if name in self.resources]
        short = next((entry.name for entry in there if entry.free_at(self.now.local) < 1), None)
        if short is not None:
            return [self._count(short, 0), events.ReservationRefused(attempt, short)]
        self.held[attempt] = tuple(entry.name for entry in there)
        seen = [self._count(entry.name, +1) for entry in there]
        return [*seen, events.ReservationGranted(attempt, self.held[attempt])]

    def _release(self, attempt: int) -> list[events.Event]:
        seen = [self._count(name, -1) for name in self.held.pop(attempt, ())]
        return [*seen, events.ReservationReleased(attempt)]

    def _count(self, name: str, step: int) -> events.Event:
        old = self.resources[name]
        self.resources[name] = Resource(
            name, old.held + step, old.limit, old.available, old.windows, old.faults
        )
        return events.ResourcesSeen({name: self.resources[name]})

    # --- what the outside says ---

    def submit(self, guid: str, **fields: object) -> Grid:
        """Submit a task; of type ``t`` unless another is given."""
        return self.turn(submitted(guid, **fields))

    def say(
        self,
        name: str,
        status: str,
        task: str | None = None,
        *,
        redelivered: bool = False,
        **more: Any,
    ) -> Grid:
        """Let a worker send a message; of type ``t`` unless another is given."""
        return self.turn(reported(name, status, task, redelivered=redelivered, **more))

    def suite(self, command: str, suite: str) -> Grid:
        return self.turn(events.Commanded(SuiteCommand(command, suite)))

    def set_state(self, state: ManagerState) -> Grid:
        return self.turn(events.Commanded(SetState(state)))

    def resource(self, name: str, limit: int, **fields: object) -> Grid:
        """Create or change a resource."""
        entry = Resource(name, limit=limit, **fields)  # type: ignore[arg-type]
        self.resources[name] = entry
        return self.turn(events.ResourcesSeen({name: entry}))

    # --- questions ---

    @property
    def guids_sent(self) -> list[str]:
        return [guid for _, guid in self.sent]

    def status(self, name: str) -> str:
        worker = self.core.workers.get(name)
        assert worker is not None, f"no worker {name}"
        return worker.status.value

    def logged(self, start: str) -> list[str]:
        return [line for line in self.lines if line.startswith(start)]

    def waiting(self) -> list[str]:
        return [task.spec.guid for task in self.core.backlog.tasks() if task.lane is not None]


def submitted(guid: str, **fields: object) -> events.TaskSubmitted:
    """Return the event of a new task; of type ``t`` unless another is given."""
    redelivered = bool(fields.pop("redelivered", False))
    finished = bool(fields.pop("finished", False))
    return events.TaskSubmitted(_task_message(guid, fields), guid.encode(), redelivered, finished)


def reported(
    name: str, status: str, task: str | None = None, *, redelivered: bool = False, **more: Any
) -> events.WorkerReported:
    """Return that a worker said something; of type ``t`` unless told otherwise."""
    said = {"worker_type": "t", "exchange_name": more.pop("address", None) or name, **more}
    message = WorkerMessage(name=name, status=status, task=task, **said)
    return events.WorkerReported(message, redelivered)


def finish(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never has to wait, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("it waits")


def _task_message(guid: str, fields: dict[str, object]) -> TaskMessage:
    resources = fields.get("resources", ())
    assert isinstance(resources, Iterable)
    values = {
        "task_type": "t",
        "priority": 1.0,
        "suite": None,
        "time_limit": None,
        **fields,
        "resources": tuple(sorted({str(name) for name in resources})),
    }
    return TaskMessage(guid=guid, **values)  # type: ignore[arg-type]
