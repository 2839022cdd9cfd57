"""Pauses between attempts: growing twofold, and jittered so that not everybody comes back at once."""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

FIRST = 0.1
LONGEST = 10.0
"""Seconds: the first pause at most, and any pause at most."""

OPTIONAL = (1.0, 30.0)
"""The same, for what the manager can do without: soon at first, and seldom in the long run."""


class Backoff:
    """The pauses of one loop.

    Args:
        clock: waits.
        first, longest: seconds; each pause lasts between half and the whole of its length.
        draw: returns a number from 0 to 1.
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
        """Begin with the shortest again, after something has worked."""
        self._length = self._first

    def next(self) -> float:
        """Return the seconds to wait now; the next time it is more."""
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
        """End the pause that is under way: there is reason to hope."""
        self._hurry()
