"""The backlog: every task that is not finished, and which of the waiting ones are in memory.

Up to a limit all of them are. Beyond it, whole demands are paged out. Their tasks are *evicted*: memory
forgets them, since they are in the database. Two kinds stay: one task that stands for its demand, and tasks
about which more is known than their rows say. When a paged-out demand comes up and its resources are free,
it is read again: first some tasks of each suite, then the next ones of each lane before the lane is
drained.

Memory and rows agree only between two turns. So whatever a turn will need is *paged in* before anything
else happens. A task that was paged in, or is new, is evicted again at the end of the turn if it is not near
the head of its lane. All counts include unread tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import cast

from tefmanager.core.model.entities import Task
from tefmanager.core.model.limits import Memory
from tefmanager.core.model.values import NOTHING, Order, TaskRow, Unread
from tefmanager.core.waiting.lanes import Demand, InLine, Lane
from tefmanager.core.waiting.readlist import ReadList
from tefmanager.core.waiting.sweeps import Sweep
from tefmanager.core.waiting.type_queues import Front, TypeQueue


class Backlog:
    """Holds every unfinished task that is in memory by its guid, and all waiting tasks in their lanes.

    Args:
        pinned: tells whether more is known of a waiting task than its row says.

    Attributes:
        type_queues: everything that waits, by worker type; a type for which nothing waits has no queue.
        front: finds out which of them is next.
        paused: suites that are held until they are readied.
        sweeps: the sweeps under way, by suite.
        memory: decides how many tasks may be in memory.
        to_read: what has to be read from the database.
        waiting: how many tasks wait.
        unread: how many of them are not in memory.
    """

    def __init__(self, memory: Memory, pinned: Callable[[Task], bool]) -> None:
        self.by_guid: dict[str, Task] = {}
        self.type_queues: dict[str, TypeQueue] = {}
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
        self._demands: dict[tuple[str, tuple[str, ...]], Demand] = {}
        self._suites: dict[str, dict[Lane, None]] = {}
        self._beyond: dict[Lane, None] = {}

    # --- who waits ---

    def add(self, task: Task) -> None:
        """Let a task wait; one that waited before gets its old place."""
        self._demand(task.spec.task_type, task.spec.resources).type_queue.came(task.spec.suite)
        lane = self._enter(task)
        self.waiting += 1
        lane.demand.size += 1

    def _enter(self, task: Task) -> Lane:
        lane = self._lane_of(task)
        lane.add(task)
        demand = lane.demand
        if lane.loaded_up_to is not None and task.order > lane.loaded_up_to:
            self._beyond[lane] = None
        if demand.paged_out is not None:
            demand.paged_out.first = min(demand.paged_out.first, task.order)
            demand.paged_out.held = demand.paged_out.held and lane.held
            demand.type_queue.offer(demand.paged_out)
        demand.type_queue.offer(lane)
        return lane

    def remove(self, task: Task) -> None:
        """Take a waiting task out of its lane."""
        lane = task.lane
        if not isinstance(lane, Lane):
            raise ValueError(f"task {task.spec.guid!r} does not wait")  # noqa: TRY004 - it is in no lane
        lane.remove(task)
        self.waiting -= 1
        lane.demand.size -= 1
        lane.demand.type_queue.went(task.spec.suite)
        if lane.goes_on and lane.size <= lane.batch // 4:
            self.to_read.runs_low(lane)
        self._tidy(lane)

    def best(self, gives: Callable[[str], bool], busy: Callable[[str], object]) -> InLine | None:
        """Return what is next among all types: see `Front.best`."""
        return cast(InLine | None, self.front.best(gives, busy))

    def serve(self, lane: Lane) -> None:
        """Note that a lane was served. If its demand had been evicted, the memory limit grows."""
        self._served += 1
        demand = lane.demand
        if demand.wanted and demand.evicted:
            self._room += demand.size - demand.unread
        demand.used, demand.wanted = self._served, False
        demand.type_queue.serve(lane)

    def tasks(self) -> Iterator[Task]:
        """Iterate over every unfinished task in memory."""
        return iter(self.by_guid.values())

    # --- suites ---

    def suite_lanes(self, suite: str) -> list[Lane]:
        """Return the lanes in memory in which tasks of a suite wait."""
        return list(self._suites.get(suite, ()))

    def suite_size(self, suite: str) -> int:
        """Return how many tasks of a suite wait."""
        return sum(type_queue.waiting.get(suite, 0) for type_queue in self.type_queues.values())

    def held(self, suite: str | None) -> bool:
        """Tell whether a suite is held: none of its tasks, not even new ones, are dispatched."""
        return suite is not None and (suite in self.paused or suite in self.sweeps)

    def pause(self, suite: str) -> None:
        """Hold a suite until it is readied."""
        self.paused.add(suite)
        self._hold(suite)

    def _hold(self, suite: str) -> None:
        for lane in self.suite_lanes(suite):
            lane.held = True

    def ready(self, suite: str) -> None:
        """Let a suite compete again. If it held all of a paged-out demand, the first task is read."""
        self.paused.discard(suite)
        self._let_go(suite)

    def _let_go(self, suite: str) -> None:
        if self.held(suite):
            return
        for lane in self.suite_lanes(suite):
            lane.held = False
            lane.demand.type_queue.offer(lane)
            if (paged_out := lane.demand.paged_out) is not None:
                paged_out.held = False
                paged_out.demand.type_queue.offer(paged_out)
        demands = [
            demand
            for demand in self._unread_demands(suite)
            if demand.paged_out is not None and demand.paged_out.held
        ]
        self.to_read.ready(suite, demands)

    def sweep(self, suite: str, below: int, spared: Iterable[int]) -> None:
        """Begin to go through a suite's waiting tasks with ids below ``below``; hold it meanwhile."""
        found = [task for lane in self.suite_lanes(suite) for task in lane.tasks()]
        stretches = [demand.stretch(suite) for demand in self._unread_demands(suite)]
        self.sweeps[suite] = Sweep(below, spared, found, stretches)
        self._hold(suite)

    def sweeping(self, task: Task) -> bool:
        """Tell whether a sweep will still reach a waiting task."""
        sweep = self.sweeps.get(task.spec.suite or "")
        return sweep is not None and task.lane is not None and sweep.covers(task)

    def swept(self, suite: str) -> None:
        """End a suite's sweep."""
        del self.sweeps[suite]
        self._let_go(suite)

    # --- who is short ---

    def wake(self, names: Iterable[str]) -> None:
        """Let tasks that are short of any of these resources compete again."""
        for name in names:
            self.front.wake(name)

    def wake_all(self) -> None:
        """Let all tasks that are short of a resource compete again."""
        self.wake(self.shortages())

    def shortages(self) -> set[str]:
        """Return the resources that lanes are short of."""
        return set(self.front.shortages())

    def awaited(self, resources: tuple[str, ...]) -> bool:
        """Tell whether any task, read or unread, waits for exactly these resources."""
        return any((kind, resources) in self._demands for kind in self.type_queues)

    # --- what is read ---

    def count_unread(self, unread: Unread) -> None:
        """Record, when a leadership begins, how many unread tasks a demand has."""
        demand = self._demand(unread.task_type, unread.resources)
        demand.size = demand.unread = unread.count
        self.waiting += unread.count
        self.unread += unread.count
        demand.page_out((-unread.best, 0), held=False)

    def count_unread_suite(self, task_type: str, suite: str | None, count: int) -> None:
        """Record how many unread tasks a suite has."""
        self.type_queues[task_type].came(suite, count)

    def page_in(self, rows: Iterable[TaskRow]) -> None:
        """Add waiting tasks to memory, except those that are there already."""
        for row in rows:
            if row.spec.guid not in self.by_guid:
                task = self.by_guid[row.spec.guid] = Task(row.spec)
                demand = self._enter(task).demand
                self.unread -= 1
                demand.unread -= 1
                if not demand.unread:
                    self._all_read(demand)

    def _all_read(self, demand: Demand) -> None:
        demand.resume()
        for lane in list(demand.lanes.values()):
            self._load_up_to(lane, None)

    def _load_up_to(self, lane: Lane, loaded_up_to: Order | None) -> None:
        if lane.stands:  # or the lane was empty, and the last task of its demand has just been read
            lane.load_up_to(loaded_up_to)
            lane.demand.type_queue.offer(lane)
            self._tidy(lane)

    def read_demand(self, demand: Demand, rows: Sequence[TaskRow], each: int) -> None:
        """Take in the first tasks, at most ``each``, of every suite of a paged-out demand."""
        self.page_in(rows)
        found = Counter(row.spec.suite for row in rows)
        last = {row.spec.suite: row.spec.order for row in rows}
        demand.resume()
        demand.wanted = True
        full = {suite for suite, count in found.items() if count == each and demand.unread}
        # If all tasks that were read of a suite are being reserved, it has no lane yet.
        for lane in dict.fromkeys([*demand.lanes.values(), *(self._lane(demand, suite) for suite in full)]):
            lane.batch = each
            self._load_up_to(lane, last[lane.suite] if lane.suite in full and not lane.avoid else None)

    def read_lane(self, lane: Lane, rows: Sequence[TaskRow]) -> None:
        """Take in the tasks of a lane that follow those loaded so far, at most ``lane.batch``."""
        self.page_in(rows)
        more = lane.demand.unread and len(rows) == lane.batch
        self._load_up_to(lane, rows[-1].spec.order if more else None)

    # --- what is to be read ---

    @property
    def needs_rows(self) -> bool:
        """Whether the next turn must begin at once because rows are needed, urgently or for a sweep."""
        return bool(self.to_read or self.sweeps)

    def _unread_demands(self, suite: str) -> Iterator[Demand]:
        """Iterate over the demands that may have unread tasks of a suite."""
        return (
            demand
            for demand in self._demands.values()
            if demand.unread and suite in demand.type_queue.waiting
        )

    # --- what is evicted ---

    def close(self) -> None:
        """Evict, at the end of a turn, what need not be in memory."""
        if self._beyond:
            self._evict_beyond()
        if self.waiting <= self.memory.tasks:
            self._room = self.memory.tasks
        in_memory = self.waiting - self.unread
        if in_memory <= self._room:
            self._full = self._room
        elif in_memory > self._full:
            self._make_room()

    def _evict_beyond(self) -> None:
        lanes, self._beyond = self._beyond, {}
        kept = {lane.demand: lane.demand.first() for lane in lanes if lane.demand.paged_out is not None}
        for lane in lanes:
            self._evict(lane.beyond(), kept.get(lane.demand))
            self._tidy(lane)

    def _make_room(self) -> None:
        """Page out demands: first those that are short, and among them first those served longest ago."""
        demands = [
            demand
            for demand in self._demands.values()
            if demand.paged_out is None and demand.size - demand.unread > 1
        ]
        idle = {demand: demand.idle for demand in demands}
        for demand in sorted(demands, key=lambda demand: (not idle[demand], demand.used)):
            if demand.wanted and not idle[demand]:
                continue
            if self.waiting - self.unread <= self._room * 3 // 4:
                break
            self._page_out(demand)
        # Do not try again in every turn if there is nothing more to evict.
        self._full = max(self._room, (self.waiting - self.unread) * 5 // 4)

    def _page_out(self, demand: Demand) -> None:
        """Evict all tasks of a demand except the one that stands for it."""
        lanes = list(demand.lanes.values())
        orders = [task.order for lane in lanes for task in lane.tasks()]
        orders += [lane.loaded_up_to for lane in lanes if lane.loaded_up_to is not None]
        kept = demand.first()
        demand.page_out(min(orders), held=all(lane.key() is None for lane in lanes))
        demand.evicted = True
        for lane in lanes:
            self._evict(lane.beyond(), kept)
            self._tidy(lane)

    def _evict(self, tasks: Iterable[Task], kept: Task | None) -> None:
        for task in tasks:
            lane = task.lane
            if isinstance(lane, Lane) and task is not kept and not self._pinned(task):
                lane.remove(task)
                lane.demand.unread += 1
                self.unread += 1
                del self.by_guid[task.spec.guid]

    # --- lanes and demands ---

    def _lane_of(self, task: Task) -> Lane:
        spec = task.spec
        return self._lane(self._demand(spec.task_type, spec.resources), spec.suite, task.avoid)

    def _lane(self, demand: Demand, suite: str | None, avoid: frozenset[str] = frozenset()) -> Lane:
        lane = demand.lanes.get((suite, avoid))
        if lane is None:
            loaded_up_to = None if demand.paged_out is None else NOTHING
            lane = demand.lanes[suite, avoid] = Lane(demand, suite, avoid, loaded_up_to)
            lane.held = self.held(suite)
            demand.type_queue.open(lane)
            if suite is not None:
                self._suites.setdefault(suite, {})[lane] = None
        return lane

    def _demand(self, task_type: str, resources: tuple[str, ...]) -> Demand:
        demand = self._demands.get((task_type, resources))
        if demand is None:
            type_queue = self.type_queues.get(task_type)
            if type_queue is None:
                type_queue = self.type_queues[task_type] = TypeQueue(task_type, self.front)
            type_queue.demands += 1
            demand = self._demands[task_type, resources] = Demand(type_queue, resources)
        return demand

    def _tidy(self, lane: Lane) -> None:
        """Drop an empty lane, so that memory depends on what waits now and not on what once did."""
        demand = lane.demand
        if lane.size == 0 and not lane.goes_on and lane.stands:
            demand.type_queue.close(lane)
            del demand.lanes[lane.suite, lane.avoid]
            self._leave_suite(lane)
        key = (demand.type_queue.task_type, demand.resources)
        if demand.size == 0 and self._demands.get(key) is demand:
            del self._demands[key]
            demand.resume()
            self._close(demand.type_queue)

    def _close(self, type_queue: TypeQueue) -> None:
        type_queue.demands -= 1
        if not type_queue.demands:
            del self.type_queues[type_queue.task_type]
            self.front.drop(type_queue)

    def _leave_suite(self, lane: Lane) -> None:
        if lane.suite is not None:
            lanes = self._suites[lane.suite]
            del lanes[lane]
            if not lanes:
                del self._suites[lane.suite]
