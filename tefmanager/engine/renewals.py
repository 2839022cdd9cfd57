"""Messages that RabbitMQ is about to drop because they went back to their queue so often."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tefmanager.engine.deliveries import RENEWED, copy_of
from tefmanager.engine.reception import SHOWN
from tefmanager.interfaces.amqp import Delivered, Delivery, IPublisher
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue

LAST = 15
"""How often a message may go back to its queue before it is replaced by a new one. It must not come to 20,
RabbitMQ 4's limit, though the broker may take no message for a while."""


class Renewals:
    """Replaces a message by a new one at the end of the manager's queue, for which the broker counts anew.

    So nothing is lost, however often the manager fails on the message or is killed with it. The price is
    the order of messages, so this is done late, after the message has been taken in alone a few times.
    The old message is acknowledged when the new one is there. In case the old one comes once more, the
    new one is marked as a possible duplicate.

    Args:
        own: the manager's queue.
        acknowledge: acknowledges deliveries, by their session and tags.
        take: takes in a message that could not be replaced: perhaps it can be kept this time.
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
        new = copy_of(delivery, {RENEWED: f"went back {delivery.given_back} times"})
        if await self._publisher.send(self._own, new) is Delivered.CONFIRMED:
            emit(
                catalogue.DELIVERY_LIMIT_NEAR(
                    delivery.given_back, catalogue.readable(delivery.body)[:SHOWN]
                )
            )
            self._acknowledge(delivery.session, [delivery.tag])
        else:
            self._take(delivery)
