"""Lanes and demands: which tasks wait for what.

A *lane* holds the tasks that are alike in all that decides whether they can run: task type, resources,
suite and the workers they avoid. Only the head of a lane competes. The lanes of one type that need the same
resources are a *demand*.

Not all of a lane need be in memory: an *unread* task is in the database only. A lane is *loaded up to* some
place, and *drained* when everything up to there has been dispatched. A demand is *paged out* when not even
all its lanes are known. Drained lanes and paged-out demands compete with the best rank that any of their
unread tasks may have, so that nothing overtakes those. When one comes up, it has to be read.
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TypeAlias

from tefmanager.core.model.entities import Task
from tefmanager.core.model.values import NOTHING, Order, Stretch
from tefmanager.core.waiting.type_queues import TypeQueue
from tefmanager.core.waiting.wait_lists import Competitor, Rank


class Lane(Competitor):
    """Waiting tasks that are alike, in the order in which they are dispatched.

    Attributes:
        demand: the demand that it belongs to.
        size: how many of its tasks are in memory.
        loaded_up_to: the place up to which all its tasks are in memory; None if all are.
        batch: how many of its tasks were read last.
    """

    def __init__(
        self, demand: Demand, suite: str | None, avoid: frozenset[str], loaded_up_to: Order | None = None
    ) -> None:
        super().__init__(demand.resources, suite, avoid)
        self.demand = demand
        self.size = 0
        self.loaded_up_to = loaded_up_to
        self.batch = 0
        self._heap: list[tuple[Rank, int, Task]] = []
        self._beyond: dict[Task, None] = {}
        self._aside: dict[Task, None] = {}
        self._ties = count()

    @property
    def goes_on(self) -> bool:
        """Whether unread tasks may follow, for a lane whose demand is not paged out."""
        return self.loaded_up_to is not None and self.demand.paged_out is None

    def add(self, task: Task) -> None:
        """Put a task in its place. A task that waited here before gets its old place."""
        task.lane = self
        self.size += 1
        self._put(task)

    def move(self, task: Task) -> None:
        """Move one of its tasks to the place that its rank gives it now."""
        self._beyond.pop(task, None)
        self._aside.pop(task, None)
        self._put(task)

    def advance(self, task: Task) -> None:
        """Move one of its tasks forward, and let the lane compete with it."""
        self.move(task)
        self.demand.type_queue.offer(self)

    def _put(self, task: Task) -> None:
        """Let a task stand in line, unless an unread one may go before it."""
        if task.aside:
            self._aside[task] = None
        elif (
            self.loaded_up_to is None
            or task.order <= self.loaded_up_to
            or task.rank < (self.loaded_up_to[0], 1, 0, 0)
        ):
            heapq.heappush(self._heap, (task.rank, next(self._ties), task))
        else:
            self._beyond[task] = None

    def remove(self, task: Task) -> None:
        """Remove a task from the lane, wherever in it the task is."""
        task.lane = None
        self.size -= 1
        self._beyond.pop(task, None)
        self._aside.pop(task, None)

    def head(self) -> Task | None:
        """Return the task that is next in this lane, or None if the lane is empty or drained."""
        first = self._first()
        return None if first is None else first[-1]

    def _first(self) -> tuple[Rank, int, Task] | None:
        while self._heap:
            rank, _, task = self._heap[0]
            if task.lane is self and rank[2] == (task.claim or 0) and not task.aside:
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def tasks(self) -> list[Task]:
        """Return all its tasks that are in memory, oldest first."""
        near = {task for *_, task in self._heap if task.lane is self}
        return sorted({*near, *self._beyond, *self._aside}, key=lambda task: task.spec.id)

    def beyond(self) -> list[Task]:
        """Return its tasks in memory that must wait until the unread ones before them have been read."""
        return list(self._beyond)

    def load_up_to(self, loaded_up_to: Order | None) -> None:
        """Change the place up to which all its tasks are in memory."""
        self.loaded_up_to = loaded_up_to
        tasks, self._heap, self._beyond, self._aside = self.tasks(), [], {}, {}
        for task in tasks:
            self._put(task)

    def key(self) -> Rank | None:
        """Return its rank among its suite's lanes, or None if it does not compete."""
        if self.held:
            return None
        first = self._first()
        return self._of_unread() if first is None else first[0]

    def _of_unread(self) -> Rank | None:
        """Return a rank before all its unread tasks; None if none, or if its paged-out demand competes."""
        if self.loaded_up_to is None or self.demand.paged_out is not None:
            return None
        priority, age = self.loaded_up_to
        return (priority, 1, 0, age)


class PagedOut(Competitor):
    """Competes for a demand whose lanes are not all known; when it comes up, the demand is read.

    Attributes:
        demand: the demand.
        first: the place before all its unread tasks.
    """

    def __init__(self, demand: Demand, first: Order) -> None:
        super().__init__(demand.resources, None, frozenset())
        self.demand = demand
        self.first = first

    def key(self) -> Rank | None:
        """Return a rank before all its tasks, or None if only tasks of paused suites wait."""
        return None if self.held else (self.first[0], 0, 0, 0)

    def head(self) -> None:
        """Return None: it is not known which of its tasks is first."""


class Demand:
    """The lanes of one task type that need the same resources.

    Attributes:
        size: how many of its tasks wait, unread ones included.
        unread: how many of them are not in memory.
        lanes: those in memory, by suite and avoided workers.
        paged_out: what competes for the whole demand while it is paged out, or None.
        wanted: it was read because it came up, and has not been served since.
        evicted: it was paged out for want of memory, and not only because the leadership began that way.
        used: when it was served last, in the backlog's own count.
    """

    def __init__(self, type_queue: TypeQueue, resources: tuple[str, ...]) -> None:
        self.type_queue = type_queue
        self.resources = resources
        self.size = 0
        self.unread = 0
        self.lanes: dict[tuple[str | None, frozenset[str]], Lane] = {}
        self.paged_out: PagedOut | None = None
        self.wanted = False
        self.evicted = False
        self.used = 0

    @property
    def idle(self) -> bool:
        """Whether all its competing lanes are short of a resource."""
        return all(lane.wait_list.short is not None or lane.key() is None for lane in self.lanes.values())

    def stretch(self, suite: str | None, after: Order = NOTHING, at_most: int = 0) -> Stretch:
        """Return which part of a suite's tasks is to be read: at most so many, after a place."""
        return Stretch(self.type_queue.task_type, self.resources, suite, after, at_most)

    def first(self) -> Task | None:
        """Return the first task in memory that may go. In a paged-out demand it stands for all."""
        lanes = (lane for lane in self.lanes.values() if not lane.held)
        tasks = (task for lane in lanes for task in lane.tasks() if not task.aside)
        return min(tasks, key=lambda task: task.rank, default=None)

    def page_out(self, first: Order, *, held: bool) -> None:
        """Compete as a whole. No task goes before ``first``; ``held``: all its suites are paused."""
        self.paged_out = PagedOut(self, first)
        self.paged_out.held = held
        self.wanted = False
        for lane in self.lanes.values():
            lane.load_up_to(NOTHING)
        self.type_queue.open(self.paged_out)

    def resume(self) -> None:
        """Let each lane compete for itself again."""
        if self.paged_out is not None:
            self.type_queue.close(self.paged_out)
            self.paged_out = None


InLine: TypeAlias = Lane | PagedOut
"""What competes for a worker."""
