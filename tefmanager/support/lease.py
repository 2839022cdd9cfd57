"""The right to act as the active manager, for as long as that is certain.

The database gives the lock to a standby if it has not heard from the manager for some time. A manager whose
process or machine was frozen does not know that; when it continues, it would finish what it had begun while
another manager is active. So each answer of the database grants a lease that is shorter than the time after
which the database gives up the manager. What only the active manager may do is done while the lease holds,
and waits otherwise.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

from twisted.internet.defer import Deferred


def seconds_since_boot() -> float:
    """Read a clock that never jumps and that continues while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """Holds for some seconds from the last question that the database answered.

    Each process has one, for all of its leaderships.

    Args:
        length: how many seconds.
        clock: reads a clock that continues while this process or its machine is suspended.
    """

    def __init__(self, length: float, clock: Callable[[], float] = seconds_since_boot) -> None:
        self._length = length
        self._clock = clock
        self._until = -inf
        self._waiting: list[Deferred[bool]] = []
        self._on_renewal: list[Callable[[], None]] = []

    @classmethod
    def unlimited(cls) -> Lease:
        """Return a lease that always holds, for use without leadership."""
        lease = cls(inf, lambda: 0.0)
        lease.renew(0.0)
        return lease

    @property
    def now(self) -> float:
        """The time of its clock."""
        return self._clock()

    @property
    def holds(self) -> bool:
        """Whether this manager is certainly the active one."""
        return self._clock() < self._until

    def renew(self, asked: float) -> None:
        """Note that the session with the lock has answered a question that was asked at this time."""
        self._until = max(self._until, asked + self._length)
        if self.holds:
            self._tell(True)
            for renewed in self._on_renewal:
                renewed()

    def end(self) -> None:
        """Note that the leadership is over."""
        self._until = -inf
        self._tell(False)

    def on_renewal(self, renewed: Callable[[], None]) -> None:
        """Call ``renewed`` at each renewal."""
        self._on_renewal.append(renewed)

    async def certain(self) -> bool:
        """Wait until the lease holds and return True; return False if the leadership is over first."""
        if self.holds or self._until == -inf:
            return self.holds
        waiting: Deferred[bool] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        return await waiting

    def _tell(self, holds: bool) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(holds)
