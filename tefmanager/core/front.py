"""One order for all worker types: who is next where they compete, and what that costs where they do not.

Each type has a *yard*; those whose workers are free compete with the places of their best lanes. Lanes that
are short of the same resource stand in one *stand*, whatever their type: there the line of each type sleeps
until the resource has something to give and no other line's turn is earlier. So what is given back wakes
one line and not one of each type.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, KeysView
from typing import TYPE_CHECKING

from tefmanager.core.lanes import Lane, Place
from tefmanager.core.lazyqueue import LazyQueue
from tefmanager.core.turns import Turns

if TYPE_CHECKING:
    from tefmanager.core.lines import Line, Yard


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
        self._asleep: LazyQueue[Line] = LazyQueue(_across)
        self._passed: dict[Line, None] = {}

    def __bool__(self) -> bool:
        """Tell whether any lane stands here."""
        return bool(self._lanes)

    def key(self) -> Place | None:
        """Return the place of the line that is to wake next, or None."""
        first = self._asleep.first()
        return None if first is None else first[0]

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

    def sleep(self, line: Line) -> None:
        """Let a line wait until it is woken."""
        self._asleep.expect(line)

    def wake(self) -> Line | None:
        """Return the line whose turn it is; it does not sleep any more."""
        first = self._asleep.first()
        if first is None:
            return None
        self._asleep.discard(first[1])
        return first[1]

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
        self._asleep.discard(line)
        self._passed.pop(line, None)


class Front:
    """Who is next among all types."""

    def __init__(self) -> None:
        self._turn = 0
        self._queue: LazyQueue[Yard | Stand] = LazyQueue(lambda who: who.key())
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
            line.yard.awake(line)

    def offer(self, yard: Yard) -> None:
        """Let a type compete, or move it forward, after its best lane changed or a worker became free."""
        self._queue.expect(yard)

    def drop(self, yard: Yard) -> None:
        """Nothing waits for a type any more; or it is to compete no more until it is offered again."""
        self._queue.discard(yard)

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
        for name in lane.road.resources:
            if (stand := self._stands.get(name)) is not None:
                stand.turns.served(lane.suite)

    def wake(self, name: str) -> None:
        """Let those that are short of a resource compete, as long as it has something to give."""
        stand = self._stands.get(name)
        if stand is not None:
            for line in stand.reconsider():
                line.yard.again(line)
            self._queue.expect(stand)

    def emptied(self, stand: Stand) -> None:
        """Nobody is short of a resource any more."""
        self._queue.discard(stand)
        del self._stands[stand.name]

    def shortages(self) -> KeysView[str]:
        """Return the resources at which lanes stand."""
        return self._stands.keys()


def _across(line: Line) -> Place | None:
    return line.across()
