"""Lines and type queues: whose turn it is.

A lane stands in a *line*: in its type queue's line of those that may go, or, once it was found short of a
resource, in the line at that resource. There it costs nothing while the resource has nothing to give, and
when it has, only the lane whose turn it is steps forward, of all types (`front`). So the price of a
dispatch grows neither with the backlog nor with the number of lanes or types.

Whose turn it is: the highest priority; among equals those who claim their resources, in the order of their
claims; then the suite that was served longest ago; within a suite the oldest. In a type its turns count,
and those at the resource that a lane is short of; between types only the latter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import cast

from tefmanager.core.waiting.front import Front, Sleepers, Stand
from tefmanager.core.waiting.lanes import Lane, Place
from tefmanager.core.waiting.lazyqueue import LazyQueue
from tefmanager.core.waiting.rotation import Turns


class _SuiteLanes:
    """The lanes of one suite in one line.

    Args:
        line: it.

    Attributes:
        best: the lane whose place `key` has returned.
        place: the same, turns aside.
    """

    best: Lane
    place: Place

    def __init__(self, suite: str | None, line: Line) -> None:
        self.count = 0
        self.lanes: LazyQueue[Lane] = LazyQueue(Lane.key)
        self._suite = suite
        self._line = line

    def key(self) -> Place | None:
        """Return the place of its best lane among those of all suites."""
        first = self.lanes.first()
        if first is None:
            return None
        place, self.best = first
        self.place = place
        return _among_suites(place, self._line.turn(self._suite))


def _among_suites(place: Place, turn: float) -> Place:
    """Return a lane's place among those of all suites, its own having been served at this turn."""
    priority, unclaimed, claim, age = place
    return (priority, unclaimed, turn if unclaimed else claim, age)


class Line:
    """Lanes of one type that stand in line at one place.

    Args:
        turns: when each suite of the type queue was served last.
        stand: where those of all types stand that are short of the same resource, or None: they may go.

    Attributes:
        best: the lane whose place `key` has returned.
        place: the same, turns aside.
        bed: among whom it sleeps, or slept last.
    """

    best: Lane
    place: Place

    def __init__(self, type_queue: TypeQueue, turns: Turns, stand: Stand | None = None) -> None:
        self.type_queue = type_queue
        self.stand = stand
        self.bed: Sleepers | None = None
        self._turns = turns
        self._suites: dict[str | None, _SuiteLanes] = {}
        self._queue: LazyQueue[_SuiteLanes] = LazyQueue(_SuiteLanes.key)
        self._passed_over: list[Lane] = []

    def __bool__(self) -> bool:
        """Tell whether any lane stands here."""
        return bool(self._suites)

    def __len__(self) -> int:
        """Count the lanes that stand here."""
        return sum(suite.count for suite in self._suites.values())

    def key(self) -> Place | None:
        """Return the place of the lane whose turn it is, or None."""
        first = self._queue.first()
        if first is None:
            return None
        place, suite = first
        self.best, self.place = suite.best, suite.place
        return cast(Place, place)

    @property
    def short(self) -> str | None:
        """The resource that they were found short of, or None."""
        return None if self.stand is None else self.stand.name

    def turn(self, suite: str | None) -> float:
        """Return when a suite was served last by a worker of this type, or with what is short here."""
        turn = self._turns[suite]
        return turn if self.stand is None else max(turn, self.stand.turns[suite])

    def across(self) -> Place | None:
        """Return the place of the same lane among those of all types: by the turns at its resource."""
        place = self.key()
        if place is None or self.stand is None or not place[1]:
            return place
        priority, unclaimed, _, age = place
        return (priority, unclaimed, self.stand.turns[self.best.suite], age)

    def enter(self, lane: Lane) -> None:
        """Let a lane stand here."""
        lane.line, lane.stands = self, True
        suite = self._suites.get(lane.suite)
        if suite is None:
            suite = self._suites[lane.suite] = _SuiteLanes(lane.suite, self)
        suite.count += 1
        if self.stand is not None:
            self.stand.came(lane.suite)
        self.offer(lane)

    def offer(self, lane: Lane) -> None:
        """Let one of its lanes compete, or move it forward, after its head or its state changed."""
        suite = self._suites[lane.suite]
        if suite.lanes.offer(lane) or suite not in self._queue:
            self._queue.offer(suite)

    def leave(self, lane: Lane) -> None:
        """Let a lane go."""
        suite = self._suites[lane.suite]
        lane.stands = False
        suite.lanes.discard(lane)
        suite.count -= 1
        if self.stand is not None:
            self.stand.went(lane.suite)
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
        if self.stand is not None:
            self.stand.passed_over(self)

    def reconsider(self) -> None:
        """Let the lanes that were passed over compete again."""
        lanes, self._passed_over = self._passed_over, []
        for lane in lanes:
            if lane.stands and lane.line is self:
                self.offer(lane)


class TypeQueue:
    """All that waits for one worker type.

    Attributes:
        waiting: its tasks by suite, unread ones too.
        demands: how many demands it has.
        top: the line whose place `key` has returned.
    """

    top: Line

    def __init__(self, task_type: str, front: Front) -> None:
        self.task_type = task_type
        self.waiting: Counter[str | None] = Counter()
        self.demands = 0
        self._front = front
        self._turns = Turns(front.now)
        self._ready = Line(self, self._turns)
        self._short: dict[str, Line] = {}
        self._lines: LazyQueue[Line] = LazyQueue(Line.key)
        self._first: dict[tuple[str, ...], Lane] = {}

    def key(self) -> Place | None:
        """Return the place of its best lane among those of all types, or None."""
        first = self._lines.first()
        if first is None:
            return None
        self.top = first[1]
        return self.top.across()

    def offer(self, lane: Lane) -> None:
        """Let a lane compete, or move it forward, after its head or its state changed."""
        lane.line.offer(lane)
        self.awake(lane.line)

    def awake(self, line: Line) -> None:
        """Let a line compete."""
        self._lines.expect(line)
        self._front.offer(self)

    def sleep(self, line: Line) -> None:
        """Let a line wait until its resource has something to give and it is its turn."""
        self._lines.discard(line)
        if line.stand is not None:
            line.stand.sleep(line)

    def again(self, line: Line) -> None:
        """Some of a line's lanes compete again: now, if it is awake, or when it wakes."""
        if line in self._lines:
            self.awake(line)
        else:
            self.sleep(line)

    def serve(self, lane: Lane) -> None:
        """Note that a lane's suite has its turn."""
        self._front.serve(lane)
        self._turns.served(lane.suite)
        self._step_back(lane)

    def open(self, lane: Lane) -> None:
        """Take in a new lane."""
        self._ready.enter(lane)
        self.awake(self._ready)

    def close(self, lane: Lane) -> None:
        """Drop a lane."""
        self._leave(lane)
        self._step_back(lane)

    def came(self, suite: str | None, tasks: int = 1) -> None:
        """Count tasks of a suite that wait now."""
        if not self.waiting[suite]:
            self._turns.came(suite)
        self.waiting[suite] += tasks

    def went(self, suite: str | None) -> None:
        """Count one task less, and forget the turns of a suite that has nothing left to wait."""
        self.waiting[suite] -= 1
        if not self.waiting[suite]:
            del self.waiting[suite]
            self._turns.went(suite)

    def park(self, lane: Lane, name: str) -> None:
        """Let a lane stand in the line at a resource that it is short of."""
        if lane.line.short == name:
            lane.line.pass_over(lane)
        else:
            self._leave(lane)
            line = self._short.get(name)
            if line is None:
                line = self._short[name] = Line(self, self._turns, self._front.stand(name))
            line.enter(lane)
            self.again(line)

    def unpark(self, lane: Lane) -> None:
        """Let a lane stand among those that may go."""
        self._leave(lane)
        self.open(lane)

    def step_forward(self, lane: Lane) -> bool:
        """Tell whether a lane is the first of those that need the same resources."""
        first = self._first.get(lane.demand.resources)
        if first is not None and first is not lane:
            place, mine = (self._place(one) for one in (first, lane))
            if place is not None and mine is not None and place < mine:
                return False
        self._first[lane.demand.resources] = lane
        return True

    def _place(self, lane: Lane) -> Place | None:
        key = lane.key()
        return None if key is None else _among_suites(key, self._turns[lane.suite])

    def _step_back(self, lane: Lane) -> None:
        if self._first.get(lane.demand.resources) is lane:
            del self._first[lane.demand.resources]

    def _leave(self, lane: Lane) -> None:
        line = lane.line
        line.leave(lane)
        if line.stand is not None and not line:
            del self._short[line.stand.name]
            self._lines.discard(line)
            line.stand.leave(line)
            if not line.stand:
                self._front.emptied(line.stand)

    def standing(self) -> Mapping[str, int]:
        """Count the lanes at each resource that they are short of."""
        return {name: len(line) for name, line in self._short.items()}
