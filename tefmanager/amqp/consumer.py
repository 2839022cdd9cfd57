"""Consumes the manager's queue: in order, with few acknowledgement frames and bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed
from zope.interface import implementer

from tefmanager.amqp.acks import AckTracker
from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.budget import ChannelBudget
from tefmanager.amqp.codec import TableError, decode_table
from tefmanager.amqp.connection import Link, OnMissing, OnState, Tls, ignore_missing, ignore_state
from tefmanager.amqp.declare import declare_queue
from tefmanager.amqp.extras import Extras
from tefmanager.amqp.frames import Properties, ack_frames
from tefmanager.amqp.tls_context import client_tls
from tefmanager.amqp.topology import Topology
from tefmanager.amqp.unasked import ChannelEvents
from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.interfaces.amqp import DELIVERY_COUNT, Delivery, IConsumer, IDeliveries

CHANNEL = 1
CONSUMER = "tef-manager"
PREFETCH = 1000
FIRST_PREFETCH = 1
"""How many unacknowledged messages are allowed until it is known that they can be stored."""

BYTE_LIMIT = 64 * 1024 * 1024

CEASE_LIMIT = 1.0
"""Seconds to wait for the broker's answer when the consumer is cancelled."""

SUCCESSION_LIMIT = 4.5
"""Seconds to wait for another consumer of the queue to go. Its messages then return to the front of the
queue."""

_LOOK_INTERVAL = 0.25


class _Session(ChannelEvents):
    """One channel's deliveries, from `consume` until the channel ends."""

    def __init__(self, consumer: Consumer, protocol: AmqpProtocol, number: int) -> None:
        self._consumer = consumer
        self._protocol = protocol
        self.number = number
        self.tracker = AckTracker()
        self.began = False
        self._window = 0
        self._consumers = 0
        self._changing = DeferredLock()
        self._ceased = False

    def delivered(self, tag: int, redelivered: bool, properties: Properties, body: bytes) -> None:
        self.began = True
        self.tracker.add(tag, len(body) + len(properties.headers or b""))
        if self.tracker.unacked > self._consumer.byte_limit:
            self._protocol.pause_reading()
        self._consumer.hand_over(
            self,
            Delivery(
                self.number,
                tag,
                redelivered,
                body,
                properties.reply_to,
                properties.correlation_id,
                properties.content_type,
                properties.headers,
                _given_back(properties.headers) if redelivered and properties.headers else 0,
                properties.envelope,
            ),
        )

    async def consume(self) -> None:
        """Consume with the present limit of unacknowledged messages. Raises `txamqp.client.Closed`.

        A new limit applies only from the next ``basic.consume``, so the consumer is replaced when it
        changes; earlier deliveries still have to be acknowledged. (A limit per channel would apply at once,
        but quorum queues refuse it.)
        """
        await self._changing.acquire()
        try:
            window = self._consumer.window
            if self._ceased or window == self._window:
                return
            channel = self._protocol.channels[CHANNEL]
            if self._window:
                await channel.basic_cancel(consumer_tag=self._tag)
            self._window = window
            self._consumers += 1
            await channel.basic_qos(prefetch_count=window)
            arguments = {"x-priority": self._consumer.rank}
            await channel.basic_consume(
                queue=self._consumer.queue, consumer_tag=self._tag, arguments=arguments
            )
        finally:
            self._changing.release()

    @property
    def _tag(self) -> str:
        return f"{CONSUMER} {self._consumers}"

    async def cease(self, clock: IReactorTime) -> None:
        """Cancel the consumer. When the broker answers, everything that it has sent has arrived."""
        self._ceased = True
        with suppress(Closed, TimeoutError):  # the broker redelivers the rest to another consumer
            await Deferred.fromCoroutine(self._cancel()).addTimeout(CEASE_LIMIT, clock)

    async def _cancel(self) -> None:
        await self._changing.acquire()  # whoever is replacing the consumer has finished
        self._changing.release()
        if self._window:
            await self._protocol.channels[CHANNEL].basic_cancel(consumer_tag=self._tag)

    def ack(self, tags: Sequence[int]) -> None:
        acks = self.tracker.ack(tags)
        if acks:
            self._protocol.transport.write(ack_frames(CHANNEL, acks))
        if self.tracker.unacked <= self._consumer.byte_limit:
            self._protocol.resume_reading()

    def cancelled(self) -> None:
        self.closed("the broker has ended the consumer: its queue was deleted, or the queue's node is gone")

    def closed(self, reason: str) -> None:
        self._consumer.session_ended(self, reason)
        self._protocol.shut(reason)


@implementer(IConsumer)
class Consumer:
    """Consumes one queue, on a connection of its own.

    When the channel, the consumer or the connection ends, a new connection is made and everything is
    declared again. ``session_lost`` is called then if consuming had begun, but not after ``stop``.

    Args:
        reactor: the reactor.
        endpoints: brokers, tried in turn.
        topology: what to declare.
        prefetch: the largest number of unacknowledged messages, once it is known that they can be stored.
        byte_limit: bytes of unacknowledged messages above which nothing is read from the socket. It is
            exceeded by at most one message and what one read returns.
        on_state: is told changes of the connection's state.
        on_missing: is told which queues and bindings can't be declared, and when they are there.
        name: how the broker lists the connection.
        tls: makes the TLS settings of a connection.
        budget: of channels, shared with the publisher.

    Attributes:
        queue: the queue that is consumed.
        rank: the consumer's priority.
        window: the present limit of unacknowledged messages.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[AmqpEndpoint],
        topology: Topology,
        prefetch: int = PREFETCH,
        byte_limit: int = BYTE_LIMIT,
        on_state: OnState = ignore_state,
        on_missing: OnMissing = ignore_missing,
        name: str = "tef-manager consumer",
        tls: Tls = client_tls,
        budget: ChannelBudget | None = None,
    ) -> None:
        self.byte_limit = byte_limit
        self._topology = topology
        self.queue = topology.in_queue
        self._prefetch = prefetch
        self.window = prefetch
        self._extras = Extras(reactor, topology, on_missing)
        self._budget = ChannelBudget(reactor.seconds) if budget is None else budget
        self._link = Link(reactor, endpoints, name, self._setup, on_state, tls, self._budget)
        self._deliveries: IDeliveries | None = None
        self._session: _Session | None = None
        self._sessions = 0
        self._ceased = False
        self._reactor = reactor
        self.rank = 0

    def start(self, deliveries: IDeliveries, rank: int = 0, narrow: bool = False) -> None:
        """Connect and consume until `stop`."""
        self._deliveries = deliveries
        self._ceased = False
        self.rank = rank % 2**31
        self.window = min(FIRST_PREFETCH, self._prefetch) if narrow else self._prefetch
        self._link.start()

    async def cease(self) -> None:
        """Ask for no more deliveries; those that have come may still be acknowledged."""
        self._ceased = True
        if self._session is not None:
            await self._session.cease(self._reactor)

    def renew(self, reason: str) -> None:
        """See `IConsumer.renew`."""
        self._link.renew(reason)

    async def stop(self) -> None:
        """Stop consuming. Unacknowledged messages return to the queue. `start` may be called again."""
        self._deliveries = None
        self._session = None
        self._extras.stop()
        await self._link.stop()

    def widen(self, wholly: bool) -> None:
        """See `IConsumer.widen`."""
        if self.window < self._prefetch:
            self.window = self._prefetch if wholly else min(2 * self.window, self._prefetch)
            if self._session is not None and self._session.began:
                Deferred.fromCoroutine(self._session.consume()).addErrback(_ignore_closed)

    def ack(self, session: int, tags: Sequence[int]) -> None:
        """Acknowledge deliveries. Ignores those of a past session, and those already acknowledged."""
        if self._session is not None and self._session.number == session:
            self._session.ack(tags)

    def hand_over(self, session: _Session, delivery: Delivery) -> None:
        """Pass a delivery on, unless its session has ended. Only for the session."""
        if self._deliveries is not None and session is self._session:
            self._deliveries.delivered(delivery)

    def session_ended(self, session: _Session, reason: str) -> None:
        """Report that a session has ended. Only for the session."""
        if session is not self._session:
            return
        self._session = None
        # If the broker did not let us consume, there is nothing to lose.
        if self._deliveries is not None and session.began:
            self._deliveries.session_lost(session.number, reason)

    async def _setup(self, protocol: AmqpProtocol) -> None:
        self._sessions += 1
        session = _Session(self, protocol, self._sessions)
        channel = await protocol.open_channel(CHANNEL, session)
        await declare_queue(channel, self._topology.in_queue)
        await self._extras.declare(protocol, min(protocol.channel_max, self._budget.most))
        await self._succeed(channel)
        self._session = session  # set before the answer comes, since deliveries may come with it
        if not self._ceased:
            await session.consume()
            session.began = True

    async def _succeed(self, channel: Any) -> None:
        """Wait a limited time until nobody else consumes: two consumers would get messages out of order.

        The broker keeps the consumer of a frozen or disconnected manager until it misses heartbeats.
        """
        until = self._reactor.seconds() + SUCCESSION_LIMIT
        while self._reactor.seconds() < until:
            found = await channel.queue_declare(queue=self._topology.in_queue, passive=True)
            if not found.consumer_count:
                return
            await deferLater(self._reactor, _LOOK_INTERVAL)
        self._log.warn("another consumer of {queue} is still there", queue=self._topology.in_queue)


def _given_back(headers: bytes) -> int:
    """Return how often a message was returned to its queue, if its headers say so."""
    try:
        count = decode_table(headers).get(DELIVERY_COUNT)
    except TableError:
        return 0
    return count if isinstance(count, int) else 0


def _ignore_closed(failure: Failure) -> None:
    # The session has ended, and so has its consumer.
    failure.trap(Closed)  # type: ignore[no-untyped-call]
