"""Decides which parts of the backlog are read before the next turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tefmanager.core.model.values import Stretch
from tefmanager.core.waiting.lanes import Demand, InLine, Lane
from tefmanager.core.waiting.sweeps import STRETCHES

READ_AT_ONCE = 2_000
"""How many tasks are read before one turn because lanes run low."""

LOW_TOGETHER = 50
"""How many lanes must be low before some are read although none is drained yet."""


class ReadList:
    """Lanes that are drained or low, paged-out demands that came up, and suites that were readied.

    Args:
        most: how many tasks of a lane are read at a time, at most.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._came_up: dict[InLine, None] = {}
        self._low: dict[Lane, None] = {}
        self._readied: deque[tuple[str, Demand]] = deque()

    def __bool__(self) -> bool:
        """Tell whether something should be read now."""
        return bool(self._came_up or self._readied)

    @property
    def urgent(self) -> bool:
        """Whether planning stopped because something must be read first."""
        return bool(self._came_up)

    def ask(self, competitor: InLine) -> None:
        """Request a drained lane, or a paged-out demand, that has come up."""
        self._came_up[competitor] = None

    def runs_low(self, lane: Lane) -> None:
        """Note that a lane has few tasks left in memory."""
        self._low[lane] = None

    def ready(self, suite: str, demands: Iterable[Demand]) -> None:
        """Note that a suite was readied; it may be the only one that competes in these demands."""
        self._readied.extend((suite, demand) for demand in demands)

    def readied(self) -> list[Stretch]:
        """Return what to read because suites were readied: the first task of each on some demands."""
        stretches: list[Stretch] = []
        while self._readied and len(stretches) < STRETCHES:
            suite, demand = self._readied.popleft()
            if demand.paged_out is not None and demand.paged_out.held:
                stretches.append(demand.stretch(suite, at_most=1))
        return stretches

    def demands(self) -> list[Demand]:
        """Return the paged-out demands that have come up."""
        return [each.demand for each in self._came_up if each.demand.paged_out is each]

    def lanes(self) -> list[Lane]:
        """Return the drained lanes, and some that are low; each one's ``batch`` says how much to read.

        A lane that was drained before it could be read gets a larger batch from now on.
        """
        came_up, self._came_up = self._came_up, {}
        drained = {each: None for each in came_up if isinstance(each, Lane)}
        if not came_up and len(self._low) < LOW_TOGETHER:
            return []
        lanes: list[Lane] = []
        room = READ_AT_ONCE
        for lane in [*drained, *(lane for lane in self._low if lane not in drained)]:
            if room <= 0:
                break
            self._low.pop(lane, None)
            if lane.goes_on and lane.stands:
                lane.batch = min(lane.batch * 2, self._most) if lane in drained else lane.batch
                room -= lane.batch
                lanes.append(lane)
        return lanes
