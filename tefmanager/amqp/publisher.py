"""Publishing: to queues and exchanges, each message with the broker's answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IPushProducer
from txamqp.client import ChannelClosed, Closed
from zope.interface import implementer

from tefmanager.amqp.announcer import Announcer
from tefmanager.amqp.codec import MAX_SHORT_TEXT
from tefmanager.amqp.confirms import ConfirmChannel
from tefmanager.amqp.connection import Link, LinkState, OnState, Tls, ignore_state
from tefmanager.amqp.declare import declare_queue, exchange_exists
from tefmanager.amqp.protocol import AmqpProtocol
from tefmanager.amqp.tls import client_tls
from tefmanager.endpoints import AmqpEndpoint
from tefmanager.interfaces import Delivered, IPublisher, Message, Tell, tell_nobody
from tefmanager.lease import Lease

QUEUE_CHANNEL = 1
EXCHANGE_CHANNEL = 2
"""Has no others but messages to exchanges: a missing exchange closes the channel."""

EVENTS_CHANNEL = 3

STOP_TIMEOUT = 5.0
"""Seconds to wait for confirms when stopping."""

REMEMBERED = 4096
"""Addresses of which it is remembered what they are."""

DISPATCH_KEY = b"task"

INTERNAL_ERROR = "541 "
"""How the broker's reason begins when it has failed itself."""

_NO_NAME = f"no queue or exchange has a name like this: it has 1 to {MAX_SHORT_TEXT} bytes"
_NOWHERE = "there is no queue and no exchange of this name"
_UNBOUND = "an exchange has this name, but no queue is bound to it for the key task"

T = TypeVar("T")


class Place(Enum):
    """What an address turned out to be."""

    QUEUE = "queue"
    EXCHANGE = "exchange"


class _Places:
    """What addresses turned out to be, as far as remembered: the ones used last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: OrderedDict[bytes, Place] = OrderedDict()

    def get(self, address: bytes) -> Place | None:
        place = self._places.get(address)
        if place is not None:
            self._places.move_to_end(address)
        return place

    def put(self, address: bytes, place: Place) -> None:
        self._places[address] = place
        if len(self._places) > self._most:
            self._places.popitem(last=False)

    def forget(self, address: bytes) -> None:
        self._places.pop(address, None)


@implementer(IPublisher, IPushProducer)
class Publisher:
    """Publishes on a connection of its own, so that a blocked one leaves consuming alone.

    Messages wait, first in first out, while there is no connection, while the broker blocks publishers, and
    while the socket takes no more. After ``stop`` they are lost at once.

    Args:
        reactor: the reactor.
        endpoints: brokers, tried in turn.
        on_state: is told changes of the connection.
        name: how the broker lists the connection.
        tls: makes what a TLS connection needs.
        lease: messages wait while it does not hold.
        events: exchange for what is announced; empty: nothing is.
    """

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[AmqpEndpoint],
        on_state: OnState = ignore_state,
        name: str = "tef-manager publisher",
        tls: Tls = client_tls,
        lease: Lease | None = None,
        events: str = "",
    ) -> None:
        lease = Lease.unlimited() if lease is None else lease
        lease.watch(self._flow)
        self._reactor = reactor
        self._link = Link(reactor, endpoints, name, self._setup, on_state, tls)
        self._channels = {
            Place.QUEUE: ConfirmChannel(QUEUE_CHANNEL, lease),
            Place.EXCHANGE: ConfirmChannel(EXCHANGE_CHANNEL, lease),
        }
        self._announcer = Announcer(EVENTS_CHANNEL, events, lease, monotonic) if events else None
        self._places = _Places(REMEMBERED)
        self._searching: dict[bytes, DeferredLock] = {}
        self._protocol: AmqpProtocol | None = None
        self._connected: list[Deferred[None]] = []
        self._full = False
        self._blocked = False
        self._unblocked: Callable[[], None] = lambda: None
        self._on_state = on_state
        self._stopped = False
        self._open = 0
        self._idle: Deferred[None] | None = None

    # --- Life ---

    def start(self, unblocked: Callable[[], None] = lambda: None) -> None:
        """Connect, for ever; ``unblocked`` is called when the broker takes messages again."""
        self._stopped = False
        self._unblocked = unblocked
        self._link.start()

    def renew(self, reason: str) -> None:
        """See `IPublisher.renew`."""
        self._link.renew(reason)

    async def stop(self) -> None:
        """Wait for confirms under way (5 seconds at most), then disconnect. May be started again."""
        self._stopped = True
        if self._open and self._protocol is not None and self._protocol.usable:
            self._idle = Deferred()
            # Its end is all that counts, not which.
            await self._idle.addTimeout(STOP_TIMEOUT, self._reactor).addErrback(lambda _: None)
        for channel in self._channels.values():
            channel.give_up()
        self._wake()
        await self._link.stop()

    async def _setup(self, protocol: AmqpProtocol) -> None:
        protocol.on_blocked = self._flow
        self._protocol = protocol
        self._full = False
        self._flow()
        for channel in self._channels.values():
            await channel.open(protocol)
        protocol.transport.registerProducer(self, True)
        if self._announcer is not None:
            await self._announcer.open(protocol)
        self._wake()

    def _wake(self) -> None:
        connected, self._connected = self._connected, []
        for waiting in connected:
            waiting.callback(None)

    # --- Flow ---

    def pauseProducing(self) -> None:
        """The socket's buffer is full."""
        self._full = True
        self._flow()

    def resumeProducing(self) -> None:
        """The socket takes data again."""
        self._full = False
        self._flow()

    def stopProducing(self) -> None:
        """The connection is lost; the channels are told of it otherwise."""

    def _flow(self) -> None:
        reason = None if self._protocol is None else self._protocol.blocked
        writable = not self._full and reason is None
        for channel in self._channels.values():
            channel.set_writable(writable)
        if self._announcer is not None:
            self._announcer.set_writable(writable)
        if self._blocked != (reason is not None):
            self._blocked = reason is not None
            self._tell_blocked(reason)

    def _tell_blocked(self, reason: str | None) -> None:
        if reason is not None:
            self._on_state(LinkState.BLOCKED, reason)
        else:
            self._on_state(
                LinkState.UNBLOCKED, "" if self._protocol is None else str(self._protocol.endpoint)
            )
            self._unblocked()

    # --- Publishing ---

    def announce(self, key: str, body: Callable[[], bytes]) -> None:
        """See `IPublisher.announce`."""
        if self._announcer is not None and not self._stopped:
            self._announcer.announce(key, body)

    async def send(self, queue: bytes, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """Publish to a queue through the default exchange, mandatory."""
        if len(queue) > MAX_SHORT_TEXT:
            tell(_NO_NAME)
            return Delivered.RETURNED
        return await self._publish(Place.QUEUE, queue, message, tell)

    async def dispatch(self, address: str, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """Publish to the queue of that name, or where there is none to the exchange of that name."""
        name = address.encode()
        if not 0 < len(name) <= MAX_SHORT_TEXT:
            tell(_NO_NAME)
            return Delivered.RETURNED
        if name not in self._searching:
            outcome = await self._as_remembered(name, message, tell)
            if outcome is not None:
                return outcome
        return await self._search(name, message, tell)

    async def _publish(self, place: Place, address: bytes, message: Message, tell: Tell) -> Delivered:
        if self._stopped:
            tell("the manager stops")
            return Delivered.LOST
        self._open += 1
        try:
            if place is Place.QUEUE:
                return await self._channels[place].publish(b"", address, message, tell)
            return await self._channels[place].publish(address, DISPATCH_KEY, message, tell)
        finally:
            self._open -= 1
            if not self._open and self._idle is not None:
                idle, self._idle = self._idle, None
                idle.callback(None)

    async def _as_remembered(self, address: bytes, message: Message, tell: Tell) -> Delivered | None:
        """Publish to a place that is remembered; None where there is none, or it is one no more."""
        place = self._places.get(address)
        if place is None:
            return None
        why: list[str] = []
        outcome = await self._publish(place, address, message, why.append)
        if outcome is not Delivered.RETURNED:
            for reason in why:
                tell(reason)
            return outcome
        self._places.forget(address)
        return None

    async def _search(self, address: bytes, message: Message, tell: Tell) -> Delivered:
        """Find out what an address is, one message after the other so that they keep their order."""
        lock = self._searching.setdefault(address, DeferredLock())
        await lock.acquire()
        try:
            outcome = await self._as_remembered(address, message, tell)
            return await self._try_both(address, message, tell) if outcome is None else outcome
        finally:
            lock.release()
            if not lock.locked:
                self._searching.pop(address, None)

    async def _try_both(self, address: bytes, message: Message, tell: Tell) -> Delivered:
        why: list[str] = []
        outcome = await self._try(Place.QUEUE, address, message, why.append)
        if outcome is Delivered.RETURNED and await self._is_exchange(address):
            return await self._try(
                Place.EXCHANGE, address, message, lambda reason: tell(f"{reason}: {_UNBOUND}")
            )
        for reason in why:
            tell(f"{reason}: {_NOWHERE}" if outcome is Delivered.RETURNED else reason)
        return outcome

    async def _try(self, place: Place, address: bytes, message: Message, tell: Tell) -> Delivered:
        outcome = await self._publish(place, address, message, tell)
        if outcome is Delivered.CONFIRMED:
            self._places.put(address, place)
        return outcome

    async def _is_exchange(self, address: bytes) -> bool:
        # Where it is refused it may be there but not for us, nor for our messages then.
        return await self.ask(lambda protocol: exchange_exists(protocol, address), refused=False)

    async def declare(self, queue: bytes) -> None:
        """See `IPublisher.declare`."""
        await self.ask(lambda protocol: declare_queue(protocol, queue), refused=None)

    async def ask(self, ask: Callable[[AmqpProtocol], Coroutine[Any, Any, T]], refused: T) -> T:
        """Ask the broker, and again on the next connection until it answers or closes the channel.

        For this package only. ``refused`` is returned where it closes the channel, or after `stop`.
        """
        while not self._stopped:
            protocol = self._protocol
            if protocol is None or not protocol.usable:
                connected: Deferred[None] = Deferred(self._connected.remove)
                self._connected.append(connected)
                await connected
                continue
            try:
                return await ask(protocol)
            except ChannelClosed:
                return refused
            except Closed:
                # RabbitMQ 4 fails itself, and ends the connection, when asked for some strange names.
                if (protocol.reason or "").startswith(INTERNAL_ERROR):
                    return refused
        return refused
