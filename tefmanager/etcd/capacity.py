"""Decides how much fits into one transaction of the v3 API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tefmanager.etcd.jobs import Job, Kind
from tefmanager.etcd.refusals import Limit, RequestRefused

MOST_OPERATIONS = 128
"""Etcd's default limit for each of a transaction's three lists; a server may have a lower one."""

LARGEST = 1_400_000
"""The most bytes of a request. Etcd's limit is 1.5 MiB in a binary form that is smaller than JSON."""

FIRST = 4
"""The fewest operations with which one reference can be taken."""

_OVERHEAD = 110
"""The most bytes of an operation besides its key."""


@dataclass(slots=True)
class RequestLimits:
    """How large a transaction may be, as far as this server has shown.

    Attributes:
        operations: the most in each of its lists.
        size: the most bytes of the request.
    """

    operations: int = MOST_OPERATIONS
    size: int = LARGEST

    def learn(self, refused: RequestRefused) -> bool:
        """Learn from a transaction that was too large; tell whether smaller ones may work."""
        if refused.limit is Limit.OPERATIONS:
            self.operations = min(self.operations, max(FIRST, refused.measure // 2))
            return self.operations < refused.measure
        self.size = min(self.size, refused.measure // 2)
        return True

    def forget(self) -> None:
        """Return to Etcd's default limits: the server may be another one."""
        self.operations, self.size = MOST_OPERATIONS, LARGEST


def size_of(key: bytes) -> int:
    """Return the most bytes of an operation on a key; keys are sent in base64."""
    return _OVERHEAD + (len(key) + 2) * 4 // 3


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of taking references of one resource: comparisons, and the bytes of all keys."""

    compares: int
    size: int


class TransactionCapacity:
    """The remaining capacity of a transaction.

    Args:
        limits: how large it may be.
        cost: returns the cost of taking references of a resource.
        lock_size: returns the bytes of an operation on a lock key of a resource.
    """

    def __init__(
        self, limits: RequestLimits, cost: Callable[[str], Cost], lock_size: Callable[[str], int]
    ) -> None:
        self._limits = limits
        self._cost = cost
        self._lock_size = lock_size
        self._taking: set[str] = set()
        self._names: set[str] = set()
        self._compares = 0
        self._writes = 0
        self._size = 0

    def admits(self, job: Job) -> bool:
        """See `Capacity`."""
        taking = job.kind is Kind.TAKE
        new = set(job.names) - (self._taking if taking else self._names)
        costs = [self._cost(name) for name in new]
        counts = set(job.names) - self._names
        writes = self._writes + len(job.names) + len(counts)
        compares = self._compares + (
            sum(cost.compares for cost in costs) if taking else len(job.names) + len(new)
        )
        # Giving a lock key back also compares it.
        locks = sum(map(self._lock_size, job.names)) * (1 if taking else 2)
        size = self._size + locks + sum(cost.size for cost in costs)
        if max(compares, writes) > self._limits.operations or size > self._limits.size:
            return False
        self._compares, self._writes, self._size = compares, writes, size
        self._names.update(job.names)
        if taking:
            self._taking.update(job.names)
        return True
