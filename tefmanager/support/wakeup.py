"""Waits for the next call, or until a time."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Wakeup:
    """Wakes its waiter when something has happened, after everything that happens at once has happened.

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
        """Wake the waiter, if there is one."""
        if self._waiting is not None and self._soon is None:
            self._soon = self._clock.callLater(0, self._rise)

    async def wait(self, until: float | None = None) -> None:
        """Wait for a call, or until a time at the latest."""
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
        """Stop waking."""
        for call in (self._soon, self._in_time):
            if call is not None and call.active():
                call.cancel()
