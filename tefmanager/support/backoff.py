"""Pauses between attempts: doubling, and jittered so that not all clients return at the same moment."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

FIRST = 0.1
LONGEST = 10.0
"""Seconds: the longest first pause, and the longest pause of all."""

OPTIONAL = (1.0, 30.0)
"""The same for what the manager can do without: short at first, long in the end."""


class Backoff:
    """The pauses of one loop.

    Args:
        clock: waits.
        first, longest: seconds; each pause lasts between half of its length and all of it.
        draw: returns a random number from 0 to 1.
    """

    def __init__(
        self,
        clock: IReactorTime,
        first: float = FIRST,
        longest: float = LONGEST,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._first = first
        self._longest = longest
        self._draw = draw
        self._length = first
        self._hurry: Callable[[], None] = lambda: None

    def reset(self) -> None:
        """Start again from the shortest pause, after a success."""
        self._length = self._first

    def next(self) -> float:
        """Return the seconds to wait now, and lengthen the next pause."""
        length, self._length = self._length, min(self._longest, 2 * self._length)
        return length * (0.5 + self._draw() / 2)

    async def pause(self) -> None:
        """Wait."""
        waiting: Deferred[None] = Deferred(lambda _: timer.cancel())
        timer = self._clock.callLater(self.next(), waiting.callback, None)

        def hurry() -> None:
            if timer.active():
                timer.cancel()
                waiting.callback(None)

        self._hurry = hurry
        await waiting

    def hurry(self) -> None:
        """End the pause under way, because an attempt may succeed now."""
        self._hurry()
