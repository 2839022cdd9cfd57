"""What is to be done in the world once a turn's changes have been committed."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from tefmanager.core.model.values import TaskSpec, WorkerStatus
from tefmanager.protocol.catalogue import LoggedEvent


class ReplyTo(Struct, frozen=True):
    """Where an answer goes: a queue, and what it is to be called there."""

    queue: bytes
    correlation_id: bytes


class Log(Struct, frozen=True):
    """Write a line to the log, and publish it where somebody listens. ``about`` is the task it tells of."""

    line: LoggedEvent
    about: TaskSpec | None = None


class Reply(Struct, frozen=True):
    """Answer a message: True, or an error's text; ``warnings`` are about a task that was taken."""

    to: ReplyTo
    response: str | bool
    warnings: tuple[str, ...] = ()


class WorkerInfo(Struct, frozen=True):
    """A worker, as ``get_workers`` tells of it. ``task_id``, ``guid`` are of the task it holds, or None."""

    name: str
    work_queue: str
    status: WorkerStatus
    task_id: int | None
    guid: str | None
    worker_type: str
    since: float


class ReplyWorkers(Struct, frozen=True):
    """Answer ``get_workers``; the tasks' bodies come with the commit."""

    to: ReplyTo
    workers: tuple[WorkerInfo, ...]


class Reserve(Struct, frozen=True):
    """Ask Etcd for an attempt's references."""

    attempt: int
    resources: tuple[str, ...]


class Release(Struct, frozen=True):
    """Give back what an attempt holds, again and again until it has worked."""

    attempt: int
    resources: tuple[str, ...]


class Publish(Struct, frozen=True):
    """Send a task to its worker. The body comes with the commit, or came in this turn."""

    attempt: int
    task_id: int
    address: str


class LookAt(Struct, frozen=True):
    """Ask the broker who consumes a worker's queue."""

    worker: str
    address: str


class DeadLetter(Struct, frozen=True):
    """Put a task's copy into the dead queue, with its history.

    Attributes:
        again: the copy may be there already, so somebody has to look first.
        late: the task is in history by now; only the copy is missing.
    """

    task_id: int
    guid: str
    reason: str
    again: bool = False
    late: bool = False


class KeepCopies(Struct, frozen=True):
    """Look whether more is to be done, now that it is written what the dead queue has of ``ids``."""

    ids: tuple[int, ...]


Effect: TypeAlias = (
    Log | Reply | ReplyWorkers | Reserve | Release | Publish | LookAt | DeadLetter | KeepCopies
)
