"""The right to act as the active manager, for as long as that is certain.

The database gives the lock of a manager that it has not heard for some time to a standby. A manager that
was frozen, its process or its whole machine, does not know: when it thaws it would finish what it was about
to do, while another one leads. So each answer of the database is a lease, shorter than the database's
patience: what only the active manager may do is done while it holds, and waits otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

from twisted.internet.defer import Deferred


def seconds_since_boot() -> float:
    """Read a clock that never jumps, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Holds for some seconds from the last question that the database answered.

    There is one for each process, over all its leaderships.

    Args:
        length: those seconds.
        clock: reads a clock that goes on while this process, or its machine, is stopped.
    """

    def __init__(self, length: float, clock: Callable[[], float] = seconds_since_boot) -> None:
        self._length = length
        self._clock = clock
        self._until = -inf
        self._waiting: list[Deferred[bool]] = []
        self._watchers: list[Callable[[], None]] = []

    @classmethod
    def unlimited(cls) -> Lease:
        """Return one that always holds, for where there is no leadership."""
        lease = cls(inf, lambda: 0.0)
        lease.renew(0.0)
        return lease

    @property
    def now(self) -> float:
        """What its clock says."""
        return self._clock()

    @property
    def holds(self) -> bool:
        """Whether this manager is certainly the active one."""
        return self._clock() < self._until

    def renew(self, asked: float) -> None:
        """The session with the lock has answered a question that was asked at this time."""
        self._until = max(self._until, asked + self._length)
        if self.holds:
            self._tell(True)
            for watcher in self._watchers:
                watcher()

    def end(self) -> None:
        """The leadership is over."""
        self._until = -inf
        self._tell(False)

    def watch(self, renewed: Callable[[], None]) -> None:
        """Call a function at each renewal."""
        self._watchers.append(renewed)

    async def certain(self) -> bool:
        """Return True as soon as it holds; False when the leadership ends before that, or has ended."""
        if self.holds or self._until == -inf:
            return self.holds
        waiting: Deferred[bool] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return await waiting

    def _tell(self, holds: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(holds)
