"""What a delivered message is to the core, and where its answer goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tefmanager.core.model import events
from tefmanager.core.model.effects import ReplyTo
from tefmanager.engine.properties import properties_of
from tefmanager.interfaces.amqp import SET_ASIDE, Delivered, Delivery, IPublisher, Message
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.protocol.messages import (
    DispatchTasks,
    GetWorkers,
    Parsed,
    SetState,
    SuiteCommand,
    TaskMessage,
    WorkerMessage,
)

RENEWED = "x-tef-renewed"
"""The header of a message that replaces one which went back to the manager's queue too often."""


def was_renewed(delivery: Delivery) -> bool:
    """Tell whether a message replaces another, which may have been taken in as well."""
    return delivery.headers is not None and RENEWED.encode() in delivery.headers


def was_set_aside(delivery: Delivery) -> bool:
    """Tell whether a message has been at the end of the queue for want of another place."""
    return delivery.headers is not None and SET_ASIDE.encode() in delivery.headers


LONGEST_HEADER = 500
"""Characters of the text of a header that a copy gets along; headers must fit into one frame."""


def copy_of(delivery: Delivery, headers: Mapping[str, str]) -> Message:
    """Return a message like one that was delivered, with further headers."""
    return Message(
        delivery.body,
        correlation_id=delivery.correlation_id,
        reply_to=delivery.reply_to,
        content_type=delivery.content_type,
        headers={name: text[:LONGEST_HEADER] for name, text in headers.items()},
        envelope=delivery.envelope,
        original=delivery.headers,
    )


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
            properties = properties_of(delivery)
            return events.TaskSubmitted(
                parsed, delivery.body, delivery.redelivered, done, reply, properties
            )
        case WorkerMessage():
            return events.WorkerReported(parsed, delivery.redelivered, reply)
        case SetState() | GetWorkers() | DispatchTasks() | SuiteCommand():
            return events.Commanded(parsed, reply, delivery.redelivered)
        case _:
            raise ValueError(f"{parsed!r} is no event")


CONTENT_TYPE = b"application/octet-stream"
"""What the programs in the field put on their messages."""

ANSWERS = 32 * 1024 * 1024
"""Bytes of answers under way. Above it clients are told to ask later; above twice as many, nothing."""

LARGEST_ANSWER = 8 * 1024 * 1024
"""Bytes of one answer. RabbitMQ 4 takes 16 MiB in a message, unless it is configured otherwise."""

_ANSWER = 2048
"""Bytes that an answer takes in memory besides its body."""


class Answers:
    """Answers messages. Who asks much and takes nothing fills no memory.

    Args:
        own: the manager's own queues: nobody reads answers there, and they would be in the way of others.
    """

    def __init__(self, publisher: IPublisher, own: frozenset[str]) -> None:
        self._publisher = publisher
        self._own = own
        self._answering = 0

    async def reply(self, to: ReplyTo, response: object, warnings: Sequence[str] = ()) -> None:
        """Answer with a value that can be encoded as JSON."""
        outcome = await self._answer(to, response, warnings)
        if outcome != Delivered.CONFIRMED:
            emit(catalogue.REPLY_FAILED(to.queue.decode("utf-8", "backslashreplace"), outcome))

    async def _answer(self, to: ReplyTo, response: object, warnings: Sequence[str]) -> str:
        """Send an answer and return what became of it."""
        if to.queue.decode("utf-8", "replace") in self._own:
            return "dropped: the queue is one of the manager's own"
        if self._answering >= 2 * ANSWERS:
            return "dropped: so many answers are under way already"
        if self._answering >= ANSWERS:
            response, warnings = (
                catalogue.QUESTION_FAILED("so many answers are under way: ask later").text,
                (),
            )
        answer = {"response": response, "warnings": warnings} if warnings else {"response": response}
        body = msgspec.json.encode(answer)
        outcome = Delivered.REFUSED if len(body) > LARGEST_ANSWER else await self._send(to, body)
        if outcome is Delivered.REFUSED:
            text = f"the answer has {len(body)} bytes, too many for one message: ask for less"
            failed = catalogue.QUESTION_FAILED(text)
            emit(failed)
            outcome = await self._send(to, msgspec.json.encode({"response": failed.text}))
        return outcome

    async def _send(self, to: ReplyTo, body: bytes) -> Delivered:
        message = Message(body, correlation_id=to.correlation_id, content_type=CONTENT_TYPE)
        self._answering += len(body) + _ANSWER
        try:
            return await self._publisher.send(to.queue, message)
        finally:
            self._answering -= len(body) + _ANSWER
