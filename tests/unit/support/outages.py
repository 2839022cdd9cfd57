"""Outages for tests of code that only needs them as a tool."""

from __future__ import annotations

from datetime import datetime

from tefmanager.core.model.values import Moment
from tefmanager.protocol.catalogue import LoggedEvent
from tefmanager.support.outages import Outages


class Told:
    """Outages with a clock that a test sets.

    Attributes:
        time: monotonic; the wall clock is 1000 seconds ahead.
        lines: what was logged.
    """

    def __init__(self, time: float = 0.0) -> None:
        self.time = time
        self.lines: list[LoggedEvent] = []
        self.outages = Outages(self.now, self.lines.append)

    def now(self) -> Moment:
        """Read the clocks."""
        return Moment(self.time, 1000.0 + self.time, datetime(2026, 3, 4, 12, 0))

    def logged(self) -> list[str]:
        """Return what was logged since the last call, without the meaning."""
        found = [line.text for line in self.lines]
        self.lines.clear()
        return ["|".join(text.split("|")[:3]) for text in found]

    def wait(self, seconds: int) -> list[str]:
        """Let some seconds pass, and return what was logged."""
        for _ in range(seconds):
            self.time += 1.0
            self.outages.remind()
        return self.logged()
