"""Wait lists: who is next among those that wait at one place.

A *competitor* is a lane, or a demand that is paged out. It stands in a *wait list*: in its type's list of
those that may go, or, once it was found short of a resource, in its type's list at that resource. The lists
of all types at one resource form a *resource queue*. They sleep there until the resource has something to
give and no other list goes before them. So a reference that is given back wakes one list instead of one per
type.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from operator import methodcaller
from typing import Protocol, TypeAlias, cast

from tefmanager.core.waiting.lazyqueue import LazyQueue
from tefmanager.core.waiting.rotation import Rotation

Rank: TypeAlias = tuple[float, int, float, int]
"""The least goes first: priority; those with a claim before those without; the claim's number, or when the
suite was served; age."""


class Competitor(ABC):
    """What stands in a wait list and competes.

    Args:
        resources: the resources that all its tasks need.
        suite: the suite of its tasks; None if they have none, or belong to several suites.
        avoid: workers that must not get its tasks.

    Attributes:
        held: it does not compete because its suite is paused.
        wait_list: the list in which it stands, or stood last.
        stands: whether it stands in a list now.
    """

    wait_list: WaitList

    def __init__(self, resources: tuple[str, ...], suite: str | None, avoid: frozenset[str]) -> None:
        self.resources = resources
        self.suite = suite
        self.avoid = avoid
        self.held = False
        self.stands = False

    @abstractmethod
    def key(self) -> Rank | None:
        """Return its rank among the competitors of its suite, or None if it does not compete."""


class ListOwner(Protocol):
    """The type queue that a wait list belongs to."""

    def awake(self, wait_list: WaitList) -> None:
        """Let a list compete."""

    def again(self, wait_list: WaitList) -> None:
        """Let competitors of a list that were passed over compete again: now, or when the list wakes."""


class _OfSuite:
    """The competitors of one suite in one list.

    Args:
        wait_list: the list.

    Attributes:
        best: the competitor whose rank `key` returned last.
        rank: its rank within its suite, before the rotation is applied.
    """

    best: Competitor
    rank: Rank

    def __init__(self, suite: str | None, wait_list: WaitList) -> None:
        self.count = 0
        self.competitors: LazyQueue[Competitor] = LazyQueue(methodcaller("key"))
        self._suite = suite
        self._wait_list = wait_list

    def key(self) -> Rank | None:
        """Return its best competitor's rank among those of all suites."""
        first = self.competitors.first()
        if first is None:
            return None
        rank, self.best = first
        self.rank = rank
        return among_suites(rank, self._wait_list.last_served(self._suite))


def among_suites(rank: Rank, last_served: float) -> Rank:
    """Return a competitor's rank among all suites; ``last_served``: when its own suite was served."""
    priority, unclaimed, claim, age = rank
    return (priority, unclaimed, last_served if unclaimed else claim, age)


class WaitList:
    """Competitors of one type that stand in line at one place.

    Args:
        rotation: when each suite of the type queue was served last.
        resource_queue: holds the lists of all types that are short of the same resource; None for the list
            of those that may go.

    Attributes:
        best: the competitor whose rank `key` returned last.
        rank: its rank within its suite, before the rotation is applied.
        sleeps_among: the lists among which it sleeps, or slept last.
    """

    best: Competitor
    rank: Rank

    def __init__(
        self, owner: ListOwner, rotation: Rotation, resource_queue: ResourceQueue | None = None
    ) -> None:
        self.owner = owner
        self.resource_queue = resource_queue
        self.sleeps_among: SleepingLists | None = None
        self._rotation = rotation
        self._suites: dict[str | None, _OfSuite] = {}
        self._queue: LazyQueue[_OfSuite] = LazyQueue(_OfSuite.key)
        self._passed_over: list[Competitor] = []

    def __bool__(self) -> bool:
        """Tell whether any competitor stands here."""
        return bool(self._suites)

    def __len__(self) -> int:
        """Return how many competitors stand here."""
        return sum(suite.count for suite in self._suites.values())

    def key(self) -> Rank | None:
        """Return the rank of the competitor that is next, or None."""
        first = self._queue.first()
        if first is None:
            return None
        rank, suite = first
        self.best, self.rank = suite.best, suite.rank
        return cast(Rank, rank)

    @property
    def short(self) -> str | None:
        """The resource that its competitors are short of, or None."""
        return None if self.resource_queue is None else self.resource_queue.name

    def last_served(self, suite: str | None) -> float:
        """Return when a suite was last served: by this type or at this resource, whichever is later."""
        last_served = self._rotation[suite]
        return (
            last_served
            if self.resource_queue is None
            else max(last_served, self.resource_queue.rotation[suite])
        )

    def across(self) -> Rank | None:
        """Return its best competitor's rank among all types, by the rotation at its resource."""
        rank = self.key()
        if rank is None or self.resource_queue is None or not rank[1]:
            return rank
        priority, unclaimed, _, age = rank
        return (priority, unclaimed, self.resource_queue.rotation[self.best.suite], age)

    def enter(self, competitor: Competitor) -> None:
        """Add a competitor."""
        competitor.wait_list, competitor.stands = self, True
        suite = self._suites.get(competitor.suite)
        if suite is None:
            suite = self._suites[competitor.suite] = _OfSuite(competitor.suite, self)
        suite.count += 1
        if self.resource_queue is not None:
            self.resource_queue.came(competitor.suite)
        self.offer(competitor)

    def offer(self, competitor: Competitor) -> None:
        """Let one of its competitors compete, or move it forward, after its head or its state changed."""
        suite = self._suites[competitor.suite]
        if suite.competitors.offer(competitor) or suite not in self._queue:
            self._queue.offer(suite)

    def leave(self, competitor: Competitor) -> None:
        """Remove a competitor."""
        suite = self._suites[competitor.suite]
        competitor.stands = False
        suite.competitors.discard(competitor)
        suite.count -= 1
        if self.resource_queue is not None:
            self.resource_queue.went(competitor.suite)
        if not suite.count:
            self._queue.discard(suite)
            del self._suites[competitor.suite]

    def set_aside(self, competitor: Competitor) -> None:
        """Keep a competitor from competing until it is offered again."""
        self._suites[competitor.suite].competitors.discard(competitor)

    def pass_over(self, competitor: Competitor) -> None:
        """Keep a competitor from competing until all are reconsidered."""
        self.set_aside(competitor)
        self._passed_over.append(competitor)
        if self.resource_queue is not None:
            self.resource_queue.passed_over(self)

    def reconsider(self) -> None:
        """Let the competitors that were passed over compete again."""
        competitors, self._passed_over = self._passed_over, []
        for competitor in competitors:
            if competitor.stands and competitor.wait_list is self:
                self.offer(competitor)


class SleepingLists:
    """The lists asleep at a resource whose best competitors belong to the same suite.

    When that suite is served, all of them move back at once.

    Args:
        moved: called with a list whose best competitor now belongs to another suite.

    Attributes:
        best: the list whose rank `key` returned last.
    """

    best: WaitList

    def __init__(self, suite: str | None, rotation: Rotation, moved: Callable[[WaitList], None]) -> None:
        self.wait_lists: LazyQueue[WaitList] = LazyQueue(self._rank)
        self._suite = suite
        self._rotation = rotation
        self._moved = moved

    def _rank(self, wait_list: WaitList) -> Rank | None:
        if wait_list.key() is None:
            return None
        if wait_list.best.suite == self._suite:
            return wait_list.rank
        self._moved(wait_list)
        return None

    def key(self) -> Rank | None:
        """Return its best list's rank among those of all suites."""
        first = self.wait_lists.first()
        if first is None:
            return None
        (priority, unclaimed, claim, age), self.best = first
        return (priority, unclaimed, self._rotation[self._suite] if unclaimed else claim, age)


class ResourceQueue:
    """The wait lists of all types at one resource that they are short of.

    Args:
        now: returns how many times suites of all types have been served in total.

    Attributes:
        name: the resource's name.
        rotation: when each suite that waits here was last served with something that needs the resource.
    """

    def __init__(self, name: str, now: Callable[[], int]) -> None:
        self.name = name
        self.rotation = Rotation(now)
        self._competitors: Counter[str | None] = Counter()
        self._asleep: dict[str | None, SleepingLists] = {}
        self._suites: LazyQueue[SleepingLists] = LazyQueue(SleepingLists.key)
        self._moved: list[WaitList] = []
        self._passed: dict[WaitList, None] = {}

    def __bool__(self) -> bool:
        """Tell whether any competitor stands here."""
        return bool(self._competitors)

    def key(self) -> Rank | None:
        """Return the rank of the list that is to wake next, or None."""
        first = self._first()
        return None if first is None else first[0]

    def _first(self) -> tuple[Rank, SleepingLists] | None:
        while (first := self._suites.first()) is not None or self._moved:
            if not self._moved:
                return first
            moved, self._moved = self._moved, []
            for wait_list in moved:
                self.sleep(wait_list)
        return None

    def came(self, suite: str | None) -> None:
        """Count one more competitor of a suite."""
        if not self._competitors[suite]:
            self.rotation.came(suite)
        self._competitors[suite] += 1

    def went(self, suite: str | None) -> None:
        """Count one competitor less of a suite."""
        self._competitors[suite] -= 1
        if not self._competitors[suite]:
            del self._competitors[suite]
            self.rotation.went(suite)
            if (sleeping := self._asleep.pop(suite, None)) is not None:
                self._suites.discard(sleeping)
                self._moved.extend(sleeping.wait_lists)

    def sleep(self, wait_list: WaitList) -> None:
        """Let a list sleep among those whose best competitors belong to the same suite."""
        if wait_list.key() is None:
            return
        suite = wait_list.best.suite
        sleeping = self._asleep.get(suite)
        if sleeping is None:
            sleeping = self._asleep[suite] = SleepingLists(suite, self.rotation, self._moved_on)
        if wait_list.sleeps_among is not None:
            wait_list.sleeps_among.wait_lists.discard(wait_list)
        wait_list.sleeps_among = sleeping
        sleeping.wait_lists.offer(wait_list)
        self._suites.expect(sleeping)

    def _moved_on(self, wait_list: WaitList) -> None:
        self._moved.append(wait_list)

    def wake(self) -> WaitList | None:
        """Wake the list that is next, and return it, or None."""
        first = self._first()
        if first is None:
            return None
        wait_list = first[1].best
        first[1].wait_lists.discard(wait_list)
        return wait_list

    def passed_over(self, wait_list: WaitList) -> None:
        """Remember a list some of whose competitors were passed over."""
        self._passed[wait_list] = None

    def reconsider(self) -> list[WaitList]:
        """Let the competitors that were passed over compete again; return their wait lists."""
        wait_lists, self._passed = list(self._passed), {}
        for wait_list in wait_lists:
            wait_list.reconsider()
        return wait_lists

    def leave(self, wait_list: WaitList) -> None:
        """Forget a list that is empty."""
        if wait_list.sleeps_among is not None:
            wait_list.sleeps_among.wait_lists.discard(wait_list)
        if wait_list in self._moved:
            self._moved.remove(wait_list)
        self._passed.pop(wait_list, None)
