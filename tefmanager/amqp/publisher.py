"""Publishes to queues and exchanges, and reports the broker's answer for each message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed
from zope.interface import implementer

from tefmanager.amqp.address_kinds import AddressKind, AddressKinds
from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.announcer import EVENTS, Announcer
from tefmanager.amqp.budget import ChannelBudget
from tefmanager.amqp.codec import MAX_SHORT_TEXT
from tefmanager.amqp.confirms import ACCESS_REFUSED
from tefmanager.amqp.connection import (
    Link,
    LinkState,
    OnMissing,
    OnState,
    Tls,
    ignore_missing,
    ignore_state,
)
from tefmanager.amqp.deadqueue import Walks
from tefmanager.amqp.declare import exchange_exists, need_queue
from tefmanager.amqp.directreplies import DirectReplies
from tefmanager.amqp.frames import DIRECT_REPLY
from tefmanager.amqp.listeners import audience
from tefmanager.amqp.lookups import Lookups, Question
from tefmanager.amqp.outlets import Outlets, Role
from tefmanager.amqp.tls_context import client_tls
from tefmanager.amqp.unasked import NoChannel
from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.core.model.audience import Audience
from tefmanager.interfaces.amqp import Delivered, IPublisher, Message, Take, Tell, tell_nobody
from tefmanager.support.backoff import OPTIONAL, Backoff
from tefmanager.support.lease import Lease

STOP_TIMEOUT = 5.0
"""Seconds to wait for confirms when stopping."""

DISPATCH_KEY = b"task"

INTERNAL_ERROR = "541 "
"""The beginning of the broker's reason after an internal error of its own."""

_NO_NAME = f"no queue or exchange has a name like this: it has 1 to {MAX_SHORT_TEXT} bytes"
_NOWHERE = "there is no queue and no exchange of this name"
_UNBOUND = "an exchange has this name, but no queue is bound to it for the key task"

T = TypeVar("T")


@implementer(IPublisher, IPushProducer)
class Publisher:
    """Publishes on a connection of its own, so that a blocked publisher does not affect the consumer.

    Messages wait, in order, while there is no connection, while the broker blocks publishers, and while the
    socket's buffer is full. After ``stop`` they are lost at once.

    Args:
        reactor: the reactor.
        endpoints: brokers, tried in turn.
        on_state: is told changes of the connection's state.
        on_missing: is told when events can't be published, and when they can again.
        name: how the broker lists the connection.
        tls: makes the TLS settings of a connection.
        lease: messages wait while it does not hold.
        events: the exchange for announcements; empty if there are none.
        budget: of channels, shared with the consumer.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[AmqpEndpoint],
        on_state: OnState = ignore_state,
        on_missing: OnMissing = ignore_missing,
        name: str = "tef-manager publisher",
        tls: Tls = client_tls,
        lease: Lease | None = None,
        events: str = "",
        budget: ChannelBudget | None = None,
    ) -> None:
        lease = Lease.unlimited() if lease is None else lease
        lease.on_renewal(self._flow)
        self._reactor = reactor
        self._budget = ChannelBudget(monotonic) if budget is None else budget
        self._budget.on_decrease(self._give_channels_up)
        self._link = Link(reactor, endpoints, name, self._setup, on_state, tls, self._budget)
        self._outlets = Outlets(lease, monotonic, self._channels_say)
        self._direct = DirectReplies(
            reactor, endpoints, f"{name}, direct replies", tls, lease, self._budget, self._outlets.closed
        )
        self._lookups = Lookups()
        self._walks = Walks(reactor, self)
        pauses = Backoff(reactor, *OPTIONAL)
        announcer = Announcer(Role.EVENTS, events, lease, monotonic, pauses, on_missing)
        self._announcer = announcer if events else None
        self._on_missing = on_missing
        self._kinds = AddressKinds(monotonic)
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
        """Connect, and stay connected until `stop`; see `IPublisher.start`."""
        self._stopped = False
        self._unblocked = unblocked
        self._link.start()

    def renew(self, reason: str) -> None:
        """See `IPublisher.renew`."""
        self._link.renew(reason)

    async def stop(self) -> None:
        """Wait at most 5 seconds for outstanding confirms, then disconnect. `start` may be called again."""
        self._stopped = True
        if self._open and self._protocol is not None and self._protocol.usable:
            self._idle = Deferred()
            # Only its end counts, not its outcome.
            await self._idle.addTimeout(STOP_TIMEOUT, self._reactor).addErrback(lambda _: None)
        self._outlets.give_up()
        self._direct.give_up()
        self._wake()
        await self._direct.stop()
        await self._link.stop()

    async def _setup(self, protocol: AmqpProtocol) -> None:
        protocol.on_blocked = self._flow
        self._protocol = protocol
        self._full = False
        self._flow()
        most = min(protocol.channel_max, self._budget.most)
        self._budget.used = min(most, len(Role))
        self._lookups.use(protocol, Role.LOOKUPS if most >= Role.LOOKUPS else 0)
        await self._outlets.open(protocol, most)
        protocol.transport.registerProducer(self, True)
        if self._announcer is not None and most >= Role.EVENTS:
            await self._announcer.open(protocol)
        elif self._announcer is not None:
            reason = f"the broker allows us no more channels than {most}"
            self._log.warn("Events are not published: {reason}", reason=reason)
            self._on_missing(EVENTS, reason)
        self._wake()

    def _give_channels_up(self) -> None:
        """Reconnect with fewer channels: another of our connections needs one."""
        if self._protocol is not None and self._budget.used > self._budget.most:
            self._protocol.shut("the broker allows our user fewer channels")

    def _wake(self) -> None:
        connected, self._connected = self._connected, []
        for waiting in connected:
            waiting.callback(None)

    # --- Flow ---

    def pauseProducing(self) -> None:
        """Note that the socket's buffer is full."""
        self._full = True
        self._flow()

    def resumeProducing(self) -> None:
        """Note that the socket accepts data again."""
        self._full = False
        self._flow()

    def stopProducing(self) -> None:
        """Do nothing: the channels learn of a lost connection in another way."""

    def _flow(self) -> None:
        reason = None if self._protocol is None else self._protocol.blocked
        writable = not self._full and reason is None
        self._outlets.set_writable(writable)
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

    def _channels_say(self, state: LinkState, reason: str) -> None:
        self._on_state(state, reason)
        if state is LinkState.PERMITTED:
            self._unblocked()

    # --- Publishing ---

    def announce(self, key: str, body: Callable[[], bytes]) -> None:
        """See `IPublisher.announce`."""
        if self._announcer is not None and not self._stopped:
            self._announcer.announce(key, body)

    async def send(self, queue: bytes, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """Publish to a queue through the default exchange, mandatory; see `IPublisher.send`."""
        if len(queue) > MAX_SHORT_TEXT:
            tell(_NO_NAME)
            return Delivered.RETURNED
        return await self._publish(AddressKind.QUEUE, queue, message, tell, answer=True)

    async def dispatch(self, address: str, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """Publish to a queue or, if there is none of that name, an exchange; see `IPublisher.dispatch`."""
        name = address.encode()
        if not 0 < len(name) <= MAX_SHORT_TEXT:
            tell(_NO_NAME)
            return Delivered.RETURNED
        if name not in self._searching:
            outcome = await self._as_remembered(name, message, tell)
            if outcome is not None:
                return outcome
        return await self._search(name, message, tell)

    async def _publish(
        self, kind: AddressKind, address: bytes, message: Message, tell: Tell, *, answer: bool = False
    ) -> Delivered:
        if self._stopped:
            tell("the manager stops")
            return Delivered.LOST
        refusal = self._outlets.refusal(len(message.body))
        if refusal is not None:
            tell(refusal)
            return Delivered.REFUSED
        channel = self._outlets.channel_for(kind, len(message.body), answer=answer)
        self._open += 1
        try:
            if kind is AddressKind.QUEUE and self._goes_apart(address):
                return await self._direct.send(address, message, tell)
            if kind is AddressKind.QUEUE:
                return await channel.publish(b"", address, message, tell)
            return await channel.publish(address, DISPATCH_KEY, message, tell)
        finally:
            self._open -= 1
            if not self._open and self._idle is not None:
                idle, self._idle = self._idle, None
                idle.callback(None)

    def _goes_apart(self, address: bytes) -> bool:
        """Tell whether an address may make RabbitMQ break the connection, so that another must be used."""
        return address.startswith(DIRECT_REPLY) and self._budget.most > 1

    async def _as_remembered(self, address: bytes, message: Message, tell: Tell) -> Delivered | None:
        """Publish to what an address is known to be; None if that is unknown or not true any more."""
        kind = self._kinds.get(address)
        if kind is None:
            return None
        why: list[str] = []
        outcome = await self._publish(kind, address, message, why.append)
        if outcome is not Delivered.RETURNED:
            for reason in why:
                tell(reason)
            return outcome
        self._kinds.forget(address)
        return None

    async def _search(self, address: bytes, message: Message, tell: Tell) -> Delivered:
        """Find out what an address is. One message at a time does so, so that they keep their order."""
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
        outcome = await self._try(AddressKind.QUEUE, address, message, why.append)
        if outcome is Delivered.RETURNED and await self._is_exchange(address):
            return await self._try(
                AddressKind.EXCHANGE, address, message, lambda reason: tell(_explained(reason, _UNBOUND))
            )
        for reason in why:
            tell(_explained(reason, _NOWHERE) if outcome is Delivered.RETURNED else reason)
        return outcome

    async def _try(self, kind: AddressKind, address: bytes, message: Message, tell: Tell) -> Delivered:
        outcome = await self._publish(kind, address, message, tell)
        if outcome is Delivered.CONFIRMED:
            self._kinds.put(address, kind)
        return outcome

    async def _is_exchange(self, address: bytes) -> bool:
        if self._kinds.lacks(address):
            return False
        # If the broker refuses, the queue may exist, but we may not publish to it.
        found = await self._look_up(lambda channel: exchange_exists(channel, address), refused=False)
        if not found:
            self._kinds.absent(address)
        return found

    async def declare(self, queue: bytes) -> None:
        """See `IPublisher.declare`."""
        await self.ask(lambda protocol: need_queue(self._lookups, queue), refused=None)

    async def sift(self, queue: bytes, take: Take, at_most: int | None = None) -> str | None:
        """See `IPublisher.sift`."""
        return await self._walks.sift(queue, take, at_most)

    async def audience(self, queue: str) -> Audience | None:
        """See `IPublisher.audience`."""
        name = queue.encode()
        if not 0 < len(name) <= MAX_SHORT_TEXT:
            return None
        question: Question[Audience | None] = partial(audience, queue=name)
        return await self._look_up(question, refused=None)

    async def _look_up(self, question: Question[T], refused: T) -> T:
        return await self.ask(lambda protocol: self._lookups.ask(question), refused)

    def spare_channel(self, protocol: AmqpProtocol) -> int:
        """Return the number of a channel that is not needed otherwise. Raises `NoChannel`.

        Only for this package.
        """
        if self._budget.most <= len(Role):
            raise NoChannel("the broker allows our user no more channels")
        return protocol.free_channel(above=len(Role))

    def _usable(self) -> AmqpProtocol | None:
        return self._protocol if self._protocol is not None and self._protocol.usable else None

    async def ask(self, ask: Callable[[AmqpProtocol], Awaitable[T]], refused: T) -> T:
        """Ask the broker, and again on each new connection, until it answers or closes the channel.

        Only for this package. Returns ``refused`` if the broker closes the channel or allows none, or after
        `stop`.
        """
        while not self._stopped:
            protocol = self._usable()
            if protocol is None:
                connected: Deferred[None] = Deferred(self._connected.remove)
                self._connected.append(connected)
                await connected
                continue
            try:
                return await ask(protocol)
            except (ChannelClosed, NoChannel):
                return refused
            except Closed:
                # RabbitMQ 4 fails internally, and closes the connection, when asked for some strange names.
                if protocol is self._usable() or (protocol.reason or "").startswith(INTERNAL_ERROR):
                    return refused
        return refused


def _explained(reason: str, meaning: str) -> str:
    """Return why a message was not routed. Without the right to publish, no queue was looked for."""
    return reason if reason.startswith(f"{ACCESS_REFUSED} ") else f"{reason}: {meaning}"
