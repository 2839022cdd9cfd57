"""Publishes events to whoever listens: best effort, at almost no cost while nobody does."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import ChannelClosed, Closed

from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.codec import short_text
from tefmanager.amqp.connection import OnMissing, ignore_missing
from tefmanager.amqp.declare import NOT_FOUND, declare_topic
from tefmanager.amqp.delegate import why
from tefmanager.amqp.frames import Properties, encode_properties, publish_frames, route
from tefmanager.amqp.unasked import ChannelEvents
from tefmanager.interfaces.amqp import Message
from tefmanager.support.backoff import Backoff
from tefmanager.support.lease import Lease

PAUSE = 1.0
"""Seconds for which nothing is published under a key after the broker returned a message because no queue
is bound for it."""

CONTENT_TYPE = b"application/json"

EVENTS = "events"
"""What is missing while none can be published."""


class Announcer(ChannelEvents):
    """A channel that publishes transient messages to one exchange and waits for none of them.

    Messages that can't be written at once are dropped, so nothing is delayed and no memory is needed.

    Args:
        number: of the channel.
        exchange: where the messages go.
        lease: nothing is published while it does not hold.
        seconds: reads a clock that never goes back.
        pauses: the pauses before publishing is tried again after the broker refused.
        on_missing: is told when events can't be published, and when they can again.
    """

    _log = Logger()

    def __init__(
        self,
        number: int,
        exchange: str,
        lease: Lease,
        seconds: Callable[[], float],
        pauses: Backoff,
        on_missing: OnMissing = ignore_missing,
    ) -> None:
        self._number = number
        self._exchange = exchange
        self._lease = lease
        self._seconds = seconds
        self._pauses = pauses
        self._on_missing = on_missing
        self._protocol: AmqpProtocol | None = None
        self._writable = True
        self._heads: dict[str, tuple[bytes, bytes]] = {}
        self._unheard_until: dict[str, float] = {}
        self._said = ""
        self._doubtful = False
        self._asking = False

    def announce(self, key: str, body: Callable[[], bytes]) -> None:
        """Publish a message. ``body`` makes it, and is called only if somebody may hear it."""
        protocol = self._protocol
        if protocol is None or not self._writable or not self._lease.holds:
            return
        until = self._unheard_until.get(key)
        if until is not None and self._seconds() < until:
            return
        routed, properties = self._heads.get(key) or self._head(key)
        protocol.transport.write(
            publish_frames(self._number, routed, properties, body(), protocol.frame_max)
        )
        if self._doubtful and not self._asking:
            Deferred.fromCoroutine(self._ask(protocol)).addErrback(_not_reopened)

    async def _ask(self, protocol: AmqpProtocol) -> None:
        """Ask the broker something, to learn whether it has refused a message: it answers in order.

        Without confirms, nothing else shows whether we have the right to publish.
        """
        self._asking = True
        try:
            await protocol.channels[self._number].exchange_declare(exchange=self._exchange, passive=True)
        finally:
            self._asking = False
        self._doubtful = False
        self._recovered()

    def _head(self, key: str) -> tuple[bytes, bytes]:
        """Build once what precedes every message of a key. The message id tells which key was returned."""
        properties = encode_properties(Message(b"", content_type=CONTENT_TYPE, persistent=False))
        routed = route(self._exchange.encode(), key.encode())
        head = self._heads[key] = (routed, properties + short_text(key.encode()))
        return head

    def set_writable(self, writable: bool) -> None:
        """Publish messages, or drop them from now on."""
        self._writable = writable

    async def open(self, protocol: AmqpProtocol) -> None:
        """Open the channel on a connection and declare the exchange. Raises `txamqp.client.Closed`.

        An existing exchange of another type is used as it is. If the broker refuses, this is tried again,
        at least every half minute.
        """
        try:
            await self._declare(protocol, passive=False)
        except ChannelClosed as error:
            try:
                await self._declare(protocol, passive=True)
            except ChannelClosed:
                self._refused(protocol, why(error))
                return
        if not self._doubtful:
            self._recovered()
        self._unheard_until.clear()
        self._protocol = protocol

    async def _declare(self, protocol: AmqpProtocol, *, passive: bool) -> None:
        channel = await protocol.open_channel(self._number, self)
        if passive:
            await channel.exchange_declare(exchange=self._exchange, passive=True)
        else:
            await declare_topic(channel, self._exchange)

    def _recovered(self) -> None:
        self._pauses.reset()
        self._on_missing(EVENTS, None)
        if self._said:
            self._said = ""
            self._log.info("Events are published again")

    def _refused(self, protocol: AmqpProtocol, reason: str) -> None:
        self._on_missing(EVENTS, reason)
        if reason != self._said:
            self._said = reason
            self._log.warn("Events are not published: {reason}", reason=reason)
        protocol.clock.callLater(self._pauses.next(), self._open_again, protocol)

    def _open_again(self, protocol: AmqpProtocol) -> None:
        if protocol.usable:
            Deferred.fromCoroutine(self.open(protocol)).addErrback(_not_reopened)

    def returned(self, reason: str, properties: Properties) -> None:
        """Note that no queue is bound for the message's key."""
        key = (properties.message_id or b"").decode()
        self._unheard_until[key] = self._seconds() + PAUSE

    def closed(self, reason: str) -> None:
        """Drop messages until there is another connection."""
        self._protocol = None

    def closed_by_broker(self, code: int, reason: str) -> None:
        """Declare the exchange again if it was deleted; otherwise we may not publish for now."""
        protocol, self._protocol = self._protocol, None
        if protocol is None:
            return
        if code == NOT_FOUND:
            self._open_again(protocol)
        else:
            self._doubtful = True
            self._refused(protocol, reason)


def _not_reopened(failure: Failure) -> None:
    # The connection broke meanwhile; the channel is opened on the next one.
    failure.trap(Closed)  # type: ignore[no-untyped-call]
