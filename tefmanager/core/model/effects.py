"""What to do outside once a turn's changes are committed."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from tefmanager.core.model.values import TaskSpec, WorkerStatus
from tefmanager.protocol.catalogue import LoggedEvent


class ReplyTo(Struct, frozen=True):
    """Where an answer goes: the queue, and the correlation id."""

    queue: bytes
    correlation_id: bytes


class Log(Struct, frozen=True):
    """Write a log line, and announce it if somebody listens. ``about``: the task that it concerns."""

    line: LoggedEvent
    about: TaskSpec | None = None


class Reply(Struct, frozen=True):
    """Answer a message with True or an error's text; ``warnings`` concern a task that was accepted."""

    to: ReplyTo
    response: str | bool
    warnings: tuple[str, ...] = ()


class WorkerInfo(Struct, frozen=True):
    """A worker as ``get_workers`` lists it. ``task_id``, ``guid``: of the task that it has, or None."""

    name: str
    work_queue: str
    status: WorkerStatus
    task_id: int | None
    guid: str | None
    worker_type: str
    since: float


class ReplyWorkers(Struct, frozen=True):
    """Answer ``get_workers``. The commit returns the bodies of the tasks."""

    to: ReplyTo
    workers: tuple[WorkerInfo, ...]


class Reserve(Struct, frozen=True):
    """Ask Etcd for an attempt's references."""

    attempt: int
    resources: tuple[str, ...]


class Release(Struct, frozen=True):
    """Give back what an attempt holds, trying again until that has worked."""

    attempt: int
    resources: tuple[str, ...]


class Publish(Struct, frozen=True):
    """Send a task to its worker. The body was submitted in this turn, or the commit returns it.

    ``time_limit``: seconds for which the worker may work on it.
    """

    attempt: int
    task_id: int
    address: str
    time_limit: float


class LookAt(Struct, frozen=True):
    """Ask the broker who consumes a worker's queue."""

    worker: str
    address: str


class DeadLetter(Struct, frozen=True):
    """Send a task's copy, with its history, to the dead queue.

    Attributes:
        again: the copy may be there already, so the queue must be searched first.
        late: the task is in history already; only the copy is missing.
    """

    task_id: int
    guid: str
    reason: str
    again: bool = False
    late: bool = False


class KeepCopies(Struct, frozen=True):
    """Look for copies to handle; the rows of ``ids`` now have the state of their copies."""

    ids: tuple[int, ...]


Effect: TypeAlias = (
    Log | Reply | ReplyWorkers | Reserve | Release | Publish | LookAt | DeadLetter | KeepCopies
)
