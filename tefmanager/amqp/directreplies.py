"""Sends answers to *direct reply-to* addresses, on a connection of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import TimeoutError
from twisted.logger import Logger

from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.budget import ChannelBudget
from tefmanager.amqp.confirms import ConfirmChannel
from tefmanager.amqp.connection import Link, LinkState, Tls
from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.interfaces.amqp import Delivered, Message, Tell
from tefmanager.support.lease import Lease

LIMIT = 30.0
"""Seconds after which nobody waits for an answer any more."""

_CHANNEL = 1


class DirectReplies:
    """Publishes to the addresses that RabbitMQ makes for clients which want an answer without a queue.

    Such an address stands for a process on a node of the broker. If that node is gone, or a client has
    invented the address, RabbitMQ fails with 541 INTERNAL_ERROR and closes the connection, with everything
    under way on it. So these answers do not share a connection with dispatches. Only one answer is under
    way at a time here, so only the one at fault is lost.

    The connection is made for the first such answer and kept.

    Args:
        reactor: the reactor.
        endpoints: brokers, tried in turn.
        name: how the broker lists the connection.
        tls: makes the TLS settings of a connection.
        lease: answers wait while it does not hold.
        budget: of channels, shared with the other connections.
        on_close: is told why the broker closed only the channel.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[AmqpEndpoint],
        name: str,
        tls: Tls,
        lease: Lease,
        budget: ChannelBudget,
        on_close: Tell,
    ) -> None:
        lease.on_renewal(self._flow)
        self._reactor = reactor
        self._channel = ConfirmChannel(_CHANNEL, lease, window=1, on_close=on_close)
        self._link = Link(reactor, endpoints, name, self._setup, self._on_state, tls, budget)
        self._protocol: AmqpProtocol | None = None

    async def send(self, name: bytes, message: Message, tell: Tell) -> Delivered:
        """Publish to such an address; see `IPublisher.send`. Fails as lost after `LIMIT` seconds."""
        self._link.start()
        sent = self._channel.publish(b"", name, message, tell)
        try:
            return await sent.addTimeout(LIMIT, self._reactor)
        except TimeoutError:
            tell(f"it could not be sent for {LIMIT:g} s")
            return Delivered.LOST

    def give_up(self) -> None:
        """Settle all answers as lost."""
        self._channel.give_up()

    async def stop(self) -> None:
        """Disconnect."""
        await self._link.stop()

    async def _setup(self, protocol: AmqpProtocol) -> None:
        protocol.on_blocked = self._flow
        self._protocol = protocol
        self._flow()
        await self._channel.open(protocol)

    def _flow(self) -> None:
        self._channel.set_writable(self._protocol is None or self._protocol.blocked is None)

    def _on_state(self, state: LinkState, detail: str) -> None:
        if state in (LinkState.LOST, LinkState.WAITING):
            self._log.warn("connection for direct replies: {detail}", detail=detail)
