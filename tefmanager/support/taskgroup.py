"""Coroutines that nobody waits for. No failure is lost, and all of them can be cancelled."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.python.failure import Failure


class TaskGroup:
    """Runs coroutines, reports the first failure, and cancels the rest.

    Args:
        on_failure: is given a coroutine's failure; cancellations do not count.
        on_idle: is called whenever the last running coroutine has ended.
    """

    def __init__(
        self, on_failure: Callable[[Failure], None], on_idle: Callable[[], None] = lambda: None
    ) -> None:
        self._on_failure = on_failure
        self._on_idle = on_idle
        self._running: dict[Deferred[None], tuple[int, str]] = {}
        self._looks = 0

    def __len__(self) -> int:
        """Count the running coroutines."""
        return len(self._running)

    def look(self, looks: int) -> dict[str, int]:
        """Return what coroutines have waited for during at least this many looks, with the most looks.

        Counting looks costs a coroutine less than reading a clock.
        """
        self._looks += 1
        found: dict[str, int] = {}
        for began, waits_for in self._running.values():
            if self._looks - began < looks:
                break
            found.setdefault(waits_for, self._looks - began)
        return found

    def run(self, coroutine: Coroutine[Any, Any, None], waits_for: str = "") -> Deferred[None]:
        """Start a coroutine. The Deferred fires, without a result, when it has ended in any way.

        ``waits_for``: what it mainly waits for, for people.
        """
        running = Deferred.fromCoroutine(coroutine)
        self._running[running] = self._looks, waits_for

        def ended(result: Failure | None) -> None:
            self._running.pop(running, None)
            if isinstance(result, Failure) and not isinstance(result.value, CancelledError):
                self._on_failure(result)
            if not self._running:
                self._on_idle()

        running.addBoth(ended)
        return running

    def cancel(self) -> None:
        """Cancel everything that is running."""
        for each in list(self._running):
            each.cancel()

    async def wait(self) -> None:
        """Wait until nothing is running."""
        while self._running:
            await DeferredList(list(self._running))
