"""The core with a simulated clock: tasks are submitted, run for their time, and are completed. Pure."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from tefmanager.core.model.limits import Limits
from tefmanager.protocol.catalogue import RESOURCE_WAIT
from tests.unit.grid import Grid

NEVER = 1e9
"""More seconds than anything simulated lasts."""

_EPOCH = 1000.0
"""The simulated grid's monotonic clock at the beginning."""


@dataclass(frozen=True)
class Job:
    """A task that will be submitted.

    Attributes:
        guid: its guid.
        seconds: how long it takes.
        fields: fields of its message, such as ``suite``.
    """

    guid: str
    seconds: float
    fields: Mapping[str, object]


class Simulated:
    """A grid whose workers take as long for a task as the task says.

    Attributes:
        waited: seconds at which each task was first in line and lacked only resources for the first time.
        began, ended: seconds at which each task began and ended, by guid.
        on_begin: called with the guid of each task that begins.
    """

    def __init__(self, workers: int, patience: float, resources: Mapping[str, int]) -> None:
        limits = Limits(NEVER, NEVER, NEVER, patience=patience)
        self._grid = Grid(limits)
        for name, limit in resources.items():
            self._grid.resource(name, limit)
        self._jobs: dict[str, Job] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._seen = 0
        self._lines = 0
        self.waited: dict[str, float] = {}
        self.began: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.on_begin: Callable[[str], None] = lambda guid: None
        for number in range(workers):
            self._grid.say(f"worker-{number}", "idle")

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self._grid.time

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Schedule an action."""
        heapq.heappush(self._due, (time, next(self._numbers), action))

    def submit(self, job: Job) -> None:
        """Submit a task now."""
        self._jobs[job.guid] = job
        self._grid.submit(job.guid, **job.fields)
        self._begin()

    def run(self, until: float) -> None:
        """Let time pass."""
        while (step := min(self._next(), until)) < until:
            self._pass_to(step)
            while self._due and self._due[0][0] <= self.now:
                heapq.heappop(self._due)[2]()
                self._begin()
        self._pass_to(until)

    def _next(self) -> float:
        """Return when the next thing happens, outside the core or in it."""
        look = self._grid.core.next_look()
        within = NEVER if look is None else max(self.now + 1e-3, look - _EPOCH)
        return min(within, self._due[0][0] if self._due else NEVER)

    def _pass_to(self, time: float) -> None:
        self._grid.wait(time - self.now)
        self._begin()

    def _begin(self) -> None:
        for line in self._grid.lines[self._lines :]:
            name, *fields = line.split("|")
            if name == RESOURCE_WAIT.name:
                self.waited.setdefault(fields[1], self.now)
        self._lines = len(self._grid.lines)
        while self._seen < len(self._grid.sent):
            worker, guid = self._grid.sent[self._seen]
            self._seen += 1
            self.began[guid] = self.now
            self._grid.say(worker, "working")
            self.at(self.now + self._jobs[guid].seconds, partial(self._end, worker, guid))
            self.on_begin(guid)

    def _end(self, worker: str, guid: str) -> None:
        self.ended[guid] = self.now
        self._grid.say(worker, "task_complete")
        self._grid.say(worker, "idle")
