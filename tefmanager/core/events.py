"""What the core is told. Messages come as `tefmanager.messages` has them; the rest is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tefmanager.core.attempts import Limits
from tefmanager.core.effects import Receipt, ReplyTo
from tefmanager.core.resources import Resource
from tefmanager.messages import (
    DispatchTasks,
    GetWorkers,
    SetState,
    SuiteCommand,
    TaskMessage,
    WorkerMessage,
)


@dataclass(frozen=True, slots=True)
class TaskSubmitted:
    """A task came.

    Attributes:
        message: what it says.
        body: its bytes.
        redelivered: the broker may have delivered it before.
        finished: a task of its guid is in history. Only looked at where it is redelivered.
        reply: where to answer, or None.
    """

    message: TaskMessage
    body: bytes
    redelivered: bool = False
    finished: bool = False
    reply: ReplyTo | None = None


@dataclass(frozen=True, slots=True)
class WorkerReported:
    """A ``worker_status`` came.

    Attributes:
        message: what it says.
        redelivered: the broker may have delivered it before.
        reply: where to answer, or None.
        receipt: by which it is acknowledged.
    """

    message: WorkerMessage
    redelivered: bool = False
    reply: ReplyTo | None = None
    receipt: Receipt | None = None


@dataclass(frozen=True, slots=True)
class Commanded:
    """A control message came."""

    message: SetState | GetWorkers | DispatchTasks | SuiteCommand
    reply: ReplyTo | None = None


@dataclass(frozen=True, slots=True)
class ReservationGranted:
    """An attempt holds its references; ``reserved`` are those that have an entry."""

    attempt: int
    reserved: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReservationRefused:
    """An attempt holds nothing: ``short`` had no reference to give."""

    attempt: int
    short: str


@dataclass(frozen=True, slots=True)
class ReservationUnknown:
    """Etcd did not say whether an attempt holds its references."""

    attempt: int


@dataclass(frozen=True, slots=True)
class ReservationReleased:
    """An attempt holds nothing any more."""

    attempt: int


@dataclass(frozen=True, slots=True)
class DispatchConfirmed:
    """The broker has the message in the worker's queue."""

    attempt: int


@dataclass(frozen=True, slots=True)
class DispatchFailed:
    """The message is in no queue."""

    attempt: int


@dataclass(frozen=True, slots=True)
class DispatchUncertain:
    """The connection went before the broker had said whether the message is in the worker's queue."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Buried:
    """The queue of the dead has confirmed a task."""

    task_id: int
    guid: str


@dataclass(frozen=True, slots=True)
class ResourcesSeen:
    """Something changed in Etcd."""

    seen: Mapping[str, Resource | None]


@dataclass(frozen=True, slots=True)
class ResourcesRead:
    """Everything in Etcd was read; ``held`` are our lock keys' resources by attempt."""

    seen: Mapping[str, Resource | None]
    held: Mapping[int, frozenset[str]]


@dataclass(frozen=True, slots=True)
class ResourcesLost:
    """Etcd is away."""

    reason: str


@dataclass(frozen=True, slots=True)
class HearingAgain:
    """Messages come again, after a time in which they could not: nobody's silence counts."""


@dataclass(frozen=True, slots=True)
class Pass:
    """The slow catch-all pass: whatever was missed is looked at again."""


@dataclass(frozen=True, slots=True)
class LimitsChanged:
    """The operator set other times and counts."""

    limits: Limits


Event: TypeAlias = (
    TaskSubmitted
    | WorkerReported
    | Commanded
    | ReservationGranted
    | ReservationRefused
    | ReservationUnknown
    | ReservationReleased
    | DispatchConfirmed
    | DispatchFailed
    | DispatchUncertain
    | Buried
    | ResourcesSeen
    | ResourcesRead
    | ResourcesLost
    | HearingAgain
    | Pass
    | LimitsChanged
)
