"""Type queues, and the order among all worker types: which task is next.

A *type queue* is everything that waits for one worker type. It competes, with the rank of its best
competitor, while a worker of its type is free. Resource queues compete beside the type queues: one that
comes up wakes its next wait list. So the cost of a dispatch grows neither with the backlog nor with the
number of competitors or types.

The order is: the highest priority; among equals, tasks that claim their resources, in the order of their
claims; then the suite that was served longest ago; within a suite, the oldest task. Within a type, a suite
was last served at the later of two times: the one in the type's own rotation, and the one in the rotation
of the resource that a competitor is short of. Between types only the second counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, KeysView, Mapping

from tefmanager.core.waiting.lazyqueue import LazyQueue
from tefmanager.core.waiting.rotation import Rotation
from tefmanager.core.waiting.wait_lists import Competitor, Rank, ResourceQueue, WaitList, among_suites


class TypeQueue:
    """Everything that waits for one worker type.

    Attributes:
        waiting: how many tasks of each suite wait, unread ones included.
        demands: how many demands it has.
        top: the list whose rank `key` returned last.
    """

    top: WaitList

    def __init__(self, task_type: str, front: Front) -> None:
        self.task_type = task_type
        self.waiting: Counter[str | None] = Counter()
        self.demands = 0
        self._front = front
        self._rotation = Rotation(front.now)
        self._ready = WaitList(self, self._rotation)
        self._short: dict[str, WaitList] = {}
        self._wait_lists: LazyQueue[WaitList] = LazyQueue(WaitList.key)
        self._first: dict[tuple[str, ...], Competitor] = {}

    def key(self) -> Rank | None:
        """Return its best competitor's rank among those of all types, or None."""
        first = self._wait_lists.first()
        if first is None:
            return None
        self.top = first[1]
        return self.top.across()

    def offer(self, competitor: Competitor) -> None:
        """Let a competitor compete, or move it forward, after its head or its state changed."""
        competitor.wait_list.offer(competitor)
        self.awake(competitor.wait_list)

    def awake(self, wait_list: WaitList) -> None:
        """Let a list compete."""
        self._wait_lists.expect(wait_list)
        self._front.offer(self)

    def sleep(self, wait_list: WaitList) -> None:
        """Let a list sleep until its resource has something to give and the list is next."""
        self._wait_lists.discard(wait_list)
        if wait_list.resource_queue is not None:
            wait_list.resource_queue.sleep(wait_list)

    def again(self, wait_list: WaitList) -> None:
        """Let competitors of a list that were passed over compete again: now, or when the list wakes."""
        if wait_list in self._wait_lists:
            self.awake(wait_list)
        else:
            self.sleep(wait_list)

    def serve(self, competitor: Competitor) -> None:
        """Note that a competitor's suite is served."""
        self._front.serve(competitor)
        self._rotation.served(competitor.suite)
        self._step_back(competitor)

    def open(self, competitor: Competitor) -> None:
        """Add a new competitor."""
        self._ready.enter(competitor)
        self.awake(self._ready)

    def close(self, competitor: Competitor) -> None:
        """Remove a competitor."""
        self._leave(competitor)
        self._step_back(competitor)

    def came(self, suite: str | None, tasks: int = 1) -> None:
        """Add to the number of waiting tasks of a suite."""
        if not self.waiting[suite]:
            self._rotation.came(suite)
        self.waiting[suite] += tasks

    def went(self, suite: str | None) -> None:
        """Count one task less, and forget when a suite was served if nothing of it waits any more."""
        self.waiting[suite] -= 1
        if not self.waiting[suite]:
            del self.waiting[suite]
            self._rotation.went(suite)

    def park(self, competitor: Competitor, name: str) -> None:
        """Move a competitor to the wait list at a resource that it is short of."""
        if competitor.wait_list.short == name:
            competitor.wait_list.pass_over(competitor)
        else:
            self._leave(competitor)
            wait_list = self._short.get(name)
            if wait_list is None:
                wait_list = self._short[name] = WaitList(
                    self, self._rotation, self._front.resource_queue(name)
                )
            wait_list.enter(competitor)
            self.again(wait_list)

    def unpark(self, competitor: Competitor) -> None:
        """Move a competitor back to the list of those that may go."""
        self._leave(competitor)
        self.open(competitor)

    def step_forward(self, competitor: Competitor) -> bool:
        """Tell whether a competitor is now the first of those that need the same resources."""
        first = self._first.get(competitor.resources)
        if first is not None and first is not competitor:
            rank, mine = (self._rank(one) for one in (first, competitor))
            if rank is not None and mine is not None and rank < mine:
                return False
        self._first[competitor.resources] = competitor
        return True

    def _rank(self, competitor: Competitor) -> Rank | None:
        key = competitor.key()
        return None if key is None else among_suites(key, self._rotation[competitor.suite])

    def _step_back(self, competitor: Competitor) -> None:
        if self._first.get(competitor.resources) is competitor:
            del self._first[competitor.resources]

    def _leave(self, competitor: Competitor) -> None:
        wait_list = competitor.wait_list
        wait_list.leave(competitor)
        if wait_list.resource_queue is not None and not wait_list:
            del self._short[wait_list.resource_queue.name]
            self._wait_lists.discard(wait_list)
            wait_list.resource_queue.leave(wait_list)
            if not wait_list.resource_queue:
                self._front.emptied(wait_list.resource_queue)

    def standing(self) -> Mapping[str, int]:
        """Return how many competitors are at each resource that they are short of."""
        return {name: len(wait_list) for name, wait_list in self._short.items()}


class Front:
    """Finds out who is next among all types."""

    def __init__(self) -> None:
        self._served = 0
        self._queue: LazyQueue[TypeQueue | ResourceQueue] = LazyQueue(lambda who: who.key())
        self._resource_queues: dict[str, ResourceQueue] = {}

    def best(self, gives: Callable[[str], bool], busy: Callable[[str], object]) -> Competitor | None:
        """Return the competitor that is next, of those that may go, or None.

        ``gives`` tells whether a resource has a reference to give, ``busy`` whether a type has no free
        worker.
        """
        while (top := self._queue.top()) is not None:
            if not isinstance(top, ResourceQueue) and busy(top.task_type):
                self._queue.discard(top)  # it is offered again when one of its workers is free
            elif (first := self._queue.first()) is None:
                break
            elif isinstance(who := first[1], ResourceQueue):
                self._call(who, gives)
            elif busy(who.task_type):
                self._queue.discard(who)
            else:
                wait_list = who.top
                if wait_list.resource_queue is None or gives(wait_list.resource_queue.name):
                    return wait_list.best
                who.sleep(wait_list)
        return None

    def _call(self, resource_queue: ResourceQueue, gives: Callable[[str], bool]) -> None:
        """Wake the next list at a resource if that has something to give."""
        wait_list = resource_queue.wake() if gives(resource_queue.name) else None
        if wait_list is None:
            self._queue.discard(resource_queue)  # it is offered again when the resource wakes
        else:
            wait_list.owner.awake(wait_list)

    def offer(self, type_queue: TypeQueue) -> None:
        """Let a type compete, or move it forward: its best competitor changed, or a worker became free."""
        self._queue.expect(type_queue)

    def drop(self, type_queue: TypeQueue) -> None:
        """Exclude a type from competing until it is offered again."""
        self._queue.discard(type_queue)

    def now(self) -> int:
        """Return how many times suites of all types have been served in total."""
        return self._served

    # --- at resources ---

    def resource_queue(self, name: str) -> ResourceQueue:
        """Return the queue of a resource that competitors are short of; create it if there is none."""
        resource_queue = self._resource_queues.get(name)
        if resource_queue is None:
            resource_queue = self._resource_queues[name] = ResourceQueue(name, self.now)
        return resource_queue

    def serve(self, competitor: Competitor) -> None:
        """Note that a competitor's suite is served."""
        self._served += 1
        for name in competitor.resources:
            if (resource_queue := self._resource_queues.get(name)) is not None:
                resource_queue.rotation.served(competitor.suite)

    def wake(self, name: str) -> None:
        """Let those that are short of a resource compete, as long as it has something to give."""
        resource_queue = self._resource_queues.get(name)
        if resource_queue is not None:
            for wait_list in resource_queue.reconsider():
                wait_list.owner.again(wait_list)
            self._queue.expect(resource_queue)

    def emptied(self, resource_queue: ResourceQueue) -> None:
        """Forget the queue of a resource that nobody is short of any more."""
        self._queue.discard(resource_queue)
        del self._resource_queues[resource_queue.name]

    def shortages(self) -> KeysView[str]:
        """Return the resources that competitors are short of."""
        return self._resource_queues.keys()
