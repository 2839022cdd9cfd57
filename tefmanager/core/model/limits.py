"""The operator's settings for tasks and workers."""

from __future__ import annotations

from dataclasses import dataclass, field

from tefmanager.core.model.values import TaskSpec


@dataclass(frozen=True, slots=True)
class Memory:
    """How much of the backlog is kept in memory.

    Attributes:
        tasks: number of waiting tasks above which demands are paged out. The backlog raises it when evicted
            demands must be read again, so that memory follows what is in use.
        first: number of tasks per suite that are read when a demand is read.
        most: the largest number of tasks of a lane that are read at a time. Reading begins with ``first``,
            and the number doubles each time the lane is drained.
    """

    tasks: int = 50_000
    first: int = 2
    most: int = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """The operator's settings. Times are in seconds.

    Attributes:
        missing_interval: silence after which a worker is missing.
        time_limit: for tasks that set none.
        dispatch_timeout: from dispatch to *working*.
        release_grace: how long a worker that says it is free may still say otherwise.
        patience: how long a task waits for resources before it claims them.
        max_attempts: attempts after which a task is dead; 0 means never.
        hold_unknown: a resource without an entry in Etcd holds a task back.
        forget_after: how long a missing worker is remembered.
        memory: how much of the backlog is in memory; not a setting of the operator.
        excerpt: number of characters that are logged of a message that nobody can use.
    """

    missing_interval: float = 90.0
    time_limit: float = 600.0
    dispatch_timeout: float = 30.0
    release_grace: float = 2.0
    patience: float = 10.0
    max_attempts: int = 5
    hold_unknown: bool = False
    forget_after: float = 7 * 86400.0
    memory: Memory = field(default_factory=Memory)
    excerpt: int = 200

    def time_limit_of(self, spec: TaskSpec) -> float:
        """Return how many seconds a worker may work on a task."""
        return self.time_limit if spec.time_limit is None else spec.time_limit
