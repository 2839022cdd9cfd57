"""Copies messages that nobody can use to the rejected queue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tefmanager.engine.deliveries import copy_of, was_set_aside
from tefmanager.engine.reception import Rejected
from tefmanager.engine.unacknowledged import Unacknowledged
from tefmanager.interfaces.amqp import SET_ASIDE, Delivered, IPublisher, Message

MOST = 200
MOST_BYTES = 16 * 1024 * 1024
"""How many messages, and how many bytes of them, may wait for the rejected queue. Further ones go to the
end of the manager's queue."""

ROUND = 1.0
"""Seconds to wait before a message that was moved to the end of the queue is moved there again."""


class Rejections:
    """Copies each message to the rejected queue once, and then acknowledges it.

    If a broken connection makes RabbitMQ redeliver a message, its copy is still under way or already there,
    and is not sent again. While the rejected queue takes nothing, only a few messages wait for it. The
    others go to the end of the manager's queue, each as a new message that is there before the old one is
    acknowledged. So the manager still gets the messages that it can use.

    Args:
        insist: publishes to the rejected queue until the message is there.
        own: the manager's queue.
        acknowledge: acknowledges deliveries, by their session and tags.
    """

    def __init__(
        self,
        clock: IReactorTime,
        publisher: IPublisher,
        own: bytes,
        insist: Callable[[Message], Awaitable[None]],
        acknowledge: Callable[[int, Sequence[int]], None],
    ) -> None:
        self._clock = clock
        self._publisher = publisher
        self._own = own
        self._insist = insist
        self._acknowledge = acknowledge
        self._unacknowledged = Unacknowledged(acknowledge)
        self._bytes = 0

    def session_lost(self, session: int) -> None:
        """Note that everything that this session delivered will be redelivered."""
        self._unacknowledged.session_lost(session)

    async def reject(self, rejected: Rejected, copied: Callable[[], Awaitable[None]]) -> None:
        """Copy a message, call ``copied``, and acknowledge it."""
        if self._unacknowledged.adopts(rejected.delivery):
            return
        if len(self._unacknowledged) < MOST and self._bytes < MOST_BYTES:
            await self._copy(rejected, copied)
        else:
            await self._set_aside(rejected)

    async def _copy(self, rejected: Rejected, copied: Callable[[], Awaitable[None]]) -> None:
        size = len(rejected.delivery.body)
        self._bytes += size
        try:
            with self._unacknowledged.hold(rejected.delivery):
                await self._insist(copy_of(rejected.delivery, {"x-tef-reason": rejected.reason}))
                await copied()
        finally:
            self._bytes -= size

    async def _set_aside(self, rejected: Rejected) -> None:
        delivery = rejected.delivery
        if was_set_aside(delivery):
            await deferLater(self._clock, ROUND)
        message = copy_of(delivery, {SET_ASIDE: rejected.reason})
        if await self._publisher.send(self._own, message) is Delivered.CONFIRMED:
            self._acknowledge(delivery.session, [delivery.tag])
        else:
            await self._copy(rejected, _nothing)


async def _nothing() -> None:
    """Do nothing once the copy is made."""
