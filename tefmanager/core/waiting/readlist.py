"""What of a backlog is to be read before the next turn, some of it at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from tefmanager.core.model.values import Stretch
from tefmanager.core.waiting.lanes import Demand, Lane
from tefmanager.core.waiting.sweeps import STRETCHES

READ_AT_ONCE = 2_000
"""Tasks that are read before one turn because lanes run low."""

LOW_TOGETHER = 50
"""Lanes that are low for which it is worth while to read before one is dry."""


class ReadList:
    """Lanes that are dry or low, cold demands that came up, and suites that were readied.

    Args:
        most: tasks that are read of a lane at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._dry: dict[Lane, None] = {}
        self._low: dict[Lane, None] = {}
        self._readied: deque[tuple[str, Demand]] = deque()

    def __bool__(self) -> bool:
        """Tell whether it is worth while to read something now."""
        return bool(self._dry or self._readied)

    @property
    def urgent(self) -> bool:
        """Whether planning stopped because something must be read."""
        return bool(self._dry)

    def ask(self, lane: Lane) -> None:
        """A lane that is dry, or stands for a cold demand, has come up."""
        self._dry[lane] = None

    def runs_low(self, lane: Lane) -> None:
        """A lane has not much left in memory."""
        self._low[lane] = None

    def ready(self, suite: str, demands: Iterable[Demand]) -> None:
        """A suite was readied, and may be the only one to compete on some cold demands."""
        self._readied.extend((suite, demand) for demand in demands)

    def readied(self) -> list[Stretch]:
        """Return what is to be read because suites were readied: the first task on each of some demands."""
        stretches: list[Stretch] = []
        while self._readied and len(stretches) < STRETCHES:
            suite, demand = self._readied.popleft()
            if demand.cold is not None and demand.cold.held:
                stretches.append(demand.stretch(suite, at_most=1))
        return stretches

    def demands(self) -> list[Demand]:
        """Return the cold demands that have come up."""
        return [lane.demand for lane in self._dry if lane.demand.cold is lane]

    def lanes(self) -> list[Lane]:
        """Return lanes that are dry, with some that are low; ``portion`` says how much is to be read.

        One that ran dry before there was an occasion to read it gets more from now on.
        """
        dry, self._dry = self._dry, {}
        if not dry and len(self._low) < LOW_TOGETHER:
            return []
        lanes: list[Lane] = []
        room = READ_AT_ONCE
        for lane in [*dry, *(lane for lane in self._low if lane not in dry)]:
            if room <= 0:
                break
            self._low.pop(lane, None)
            if lane.goes_on and lane.stands:
                lane.portion = min(lane.portion * 2, self._most) if lane in dry else lane.portion
                room -= lane.portion
                lanes.append(lane)
        return lanes
