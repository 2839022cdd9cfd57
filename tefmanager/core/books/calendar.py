"""The date for what is kept for days. A wall clock that jumps moves it only a little."""

from __future__ import annotations

from tefmanager.core.model.values import Moment

AHEAD = 24.0
"""How much faster than time the calendar may advance: at most a day per hour."""

BACK = 720.0
"""How much faster it may go back: a month per hour. Going back makes nothing old, and corrects a wrong
first start."""

STEP = 600.0
"""Seconds by which the calendar may move before it is written again."""


class Calendar:
    """Follows the wall clock slowly.

    A clock that is years ahead for a second must not remove all history. So the calendar continues from
    where the last leader left it, and approaches the wall clock at a limited pace. `today` is never ahead
    of the wall clock, so a clock that was set back removes nothing either.

    Args:
        written: the calendar's unix time in the database, or None if there is none. Then nothing is old
            yet, and the calendar starts at the wall clock.
        now: when the leadership begins.
    """

    def __init__(self, written: float | None, now: Moment) -> None:
        self._written = written
        self._day = now.wall if written is None else written
        self._read = now.monotonic

    def today(self, now: Moment) -> float:
        """Return the unix time from which ages are counted."""
        return min(self.day(now), now.wall)

    def to_write(self, now: Moment) -> float | None:
        """Return the time to write to the database, or None if the database is recent enough.

        It may be ahead of the wall clock, which may be wrong at present.
        """
        day = self.day(now)
        if self._written is not None and abs(day - self._written) < STEP:
            return None
        self._written = day
        return day

    def day(self, now: Moment) -> float:
        """Return the calendar's time. It may be ahead of a wall clock that is behind."""
        passed = max(now.monotonic - self._read, 0.0)
        self._read += passed
        least, most = self._day + passed * (1 - BACK), self._day + passed * (1 + AHEAD)
        self._day = min(max(now.wall, least), most)
        return self._day
