"""Today, for what is kept for days: a wall clock that jumps moves it little."""

from __future__ import annotations

from tefmanager.core.model.values import Moment

AHEAD = 24.0
"""How much faster than time itself the calendar goes forward: in an hour by a day at most."""

BACK = 720.0
"""The same, back: by a month an hour. That makes nothing old, and a wrong first start heals."""

STEP = 600.0
"""Seconds by which it may have moved before it is written down again."""


class Calendar:
    """Follows the wall clock, slowly.

    A clock that is years ahead for a second must not remove all history. So the calendar goes on from where
    the leader before left it, and moves towards the wall clock at a limited pace. What it tells is never
    ahead of the wall clock, so that one that was set back removes nothing either.

    Args:
        written: unix time that the database has of it, or None where it never had one: then nothing is
            old yet, and the wall clock is believed.
        now: when the leadership begins.
    """

    def __init__(self, written: float | None, now: Moment) -> None:
        self._written = written
        self._day = now.wall if written is None else written
        self._read = now.monotonic

    def today(self, now: Moment) -> float:
        """Return the unix time before which, by so many days, things are old."""
        return min(self.day(now), now.wall)

    def to_write(self, now: Moment) -> float | None:
        """Return what is to be written down from now on, or None where the database knows enough.

        It may be ahead of the wall clock, which may be wrong at present.
        """
        day = self.day(now)
        if self._written is not None and abs(day - self._written) < STEP:
            return None
        self._written = day
        return day

    def day(self, now: Moment) -> float:
        """Return where it is, which may be ahead of a wall clock that is behind."""
        passed = max(now.monotonic - self._read, 0.0)
        self._read += passed
        least, most = self._day + passed * (1 - BACK), self._day + passed * (1 + AHEAD)
        self._day = min(max(now.wall, least), most)
        return self._day
