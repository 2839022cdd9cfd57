"""Answers to the questions in messages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from tefmanager.core.model.effects import ReplyTo
from tefmanager.engine.deliveries import reply_to
from tefmanager.engine.unacknowledged import Unacknowledged
from tefmanager.inquiry import Retried
from tefmanager.inquiry.inquirer import Inquirer
from tefmanager.inquiry.questions import WRITING, Question, RetryDead
from tefmanager.interfaces.amqp import Delivery
from tefmanager.support.crashpoints import CrashPoint, reach

Send: TypeAlias = Callable[[ReplyTo, object], Awaitable[None]]


class Replies:
    """Gets questions answered, and sends the answers to the senders that want them.

    A message that asks for rows to be written is acknowledged when they are. If the manager dies before
    that, RabbitMQ redelivers the message, and doing it again changes nothing that was written. If the
    database refuses what it asks for, the message is acknowledged as well: it would be refused again.

    Args:
        send: sends an answer.
        acknowledge: acknowledges deliveries, by their session and tags.
    """

    def __init__(
        self, inquirer: Inquirer, send: Send, acknowledge: Callable[[int, Sequence[int]], None]
    ) -> None:
        self._inquirer = inquirer
        self._send = send
        self._unacknowledged = Unacknowledged(acknowledge)

    def session_lost(self, session: int) -> None:
        """Note that deliveries of this session will be redelivered, unless they were acknowledged."""
        self._unacknowledged.session_lost(session)

    async def reply(self, question: Question, message: Delivery) -> None:
        """Answer a question, and send the answer if the sender wants one."""
        to = reply_to(message)
        if not isinstance(question, WRITING):
            answer = await self._inquirer.tell(question)
        elif self._unacknowledged.adopts(message):
            return
        else:
            with self._unacknowledged.hold(message):
                answer = await self._inquirer.tell(question)
                while to is None and isinstance(answer, Retried) and answer.retried and answer.left:
                    answer = await self._inquirer.tell(RetryDead(answer.left))  # nobody else would ask
                reach(CrashPoint.ASKED)
        if to is not None:
            await self._send(to, answer)
