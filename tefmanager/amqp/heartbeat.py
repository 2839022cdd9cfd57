"""The heartbeats of a connection: sends ours and notices the peer's silence."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

TICKS = 2
"""Ticks per interval: our heartbeats are sent twice as often as agreed."""

SILENT_INTERVALS = 2
"""A peer that was silent for this many intervals counts as dead."""


class Heartbeat:
    """Sends heartbeats and watches for the peer's, with a clock that never jumps.

    The owner sets ``heard`` whenever anything arrives, and ``deaf`` while it deliberately does not read:
    then silence proves nothing.
    """

    def __init__(
        self, clock: IReactorTime, send: Callable[[], None], missed: Callable[[float], None]
    ) -> None:
        self._clock = clock
        self._send = send
        self._missed = missed
        self._interval = 0.0
        self._silent = 0
        self._call: IDelayedCall | None = None
        self.heard = False
        self.deaf = False

    def start(self, interval: float) -> None:
        """Begin with an interval in seconds; 0 means no heartbeats."""
        self.stop()
        self._interval = interval
        self._silent = 0
        if interval > 0:
            self._schedule()

    def stop(self) -> None:
        """Stop. May be called again."""
        call, self._call = self._call, None
        if call is not None and call.active():
            call.cancel()

    def _schedule(self) -> None:
        self._call = self._clock.callLater(self._interval / TICKS, self._tick)

    def _tick(self) -> None:
        self._silent = 0 if self.heard or self.deaf else self._silent + 1
        self.heard = False
        if self._silent >= SILENT_INTERVALS * TICKS:
            self._call = None
            self._missed(SILENT_INTERVALS * self._interval)
            return
        self._schedule()
        self._send()
