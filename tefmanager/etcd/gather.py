"""Runs several coroutines at once."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredList

T = TypeVar("T")


async def gather(work: Iterable[Coroutine[Deferred[Any], Any, T]]) -> list[T]:
    """Wait for all coroutines, then return their results or raise the first error."""
    deferreds = [Deferred.fromCoroutine(one) for one in work]
    outcomes = await DeferredList(deferreds, consumeErrors=True)
    results: list[T] = []
    for succeeded, outcome in outcomes:
        if not succeeded:
            raise _error(outcome)
        results.append(outcome)
    return results


def _error(failure: Any) -> BaseException:
    error: BaseException = failure.value
    return error
