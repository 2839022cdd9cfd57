"""Lanes and demands: who waits for what.

A *lane* holds the tasks that are alike in all that decides whether they can run: task type, resources,
suite and the workers they avoid. Only the head of a lane competes.

Not all of a lane need be in memory: what is *unread* stands in the database alone. A lane has a *horizon*
up to which everything is in memory, and when all that has been dispatched it is *dry*. The lanes of one
type that need the same resources are a *demand*; it is *cold* where not even all its lanes are known. Dry
lanes and cold demands compete with the earliest place that something unread may have, so that nobody
overtakes it; when it comes up it has to be read.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

from tefmanager.core.model.entities import Task
from tefmanager.core.model.values import NOTHING, Order, Stretch

if TYPE_CHECKING:
    from tefmanager.core.waiting.type_queues import Line, TypeQueue

Place: TypeAlias = tuple[float, int, float, int]
"""Least goes first: priority; those with a claim before those without; claim or turn of the suite; age."""


class Lane:
    """Waiting tasks that are alike, in the order in which they are to be dispatched.

    Attributes:
        held: its suite is paused.
        size: how many of its tasks are in memory.
        horizon: everything up to there is in memory; None where all is.
        portion: how many tasks were read of it last.
        line: where it stands, or stood last.
        stands: whether it does.
    """

    line: Line

    def __init__(
        self, demand: Demand, suite: str | None, avoid: frozenset[str], horizon: Order | None = None
    ) -> None:
        self.demand = demand
        self.suite = suite
        self.avoid = avoid
        self.held = False
        self.size = 0
        self.horizon = horizon
        self.portion = 0
        self.stands = False
        self._heap: list[tuple[Place, int, Task]] = []
        self._beyond: dict[Task, None] = {}
        self._aside: dict[Task, None] = {}
        self._ties = count()

    @property
    def goes_on(self) -> bool:
        """Whether, on a demand that is not cold, something unread may follow."""
        return self.horizon is not None and self.demand.cold is None

    def add(self, task: Task) -> None:
        """Put a task in its place; one that was here before gets its old place."""
        task.lane = self
        self.size += 1
        self._put(task)

    def move(self, task: Task) -> None:
        """Give one of its tasks the place that is its now."""
        self._beyond.pop(task, None)
        self._aside.pop(task, None)
        self._put(task)

    def _put(self, task: Task) -> None:
        """Let a task stand in line, if nothing unread can go before it."""
        if task.aside:
            self._aside[task] = None
        elif self.horizon is None or task.order <= self.horizon or task.place < (self.horizon[0], 1, 0, 0):
            heapq.heappush(self._heap, (task.place, next(self._ties), task))
        else:
            self._beyond[task] = None

    def remove(self, task: Task) -> None:
        """Take a task out, wherever it stands."""
        task.lane = None
        self.size -= 1
        self._beyond.pop(task, None)
        self._aside.pop(task, None)

    def head(self) -> Task | None:
        """Return the task whose turn it is in this lane, or None where it is empty or dry."""
        first = self._first()
        return None if first is None else first[-1]

    def _first(self) -> tuple[Place, int, Task] | None:
        while self._heap:
            place, _, task = self._heap[0]
            if task.lane is self and place[2] == (task.claim or 0) and not task.aside:
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def tasks(self) -> list[Task]:
        """Return all its tasks that are in memory, oldest first."""
        near = {task for *_, task in self._heap if task.lane is self}
        return sorted({*near, *self._beyond, *self._aside}, key=lambda task: task.spec.id)

    def beyond(self) -> list[Task]:
        """Return those of its tasks in memory that have to wait until what goes before them is read."""
        return list(self._beyond)

    def reach(self, horizon: Order | None) -> None:
        """Change the horizon."""
        self.horizon = horizon
        tasks, self._heap, self._beyond, self._aside = self.tasks(), [], {}, {}
        for task in tasks:
            self._put(task)

    def key(self) -> Place | None:
        """Return its place among its suite's lanes, or None where it does not compete."""
        if self.held:
            return None
        first = self._first()
        return self._earliest() if first is None else first[0]

    def _earliest(self) -> Place | None:
        """Return what no place of an unread task goes before; on a cold demand only the demand has one."""
        if self.horizon is None or self.demand.cold not in (None, self):
            return None
        priority, age = self.horizon
        return (priority, 0, 0, 0) if self is self.demand.cold else (priority, 1, 0, age)


class Demand:
    """The lanes of one task type that need the same resources.

    Attributes:
        size: how many tasks wait on it, unread ones too.
        unread: how many of them are not in memory.
        known: its lanes that are in memory, by suite and avoided workers.
        cold: a lane that stands for all that is unread on a cold demand; its horizon goes before all tasks
            of the demand. None where the demand is not cold.
        wanted: it was read because it came up, and has not been served since.
        spilled: it was cold before, and not only because the leadership began so.
        used: when it was served last, as the backlog counts.
    """

    def __init__(self, type_queue: TypeQueue, resources: tuple[str, ...]) -> None:
        self.type_queue = type_queue
        self.resources = resources
        self.size = 0
        self.unread = 0
        self.known: dict[tuple[str | None, frozenset[str]], Lane] = {}
        self.cold: Lane | None = None
        self.wanted = False
        self.spilled = False
        self.used = 0

    @property
    def idle(self) -> bool:
        """Whether all its lanes that compete stand at resources that they are short of."""
        return all(lane.line.short is not None or lane.key() is None for lane in self.known.values())

    def stretch(self, suite: str | None, after: Order = NOTHING, at_most: int = 0) -> Stretch:
        """Return a part of what waits on it of a suite, to be read."""
        return Stretch(self.type_queue.task_type, self.resources, suite, after, at_most)

    def first(self) -> Task | None:
        """Return the first task in memory that may go: it waits for all of a cold demand."""
        lanes = (lane for lane in self.known.values() if not lane.held)
        tasks = (task for lane in lanes for task in lane.tasks() if not task.aside)
        return min(tasks, key=lambda task: task.place, default=None)

    def cool(self, horizon: Order, *, held: bool) -> None:
        """Let one lane stand for all; ``held``: nobody but paused suites wait."""
        self.cold = Lane(self, None, frozenset(), horizon)
        self.cold.held = held
        self.wanted = False
        for lane in self.known.values():
            lane.reach(NOTHING)
        self.type_queue.open(self.cold)

    def warm(self) -> None:
        """Let each lane stand for itself again."""
        if self.cold is not None:
            self.type_queue.close(self.cold)
            self.cold = None
