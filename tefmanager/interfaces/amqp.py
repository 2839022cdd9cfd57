"""The contracts with RabbitMQ: consuming the manager's queue, publishing, and searching queues."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, field
from zope.interface import Interface

from tefmanager.core.model.audience import Audience

SET_ASIDE = "x-tef-set-aside"
"""The header that marks a message which the manager moved to the end of its own queue. Its value is the
reason."""

DELIVERY_COUNT = "x-delivery-count"
"""The header in which a quorum queue says how often a message went back to it."""


class Envelope(Struct, frozen=True, array_like=True):
    """The optional message properties that the sender set, in wire form; the others are None.

    Rows store these values by position, so a new field goes to the end and needs a default.
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
    """A message that RabbitMQ delivered and the manager has not acknowledged yet.

    Attributes:
        session: number of the consumer's channel. A tag is valid only within its session.
        tag: the delivery tag, counting up from 1 in a session.
        redelivered: RabbitMQ may have delivered this message before.
        body: the bytes.
        reply_to, correlation_id: as sent, or None; bytes, because AMQP does not require text here.
        content_type: as sent, or None.
        headers: the application headers as an encoded field table, as they came on the wire, or None.
        given_back: how often the message was returned to its queue. Only quorum queues count this; RabbitMQ
            4 drops a message after 20 returns.
        envelope: the other properties that the sender set, or None.
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
    """Receives the manager's messages."""

    def delivered(delivery: Delivery) -> None:
        """Take in one message. Messages come in the order of the queue."""

    def session_lost(session: int, reason: str) -> None:
        """Note that the channel is gone. RabbitMQ will redeliver what was not acknowledged on it."""


class IConsumer(Interface):
    """Consumes the manager's queue. Declares queues, exchanges and bindings at each (re)connect."""

    def start(deliveries: IDeliveries, rank: int = 0, narrow: bool = False) -> None:
        """Connect and consume until `stop`. The consumer reconnects by itself, with jittered backoff.

        ``rank``: the consumer priority. A consumer of another manager with a lower rank may still be
        connected; RabbitMQ sends new messages to this one. ``narrow``: take only a few unacknowledged
        messages at a time until `widen` is called. If the manager could not store what they say, all of
        them would be returned to the queue.
        """

    def widen(wholly: bool) -> None:
        """Allow more unacknowledged messages: the maximum if ``wholly``, else twice as many."""

    def ack(session: int, tags: Sequence[int]) -> None:
        """Acknowledge deliveries, in any order. Deliveries of a past session are ignored."""

    async def cease() -> None:
        """Ask for no more deliveries. Return when the last has come, or soon if RabbitMQ is silent.

        Deliveries that have come may still be acknowledged until `stop`.
        """

    def renew(reason: str) -> None:
        """Replace a connection that stands but delivers nothing. ``session_lost`` is called for it."""

    async def stop() -> None:
        """Stop consuming. What is not acknowledged returns to the queue. `start` may be called again.

        ``session_lost`` is not called for this.
        """


class Delivered(StrEnum):
    """The outcome of publishing a message."""

    CONFIRMED = "confirmed"
    RETURNED = "returned"
    """The broker could not route it: there is no such queue or exchange, or nothing is bound to it."""
    NACKED = "nacked"
    REFUSED = "refused"
    """The broker will never take this message, because it is too large."""
    LOST = "lost"
    """The connection broke before the broker answered. The message may or may not have arrived."""


class Message(Struct, frozen=True):
    """A message to publish.

    Attributes:
        body: the bytes.
        correlation_id, reply_to, content_type: as on the wire, or None.
        headers: application headers to send; text, numbers, bytes, lists and dicts.
        persistent: the broker keeps it on disk.
        envelope: the properties of the original message. Two of them are sent as headers instead: the user
            id, which the broker would check, and the expiration, which would remove the message.
        original: the encoded headers of the original message. They are sent beside ``headers``, except
            those that describe its way so far.
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
    """A message that stands in a queue.

    Attributes:
        body: the bytes.
        headers: its headers, or None if they can't be decoded.
        raw: the headers as on the wire.
    """

    body: bytes
    headers: Mapping[str, object] | None
    raw: bytes


Take: TypeAlias = Callable[[Lying], bool]
"""Is given a message and returns whether to remove it from its queue."""

Tell: TypeAlias = Callable[[str], None]
"""Is given the reason, in words for people, why a message was not confirmed."""


def tell_nobody(reason: str) -> None:
    """Ignore the reason."""


class IPublisher(Interface):
    """Publishes with publisher confirms. Messages to one address arrive in the order of the calls."""

    def start(unblocked: Callable[[], None]) -> None:
        """Connect, and reconnect with jittered backoff until `stop`.

        ``unblocked`` is called when the broker accepts messages again after it had blocked all publishers.
        """

    async def send(queue: bytes, message: Message, tell: Tell = ...) -> Delivered:
        """Publish to a queue through the default exchange, with the mandatory flag.

        Waits while there is no connection or the broker blocks publishers. Never publishes twice. If the
        message is not confirmed, ``tell`` is called once, with the reason in the broker's words.
        """

    async def dispatch(address: str, message: Message, tell: Tell = ...) -> Delivered:
        """Publish to the queue of that name or, if there is no such queue, to the exchange of that name.

        The routing key for an exchange is ``task``. Which of the two the address names is remembered until
        a message is returned. Otherwise like `send`.
        """

    async def declare(queue: bytes) -> None:
        """Declare a durable queue of that name if there is none. Waits while there is no connection.

        Does not fail if the broker refuses: the next publish to the queue reports the reason.
        """

    async def sift(queue: bytes, take: Take, at_most: int | None = None) -> str | None:
        """Go through a queue, or about ``at_most`` of its messages, and remove those that ``take`` chooses.

        Waits while there is no connection. ``take`` is given each message once. The others go back to the
        end of the queue; if the connection breaks meanwhile, one of them may be there twice. A queue that
        does not exist counts as empty. Returns None, or the reason, in words for people, why not all of the
        queue was read.
        """

    async def audience(queue: str) -> Audience | None:
        """Return who consumes a queue; None if there is no connection or the broker refuses to say.

        Asks about one queue at a time and declares only passively. May wait for a connection; the caller
        cancels it when it has waited long enough.
        """

    def announce(key: str, body: Callable[[], bytes]) -> None:
        """Publish a transient JSON message to the exchange of events, with this routing key.

        Best effort: a message that can't leave at once is dropped. ``body`` makes the message; it is not
        called if the broker is known to have no listener for it. Never raises and never waits.
        """

    def renew(reason: str) -> None:
        """Replace a connection that stands but answers nothing."""

    async def stop() -> None:
        """Wait at most 5 seconds for outstanding confirms, then disconnect.

        A message that was not sent by then is `Delivered.LOST`.
        """
