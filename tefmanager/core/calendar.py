"""Today, for what is kept for days: a wall clock that jumps moves it little."""

from __future__ import annotations

from tefmanager.core.values import Moment

PACE = 24.0
"""How much faster than time itself the calendar follows the wall clock: in an hour by a day at most."""


class Calendar:
    """Follows the wall clock, slowly.

    A clock that is years ahead for a second must not remove all history. So the calendar begins no later
    than the last thing that is known to have happened, and moves towards the wall clock at a limited pace.
    It is never ahead of the wall clock, so that one that was set back removes nothing either.

    Args:
        last: unix time at which the last task in history ended, or None where there is none.
        now: when it begins.
    """

    def __init__(self, last: float | None, now: Moment) -> None:
        self._today = now.wall if last is None else min(last, now.wall)
        self._read = now.monotonic

    def today(self, now: Moment) -> float:
        """Return the unix time before which, by so many days, things are old."""
        passed = now.monotonic - self._read
        self._read = now.monotonic
        least, most = self._today + passed * (1 - PACE), self._today + passed * (1 + PACE)
        self._today = min(max(now.wall, least), most)
        return min(self._today, now.wall)
