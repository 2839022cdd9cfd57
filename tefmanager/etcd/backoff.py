"""Pauses between tries: growing twofold, with jitter so that not all come back at once."""

from __future__ import annotations

import random

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

FIRST = 0.1
LAST = 10.0
"""Longest first and longest last pause, in seconds."""


async def pause(reactor: IReactorTime, longest: float) -> None:
    """Wait between half and the whole of some seconds."""
    await deferLater(reactor, random.uniform(longest / 2, longest))


class Backoff:
    """The pauses of one loop."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._longest = FIRST

    def reset(self) -> None:
        """Begin with the short ones again."""
        self._longest = FIRST

    async def wait(self) -> None:
        """Wait, and the next time longer."""
        longest, self._longest = self._longest, min(2 * self._longest, LAST)
        await pause(self._reactor, longest)
