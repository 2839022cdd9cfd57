"""Tells systemd the state of the process, through ``sd_notify(3)`` datagrams; without systemd, nobody."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from twisted.logger import Logger

from tefmanager.config.secrets import KNOWN
from tefmanager.protocol.catalogue import one_line

log = Logger()


class Notifier:
    """Sends notifications for this process.

    Args:
        address: of systemd's socket, a path or ``@`` and an abstract name; empty if there is none.
        watchdog: seconds within which systemd expects a sign of life, or None.

    Attributes:
        watchdog: as given.
        ready: systemd has been told that the process is ready.
    """

    def __init__(self, address: str, watchdog: float | None = None) -> None:
        self.watchdog = watchdog
        self.ready = False
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        self._unheard = False

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notifier:
        """Return the notifier that systemd's environment variables describe."""
        mine = environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
        usec = environ.get("WATCHDOG_USEC", "") if mine else ""
        return cls(environ.get("NOTIFY_SOCKET", ""), int(usec) / 1e6 if usec else None)

    def __bool__(self) -> bool:
        """Tell whether anybody listens."""
        return bool(self._address)

    def tell_ready(self) -> None:
        """Tell that the process does its work, or could at once."""
        self.ready = True
        self._tell("READY=1", f"MAINPID={os.getpid()}")

    def tell_status(self, text: str) -> None:
        """Tell people in a line what the process does; a repeated line is not sent."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={one_line(KNOWN.hide(text))}")

    def tell_alive(self) -> None:
        """Tell that the process makes progress."""
        if self.watchdog is not None:
            self._tell("WATCHDOG=1")

    def tell_reloading(self, monotonic: float) -> None:
        """Tell that reloading began at this time; `tell_reloaded` must follow."""
        if self.ready:  # for systemd, a process that is still starting can't reload
            self._tell("RELOADING=1", f"MONOTONIC_USEC={int(monotonic * 1e6)}")

    def tell_reloaded(self) -> None:
        """Tell that reloading has ended."""
        if self.ready:
            self._tell("READY=1")

    def tell_stopping(self) -> None:
        """Tell that the process is about to end."""
        self._tell("STOPPING=1", "STATUS=stopping")

    def _tell(self, *lines: str) -> None:
        if not self:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as speaker:
                speaker.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._unheard:  # logged once
                log.warn("systemd can't be notified of {what}: {reason}", what=lines[0], reason=str(error))
            self._unheard = True
        else:
            self._unheard = False
