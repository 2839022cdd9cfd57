"""Knows which suites have ended, and how their tasks ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tefmanager.core.model.endings import Ending, Outcome, SuiteEnds
from tefmanager.protocol.verdicts import Result

_RESULTS = (Result.PASSED, Result.FAILED, Result.ERROR, Result.UNKNOWN)
_ENDINGS: tuple[Ending, ...] = (Outcome.STOPPED, Outcome.DEAD, *_RESULTS)


@dataclass(slots=True)
class _Suite:
    """A suite: how many unfinished tasks it has, and the outcomes that memory knows of."""

    left: int = 0
    ended: Counter[Ending] = field(default_factory=Counter)


class Suites:
    """Counts tasks by suite. Only the database knows about a suite without unfinished tasks."""

    def __init__(self) -> None:
        self._open: dict[str, _Suite] = {}
        self._over: dict[str, _Suite] = {}
        self._turn: dict[str, Counter[Ending]] = {}

    def came(self, suite: str | None, tasks: int = 1) -> None:
        """Count unfinished tasks."""
        if suite is None:
            return
        known = self._open.get(suite)
        if known is None:
            known = self._open[suite] = self._over.pop(suite) if suite in self._over else _Suite()
        known.left += tasks

    def ended(self, suite: str | None, ending: Ending) -> None:
        """Count a task that ended; a completed one by its result."""
        if suite is None:
            return
        known = self._open[suite]
        known.left -= 1
        known.ended[ending] += 1
        self._turn.setdefault(suite, Counter())[ending] += 1
        if not known.left:
            self._over[suite] = self._open.pop(suite)

    @property
    def over(self) -> Sequence[str]:
        """The suites whose last task ended in this turn."""
        return tuple(self._over)

    def conclude(self, ends: SuiteEnds) -> Iterator[tuple[str, tuple[int, ...]]]:
        """End the turn: yield each suite that has ended, with its numbers of tasks by ending.

        These are the completed, stopped and dead ones; then the completed ones by result: passed, failed,
        error, unknown. ``ends``: the endings in history from before this turn. Memory knows more if history
        is kept for a shorter time than the suite lasted. It knows less if the suite is older than the
        leadership, or had ended before.
        """
        over, self._over = self._over, {}
        turn, self._turn = self._turn, {}
        for suite, known in over.items():
            stored = ends.get(suite, {})
            stopped, dead, *results = (
                max(known.ended[end], stored.get(end, 0) + turn[suite][end]) for end in _ENDINGS
            )
            yield suite, (sum(results), stopped, dead, *results)
