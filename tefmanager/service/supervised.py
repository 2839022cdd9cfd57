"""Tells systemd what the manager does, and that it makes progress."""

from __future__ import annotations

from typing import Protocol

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from tefmanager.service.systemd import Notifier
from tefmanager.status.view import Health, Readiness

log = Logger()

INTERVAL = 1.0
"""Seconds between two looks at the manager, unless the watchdog needs shorter ones."""


class Shown(Protocol):
    """What is looked at: a `tefmanager.status.view.View`."""

    def health(self) -> Health:
        """Tell whether the manager makes progress."""

    def readiness(self) -> Readiness:
        """Tell whether it can work, or could if the active manager stopped."""

    def headline(self) -> str:
        """Tell in a line what it does or waits for."""


class Supervised(Service):
    """Looks at the manager regularly, and tells systemd.

    The watchdog gets no signal while a turn does not end (``/health`` fails then too) or the reactor is
    blocked. A process that waits for its services is alive, but not ready.
    """

    def __init__(self, clock: IReactorTime, notifier: Notifier, view: Shown) -> None:
        self._notifier = notifier
        self._view = view
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock

    def startService(self) -> None:
        """Begin to look."""
        super().startService()  # type: ignore[no-untyped-call]
        watchdog = self._notifier.watchdog
        looking = self._looks.start(INTERVAL if watchdog is None else min(INTERVAL, watchdog / 4))
        looking.addErrback(lambda failure: log.failure("systemd is no longer notified", failure))

    def stopService(self) -> None:
        """Tell systemd that the manager is stopping, and stop looking."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._looks.running:
            self._looks.stop()
        self._notifier.tell_stopping()

    def _look(self) -> None:
        if not self._notifier.ready and is_ready(self._view.readiness()):
            self._notifier.tell_ready()
        self._notifier.tell_status(self._view.headline())
        if self._view.health().healthy:
            self._notifier.tell_alive()


def is_ready(found: Readiness) -> bool:
    """Tell whether the manager consumes or stands by, even if Etcd is unreachable."""
    return found.role == "standby" or (found.role == "active" and "consumer" not in found.missing)
