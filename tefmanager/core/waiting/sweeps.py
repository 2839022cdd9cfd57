"""Goes through the waiting tasks of a suite in steps, however many there are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from tefmanager.core.model.entities import Task
from tefmanager.core.model.values import Stretch, TaskRow

STEP = 500
"""How many tasks one turn goes through, at most."""

STRETCHES = 50
"""From how many lanes one turn reads, at most."""


class Sweep:
    """The tasks of a suite that waited at one moment and have not been gone through yet.

    Tasks in memory come first. The others are read from the demands that had unread tasks at that moment. A
    task that is paged in for another reason is covered as well. The suite is held until the sweep ends.

    Args:
        found: the suite's tasks in memory.
        stretches: the suite's unread tasks, one stretch for each demand that had some.

    Attributes:
        below: tasks with this id or a higher one came later and are not covered.
        spared: ids of tasks that were in flight at that moment, and are not covered either.
    """

    def __init__(
        self, below: int, spared: Iterable[int], found: Iterable[Task], stretches: Iterable[Stretch]
    ) -> None:
        self.below = below
        self.spared = frozenset(spared)
        self._found = deque(sorted(filter(self.covers, found), key=lambda task: task.spec.id))
        self._stretches = deque(stretches)

    def covers(self, task: Task) -> bool:
        """Tell whether the sweep covers a task of the suite, provided that it still waits."""
        return task.spec.id < self.below and task.spec.id not in self.spared

    @property
    def over(self) -> bool:
        """Whether all tasks have been gone through."""
        return not (self._found or self._stretches)

    def take(self, at_most: int) -> list[Task]:
        """Return the next tasks in memory; some may not wait any more."""
        return [self._found.popleft() for _ in range(min(at_most, len(self._found)))]

    def to_read(self) -> list[Stretch]:
        """Return what to read now: nothing while there are tasks in memory."""
        if self._found:
            return []
        count = min(len(self._stretches), STRETCHES)
        each = STEP // count if count else 0
        stretches = (self._stretches.popleft() for _ in range(count))
        return [replace(stretch, at_most=each, below=self.below) for stretch in stretches]

    def read(self, stretch: Stretch, rows: Sequence[TaskRow], tasks: Iterable[Task]) -> None:
        """Take in what was read."""
        self._found.extend(filter(self.covers, tasks))
        if len(rows) == stretch.at_most:
            self._stretches.append(replace(stretch, after=rows[-1].spec.order))
