"""Shared by the store's tests with a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from tefmanager.core.model.values import TaskRow, TaskSpec
from tefmanager.store import Store

T = TypeVar("T")
DEADLINE = 45.0
"""Seconds to wait for what PostgreSQL does before a test fails."""


def soon(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Run a coroutine, and make it fail if it takes too long."""
    return Deferred.fromCoroutine(coroutine).addTimeout(DEADLINE, reactor)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds that something else fulfils."""
    for _ in range(int(DEADLINE / 0.02)):
        if condition():
            return
        await deferLater(reactor, 0.02)
    raise TimeoutError("it did not come to be")


def silent(text: str) -> None:
    """Ignore what is being waited for."""


def task(id: int) -> TaskRow:
    """Return a row of a waiting task."""
    return TaskRow(TaskSpec(id, f"guid-{id}", "type", 1.0, (), None, None, 1.5))


def store(database: dict[str, Any], prefix: str, lock_name: str = "", **options: Any) -> Store:
    """Return a store that retries quickly."""
    quick: dict[str, Any] = {"poll": 0.05, "backoff": (0.02, 0.1), **options}
    return Store(reactor, database, prefix, lock_name or prefix, **quick)


async def told_first(subject: Store) -> list[str]:
    """Return what a store first reports that it waits for, then stop it."""
    told: list[str] = []
    waiting = Deferred.fromCoroutine(subject.leadership(told.append))
    await until(lambda: bool(told))
    await deferLater(reactor, 0.1)  # several more attempts, which must not be reported again
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting
    return told
