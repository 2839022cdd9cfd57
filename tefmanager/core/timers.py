"""What is to be looked at later. Times are monotonic seconds."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from tefmanager.core.values import Moment

Check = Callable[[Moment], None]


class Timers:
    """Checks that are due at a time.

    Nothing is ever cancelled: a check looks at how things are and does nothing, or asks to be called
    again, when its time has moved. So a heartbeat costs no timer.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Check]] = []
        self._ties = count()

    def at(self, when: float, check: Check) -> None:
        """Call a check as soon as the time has come."""
        heapq.heappush(self._heap, (when, next(self._ties), check))

    def next(self) -> float | None:
        """Return when the next check is due, or None."""
        return self._heap[0][0] if self._heap else None

    def advance(self, now: Moment) -> None:
        """Call the checks that are due, earliest first."""
        while self._heap and self._heap[0][0] <= now.monotonic:
            _, _, check = heapq.heappop(self._heap)
            check(now)
