"""The backlog: waiting tasks in lanes, and whose turn it is.

A *lane* holds the tasks that are alike in all that decides whether they can run: task type, resources,
suite and the workers they avoid. Only the head of a lane competes. The lanes of one task type that
need the same resources form a *road*; a road that is short of a resource is parked as a whole and costs
nothing until it is woken. So the price of a dispatch does not grow with the backlog.

Whose turn it is: the highest priority; among equals those who claim their resources, in the order of their
claims; then the suite that was served longest ago; within a
suite the oldest.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import TypeAlias

from tefmanager.core.entities import Task
from tefmanager.core.lazyqueue import LazyQueue

Place: TypeAlias = tuple[float, int, int, int]
"""Least goes first: priority; those with a claim before those without; claim or turn of the suite; age."""


class Lane:
    """Waiting tasks of one suite on one road, in the order in which they are to be dispatched."""

    def __init__(self, road: Road, suite: str | None, avoid: frozenset[str]) -> None:
        self.road = road
        self.suite = suite
        self.avoid = avoid
        self.held = False
        self.size = 0
        self._heap: list[tuple[tuple[float, int], int, Task]] = []
        self._ties = count()

    def add(self, task: Task) -> None:
        """Put a task in its place; one that was here before gets its old place."""
        task.lane = self
        self.size += 1
        heapq.heappush(self._heap, (task.order, next(self._ties), task))

    def remove(self, task: Task) -> None:
        """Take a task out, wherever it stands."""
        task.lane = None
        self.size -= 1

    def head(self) -> Task | None:
        """Return the task whose turn it is in this lane, or None."""
        while self._heap and self._heap[0][-1].lane is not self:
            heapq.heappop(self._heap)
        return self._heap[0][-1] if self._heap else None

    def tasks(self) -> list[Task]:
        """Return all its tasks, oldest first."""
        return sorted({task for *_, task in self._heap if task.lane is self}, key=lambda task: task.spec.id)

    def key(self) -> Place | None:
        """Return its place among lanes, or None where it does not compete."""
        head = None if self.held else self.head()
        if head is None:
            return None
        priority, age = head.order
        if head.claim is not None:
            return (priority, 0, head.claim, age)
        return (priority, 1, self.road.yard.served.get(self.suite, 0), age)


class Road:
    """The lanes of one task type that need the same resources; ``open`` counts them."""

    def __init__(self, yard: Yard, resources: tuple[str, ...]) -> None:
        self.yard = yard
        self.resources = resources
        self.parked: str | None = None
        self.open = 0
        self.lanes: LazyQueue[Lane] = LazyQueue(Lane.key)

    def key(self) -> Place | None:
        """Return its place among roads, or None while it is parked or empty."""
        if self.parked is not None:
            return None
        best = self.lanes.best()
        return None if best is None else best.key()


class Yard:
    """All that waits for one worker type."""

    def __init__(self, task_type: str) -> None:
        self.task_type = task_type
        self.roads: LazyQueue[Road] = LazyQueue(Road.key)
        self.served: dict[str | None, int] = {}
        self.lanes: Counter[str | None] = Counter()
        self._turn = 0

    def best(self) -> Lane | None:
        """Return the lane whose turn it is, or None."""
        road = self.roads.best()
        return None if road is None else road.lanes.best()

    def serve(self, suite: str | None) -> None:
        """Note that a suite had its turn."""
        self._turn += 1
        self.served[suite] = self._turn

    def opened(self, suite: str | None) -> None:
        """Count one more lane of a suite."""
        self.lanes[suite] += 1

    def closed(self, suite: str | None) -> None:
        """Count one lane less, and forget the turns of a suite that has nothing left to wait."""
        self.lanes[suite] -= 1
        if not self.lanes[suite]:
            del self.lanes[suite]
            self.served.pop(suite, None)

    def offer(self, lane: Lane) -> None:
        """Let a lane compete, or move it forward, after one of its tasks or its state changed."""
        lane.road.lanes.offer(lane)
        self.roads.offer(lane.road)


class Backlog:
    """Every task that is not finished by its guid, and the waiting ones in their lanes."""

    def __init__(self) -> None:
        self.by_guid: dict[str, Task] = {}
        self.yards: dict[str, Yard] = {}
        self.paused: set[str] = set()
        self.waiting = 0
        self._roads: dict[tuple[str, tuple[str, ...]], Road] = {}
        self._lanes: dict[tuple[Road, str | None, frozenset[str]], Lane] = {}
        self._suites: dict[str, dict[Lane, None]] = {}

    def add(self, task: Task) -> None:
        """Let a task wait: in its old place, where it was here before."""
        lane = self._lane_of(task)
        lane.add(task)
        self.waiting += 1
        lane.road.yard.offer(lane)

    def remove(self, task: Task) -> None:
        """Take a waiting task out of its lane."""
        lane = task.lane
        if lane is None:
            raise ValueError(f"task {task.spec.guid!r} does not wait")
        lane.remove(task)
        self.waiting -= 1
        if lane.size == 0:
            self._forget(lane)

    def best(self, task_type: str) -> Lane | None:
        """Return the lane whose turn it is among those of a type, or None."""
        yard = self.yards.get(task_type)
        return None if yard is None else yard.best()

    def suite_lanes(self, suite: str) -> list[Lane]:
        """Return the lanes in which tasks of a suite wait."""
        return list(self._suites.get(suite, ()))

    def hold(self, suite: str) -> None:
        """Keep a suite's waiting tasks, and those to come, from being dispatched."""
        self.paused.add(suite)
        for lane in self.suite_lanes(suite):
            lane.held = True

    def ready(self, suite: str) -> list[Lane]:
        """Let a suite compete again and return its lanes."""
        self.paused.discard(suite)
        lanes = self.suite_lanes(suite)
        for lane in lanes:
            lane.held = False
            lane.road.yard.offer(lane)
        return lanes

    def tasks(self) -> Iterator[Task]:
        """Go through every task that is not finished."""
        return iter(self.by_guid.values())

    def _lane_of(self, task: Task) -> Lane:
        spec = task.spec
        road = self._road(spec.task_type, spec.resources)
        key = (road, spec.suite, task.avoid)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(road, spec.suite, task.avoid)
            lane.held = spec.suite in self.paused
            road.open += 1
            road.yard.opened(spec.suite)
            if spec.suite is not None:
                self._suites.setdefault(spec.suite, {})[lane] = None
        return lane

    def _road(self, task_type: str, resources: tuple[str, ...]) -> Road:
        road = self._roads.get((task_type, resources))
        if road is None:
            yard = self.yards.setdefault(task_type, Yard(task_type))
            road = self._roads[task_type, resources] = Road(yard, resources)
        return road

    def _forget(self, lane: Lane) -> None:
        """Drop an empty lane, so that memory follows what waits and not what once did."""
        lane.road.lanes.discard(lane)
        lane.road.yard.closed(lane.suite)
        lane.road.open -= 1
        if not lane.road.open:
            del self._roads[lane.road.yard.task_type, lane.road.resources]
        del self._lanes[lane.road, lane.suite, lane.avoid]
        if lane.suite is not None:
            lanes = self._suites[lane.suite]
            del lanes[lane]
            if not lanes:
                del self._suites[lane.suite]
