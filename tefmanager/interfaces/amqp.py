"""The contracts with RabbitMQ: the manager's queue, publishing, looking through queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, field
from zope.interface import Interface

from tefmanager.core.model.audience import Audience

SET_ASIDE = "x-tef-set-aside"
"""The header, with the reason, of a message that was sent to the end of the manager's queue again."""

DELIVERY_COUNT = "x-delivery-count"
"""The header in which a quorum queue says how often a message went back to it."""


class Envelope(Struct, frozen=True, array_like=True):
    """What else a sender may have put on a message, as on the wire; None where it did not.

    It is kept in rows, by the order of its fields: others go to the end, with a default.
    """

    content_encoding: bytes | None = None
    expiration: bytes | None = None
    message_id: bytes | None = None
    timestamp: int | None = None
    type: bytes | None = None
    user_id: bytes | None = None
    app_id: bytes | None = None
    priority: int | None = None


class Delivery(Struct, frozen=True):
    """A message that was delivered and is not acknowledged yet.

    Attributes:
        session: number of the consumer's channel; tags of another session mean nothing.
        tag: the delivery tag, counting up from 1 in a session.
        redelivered: the broker may have delivered it before.
        body: the bytes.
        reply_to, correlation_id: as sent, or None; bytes, since nothing says they are text.
        content_type: as sent, or None.
        headers: the application headers as they came on the wire (an encoded field table), or None.
        given_back: how often it went back to its queue, where that counts it: quorum queues do, and
            RabbitMQ 4 drops a message after twenty times.
        envelope: what else the sender has put on it, or None.
    """

    session: int
    tag: int
    redelivered: bool
    body: bytes
    reply_to: bytes | None = None
    correlation_id: bytes | None = None
    content_type: bytes | None = None
    headers: bytes | None = None
    given_back: int = 0
    envelope: Envelope | None = None


class IDeliveries(Interface):
    """Who is handed the manager's messages."""

    def delivered(delivery: Delivery) -> None:
        """Take in one message, in the order of the queue."""

    def session_lost(session: int, reason: str) -> None:
        """The channel is gone: what it delivered and was not acknowledged comes again."""


class IConsumer(Interface):
    """The manager's queue. Declares queues, exchanges and bindings at each (re)connect."""

    def start(deliveries: IDeliveries, rank: int = 0, narrow: bool = False) -> None:
        """Connect and consume, for ever: reconnects by itself, with jittered backoff.

        Another manager's consumer, of a lower rank, may be there still: nothing new goes to that one.
        ``narrow``: few messages are taken at a time until `widen` is called, since all of them would go
        back to the queue if what they say can't be kept.
        """

    def widen(wholly: bool) -> None:
        """Take more messages at a time: twice as many, or as many as there may be."""

    def ack(session: int, tags: Sequence[int]) -> None:
        """Acknowledge deliveries, in any order; ones of a past session are ignored."""

    async def cease() -> None:
        """Ask for no more deliveries, and return when the last has come, or soon if nobody answers.

        Those that have come may still be acknowledged, until `stop`.
        """

    def renew(reason: str) -> None:
        """Make the connection anew: it stands, but brings nothing. ``session_lost`` is told of that."""

    async def stop() -> None:
        """Stop consuming; what is not acknowledged goes back to the queue. May be started again.

        ``session_lost`` is not told of this.
        """


class Delivered(StrEnum):
    """What became of a published message."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"
    """It could not be routed: no such queue, no such exchange, or nothing bound to it."""
    NACKED = "nacked"
    REFUSED = "refused"
    """The broker takes no message like this one, today or tomorrow: it is too large."""
    LOST = "lost"
    """The connection went before the broker had answered: it may or may not have arrived."""


class Message(Struct, frozen=True):
    """A message to publish.

    Attributes:
        body: the bytes.
        correlation_id, reply_to, content_type: as on the wire, or None.
        headers: application headers to send; text, numbers, bytes, lists and dicts.
        persistent: the broker keeps it on disk.
        envelope: what the sender of the original had put on it. Not sent: its user id, which the broker
            checks, and its expiration, which would remove it; both are headers then.
        original: the headers of the original as they came on the wire, to be sent beside ``headers``, but
            for those that tell of its way until now.
    """

    body: bytes
    correlation_id: bytes | None = None
    reply_to: bytes | None = None
    content_type: bytes | None = None
    headers: Mapping[str, object] = field(default_factory=dict)
    persistent: bool = True
    envelope: Envelope | None = None
    original: bytes | None = None


class Lying(Struct, frozen=True):
    """A message that lies in a queue.

    Attributes:
        body: the bytes.
        headers: its headers, or None where they can't be read.
        raw: the headers as on the wire.
    """

    body: bytes
    headers: Mapping[str, object] | None
    raw: bytes


Take: TypeAlias = Callable[[Lying], bool]
"""Is shown a message, and tells whether it is to be taken out of its queue."""

Tell: TypeAlias = Callable[[str], None]
"""Is told, for people, why a message was not confirmed."""


def tell_nobody(reason: str) -> None:
    """Take a reason that nobody wants to know."""


class IPublisher(Interface):
    """Publishing with the broker's confirm. Messages to one place arrive in the order of the calls."""

    def start(unblocked: Callable[[], None]) -> None:
        """Connect, for ever: reconnects by itself, with jittered backoff.

        ``unblocked`` is called when the broker, having taken no messages from anyone, takes them again.
        """

    async def send(queue: bytes, message: Message, tell: Tell = ...) -> Delivered:
        """Publish to a queue through the default exchange, mandatory.

        While there is no connection, or the broker blocks publishers, this waits. Nothing is sent again.
        Where it is not confirmed ``tell`` is called, once, with the reason in the broker's words.
        """

    async def dispatch(address: str, message: Message, tell: Tell = ...) -> Delivered:
        """Publish to the queue of that name, or where there is none to the exchange of that name.

        To an exchange the routing key is ``task``. Which of the two it is, is remembered until a
        message is returned. Otherwise like ``send``.
        """

    async def declare(queue: bytes) -> None:
        """Make a durable queue where there is none of that name. Waits while there is no connection.

        Where the broker refuses, nothing happens: publishing to it tells.
        """

    async def sift(queue: bytes, take: Take, at_most: int | None = None) -> str | None:
        """Go through a queue, or about ``at_most`` messages of it, and take out what ``take`` wants.

        While there is no connection, this waits. Each message that was there is shown once; others stay, at
        the queue's end, where the same one may be twice when the connection goes meanwhile. Nothing is in a
        queue that is not there. Returns why it was not gone through to its end, for people, or None.
        """

    async def audience(queue: str) -> Audience | None:
        """Tell who listens at a queue; None where nobody can tell: no connection, or the broker refuses.

        One queue is asked about after the other. Nothing is declared but passively. It may wait for a
        connection; whoever has waited long enough cancels it.
        """

    def announce(key: str, body: Callable[[], bytes]) -> None:
        """Publish a transient JSON message to the exchange of events, for whoever is bound for its key.

        At best effort: dropped where it can't leave at once. ``body`` makes it, and is not called where
        it is known that nobody would hear it. Nothing is raised and nothing waits.
        """

    def renew(reason: str) -> None:
        """Make the connection anew: it stands, but nothing is answered."""

    async def stop() -> None:
        """Wait for confirms that are under way (5 seconds at most), then disconnect.

        What was not sent by then is `Delivered.LOST`.
        """
