"""Waiting for whatever happens next, or for a time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Wakeup:
    """Wakes the one who waits when something has happened, once all that comes together has come.

    Args:
        seconds: reads the clock in which times are given.
    """

    def __init__(self, clock: IReactorTime, seconds: Callable[[], float]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._waiting: Deferred[None] | None = None
        self._soon: IDelayedCall | None = None
        self._in_time: IDelayedCall | None = None

    def call(self) -> None:
        """Something has happened. Nobody waits for it: then there is nothing to do."""
        if self._waiting is not None and self._soon is None:
            self._soon = self._clock.callLater(0, self._rise)

    async def wait(self, until: float | None = None) -> None:
        """Wait for a call, or until a time at most."""
        self._waiting = Deferred()
        if until is not None:
            self._in_time = self._clock.callLater(max(0.0, until - self._seconds()), self._rise)
        await self._waiting
        if self._in_time is not None and self._in_time.active():
            self._in_time.cancel()

    def _rise(self) -> None:
        self._soon = None
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(None)

    def cancel(self) -> None:
        """Wake nobody any more."""
        for call in (self._soon, self._in_time):
            if call is not None and call.active():
                call.cancel()
