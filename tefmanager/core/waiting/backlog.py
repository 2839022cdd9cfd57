"""The backlog: every task that is not finished, and which of the waiting ones are in memory.

Up to a limit all of them are. Beyond it whole roads go cold: their tasks are *spilled*, that is forgotten,
since they stand in the database too, but for one that waits for its road, and those about which more is
known than their rows say. A cold road that comes up while its resources are free is read again: the
first tasks of each suite, and of each lane the next ones before it runs dry.

Memory and rows agree only between two turns: then, before anything else happens, what the turn will need is
*paged in*. A task that came back this way, or is new, is spilled again at the end of the turn if it is not
near the head of its lane. What is counted here counts unread tasks as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from tefmanager.core.model.entities import Task
from tefmanager.core.model.limits import Memory
from tefmanager.core.model.values import NOTHING, Order, TaskRow, Unread
from tefmanager.core.waiting.front import Front
from tefmanager.core.waiting.lanes import Lane, Road
from tefmanager.core.waiting.readlist import ReadList
from tefmanager.core.waiting.sweeps import Sweep
from tefmanager.core.waiting.type_queues import Yard


class Backlog:
    """Every task in memory that is not finished by its guid, and all that wait in their lanes.

    Args:
        pinned: tells whether more is known of a waiting task than its row says.

    Attributes:
        yards: all that waits, by type; only types for which something does.
        front: whose turn it is among them.
        paused: suites that are held back until they are readied.
        sweeps: suites whose waiting tasks are being gone through.
        memory: how much of it is to be in memory.
        to_read: what of the rest is to be read.
        waiting: how many tasks wait.
        unread: how many of them are not in memory.
    """

    def __init__(self, memory: Memory, pinned: Callable[[Task], bool]) -> None:
        self.by_guid: dict[str, Task] = {}
        self.yards: dict[str, Yard] = {}
        self.front = Front()
        self.paused: set[str] = set()
        self.sweeps: dict[str, Sweep] = {}
        self.waiting = 0
        self.unread = 0
        self.memory = memory
        self.to_read = ReadList(memory.most)
        self._room = self._full = memory.tasks
        self._served = 0
        self._pinned = pinned
        self._roads: dict[tuple[str, tuple[str, ...]], Road] = {}
        self._suites: dict[str, dict[Lane, None]] = {}
        self._beyond: dict[Lane, None] = {}

    # --- who waits ---

    def add(self, task: Task) -> None:
        """Let a task wait: in its old place, where it was here before."""
        self._road(task.spec.task_type, task.spec.resources).yard.came(task.spec.suite)
        lane = self._enter(task)
        self.waiting += 1
        lane.road.size += 1

    def _enter(self, task: Task) -> Lane:
        lane = self._lane_of(task)
        lane.add(task)
        road = lane.road
        if lane.horizon is not None and task.order > lane.horizon:
            self._beyond[lane] = None
        if road.cold is not None:
            road.cold.horizon = min(road.cold.horizon or NOTHING, task.order)
            road.cold.held = road.cold.held and lane.held
            road.yard.offer(road.cold)
        road.yard.offer(lane)
        return lane

    def remove(self, task: Task) -> None:
        """Take a waiting task out of its lane."""
        lane = task.lane
        if lane is None:
            raise ValueError(f"task {task.spec.guid!r} does not wait")
        lane.remove(task)
        self.waiting -= 1
        lane.road.size -= 1
        lane.road.yard.went(task.spec.suite)
        if lane.goes_on and lane.size <= lane.portion // 4:
            self.to_read.runs_low(lane)
        self._tidy(lane)

    def serve(self, lane: Lane) -> None:
        """Note that a lane had its turn. A road that had to be read again for that should have stayed."""
        self._served += 1
        road = lane.road
        if road.wanted and road.spilled:
            self._room += road.size - road.unread
        road.used, road.wanted = self._served, False
        road.yard.serve(lane)

    def tasks(self) -> Iterator[Task]:
        """Go through every task in memory that is not finished."""
        return iter(self.by_guid.values())

    # --- suites ---

    def suite_lanes(self, suite: str) -> list[Lane]:
        """Return the lanes in memory in which tasks of a suite wait."""
        return list(self._suites.get(suite, ()))

    def suite_size(self, suite: str) -> int:
        """Count the waiting tasks of a suite."""
        return sum(yard.waiting.get(suite, 0) for yard in self.yards.values())

    def held(self, suite: str | None) -> bool:
        """Tell whether a suite's waiting tasks, and those to come, are kept from being dispatched."""
        return suite is not None and (suite in self.paused or suite in self.sweeps)

    def pause(self, suite: str) -> None:
        """Hold a suite back until it is readied."""
        self.paused.add(suite)
        self._hold(suite)

    def _hold(self, suite: str) -> None:
        for lane in self.suite_lanes(suite):
            lane.held = True

    def ready(self, suite: str) -> None:
        """Let a suite compete again. Where all of a cold road was held, its first task is paged in."""
        self.paused.discard(suite)
        self._let_go(suite)

    def _let_go(self, suite: str) -> None:
        if self.held(suite):
            return
        for lane in self.suite_lanes(suite):
            lane.held = False
            lane.road.yard.offer(lane)
            if (cold := lane.road.cold) is not None:
                cold.held = False
                cold.road.yard.offer(cold)
        roads = [road for road in self._unread_roads(suite) if road.cold is not None and road.cold.held]
        self.to_read.ready(suite, roads)

    def sweep(self, suite: str, below: int, spared: Iterable[int]) -> None:
        """Begin to go through a suite's waiting tasks of ids below one, and hold it back meanwhile."""
        found = [task for lane in self.suite_lanes(suite) for task in lane.tasks()]
        stretches = [road.stretch(suite) for road in self._unread_roads(suite)]
        self.sweeps[suite] = Sweep(below, spared, found, stretches)
        self._hold(suite)

    def sweeping(self, task: Task) -> bool:
        """Tell whether a sweep is going to come to a waiting task."""
        sweep = self.sweeps.get(task.spec.suite or "")
        return sweep is not None and task.lane is not None and sweep.covers(task)

    def swept(self, suite: str) -> None:
        """All of a suite that waited has been gone through."""
        del self.sweeps[suite]
        self._let_go(suite)

    # --- who is short ---

    def wake(self, names: Iterable[str]) -> None:
        """Let those that are short of any of these resources see whether they can go now."""
        for name in names:
            self.front.wake(name)

    def wake_all(self) -> None:
        """Let everyone see."""
        self.wake(self.shortages())

    def shortages(self) -> set[str]:
        """Return the resources at which lanes stand."""
        return set(self.front.shortages())

    def awaited(self, resources: tuple[str, ...]) -> bool:
        """Tell whether any task, read or not, waits for just these resources."""
        return any((kind, resources) in self._roads for kind in self.yards)

    # --- what is read ---

    def lay_up(self, unread: Unread) -> None:
        """Note, as a reign begins, what waits on a road and is not read."""
        road = self._road(unread.task_type, unread.resources)
        road.size = road.unread = unread.count
        self.waiting += unread.count
        self.unread += unread.count
        road.cool((-unread.best, 0), held=False)

    def lay_up_suite(self, task_type: str, suite: str | None, count: int) -> None:
        """Count what waits of a suite and is not read."""
        self.yards[task_type].came(suite, count)

    def page_in(self, rows: Iterable[TaskRow]) -> None:
        """Take waiting tasks into memory that are not there."""
        for row in rows:
            if row.spec.guid not in self.by_guid:
                task = self.by_guid[row.spec.guid] = Task(row.spec)
                road = self._enter(task).road
                self.unread -= 1
                road.unread -= 1
                if not road.unread:
                    self._all_read(road)

    def _all_read(self, road: Road) -> None:
        road.warm()
        for lane in list(road.known.values()):
            self._reach(lane, None)

    def _reach(self, lane: Lane, horizon: Order | None) -> None:
        if lane.stands:  # or it was empty, and the last of its road has just been read
            lane.reach(horizon)
            lane.road.yard.offer(lane)
            self._tidy(lane)

    def read_road(self, road: Road, rows: Sequence[TaskRow], each: int) -> None:
        """Take in the first tasks of each suite of a cold road, at most ``each``."""
        self.page_in(rows)
        found = Counter(row.spec.suite for row in rows)
        last = {row.spec.suite: row.spec.order for row in rows}
        road.warm()
        road.wanted = True
        full = {suite for suite, count in found.items() if count == each and road.unread}
        # A suite of which all that was read is being reserved has no lane yet.
        for lane in dict.fromkeys([*road.known.values(), *(self._lane(road, suite) for suite in full)]):
            lane.portion = each
            self._reach(lane, last[lane.suite] if lane.suite in full and not lane.avoid else None)

    def read_lane(self, lane: Lane, rows: Sequence[TaskRow]) -> None:
        """Take in the tasks of a lane that follow its horizon, at most its portion."""
        self.page_in(rows)
        more = lane.road.unread and len(rows) == lane.portion
        self._reach(lane, rows[-1].spec.order if more else None)

    # --- what is to be read ---

    @property
    def hungry(self) -> bool:
        """Whether the next turn is to begin at once, with reading: it is urgent, or done in steps."""
        return bool(self.to_read or self.sweeps)

    def _unread_roads(self, suite: str) -> Iterator[Road]:
        """Go through the roads on which something of a suite may be unread."""
        return (road for road in self._roads.values() if road.unread and suite in road.yard.waiting)

    # --- what is spilled ---

    def close(self) -> None:
        """Spill, at the end of a turn, what need not be in memory."""
        if self._beyond:
            self._spill_beyond()
        if self.waiting <= self.memory.tasks:
            self._room = self.memory.tasks
        in_memory = self.waiting - self.unread
        if in_memory <= self._room:
            self._full = self._room
        elif in_memory > self._full:
            self._make_room()

    def _spill_beyond(self) -> None:
        lanes, self._beyond = self._beyond, {}
        kept = {lane.road: lane.road.first() for lane in lanes if lane.road.cold is not None}
        for lane in lanes:
            self._spill(lane.beyond(), kept.get(lane.road))
            self._tidy(lane)

    def _make_room(self) -> None:
        """Let roads go cold: those that are short first, and of them those not served for longest."""
        roads = [road for road in self._roads.values() if road.cold is None and road.size - road.unread > 1]
        idle = {road: road.idle for road in roads}
        for road in sorted(roads, key=lambda road: (not idle[road], road.used)):
            if road.wanted and not idle[road]:
                continue
            if self.waiting - self.unread <= self._room * 3 // 4:
                break
            self._cool(road)
        # Not again in each turn where there is not more to spill.
        self._full = max(self._room, (self.waiting - self.unread) * 5 // 4)

    def _cool(self, road: Road) -> None:
        """Spill all of a road but what stands for it."""
        lanes = list(road.known.values())
        orders = [task.order for lane in lanes for task in lane.tasks()]
        orders += [lane.horizon for lane in lanes if lane.horizon is not None]
        kept = road.first()
        road.cool(min(orders), held=all(lane.key() is None for lane in lanes))
        road.spilled = True
        for lane in lanes:
            self._spill(lane.beyond(), kept)
            self._tidy(lane)

    def _spill(self, tasks: Iterable[Task], kept: Task | None) -> None:
        for task in tasks:
            lane = task.lane
            if lane is not None and task is not kept and not self._pinned(task):
                lane.remove(task)
                lane.road.unread += 1
                self.unread += 1
                del self.by_guid[task.spec.guid]

    # --- lanes and roads ---

    def _lane_of(self, task: Task) -> Lane:
        spec = task.spec
        return self._lane(self._road(spec.task_type, spec.resources), spec.suite, task.avoid)

    def _lane(self, road: Road, suite: str | None, avoid: frozenset[str] = frozenset()) -> Lane:
        lane = road.known.get((suite, avoid))
        if lane is None:
            horizon = None if road.cold is None else NOTHING
            lane = road.known[suite, avoid] = Lane(road, suite, avoid, horizon)
            lane.held = self.held(suite)
            road.yard.open(lane)
            if suite is not None:
                self._suites.setdefault(suite, {})[lane] = None
        return lane

    def _road(self, task_type: str, resources: tuple[str, ...]) -> Road:
        road = self._roads.get((task_type, resources))
        if road is None:
            yard = self.yards.get(task_type)
            if yard is None:
                yard = self.yards[task_type] = Yard(task_type, self.front)
            yard.roads += 1
            road = self._roads[task_type, resources] = Road(yard, resources)
        return road

    def _tidy(self, lane: Lane) -> None:
        """Drop an empty lane, so that memory follows what waits and not what once did."""
        road = lane.road
        if lane.size == 0 and not lane.goes_on and lane.stands:
            road.yard.close(lane)
            del road.known[lane.suite, lane.avoid]
            self._leave_suite(lane)
        key = (road.yard.task_type, road.resources)
        if road.size == 0 and self._roads.get(key) is road:
            del self._roads[key]
            road.warm()
            self._close(road.yard)

    def _close(self, yard: Yard) -> None:
        yard.roads -= 1
        if not yard.roads:
            del self.yards[yard.task_type]
            self.front.drop(yard)

    def _leave_suite(self, lane: Lane) -> None:
        if lane.suite is not None:
            lanes = self._suites[lane.suite]
            del lanes[lane]
            if not lanes:
                del self._suites[lane.suite]
