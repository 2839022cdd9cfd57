"""A clock that runs as fast as it can; Twisted's own sorts all calls each time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IDelayedCall)
class Call:
    """Something that is scheduled."""

    __slots__ = ("_args", "_at", "_call", "_kwargs", "_timeline")

    def __init__(
        self, timeline: Timeline, at: float, call: Callable[..., object], args: Any, kwargs: Any
    ) -> None:
        self._timeline = timeline
        self._at = at
        self._call: Callable[..., object] | None = call
        self._args = args
        self._kwargs = kwargs

    def happen(self) -> None:
        """Make the call, unless it was cancelled."""
        call, self._call = self._call, None
        if call is not None:
            call(*self._args, **self._kwargs)

    def active(self) -> bool:
        """Whether it is still scheduled."""
        return self._call is not None

    def cancel(self) -> None:
        """Cancel it."""
        self._call = None

    def getTime(self) -> float:
        """Return its time."""
        return self._at

    def reset(self, secondsFromNow: float) -> None:
        """Move it to another time."""
        raise NotImplementedError

    def delay(self, secondsLater: float) -> None:
        """Move it to a later time."""
        raise NotImplementedError


@implementer(IReactorTime)
class Timeline:
    """Everything that is scheduled, by time; at the same time, in the order of the calls to `callLater`."""

    def __init__(self) -> None:
        self._now = 0.0
        self._heap: list[tuple[float, int, Call]] = []
        self._ties = count()

    def seconds(self) -> float:
        """Return the present time."""
        return self._now

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kwargs: object
    ) -> Call:
        """Schedule a call after so many seconds."""
        call = Call(self, self._now + delay, callable, args, kwargs)
        heapq.heappush(self._heap, (call.getTime(), next(self._ties), call))
        return call

    def getDelayedCalls(self) -> list[Call]:
        """Return what is scheduled."""
        return [call for _, _, call in self._heap if call.active()]

    def run(self, until: float) -> None:
        """Make all calls up to a time."""
        while self._heap and self._heap[0][0] <= until:
            self._now, _, call = heapq.heappop(self._heap)
            call.happen()
        self._now = until
