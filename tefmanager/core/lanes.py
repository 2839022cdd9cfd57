"""The backlog: waiting tasks in lanes, and whose turn it is.

A *lane* holds the tasks that are alike in all that decides whether they can run: task type, resources,
suite and the workers they avoid. Only the head of a lane competes.

A lane stands in a *line*: in its yard's line of those that may go, or, once it was found short of a
resource, in the line at that resource. There it costs nothing while the resource has nothing to give, and
when it has, only the lane whose turn it is steps forward. So the price of a dispatch grows neither with
the backlog nor with the number of lanes.

Whose turn it is: the highest priority; among equals those who claim their resources, in the order of their
claims; then the suite that was served longest ago; within a suite the oldest.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from typing import TypeAlias, cast

from tefmanager.core.entities import Task
from tefmanager.core.lazyqueue import LazyQueue

Place: TypeAlias = tuple[float, int, int, int]
"""Least goes first: priority; those with a claim before those without; claim or turn of the suite; age."""


class Lane:
    """Waiting tasks that are alike, in the order in which they are to be dispatched.

    Attributes:
        held: its suite is paused.
        size: how many tasks wait in it.
        line: where it stands.
    """

    line: Line

    def __init__(
        self, yard: Yard, resources: tuple[str, ...], suite: str | None, avoid: frozenset[str]
    ) -> None:
        self.yard = yard
        self.resources = resources
        self.suite = suite
        self.avoid = avoid
        self.held = False
        self.size = 0
        self._heap: list[tuple[Place, int, Task]] = []
        self._ties = count()

    def add(self, task: Task) -> None:
        """Put a task in its place; one that was here before gets its old place."""
        task.lane = self
        self.size += 1
        self.move(task)

    def move(self, task: Task) -> None:
        """Give one of its tasks the place that is its now."""
        heapq.heappush(self._heap, (task.place, next(self._ties), task))

    def remove(self, task: Task) -> None:
        """Take a task out, wherever it stands."""
        task.lane = None
        self.size -= 1

    def head(self) -> Task | None:
        """Return the task whose turn it is in this lane, or None."""
        first = self._first()
        return None if first is None else first[-1]

    def _first(self) -> tuple[Place, int, Task] | None:
        while self._heap:
            place, _, task = self._heap[0]
            if task.lane is self and place[2] == (task.claim or 0):
                return self._heap[0]
            heapq.heappop(self._heap)
        return None

    def tasks(self) -> list[Task]:
        """Return all its tasks, oldest first."""
        return sorted({task for *_, task in self._heap if task.lane is self}, key=lambda task: task.spec.id)

    def key(self) -> Place | None:
        """Return its place among its suite's lanes, or None where it does not compete."""
        first = None if self.held else self._first()
        return None if first is None else first[0]


class _SuiteLanes:
    """The lanes of one suite in one line.

    Args:
        turns: when each suite of the yard was served last.

    Attributes:
        best: the lane whose place `key` has returned.
    """

    best: Lane

    def __init__(self, suite: str | None, turns: Mapping[str | None, int]) -> None:
        self.count = 0
        self.lanes: LazyQueue[Lane] = LazyQueue(Lane.key)
        self._suite = suite
        self._turns = turns

    def key(self) -> Place | None:
        """Return the place of its best lane among those of all suites."""
        first = self.lanes.first()
        if first is None:
            return None
        place, self.best = first
        return _among_suites(place, self._turns.get(self._suite, 0))


def _among_suites(place: Place, turn: int) -> Place:
    """Return a lane's place among those of all suites, its own having been served at this turn."""
    priority, unclaimed, claim, age = place
    return (priority, unclaimed, turn if unclaimed else claim, age)


class Line:
    """Lanes that stand in line at one place.

    Args:
        turns: when each suite of the yard was served last.
        short: the resource that they were found short of, or None.

    Attributes:
        best: the lane whose place `key` has returned.
    """

    best: Lane

    def __init__(self, turns: Mapping[str | None, int], short: str | None = None) -> None:
        self.short = short
        self._turns = turns
        self._suites: dict[str | None, _SuiteLanes] = {}
        self._queue: LazyQueue[_SuiteLanes] = LazyQueue(_SuiteLanes.key)
        self._passed_over: list[Lane] = []

    def __bool__(self) -> bool:
        """Tell whether any lane stands here."""
        return bool(self._suites)

    def key(self) -> Place | None:
        """Return the place of the lane whose turn it is, or None."""
        first = self._queue.first()
        if first is None:
            return None
        place, suite = first
        self.best = suite.best
        return cast(Place, place)

    def enter(self, lane: Lane) -> None:
        """Let a lane stand here."""
        lane.line = self
        suite = self._suites.get(lane.suite)
        if suite is None:
            suite = self._suites[lane.suite] = _SuiteLanes(lane.suite, self._turns)
        suite.count += 1
        self.offer(lane)

    def offer(self, lane: Lane) -> None:
        """Let one of its lanes compete, or move it forward, after its head or its state changed."""
        suite = self._suites[lane.suite]
        suite.lanes.offer(lane)
        self._queue.offer(suite)

    def leave(self, lane: Lane) -> None:
        """Let a lane go."""
        suite = self._suites[lane.suite]
        suite.lanes.discard(lane)
        suite.count -= 1
        if not suite.count:
            self._queue.discard(suite)
            del self._suites[lane.suite]

    def set_aside(self, lane: Lane) -> None:
        """Keep a lane from competing until it is offered again."""
        self._suites[lane.suite].lanes.discard(lane)

    def pass_over(self, lane: Lane) -> None:
        """Keep a lane from competing until all are reconsidered."""
        self.set_aside(lane)
        self._passed_over.append(lane)

    def reconsider(self) -> None:
        """Let the lanes that were passed over compete again."""
        lanes, self._passed_over = self._passed_over, []
        for lane in lanes:
            if lane.size and lane.line is self:
                self.offer(lane)


class Yard:
    """All that waits for one worker type."""

    def __init__(self, task_type: str) -> None:
        self.task_type = task_type
        self._served: dict[str | None, int] = {}
        self._lanes: Counter[str | None] = Counter()
        self._turn = 0
        self._ready = Line(self._served)
        self._short: dict[str, Line] = {}
        self._lines: LazyQueue[Line] = LazyQueue(Line.key)
        self._first: dict[tuple[str, ...], Lane] = {}

    def best(self, gives: Callable[[str], bool]) -> Lane | None:
        """Return the lane whose turn it is, of those that may go, or None.

        ``gives`` tells whether a resource has a reference to give.
        """
        while (first := self._lines.first()) is not None:
            line = first[1]
            if line.short is None or gives(line.short):
                return line.best
            self._lines.discard(line)  # until it is woken
        return None

    def offer(self, lane: Lane) -> None:
        """Let a lane compete, or move it forward, after its head or its state changed."""
        lane.line.offer(lane)
        self._lines.offer(lane.line)

    def serve(self, lane: Lane) -> None:
        """Note that a lane's suite had its turn."""
        self._turn += 1
        self._served[lane.suite] = self._turn
        self._step_back(lane)

    def open(self, lane: Lane) -> None:
        """Take in a new lane."""
        self._lanes[lane.suite] += 1
        self._ready.enter(lane)

    def close(self, lane: Lane) -> None:
        """Drop an empty lane, and forget the turns of a suite that has nothing left to wait."""
        self._leave(lane)
        self._step_back(lane)
        self._lanes[lane.suite] -= 1
        if not self._lanes[lane.suite]:
            del self._lanes[lane.suite]
            self._served.pop(lane.suite, None)

    def park(self, lane: Lane, name: str) -> bool:
        """Let a lane stand in the line at a resource that it is short of.

        Returns whether it is the first of the lanes that need the same resources.
        """
        if lane.line.short == name:
            lane.line.pass_over(lane)
        else:
            self._leave(lane)
            line = self._short.get(name)
            if line is None:
                line = self._short[name] = Line(self._served, name)
            line.enter(lane)
            if line in self._lines:
                self._lines.offer(line)
        return self._step_forward(lane)

    def unpark(self, lane: Lane) -> None:
        """Let a lane stand among those that may go."""
        self._leave(lane)
        self._ready.enter(lane)
        self._lines.offer(self._ready)

    def _step_forward(self, lane: Lane) -> bool:
        first = self._first.get(lane.resources)
        if first is not None and first is not lane:
            place, mine = (self._place(one) for one in (first, lane))
            if place is not None and mine is not None and place < mine:
                return False
        self._first[lane.resources] = lane
        return True

    def _place(self, lane: Lane) -> Place | None:
        key = lane.key()
        return None if key is None else _among_suites(key, self._served.get(lane.suite, 0))

    def _step_back(self, lane: Lane) -> None:
        if self._first.get(lane.resources) is lane:
            del self._first[lane.resources]

    def _leave(self, lane: Lane) -> None:
        line = lane.line
        line.leave(lane)
        if line.short is not None and not line:
            del self._short[line.short]
            self._lines.discard(line)

    def wake(self, name: str) -> None:
        """Let those that are short of a resource compete, as long as it has something to give."""
        line = self._short.get(name)
        if line is not None:
            line.reconsider()
            self._lines.offer(line)

    def shortages(self) -> Iterable[str]:
        """Return the resources at which lanes stand."""
        return self._short.keys()


class Backlog:
    """Every task that is not finished by its guid, and the waiting ones in their lanes."""

    def __init__(self) -> None:
        self.by_guid: dict[str, Task] = {}
        self.yards: dict[str, Yard] = {}
        self.paused: set[str] = set()
        self.waiting = 0
        self._lanes: dict[tuple[str, tuple[str, ...], str | None, frozenset[str]], Lane] = {}
        self._suites: dict[str, dict[Lane, None]] = {}

    def add(self, task: Task) -> None:
        """Let a task wait: in its old place, where it was here before."""
        lane = self._lane_of(task)
        lane.add(task)
        self.waiting += 1
        lane.yard.offer(lane)

    def remove(self, task: Task) -> None:
        """Take a waiting task out of its lane."""
        lane = task.lane
        if lane is None:
            raise ValueError(f"task {task.spec.guid!r} does not wait")
        lane.remove(task)
        self.waiting -= 1
        if lane.size == 0:
            self._forget(lane)

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
            lane.yard.offer(lane)
        return lanes

    def wake(self, names: Iterable[str]) -> None:
        """Let those that are short of any of these resources see whether they can go now."""
        for name in names:
            for yard in self.yards.values():
                yard.wake(name)

    def wake_all(self) -> None:
        """Let everyone see."""
        self.wake(self.shortages())

    def shortages(self) -> set[str]:
        """Return the resources at which lanes stand."""
        return {name for yard in self.yards.values() for name in yard.shortages()}

    def tasks(self) -> Iterator[Task]:
        """Go through every task that is not finished."""
        return iter(self.by_guid.values())

    def _lane_of(self, task: Task) -> Lane:
        spec = task.spec
        key = (spec.task_type, spec.resources, spec.suite, task.avoid)
        lane = self._lanes.get(key)
        if lane is None:
            yard = self.yards.get(spec.task_type)
            if yard is None:
                yard = self.yards[spec.task_type] = Yard(spec.task_type)
            lane = self._lanes[key] = Lane(yard, spec.resources, spec.suite, task.avoid)
            lane.held = spec.suite in self.paused
            yard.open(lane)
            if spec.suite is not None:
                self._suites.setdefault(spec.suite, {})[lane] = None
        return lane

    def _forget(self, lane: Lane) -> None:
        """Drop an empty lane, so that memory follows what waits and not what once did."""
        lane.yard.close(lane)
        del self._lanes[lane.yard.task_type, lane.resources, lane.suite, lane.avoid]
        if lane.suite is not None:
            lanes = self._suites[lane.suite]
            del lanes[lane]
            if not lanes:
                del self._suites[lane.suite]
