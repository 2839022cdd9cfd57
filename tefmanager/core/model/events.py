"""The events of the core. A message is contained as `tefmanager.protocol.messages` parses it."""

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
    """A task was submitted.

    Attributes:
        message: the parsed message.
        body: its bytes.
        redelivered: the broker may have delivered it before.
        finished: a task with its guid is in history. Relevant only if it is redelivered.
        reply: where to answer, or None.
        properties: its other properties, encoded, or None.
    """

    message: TaskMessage
    body: bytes
    redelivered: bool = False
    finished: bool = False
    reply: ReplyTo | None = None
    properties: bytes | None = None


class WorkerReported(Struct, frozen=True):
    """A worker sent a ``worker_status``.

    Attributes:
        message: the parsed message.
        redelivered: the broker may have delivered it before.
        reply: where to answer, or None.
    """

    message: WorkerMessage
    redelivered: bool = False
    reply: ReplyTo | None = None


class Commanded(Struct, frozen=True):
    """Somebody sent a control message. ``redelivered``: the broker may have delivered it before."""

    message: SetState | GetWorkers | DispatchTasks | SuiteCommand
    reply: ReplyTo | None = None
    redelivered: bool = False


class ReservationGranted(Struct, frozen=True):
    """An attempt holds its references. ``reserved``: the resources that have an entry in Etcd."""

    attempt: int
    reserved: tuple[str, ...]


class ReservationRefused(Struct, frozen=True):
    """An attempt holds nothing, because the resource ``short`` had no free reference."""

    attempt: int
    short: str


class ReservationImpossible(Struct, frozen=True):
    """Etcd can't grant an attempt's reservation, for a reason of its own; it may hold some of it."""

    attempt: int
    reason: str


class ReservationUnknown(Struct, frozen=True):
    """Etcd did not say whether an attempt holds its references; ``reason`` says why, for people."""

    attempt: int
    reason: str = ""


class ReservationReleased(Struct, frozen=True):
    """An attempt holds nothing any more."""

    attempt: int


class DispatchConfirmed(Struct, frozen=True):
    """The broker has the message in the worker's queue."""

    attempt: int


class DispatchFailed(Struct, frozen=True):
    """The message is in no queue; ``reason`` says why, in the broker's words."""

    attempt: int
    reason: str


class DispatchImpossible(Struct, frozen=True):
    """The message is in no queue, and the broker will never take it; ``reason`` is in its words."""

    attempt: int
    reason: str


class DispatchUncertain(Struct, frozen=True):
    """The connection broke before the broker said whether the message is in the worker's queue."""

    attempt: int


class Looked(Struct, frozen=True):
    """The broker said who consumes a worker's queue; None if it is unknown."""

    worker: str
    found: Audience | None


class DeadLettered(Struct, frozen=True):
    """The attempt to send a task's copy has ended; ``copy`` is the copy's state."""

    task_id: int
    guid: str
    copy: Copy | None = Copy.THERE


class CopiesKnown(Struct, frozen=True):
    """The states of copies of dead tasks, by the id of the task."""

    copies: Mapping[int, Copy | None]


class CopiesWanted(Struct, frozen=True):
    """Copies to send to the dead queue now, each with id, guid and reason of its dead task."""

    wanted: tuple[tuple[int, str, str], ...]


class ResourcesSeen(Struct, frozen=True):
    """Resources have changed in Etcd."""

    seen: Mapping[str, Resource | None]


class ResourcesRead(Struct, frozen=True):
    """All resources in Etcd were read; ``held`` has the resources of our lock keys by attempt."""

    seen: Mapping[str, Resource | None]
    held: Mapping[int, frozenset[str]]


class ResourcesReplaced(Struct, frozen=True):
    """Etcd was restored to an older state or replaced; a full read follows."""

    reason: str


class ResourcesLost(Struct, frozen=True):
    """Etcd is unreachable."""

    reason: str


class DeliveriesResumed(Struct, frozen=True):
    """Messages come again after an interruption, during which nobody's silence counts."""


class Pass(Struct, frozen=True):
    """The slow catch-all pass: check everything again, in case something was missed."""


class LimitsChanged(Struct, frozen=True):
    """The operator changed the settings."""

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
