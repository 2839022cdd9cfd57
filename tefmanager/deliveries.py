"""What a delivered message is to the core, and where its answer goes."""

from __future__ import annotations

from tefmanager.core import events
from tefmanager.core.effects import ReplyTo
from tefmanager.interfaces import Delivery
from tefmanager.messages import (
    DispatchTasks,
    GetWorkers,
    Parsed,
    SetState,
    SuiteCommand,
    TaskMessage,
    WorkerMessage,
)

SET_ASIDE = "x-tef-set-aside"
"""The header, with the reason, of a message that was sent to the end of the manager's queue again."""


def was_set_aside(delivery: Delivery) -> bool:
    """Tell whether a message has been at the end of the queue for want of another place."""
    return delivery.headers is not None and SET_ASIDE.encode() in delivery.headers


def reply_to(delivery: Delivery) -> ReplyTo | None:
    """Return where a message wants its answer, or None where it does not say so completely."""
    if not delivery.reply_to or not delivery.correlation_id:
        return None
    return ReplyTo(delivery.reply_to, delivery.correlation_id)


def event_of(delivery: Delivery, parsed: Parsed | None, finished: frozenset[str]) -> events.Event:
    """Return the event that a message is. ``finished`` are guids that are in history."""
    reply = reply_to(delivery)
    match parsed:
        case TaskMessage():
            done = parsed.guid in finished
            return events.TaskSubmitted(parsed, delivery.body, delivery.redelivered, done, reply)
        case WorkerMessage():
            return events.WorkerReported(parsed, delivery.redelivered, reply)
        case SetState() | GetWorkers() | DispatchTasks() | SuiteCommand():
            return events.Commanded(parsed, reply, delivery.redelivered)
        case _:
            raise ValueError(f"{parsed!r} is no event")
