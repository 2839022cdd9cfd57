"""Calls checks when their time has come. Times are monotonic seconds."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from math import inf

from tefmanager.core.model.values import Moment

Check = Callable[[Moment], None]

MINUTE = 60.0


class Timer:
    """A check that is due at a time. Once it was called or cancelled, it is None."""

    __slots__ = ("check", "when")

    def __init__(self, when: float, check: Check) -> None:
        self.when = when
        self.check: Check | None = check


class Timers:
    """Checks, each due at a time.

    A check that finds its time moved does nothing but ask to be called again. So a heartbeat needs no new
    timer. A timer that is not needed any more must be cancelled, since it would keep its object in memory.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._ties = count()
        self._cancelled = 0

    def __len__(self) -> int:
        """Count the checks; may include some that were cancelled."""
        return len(self._heap)

    def at(self, when: float, check: Check) -> Timer:
        """Call a check once the time has come."""
        timer = Timer(when, check)
        heapq.heappush(self._heap, (when, next(self._ties), timer))
        return timer

    def no_later(self, timer: Timer | None, when: float, check: Check) -> Timer | None:
        """Call a check when the time has come, unless a timer of the same thing is due by then anyway.

        Returns the timer that stands then. A time that never comes needs none.
        """
        if when == inf or (timer is not None and timer.check is not None and timer.when <= when):
            return timer
        self.cancel(timer)
        return self.at(when, check)

    def cancel(self, timer: Timer | None) -> None:
        """Cancel a check. Does nothing if it was called already or is None."""
        if timer is not None and timer.check is not None:
            timer.check = None
            self._cancelled += 1
            if self._cancelled > len(self._heap) // 2 + 8:
                self._heap = [entry for entry in self._heap if entry[2].check is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def next(self) -> float | None:
        """Return when the next check is due, or None."""
        return self._heap[0][0] if self._heap else None

    def advance(self, now: Moment) -> None:
        """Call the checks that are due, earliest first."""
        while self._heap and self._heap[0][0] <= now.monotonic:
            _, _, timer = heapq.heappop(self._heap)
            check, timer.check = timer.check, None
            if check is None:
                self._cancelled -= 1
            else:
                check(now)


def next_minute(now: Moment) -> float:
    """Return the monotonic time at which the local clock begins its next minute."""
    return now.monotonic + MINUTE - now.local.second - now.local.microsecond / 1e6
