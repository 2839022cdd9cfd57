"""Observes the grid through public interfaces only.

These are the manager's answer to ``get_workers``, its log, Etcd's keys and the workers' results.
"""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tefmanager.demo.client import Client
from tefmanager.demo.shared_resources import Etcd, Use, read_use
from tefmanager.demo.suite import LIMITS, DemoTask

INTERVAL = 0.2
"""Seconds between two queries to the manager and Etcd."""

_EVENT = re.compile(r"\S+ [a-z]+ ([A-Z_]{4,}(?:\|.*|$))")
_KEPT_EVENTS = 50


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker, as the manager sees it.

    Attributes:
        name: its name.
        status: ``idle``, ``dispatched``, ``working``, ``stalled`` or ``missing``.
        task: guid of its task, or an empty text.
        seconds: how long it has had the task.
    """

    name: str
    status: str
    task: str
    seconds: float


@dataclass(frozen=True, slots=True)
class View:
    """The grid at a moment.

    Attributes:
        elapsed: seconds since the suite was submitted.
        total: number of tasks in the suite.
        done: number of tasks with a result.
        working: number of tasks that a worker has.
        workers: the workers, by name.
        uses: the use of each resource.
        wanted: how many waiting tasks need each resource.
        events: the last events: seconds and text.
    """

    elapsed: float
    total: int
    done: int
    working: int
    workers: Sequence[WorkerView] = ()
    uses: Sequence[Use] = ()
    wanted: Mapping[str, int] = field(default_factory=dict)
    events: Sequence[tuple[float, str]] = ()

    @property
    def waiting(self) -> int:
        """How many tasks wait in the manager."""
        return self.total - self.done - self.working


class Observer:
    """Watches the grid.

    Args:
        tasks: the suite.
        client: the manager's client.
        etcd: holds the resources.
        log: the manager's log file.

    Attributes:
        uses: the use of each resource, as last seen.
        most: the highest count of each resource that was seen.
    """

    def __init__(self, tasks: Sequence[DemoTask], client: Client, etcd: Etcd, log: Path) -> None:
        self.uses: list[Use] = []
        self.most: Counter[str] = Counter()
        self._tasks = tasks
        self._client = client
        self._etcd = etcd
        self._log = _LogTail(log)
        self._begun = time.monotonic()
        self._events: deque[tuple[float, str]] = deque(maxlen=_KEPT_EVENTS)
        self._since: dict[tuple[str, str], float] = {}

    def begin(self) -> None:
        """Start to count time and events."""
        self._begun = time.monotonic()
        self._log.read()

    @property
    def elapsed(self) -> float:
        """Seconds since `begin`."""
        return time.monotonic() - self._begun

    @property
    def finished(self) -> bool:
        """Tell whether all results have come and all references are given back."""
        return self._done() == len(self._tasks) and not any(use.held or use.locks for use in self.uses)

    def look(self) -> View:
        """Query everything, wait for the manager's answer, and return the view."""
        self._client.ask_for_workers()
        self._client.turn(INTERVAL / 2)
        self._look_at_resources()
        self._events.extend((self.elapsed, event) for event in self._log.read())
        workers = self._workers()
        busy = {worker.task for worker in workers if worker.task} - self._client.keeper.results.keys()
        return View(
            self.elapsed,
            len(self._tasks),
            self._done(),
            len(busy),
            workers,
            self.uses,
            self._wanted(busy),
            tuple(self._events),
        )

    def _done(self) -> int:
        return len(self._client.keeper.results)

    def _look_at_resources(self) -> None:
        self.uses = read_use(self._etcd, LIMITS)
        for use in self.uses:
            self.most[use.name] = max(self.most[use.name], use.held)

    def _workers(self) -> list[WorkerView]:
        now = self.elapsed
        have = {(worker["name"], (worker["task"] or {}).get("guid", "")) for worker in self._client.workers}
        self._since = {each: self._since.get(each, now) for each in have}
        ordered = sorted(self._client.workers, key=lambda worker: (len(worker["name"]), worker["name"]))
        views = [self._worker(worker["name"], worker["status"], worker["task"], now) for worker in ordered]
        return sorted(views, key=lambda view: view.name.rpartition("-")[0])

    def _worker(self, name: str, status: str, task: Mapping[str, str] | None, now: float) -> WorkerView:
        guid = (task or {}).get("guid", "")
        return WorkerView(name, status, guid, now - self._since[name, guid])

    def _wanted(self, busy: set[str]) -> Counter[str]:
        gone = busy | self._client.keeper.results.keys()
        return Counter(name for task in self._tasks if task.guid not in gone for name in task.resources)


class _LogTail:
    """Reads the events that were added to a log file since the last read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = 0

    def read(self) -> list[str]:
        with self._path.open("rb") as log:
            log.seek(self._position)
            text = log.read()
        text = text[: text.rfind(b"\n") + 1]
        self._position += len(text)
        found = (_EVENT.fullmatch(line) for line in text.decode("utf-8", "replace").splitlines())
        return [match[1] for match in found if match]
