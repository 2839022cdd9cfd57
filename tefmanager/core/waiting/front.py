"""One order for all worker types: who is next where they compete, and what that costs where they do not.

Each type has a *type queue*; those whose workers are free compete with the places of their best lanes. Lanes that
are short of the same resource stand in one *stand*, whatever their type: there the line of each type sleeps
until the resource has something to give and no other line's turn is earlier. So what is given back wakes
one line and not one of each type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, KeysView
from typing import TYPE_CHECKING

from tefmanager.core.waiting.lanes import Lane, Place
from tefmanager.core.waiting.lazyqueue import LazyQueue
from tefmanager.core.waiting.rotation import Turns

if TYPE_CHECKING:
    from tefmanager.core.waiting.type_queues import Line, TypeQueue


class Sleepers:
    """Lines that sleep at a resource, their best lanes being of one suite: its turns move all of them.

    Args:
        moved: is told of a line whose best lane is of another suite by now.

    Attributes:
        best: the line whose place `key` has returned.
    """

    best: Line

    def __init__(self, suite: str | None, turns: Turns, moved: Callable[[Line], None]) -> None:
        self.lines: LazyQueue[Line] = LazyQueue(self._place)
        self._suite = suite
        self._turns = turns
        self._moved = moved

    def _place(self, line: Line) -> Place | None:
        if line.key() is None:
            return None
        if line.best.suite == self._suite:
            return line.place
        self._moved(line)
        return None

    def key(self) -> Place | None:
        """Return the place of the best line among those of all suites."""
        first = self.lines.first()
        if first is None:
            return None
        (priority, unclaimed, claim, age), self.best = first
        return (priority, unclaimed, self._turns[self._suite] if unclaimed else claim, age)


class Stand:
    """The lines of all types at one resource that they are short of.

    Args:
        now: tells how many turns there have been, of all suites of all types.

    Attributes:
        name: the resource's.
        turns: when each suite that stands here was served last with something that needs the resource.
    """

    def __init__(self, name: str, now: Callable[[], int]) -> None:
        self.name = name
        self.turns = Turns(now)
        self._lanes: Counter[str | None] = Counter()
        self._asleep: dict[str | None, Sleepers] = {}
        self._suites: LazyQueue[Sleepers] = LazyQueue(Sleepers.key)
        self._moved: list[Line] = []
        self._passed: dict[Line, None] = {}

    def __bool__(self) -> bool:
        """Tell whether any lane stands here."""
        return bool(self._lanes)

    def key(self) -> Place | None:
        """Return the place of the line that is to wake next, or None."""
        first = self._first()
        return None if first is None else first[0]

    def _first(self) -> tuple[Place, Sleepers] | None:
        while (first := self._suites.first()) is not None or self._moved:
            if not self._moved:
                return first
            moved, self._moved = self._moved, []
            for line in moved:
                self.sleep(line)
        return None

    def came(self, suite: str | None) -> None:
        """A lane of a suite stands here."""
        if not self._lanes[suite]:
            self.turns.came(suite)
        self._lanes[suite] += 1

    def went(self, suite: str | None) -> None:
        """A lane of a suite stands here no more."""
        self._lanes[suite] -= 1
        if not self._lanes[suite]:
            del self._lanes[suite]
            self.turns.went(suite)
            if (sleepers := self._asleep.pop(suite, None)) is not None:
                self._suites.discard(sleepers)
                self._moved.extend(sleepers.lines)

    def sleep(self, line: Line) -> None:
        """Let a line wait until it is woken, among those whose best lanes are of the same suite."""
        if line.key() is None:
            return
        suite = line.best.suite
        sleepers = self._asleep.get(suite)
        if sleepers is None:
            sleepers = self._asleep[suite] = Sleepers(suite, self.turns, self._moved_on)
        if line.bed is not None:
            line.bed.lines.discard(line)
        line.bed = sleepers
        sleepers.lines.offer(line)
        self._suites.expect(sleepers)

    def _moved_on(self, line: Line) -> None:
        self._moved.append(line)

    def wake(self) -> Line | None:
        """Return the line whose turn it is; it does not sleep any more."""
        first = self._first()
        if first is None:
            return None
        line = first[1].best
        first[1].lines.discard(line)
        return line

    def passed_over(self, line: Line) -> None:
        """Remember that lanes of a line do not compete until all are reconsidered."""
        self._passed[line] = None

    def reconsider(self) -> list[Line]:
        """Let the lanes that were passed over compete again, in the lines that are returned."""
        lines, self._passed = list(self._passed), {}
        for line in lines:
            line.reconsider()
        return lines

    def leave(self, line: Line) -> None:
        """A line is empty."""
        if line.bed is not None:
            line.bed.lines.discard(line)
        if line in self._moved:
            self._moved.remove(line)
        self._passed.pop(line, None)


class Front:
    """Who is next among all types."""

    def __init__(self) -> None:
        self._turn = 0
        self._queue: LazyQueue[TypeQueue | Stand] = LazyQueue(lambda who: who.key())
        self._stands: dict[str, Stand] = {}

    def best(self, gives: Callable[[str], bool], busy: Callable[[str], object]) -> Lane | None:
        """Return the lane whose turn it is, of those that may go, or None.

        ``gives`` tells whether a resource has one to give, ``busy`` whether nobody of a type is free.
        """
        while (top := self._queue.top()) is not None:
            if not isinstance(top, Stand) and busy(top.task_type):
                self._queue.discard(top)  # until one of its workers is free
            elif (first := self._queue.first()) is None:
                break
            elif isinstance(who := first[1], Stand):
                self._call(who, gives)
            elif busy(who.task_type):
                self._queue.discard(who)
            else:
                line = who.top
                if line.stand is None or gives(line.stand.name):
                    return line.best
                who.sleep(line)
        return None

    def _call(self, stand: Stand, gives: Callable[[str], bool]) -> None:
        """Wake the next line at a resource that has something to give."""
        line = stand.wake() if gives(stand.name) else None
        if line is None:
            self._queue.discard(stand)  # until it is woken
        else:
            line.type_queue.awake(line)

    def offer(self, type_queue: TypeQueue) -> None:
        """Let a type compete, or move it forward, after its best lane changed or a worker became free."""
        self._queue.expect(type_queue)

    def drop(self, type_queue: TypeQueue) -> None:
        """Nothing waits for a type any more; or it is to compete no more until it is offered again."""
        self._queue.discard(type_queue)

    def now(self) -> int:
        """Count the turns of all suites of all types."""
        return self._turn

    # --- at resources ---

    def stand(self, name: str) -> Stand:
        """Return where lanes stand that are short of a resource."""
        stand = self._stands.get(name)
        if stand is None:
            stand = self._stands[name] = Stand(name, self.now)
        return stand

    def serve(self, lane: Lane) -> None:
        """Note that a lane's suite has its turn."""
        self._turn += 1
        for name in lane.demand.resources:
            if (stand := self._stands.get(name)) is not None:
                stand.turns.served(lane.suite)

    def wake(self, name: str) -> None:
        """Let those that are short of a resource compete, as long as it has something to give."""
        stand = self._stands.get(name)
        if stand is not None:
            for line in stand.reconsider():
                line.type_queue.again(line)
            self._queue.expect(stand)

    def emptied(self, stand: Stand) -> None:
        """Nobody is short of a resource any more."""
        self._queue.discard(stand)
        del self._stands[stand.name]

    def shortages(self) -> KeysView[str]:
        """Return the resources at which lanes stand."""
        return self._stands.keys()
