"""Answers a few requests at a time: dispatching goes before showing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

BUDGET = 0.003
"""Seconds that answers may take before other work continues. A pause of the same length follows."""

log = Logger()


class Pacer:
    """Carries out its calls in order, during at most half of the time.

    The number of waiting calls is bounded by the number of connections.
    """

    def __init__(self, clock: IReactorTime, now: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._now = now
        self._waiting: deque[Callable[[], None]] = deque()
        self._scheduled = False
        self._free_at = now()

    def add(self, do: Callable[[], None]) -> None:
        """Call ``do`` soon."""
        self._waiting.append(do)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._clock.callLater(max(0.0, self._free_at - self._now()), self._some)

    def _some(self) -> None:
        self._scheduled = False
        began = now = self._now()
        while self._waiting and now - began < BUDGET:
            self._one(self._waiting.popleft())
            now = self._now()
        self._free_at = now + (now - began)
        self._schedule()

    def _one(self, do: Callable[[], None]) -> None:
        try:
            do()
        except Exception:
            log.failure("a request could not be answered")
