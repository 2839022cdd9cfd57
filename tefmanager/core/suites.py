"""How the tasks of each suite ended, and whether any is left."""

from __future__ import annotations

from dataclasses import dataclass, field

from tefmanager.core.values import Outcome

REMEMBERED = 1000
"""Suites without a task whose counts are kept, for more of their tasks may come: those that ended last."""


@dataclass(slots=True)
class _Suite:
    """Counts of one suite: the tasks that are left, and those that ended, by how."""

    left: int = 0
    ended: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(Outcome, 0))


class Suites:
    """Counts tasks by their suite, from the beginning of the reign."""

    def __init__(self) -> None:
        self._open: dict[str, _Suite] = {}
        self._over: dict[str, _Suite] = {}

    def came(self, suite: str | None, tasks: int = 1) -> None:
        """Count tasks that are not finished."""
        if suite is None:
            return
        known = self._open.get(suite)
        if known is None:
            known = self._open[suite] = self._over.pop(suite) if suite in self._over else _Suite()
        known.left += tasks

    def ended(self, suite: str | None, outcome: Outcome) -> tuple[int, int, int] | None:
        """Count a task that ended; where it was the last one, return how many ended how.

        These are the completed, the stopped and the dead ones.
        """
        if suite is None:
            return None
        known = self._open[suite]
        known.left -= 1
        known.ended[outcome] += 1
        if known.left:
            return None
        self._over[suite] = self._open.pop(suite)
        if len(self._over) > REMEMBERED:
            del self._over[next(iter(self._over))]
        ended = known.ended
        return ended[Outcome.COMPLETED], ended[Outcome.STOPPED], ended[Outcome.DEAD]
