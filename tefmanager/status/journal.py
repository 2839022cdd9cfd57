"""Follows the log: remembers the last events, and counts events."""

from __future__ import annotations

from collections import deque
from time import time as now

from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tefmanager.protocol.catalogue import LoggedEvent, quoting
from tefmanager.status.meter import Meter

LAST = 50
"""How many events are remembered."""


class Following(Service):
    """Lets a journal follow the log while the service runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def startService(self) -> None:
        """Begin to follow."""
        super().startService()  # type: ignore[no-untyped-call]
        globalLogPublisher.addObserver(self._journal)

    def stopService(self) -> None:
        """Stop following."""
        super().stopService()  # type: ignore[no-untyped-call]
        globalLogPublisher.removeObserver(self._journal)


@implementer(ILogObserver)
class Journal:
    """A log observer.

    Args:
        meter: counts what is logged.

    Attributes:
        last: time, level and text of the last events, without quoted messages, because readers of the page
            may not be allowed to read those.
    """

    def __init__(self, meter: Meter) -> None:
        self.last: deque[tuple[float, str, LoggedEvent]] = deque(maxlen=LAST)
        self._meter = meter

    def __call__(self, event: LogEvent) -> None:
        """Take in an event."""
        line = event.get("line")
        if isinstance(line, LoggedEvent):
            time = float(event.get("log_time") or now())
            self.last.append((time, line.type.level, quoting(line, 0)))
            self._meter.logged(line, time)
        elif getattr(event.get("log_level"), "name", "") == "critical":
            self._meter.failed()
