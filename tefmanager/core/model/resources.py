"""Shared resources: counts, limits, and the windows of time that change the limits.

``docs/protocol.md``, section *Resources*, describes the layout in Etcd.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

UNLIMITED = -1
"""The value of ``ref_limit``, or of a window's ``limit``, that means no limit."""

ANY_DAY = -1
"""The value of a window's ``day_of_week`` that matches every day."""

MINUTES_A_DAY = 24 * 60


class Window(Struct, frozen=True):
    """A span of local time in which a resource has another limit.

    Attributes:
        id: its name under the resource's ``windows``.
        start: minute of the day at which it begins, 0 to less than 1440; seconds are fractions.
        end: minute of the day at which it ends, 0 to 1440; if this is before ``start``, it ends the next
            day.
        day: weekday on which the window *starts*, 0 (Sunday) to 6, or `ANY_DAY`.
        available: whether references may be taken inside the window.
        limit: the limit inside the window, `UNLIMITED`, or None for the resource's own limit.
    """

    id: str
    start: float
    end: float
    day: int = ANY_DAY
    available: bool = True
    limit: int | None = None

    def contains(self, local: datetime) -> bool:
        """Tell whether a local time (naive) is inside the window."""
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
    """The state of one resource in Etcd at a moment.

    Attributes:
        name: its name, unique in the environment.
        held: ``ref_count``, the number of references that all programs hold now.
        limit: ``ref_limit``, the most references at a time, or `UNLIMITED`. Missing or malformed counts as
            0.
        available: False if ``available`` is ``0``: nobody may take a reference.
        windows: the windows that could be read.
        closed: a window could not be read, so it is unknown when it closes the resource.
        earlier: the state a moment ago, while another program is writing the resource or its windows key by
            key.
        faults: what could not be read, for people: "ref_limit is 'four', expected a whole number".
        uncounted: number of our own references, by their lock keys, that ``held`` does not include, because
            somebody changed the count by hand or created the resource anew.
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
        """The number of references that are certainly held now; our own always count."""
        return self.held + self.uncounted

    @property
    def settled(self) -> Resource:
        """The same resource without its state a moment ago: as it will be unless it changes again."""
        return replace(self, earlier=())

    def with_own(self, own: int) -> Resource:
        """Return the same resource, given the number of our own lock keys."""
        uncounted = max(0, own - self.held)
        return self if uncounted == self.uncounted else replace(self, uncounted=uncounted)

    def limit_at(self, local: datetime) -> int:
        """Return the most references that may be held at a local time, or `UNLIMITED`.

        Among all windows that contain the time, and the resource's state a moment ago, the strictest limit
        counts. ``available = 0`` of the resource itself closes it inside windows too.
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
        """Return how many references may still be taken at a local time: 0 or more, or infinity."""
        limit = self.limit_at(local)
        return float("inf") if limit == UNLIMITED else max(0, limit - self.used)


def _strictest(limits: Iterable[int]) -> int:
    return min((limit for limit in limits if limit != UNLIMITED), default=UNLIMITED)
