"""Shared resources as anyone sees them: counts, limits and the windows of time that change them.

The layout in Etcd is described in ``docs/protocol.md``, section *Resources*.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

UNLIMITED = -1
"""The limit that is none, as it stands in ``ref_limit`` and in a window's ``limit``."""

ANY_DAY = -1
"""A window's ``day_of_week`` that fits every day."""

MINUTES_A_DAY = 24 * 60


class Window(Struct, frozen=True):
    """A span of local time in which a resource has another limit.

    Attributes:
        id: its name under the resource's ``windows``.
        start: minute of the day from which it is inside, 0 to less than 1440; seconds are parts of it.
        end: minute from which it is outside again, 0 to 1440; before ``start`` it means the next day.
        day: weekday on which the window *starts*, 0 (Sunday) to 6, or `ANY_DAY`.
        available: whether references may be added while inside.
        limit: most references while inside, `UNLIMITED`, or None for the resource's own limit.
    """

    id: str
    start: float
    end: float
    day: int = ANY_DAY
    available: bool = True
    limit: int | None = None

    def contains(self, local: datetime) -> bool:
        """Tell whether local time (naive) is inside."""
        minute = local.hour * 60 + local.minute + local.second / 60
        today = local.isoweekday() % 7
        if self.start <= self.end:
            return self.start <= minute < self.end and self._on(today)
        return (minute >= self.start and self._on(today)) or (
            minute < self.end and self._on((today - 1) % 7)
        )

    def _on(self, weekday: int) -> bool:
        return self.day in (ANY_DAY, weekday)


class Resource(Struct, frozen=True):
    """What Etcd says of one resource at a moment.

    Attributes:
        name: its name, unique in the environment.
        held: ``ref_count``, references held now by everyone.
        limit: ``ref_limit``: most references at a time; `UNLIMITED`; missing or malformed is 0.
        available: False where ``available`` is ``0``: nobody may add a reference.
        windows: the windows that could be read.
        closed: there is a window that can't be read: nobody knows when it means to close the resource.
        earlier: what it was a moment ago: its windows, or itself, are being written key by key.
        faults: what could not be read, for people: "ref_limit is 'four', expected a whole number".
        uncounted: references of our own, by their lock keys, that ``held`` leaves out: somebody has
            changed the count by hand, or has made the resource anew.
    """

    name: str
    held: int = 0
    limit: int = 0
    available: bool = True
    windows: tuple[Window, ...] = ()
    faults: tuple[str, ...] = ()
    uncounted: int = 0
    closed: bool = False
    earlier: tuple[Resource, ...] = ()

    @property
    def used(self) -> int:
        """References that are certainly held now: our own always count."""
        return self.held + self.uncounted

    def with_own(self, own: int) -> Resource:
        """Return the same where so many lock keys of our own are there."""
        uncounted = max(0, own - self.held)
        return self if uncounted == self.uncounted else replace(self, uncounted=uncounted)

    def limit_at(self, local: datetime) -> int:
        """Return the most references that may be held at a local time, or `UNLIMITED`.

        Of several windows that contain the time the strictest counts, and of what the resource was a
        moment ago. ``available = 0`` of the resource itself closes it inside windows too.
        """
        if not self.earlier:
            return self._limit_at(local)
        return _strictest(each._limit_at(local) for each in (self, *self.earlier))

    def _limit_at(self, local: datetime) -> int:
        if not self.available or self.closed:
            return 0
        inside = [window for window in self.windows if window.contains(local)]
        if not inside:
            return self.limit
        return _strictest(self._limit_in(window) for window in inside)

    def _limit_in(self, window: Window) -> int:
        if not window.available:
            return 0
        return self.limit if window.limit is None else window.limit

    def free_at(self, local: datetime) -> float:
        """Return how many references may still be added at a local time: 0 or more, or infinity."""
        limit = self.limit_at(local)
        return float("inf") if limit == UNLIMITED else max(0, limit - self.used)


def _strictest(limits: Iterable[int]) -> int:
    return min((limit for limit in limits if limit != UNLIMITED), default=UNLIMITED)
