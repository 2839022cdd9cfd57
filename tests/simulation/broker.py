"""RabbitMQ, simulated: durable queues, redelivery in order, confirms, lost connections."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tefmanager.interfaces import Delivered, Delivery, IConsumer, IDeliveries, IPublisher, Message
from tests.simulation.world import Process, World

NEAR = (0.0005, 0.005)
"""Seconds that a message is under way."""


@dataclass(frozen=True)
class Stored:
    """A message in a queue."""

    body: bytes
    redelivered: bool = False


class Broker:
    """Queues, and who is told when something comes into them.

    Attributes:
        queues: messages by queue; a queue that is not there cannot be published to.
        up: False while nobody can connect.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = True
        self.queues: dict[str, deque[Stored]] = {}
        self._watchers: dict[str, list[Callable[[], None]]] = {}
        self._links: list[SimConsumer | SimPublisher] = []

    def declare(self, queue: str) -> None:
        """Make a durable queue."""
        self.queues.setdefault(queue, deque())

    def put(self, queue: str, body: bytes) -> bool:
        """Take a message; False where there is no such queue."""
        if queue not in self.queues:
            return False
        self.queues[queue].append(Stored(body))
        self.changed(queue)
        return True

    def give_back(self, queue: str, messages: Sequence[Stored]) -> None:
        """Put unacknowledged messages back to where they were."""
        self.queues[queue].extendleft(replace(message, redelivered=True) for message in reversed(messages))
        self.changed(queue)

    def watch(self, queue: str, call: Callable[[], None]) -> None:
        """Call something whenever a queue may have something new."""
        self._watchers.setdefault(queue, []).append(call)

    def changed(self, queue: str) -> None:
        """Tell those who watch a queue."""
        for call in self._watchers.get(queue, []):
            call()

    def attach(self, link: SimConsumer | SimPublisher) -> None:
        """Note a manager's connection, so that it can be broken."""
        self._links.append(link)

    def stop(self) -> None:
        """Go away; everything durable stays."""
        self.up = False
        self.break_links()

    def start(self) -> None:
        """Come back."""
        self.up = True

    def break_links(self) -> None:
        """Break every connection of the managers."""
        for link in self._links:
            link.broken()

    def break_one(self) -> None:
        """Break one of them."""
        if self._links:
            self.world.chance.choice(self._links).broken()


@implementer(IConsumer)
class SimConsumer:
    """A manager's consuming connection."""

    def __init__(self, broker: Broker, process: Process, queue: str, prefetch: int = 20) -> None:
        self._broker = broker
        self._process = process
        self._queue = queue
        self._prefetch = prefetch
        self._deliveries: IDeliveries | None = None
        self._session = 0
        self._connected = False
        self._tag = 0
        self._unacked: OrderedDict[int, Stored] = OrderedDict()
        broker.attach(self)
        broker.watch(queue, self._pump)
        process.deaths.append(self.broken)

    def start(self, deliveries: IDeliveries) -> None:
        """See `IConsumer.start`."""
        self._deliveries = deliveries
        self._process.later(0.01, 0.1, self._connect)

    def _connect(self) -> None:
        if self._deliveries is None or self._connected:
            return
        if not self._broker.up:
            self._process.later(0.1, 2.0, self._connect)
            return
        self._broker.declare(self._queue)
        self._connected = True
        self._session += 1
        self._tag = 0
        self._pump()

    def cease(self) -> None:
        """See `IConsumer.cease`."""
        self._prefetch = 0

    def _pump(self) -> None:
        queue = self._broker.queues.get(self._queue)
        while self._connected and queue and len(self._unacked) < self._prefetch:
            message = queue.popleft()
            self._tag += 1
            self._unacked[self._tag] = message
            delivery = Delivery(self._session, self._tag, message.redelivered, message.body)
            self._process.in_order(self, *NEAR, self._deliver, delivery)

    def _deliver(self, delivery: Delivery) -> None:
        if self._deliveries is not None and delivery.session == self._session and self._connected:
            self._deliveries.delivered(delivery)

    def ack(self, session: int, tags: Sequence[int]) -> None:
        """See `IConsumer.ack`."""
        self._broker.world.later(*NEAR, self._acked, session, tuple(tags))

    def _acked(self, session: int, tags: Sequence[int]) -> None:
        if session == self._session and self._connected:
            for tag in tags:
                del self._unacked[tag]
            self._pump()

    def broken(self) -> None:
        """The connection breaks; the manager finds out a little later than the broker."""
        if not self._connected:
            return
        self._drop()
        self._process.later(0.0, 0.05, self._lost, self._session)

    def _drop(self) -> None:
        self._connected = False
        unacked, self._unacked = list(self._unacked.values()), OrderedDict()
        self._broker.give_back(self._queue, unacked)

    def _lost(self, session: int) -> None:
        if self._deliveries is not None:
            self._deliveries.session_lost(session, "the connection broke")
            self._process.later(0.05, 1.0, self._connect)

    async def stop(self) -> None:
        """See `IConsumer.stop`."""
        deliveries, self._deliveries = self._deliveries, None
        if self._connected:
            self._drop()
            if deliveries is not None:
                deliveries.session_lost(self._session, "stopped")


@implementer(IPublisher)
class SimPublisher:
    """A manager's publishing connection."""

    def __init__(self, broker: Broker, process: Process) -> None:
        self._broker = broker
        self._process = process
        self._session = 0
        self._connected = False
        self._started = False
        self._waiting: list[Deferred[None]] = []
        self._open: list[Deferred[Delivered]] = []
        broker.attach(self)
        process.deaths.append(self._die)

    def start(self) -> None:
        """See `IPublisher.start`."""
        self._started = True
        self._process.later(0.01, 0.1, self._connect)

    def _connect(self) -> None:
        if not self._started or self._connected:
            return
        if not self._broker.up:
            self._process.later(0.1, 2.0, self._connect)
            return
        self._connected = True
        self._session += 1
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            if not each.called:
                each.callback(None)

    async def send(self, queue: bytes, message: Message) -> Delivered:
        """See `IPublisher.send`."""
        while not self._connected:
            if not self._started:
                return Delivered.LOST
            waiting: Deferred[None] = Deferred()
            self._waiting.append(waiting)
            await waiting
        answer: Deferred[Delivered] = Deferred(lambda _: None)
        self._open.append(answer)
        arrival = (self._session, queue.decode(), message.body, answer)
        self._process.in_order("to broker", *NEAR, self._arrive, *arrival)
        return await answer

    async def dispatch(self, address: str, message: Message) -> Delivered:
        """See `IPublisher.dispatch`."""
        return await self.send(address.encode(), message)

    def _arrive(self, session: int, queue: str, body: bytes, answer: Deferred[Delivered]) -> None:
        if session != self._session or not self._connected:
            return
        there = self._broker.put(queue, body)
        outcome = Delivered.CONFIRMED if there else Delivered.RETURNED
        self._process.in_order("from broker", *NEAR, self._confirm, session, answer, outcome)

    def _confirm(self, session: int, answer: Deferred[Delivered], outcome: Delivered) -> None:
        if session == self._session and self._connected:
            self._settle(answer, outcome)

    def _settle(self, answer: Deferred[Delivered], outcome: Delivered) -> None:
        if answer in self._open:
            self._open.remove(answer)
            if not answer.called:
                answer.callback(outcome)

    def broken(self) -> None:
        """The connection breaks: what was not confirmed may have arrived or not."""
        if self._connected:
            self._connected = False
            self._process.later(0.0, 0.05, self._lose, list(self._open))
            self._process.later(0.05, 1.0, self._connect)

    def _lose(self, answers: list[Deferred[Delivered]]) -> None:
        for answer in answers:
            self._settle(answer, Delivered.LOST)

    def _die(self) -> None:
        self._connected = False

    async def stop(self) -> None:
        """See `IPublisher.stop`."""
        self._started = False
        self._connected = False
        self._lose(list(self._open))
        for each in self._waiting:
            if not each.called:
                each.callback(None)
