"""Records when each suite was served last."""

from __future__ import annotations

from collections.abc import Callable

NEWCOMERS = 0.75
"""The largest share of all that is served that may go to new suites.

Otherwise a steady stream of new suites would each be served before older suites are served again, and each
round would take longer than the last.
"""


class Rotation:
    """When each suite was served last: the suite with the least number is next.

    A suite that comes, or comes back, begins as if it had just been served. It begins later if more suites
    have come before it than their share allows.

    Args:
        now: returns how many times suites have been served in total.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._rotation: dict[str | None, float] = {}
        self._gate = 0.0
        self._came_at = -1
        self._came = 0

    def __getitem__(self, suite: str | None) -> float:
        """Return when a waiting suite was served last, by `now`, and 0 for any other suite."""
        return self._rotation.get(suite, 0.0)

    def came(self, suite: str | None) -> None:
        """Add a suite that begins to wait."""
        now = self._now()
        if now != self._came_at:
            later = self._gate + self._came / NEWCOMERS
            self._gate = max(now, min(later, now + len(self._rotation) / NEWCOMERS))
            self._came_at, self._came = now, 0
        self._came += 1
        self._rotation[suite] = self._gate

    def served(self, suite: str | None) -> None:
        """Note that a suite is served."""
        if suite in self._rotation:
            self._rotation[suite] = self._now()

    def went(self, suite: str | None) -> None:
        """Forget a suite that does not wait any more."""
        del self._rotation[suite]
