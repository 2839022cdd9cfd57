"""What fits into one transaction of the v3 API: decided here, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tefmanager.etcd.jobs import Job, Kind
from tefmanager.etcd.refusals import Limit, RequestRefused

MOST_OPERATIONS = 128
"""Etcd's own limit for each of the three lists of a transaction; a server may have a lower one."""

LARGEST = 1_400_000
"""Bytes of a request: Etcd's own limit is 1.5 MiB of a form that is smaller than JSON."""

FIRST = 4
"""Operations without which not even one reference can be taken."""

_OVERHEAD = 110
"""Bytes of an operation beside its key, at most."""


@dataclass(slots=True)
class Limits:
    """How large a transaction may be, as far as this server has told.

    Attributes:
        operations: in each of its lists.
        size: bytes of the request.
    """

    operations: int = MOST_OPERATIONS
    size: int = LARGEST

    def learn(self, refused: RequestRefused) -> bool:
        """Take note of a transaction that was too large; tell whether smaller ones can be of use."""
        if refused.limit is Limit.OPERATIONS:
            self.operations = min(self.operations, max(FIRST, refused.measure // 2))
            return self.operations < refused.measure
        self.size = min(self.size, refused.measure // 2)
        return True

    def forget(self) -> None:
        """The server may be another one: begin with Etcd's own limits."""
        self.operations, self.size = MOST_OPERATIONS, LARGEST


def size_of(key: bytes) -> int:
    """Return the bytes of an operation on a key, at most; keys are sent in base64."""
    return _OVERHEAD + (len(key) + 2) * 4 // 3


@dataclass(frozen=True, slots=True)
class Cost:
    """What it takes to take references of one resource: comparisons, and the bytes of all keys."""

    compares: int
    size: int


class TransactionRoom:
    """What still fits into a transaction.

    Args:
        limits: how large it may be.
        cost: returns what it takes to take references of a resource.
        lock_size: returns the bytes of an operation on a lock key of a resource.
    """

    def __init__(
        self, limits: Limits, cost: Callable[[str], Cost], lock_size: Callable[[str], int]
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
        """See `Room`."""
        taking = job.kind is Kind.TAKE
        new = set(job.names) - (self._taking if taking else self._names)
        costs = [self._cost(name) for name in new]
        counts = set(job.names) - self._names
        writes = self._writes + len(job.names) + len(counts)
        compares = self._compares + (
            sum(cost.compares for cost in costs) if taking else len(job.names) + len(new)
        )
        # Whoever gives a lock key back compares it as well.
        locks = sum(map(self._lock_size, job.names)) * (1 if taking else 2)
        size = self._size + locks + sum(cost.size for cost in costs)
        if max(compares, writes) > self._limits.operations or size > self._limits.size:
            return False
        self._compares, self._writes, self._size = compares, writes, size
        self._names.update(job.names)
        if taking:
            self._taking.update(job.names)
        return True
