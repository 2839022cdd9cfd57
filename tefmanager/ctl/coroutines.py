"""Runs Twisted's reactor until one coroutine has ended."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")


def finished(work: Callable[[Any], Coroutine[Deferred[Any], Any, T]]) -> T:
    """Return what a coroutine returns, or raise what it raises. Can be called once in a process."""
    from twisted.internet import reactor  # imported late because it is slow

    loop: Any = reactor
    results: list[Any] = []

    def start() -> None:
        Deferred.fromCoroutine(work(loop)).addBoth(results.append).addBoth(lambda _: loop.stop())

    loop.callWhenRunning(start)
    loop.run()
    [result] = results
    if isinstance(result, Failure):
        result.raiseException()
    found: T = result
    return found
