"""Replaces messages that RabbitMQ is about to drop because they were returned to their queue too often."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tefmanager.engine.deliveries import RENEWED, copy_of
from tefmanager.engine.reception import SHOWN
from tefmanager.interfaces.amqp import Delivered, Delivery, IPublisher
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue

LAST = 15
"""After how many returns to its queue a message is replaced by a new one. This stays below RabbitMQ 4's
limit of 20 even if the broker takes no message for a while."""


class Renewals:
    """Replaces a message by a new one at the end of the manager's queue.

    The broker counts the returns of the new message from 0. So no message is lost, however often the
    manager fails on it or is killed while it has it. The price is the order of messages, so a message is
    replaced late, after it has been taken in alone a few times. The old message is acknowledged when the
    new one is there. Because the old one may still come once more, the new one is marked as a possible
    duplicate.

    Args:
        own: the manager's queue.
        acknowledge: acknowledges deliveries, by their session and tags.
        take: takes in a message that could not be replaced; it may be possible to store it this time.
    """

    def __init__(
        self,
        publisher: IPublisher,
        own: bytes,
        acknowledge: Callable[[int, Sequence[int]], None],
        take: Callable[[Delivery], None],
    ) -> None:
        self._publisher = publisher
        self._own = own
        self._acknowledge = acknowledge
        self._take = take

    async def renew(self, delivery: Delivery) -> None:
        """Replace a message."""
        new = copy_of(delivery, {RENEWED: f"was given back {delivery.given_back} times"})
        if await self._publisher.send(self._own, new) is Delivered.CONFIRMED:
            emit(
                catalogue.DELIVERY_LIMIT_NEAR(
                    delivery.given_back, catalogue.readable(delivery.body)[:SHOWN]
                )
            )
            self._acknowledge(delivery.session, [delivery.tag])
        else:
            self._take(delivery)
