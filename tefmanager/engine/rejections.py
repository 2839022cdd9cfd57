"""Copies messages that nobody can use to the rejected queue."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from tefmanager.engine.deliveries import copy_of, was_set_aside
from tefmanager.engine.reception import Rejected, fingerprint
from tefmanager.interfaces.amqp import SET_ASIDE, Delivered, Delivery, IPublisher, Message

MOST = 200
MOST_BYTES = 16 * 1024 * 1024
"""How many messages, and how many bytes of them, may wait for the rejected queue. Further ones go to the
end of the manager's queue."""

ROUND = 1.0
"""Seconds to wait before a message that was moved to the end of the queue is moved there again."""

REMEMBERED = 1000
"""How many copied messages that will be redelivered are remembered."""


class _Copy:
    """A message, and the delivery to acknowledge when its copy is safe: the latest one."""

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.safe = False


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
        self._lost = -1
        self._under_way: list[_Copy] = []
        self._bytes = 0
        self._orphans: OrderedDict[bytes, deque[_Copy]] = OrderedDict()

    def session_lost(self, session: int) -> None:
        """Note that everything that this session delivered will be redelivered."""
        self._lost = session
        for copy in self._under_way:
            if copy.delivery.session <= session:
                self._adopt_later(copy)

    async def reject(self, rejected: Rejected, copied: Callable[[], Awaitable[None]]) -> None:
        """Copy a message, call ``copied``, and acknowledge it."""
        copy = self._known(rejected.delivery)
        if copy is not None:
            copy.delivery = rejected.delivery
            self._done(copy)
        elif len(self._under_way) < MOST and self._bytes < MOST_BYTES:
            await self._copy(rejected, copied)
        else:
            await self._set_aside(rejected)

    def _known(self, delivery: Delivery) -> _Copy | None:
        """Return the copy that was begun for an earlier delivery of the message."""
        waiting = self._orphans.get(fingerprint(delivery.body)) if delivery.redelivered else None
        return waiting.popleft() if waiting else None

    async def _copy(self, rejected: Rejected, copied: Callable[[], Awaitable[None]]) -> None:
        copy = _Copy(rejected.delivery)
        size = len(rejected.delivery.body)
        self._under_way.append(copy)
        self._bytes += size
        try:
            await self._insist(copy_of(rejected.delivery, {"x-tef-reason": rejected.reason}))
            await copied()
            copy.safe = True
        finally:
            self._under_way.remove(copy)
            self._bytes -= size
        self._done(copy)

    def _done(self, copy: _Copy) -> None:
        if not copy.safe:
            return  # acknowledged once the copy is safe
        if copy.delivery.session > self._lost:
            self._acknowledge(copy.delivery.session, [copy.delivery.tag])
        elif not any(copy in waiting for waiting in self._orphans.values()):
            self._adopt_later(copy)

    def _adopt_later(self, copy: _Copy) -> None:
        waiting = self._orphans.setdefault(fingerprint(copy.delivery.body), deque())
        if copy not in waiting:
            waiting.append(copy)
        if len(self._orphans) > REMEMBERED:
            self._orphans.popitem(last=False)

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
