"""Turns a delivered message into an event for the core, and finds where its answer goes."""

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
"""The header of a message that replaces one which was returned to the manager's queue too often."""


def was_renewed(delivery: Delivery) -> bool:
    """Tell whether a message replaces another one, which may have been taken in as well."""
    return delivery.headers is not None and RENEWED.encode() in delivery.headers


def was_set_aside(delivery: Delivery) -> bool:
    """Tell whether the manager has moved this message to the end of its queue before."""
    return delivery.headers is not None and SET_ASIDE.encode() in delivery.headers


LONGEST_HEADER = 500
"""How many characters of a text a header of a copy takes. All headers must fit into one frame."""


def copy_of(delivery: Delivery, headers: Mapping[str, str]) -> Message:
    """Return a copy of a delivered message with additional headers."""
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
    """Return where the answer to a message goes, or None if reply_to or correlation_id is missing."""
    if not delivery.reply_to or not delivery.correlation_id:
        return None
    return ReplyTo(delivery.reply_to, delivery.correlation_id)


def event_of(delivery: Delivery, parsed: Parsed | None, finished: frozenset[str]) -> events.Event:
    """Return the event for a message. ``finished``: the guids that are in history."""
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
"""The content type that the existing workers and clients set on their messages."""

ANSWERS = 32 * 1024 * 1024
"""Bytes of answers that may be under way. Above this, clients are told to ask later; above twice this, they
get no answer."""

LARGEST_ANSWER = 8 * 1024 * 1024
"""The largest answer, in bytes. RabbitMQ 4 takes messages of up to 16 MiB unless it is configured
otherwise."""

_ANSWER = 2048
"""Bytes of memory that an answer takes besides its body."""


class Answers:
    """Answers messages, with a bound on memory.

    So a client that never reads its answers can't fill the memory.

    Args:
        own: the manager's own queues. No answer is sent to them: nobody reads it there, and it would only
            take up room.
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
        """Send an answer; return the outcome in words."""
        if to.queue.decode("utf-8", "replace") in self._own:
            return "dropped: the queue is one of the manager's own"
        if self._answering >= 2 * ANSWERS:
            return "dropped: too many answers are under way already"
        if self._answering >= ANSWERS:
            response, warnings = (
                catalogue.QUESTION_FAILED("too many answers are under way: ask later").text,
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
