"""Follows the log: what happened last, and which services the manager has to do without."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import time as now

from twisted.application.service import Service
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tefmanager import loglines
from tefmanager.loglines import Line
from tefmanager.status.meter import Meter

LAST = 50
"""Events that are remembered."""

STANDBY = "another manager is active"
"""What a manager waits for that stands by."""

NOT_YET = "not connected yet"

_QUEUE = "queue "
"""How what the manager waits for begins where that is no service, but a queue of its own."""


class Following(Service):
    """Lets a journal follow the log while it runs."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def startService(self) -> None:
        """Begin to follow."""
        super().startService()  # type: ignore[no-untyped-call]
        globalLogPublisher.addObserver(self._journal)

    def stopService(self) -> None:
        """Follow no more."""
        super().stopService()  # type: ignore[no-untyped-call]
        globalLogPublisher.removeObserver(self._journal)


@implementer(ILogObserver)
class Journal:
    """An observer of the log.

    Args:
        meter: counts what is logged.

    Attributes:
        last: time, level and text of the last events.
        missing: what is wrong with a service, by its name: ``database``, ``consumer``, ``publisher`` (the
            connections to RabbitMQ) and ``etcd``.
    """

    def __init__(self, meter: Meter) -> None:
        self.last: deque[tuple[float, str, Line]] = deque(maxlen=LAST)
        self.missing = {"database": NOT_YET, "publisher": NOT_YET}
        self._meter = meter
        self._changes: dict[str, Callable[[Line], None]] = {
            loglines.REIGN_BEGUN.name: self._began,
            loglines.REIGN_LOST.name: self._ended,
            loglines.WAITING_FOR.name: self._waits,
            loglines.RESOURCES_READ.name: lambda line: self._found("etcd"),
            loglines.RESOURCES_LOST.name: lambda line: self._lost("etcd", line.values[0]),
            loglines.BROKER_CONNECTED.name: lambda line: self._found(str(line.values[0])),
            loglines.BROKER_LOST.name: lambda line: self._lost(str(line.values[0]), line.values[1]),
            loglines.BROKER_WAITING.name: lambda line: self._lost(str(line.values[0]), line.values[1]),
        }

    def __call__(self, event: LogEvent) -> None:
        """Take in an event."""
        line = event.get("line")
        if isinstance(line, Line):
            time = float(event.get("log_time") or now())
            self.last.append((time, line.event.level, line))
            self._meter.logged(line, time)
            change = self._changes.get(line.event.name)
            if change is not None:
                change(line)
        elif getattr(event.get("log_level"), "name", "") == "critical":
            self._meter.failed()

    def _found(self, service: str) -> None:
        self.missing.pop(service, None)

    def _lost(self, service: str, reason: object) -> None:
        self.missing[service] = str(reason)

    def _began(self, line: Line) -> None:
        self._found("database")
        self._lost("consumer", NOT_YET)
        self._lost("etcd", NOT_YET)

    def _ended(self, line: Line) -> None:
        """Without a reign the manager needs neither deliveries nor resources."""
        self._found("consumer")
        self._found("etcd")
        self._lost("database", line.values[1])

    def _waits(self, line: Line) -> None:
        what = str(line.values[0])
        if not what.startswith(_QUEUE):
            self._lost("database", what)
