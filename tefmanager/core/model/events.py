"""What the core is told. Messages come as `tefmanager.protocol.messages` has them; the rest is here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from tefmanager.core.model.audience import Audience
from tefmanager.core.model.dead_copies import Copy
from tefmanager.core.model.effects import ReplyTo
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource
from tefmanager.protocol.messages import (
    DispatchTasks,
    GetWorkers,
    SetState,
    SuiteCommand,
    TaskMessage,
    WorkerMessage,
)


class TaskSubmitted(Struct, frozen=True):
    """A task came.

    Attributes:
        message: what it says.
        body: its bytes.
        redelivered: the broker may have delivered it before.
        finished: a task of its guid is in history. Only looked at where it is redelivered.
        reply: where to answer, or None.
        properties: what else came with it, encoded, or None.
    """

    message: TaskMessage
    body: bytes
    redelivered: bool = False
    finished: bool = False
    reply: ReplyTo | None = None
    properties: bytes | None = None


class WorkerReported(Struct, frozen=True):
    """A ``worker_status`` came.

    Attributes:
        message: what it says.
        redelivered: the broker may have delivered it before.
        reply: where to answer, or None.
    """

    message: WorkerMessage
    redelivered: bool = False
    reply: ReplyTo | None = None


class Commanded(Struct, frozen=True):
    """A control message came. ``redelivered``: the broker may have delivered it before."""

    message: SetState | GetWorkers | DispatchTasks | SuiteCommand
    reply: ReplyTo | None = None
    redelivered: bool = False


class ReservationGranted(Struct, frozen=True):
    """An attempt holds its references; ``reserved`` are those that have an entry."""

    attempt: int
    reserved: tuple[str, ...]


class ReservationRefused(Struct, frozen=True):
    """An attempt holds nothing: ``short`` had no reference to give."""

    attempt: int
    short: str


class ReservationImpossible(Struct, frozen=True):
    """What an attempt asks for can't be reserved, for a reason of its own; it may hold a part of it."""

    attempt: int
    reason: str


class ReservationUnknown(Struct, frozen=True):
    """Etcd did not say whether an attempt holds its references; ``reason`` is why, for people."""

    attempt: int
    reason: str = ""


class ReservationReleased(Struct, frozen=True):
    """An attempt holds nothing any more."""

    attempt: int


class DispatchConfirmed(Struct, frozen=True):
    """The broker has the message in the worker's queue."""

    attempt: int


class DispatchFailed(Struct, frozen=True):
    """The message is in no queue; ``reason`` is why, in the broker's words."""

    attempt: int
    reason: str


class DispatchImpossible(Struct, frozen=True):
    """The message is in no queue, and the broker takes none like it; ``reason`` is why, in its words."""

    attempt: int
    reason: str


class DispatchUncertain(Struct, frozen=True):
    """The connection went before the broker had said whether the message is in the worker's queue."""

    attempt: int


class Looked(Struct, frozen=True):
    """Who consumes a worker's queue, or None where nobody could tell."""

    worker: str
    found: Audience | None


class DeadLettered(Struct, frozen=True):
    """The queue of the dead has taken a task's copy, or not: ``copy`` is what it has of it."""

    task_id: int
    guid: str
    copy: Copy | None = Copy.THERE


class CopiesKnown(Struct, frozen=True):
    """What the dead queue has of dead tasks, by id."""

    copies: Mapping[int, Copy | None]


class CopiesWanted(Struct, frozen=True):
    """Copies of dead tasks, each with its id, guid and reason, that are to go to their queue now."""

    wanted: tuple[tuple[int, str, str], ...]


class ResourcesSeen(Struct, frozen=True):
    """Something changed in Etcd."""

    seen: Mapping[str, Resource | None]


class ResourcesRead(Struct, frozen=True):
    """Everything in Etcd was read; ``held`` are our lock keys' resources by attempt."""

    seen: Mapping[str, Resource | None]
    held: Mapping[int, frozenset[str]]


class ResourcesReplaced(Struct, frozen=True):
    """Etcd is older than it was, or another one; what there is comes next."""

    reason: str


class ResourcesLost(Struct, frozen=True):
    """Etcd is away."""

    reason: str


class DeliveriesResumed(Struct, frozen=True):
    """Messages come again, after a time in which they could not: nobody's silence counts."""


class Pass(Struct, frozen=True):
    """The slow catch-all pass: whatever was missed is looked at again."""


class LimitsChanged(Struct, frozen=True):
    """The operator set other times and counts."""

    limits: Limits


Event: TypeAlias = (
    TaskSubmitted
    | WorkerReported
    | Commanded
    | ReservationGranted
    | ReservationRefused
    | ReservationImpossible
    | ReservationUnknown
    | ReservationReleased
    | DispatchConfirmed
    | DispatchFailed
    | DispatchImpossible
    | DispatchUncertain
    | Looked
    | DeadLettered
    | CopiesKnown
    | CopiesWanted
    | ResourcesSeen
    | ResourcesRead
    | ResourcesReplaced
    | ResourcesLost
    | DeliveriesResumed
    | Pass
    | LimitsChanged
)
