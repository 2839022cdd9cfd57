"""The brokers for the contract of consumer and publisher: RabbitMQ and the simulated one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar, cast

from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from zope.interface import implementer

from tefmanager.amqp.consumer import Consumer
from tefmanager.amqp.publisher import Publisher
from tefmanager.amqp.topology import Topology
from tefmanager.interfaces.amqp import Delivery, IConsumer, IDeliveries, IPublisher
from tefmanager.support.lease import Lease
from tests.integration.amqp_support import (
    PATIENCE,
    endpoint_of,
    foreign_channel,
    rabbitmqctl,
    the_reactor,
    until,
)
from tests.services import Services
from tests.simulation.broker import Broker
from tests.simulation.links import SimConsumer, SimPublisher
from tests.simulation.observer import Observer
from tests.simulation.world import Process, World

T = TypeVar("T")


@implementer(IDeliveries)
class Inbox:
    """Keeps a consumer's deliveries."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.lost: list[int] = []

    def delivered(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    def session_lost(self, session: int, reason: str) -> None:
        self.lost.append(session)

    def of(self, session: int) -> list[Delivery]:
        """Return the deliveries of a session."""
        return [delivery for delivery in self.deliveries if delivery.session == session]

    @property
    def bodies(self) -> list[bytes]:
        """The bodies, in order."""
        return [delivery.body for delivery in self.deliveries]


class Twin(Protocol):
    """A broker, seen from outside.

    Attributes:
        consumer, publisher: those under test; not started.
        queue: the consumer's queue; the names of other queues must begin with its name.
    """

    consumer: IConsumer
    publisher: IPublisher
    queue: str

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until a condition holds."""

    async def pause(self) -> None:
        """Give something that must not happen time to happen."""

    async def end(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        """Return the result of a coroutine."""

    def declare(self, queue: str) -> None:
        """Declare a queue."""

    def delete(self, queue: str) -> None:
        """Delete a queue."""

    def bind(self, exchange: str, queue: str) -> None:
        """Declare an exchange, and bind a queue to it."""

    def put(self, queue: str, *bodies: bytes) -> None:
        """Put messages into a queue, and return when they are there."""

    def consume(self, queue: str) -> None:
        """Start a consumer that takes one message of a queue and does not acknowledge it."""

    def go(self) -> None:
        """End that consumer, as if its process had been killed."""

    def waiting(self, queue: str) -> int | None:
        """Return how many messages wait in a queue; None if it does not exist."""

    def take(self, queue: str) -> list[bytes]:
        """Take all waiting messages out of a queue, which must exist."""

    def break_connections(self) -> None:
        """Break the connections of consumer and publisher."""

    async def block(self) -> None:
        """Block the broker, and return when it accepts no more messages."""

    async def unblock(self) -> None:
        """Let the broker accept messages again."""


class SimTwin:
    """The simulated broker, in which time passes only while a test waits."""

    def __init__(self) -> None:
        self.queue = "in"
        self._world = World(1)
        self._broker = Broker(self._world)
        self._process = Process(self._world, "manager")
        observer = Observer({}, lambda: self._world.time, self.queue)
        observer.crowned(self._process.name)
        self.consumer: IConsumer = SimConsumer(self._broker, self._process, self.queue)
        self.publisher: IPublisher = SimPublisher(self._broker, self._process, Lease.unlimited(), observer)

    async def until(self, true: Callable[[], object]) -> None:
        until = self._world.time + PATIENCE
        while not true():
            assert self._world.time < until, "waited in vain"
            self._world.run(0.001)

    async def pause(self) -> None:
        self._world.run(1.0)

    async def end(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        ended = Deferred.fromCoroutine(coroutine)
        await self.until(lambda: ended.called)
        return await ended

    def declare(self, queue: str) -> None:
        self._broker.declare(queue)

    def delete(self, queue: str) -> None:
        self._broker.delete(queue)

    def bind(self, exchange: str, queue: str) -> None:
        self._broker.bindings[exchange] = queue

    def put(self, queue: str, *bodies: bytes) -> None:
        for body in bodies:
            assert self._broker.put(queue, body)

    def consume(self, queue: str) -> None:
        self._attends = True
        self._broker.attend(queue, lambda: self._attends)
        self._broker.queues[queue].popleft()

    def go(self) -> None:
        self._attends = False

    def waiting(self, queue: str) -> int | None:
        messages = self._broker.queues.get(queue)
        return None if messages is None else len(messages)

    def take(self, queue: str) -> list[bytes]:
        messages = self._broker.queues[queue]
        bodies = [message.body for message in messages]
        messages.clear()
        return bodies

    def break_connections(self) -> None:
        self._broker.break_links()

    async def block(self) -> None:
        self._broker.block()

    async def unblock(self) -> None:
        self._broker.unblock()


class RealTwin:
    """RabbitMQ, and a synchronous client of another project."""

    def __init__(self, services: Services, unique: str, channel: BlockingChannel) -> None:
        self.queue = f"{unique}.in"
        self._services = services
        self._channel = channel
        dead, rejected = f"{unique}.dead", f"{unique}.rejected"
        self._names = [self.queue, dead, rejected]
        self._exchanges = [f"{unique}.events"]
        topology = Topology(self.queue, dead, rejected, self._exchanges[0])
        endpoints = [endpoint_of(services)]
        self.consumer: IConsumer = Consumer(the_reactor(), endpoints, topology)
        self.publisher: IPublisher = Publisher(the_reactor(), endpoints)

    async def until(self, true: Callable[[], object]) -> None:
        await until(true)

    async def pause(self) -> None:
        waited: Deferred[None] = Deferred()
        the_reactor().callLater(0.3, waited.callback, None)
        await waited

    async def end(self, coroutine: Coroutine[Deferred[Any], Any, T]) -> T:
        return await Deferred.fromCoroutine(coroutine).addTimeout(PATIENCE, the_reactor())

    def declare(self, queue: str) -> None:
        self._names.append(queue)
        self._channel.queue_declare(queue, durable=True)

    def delete(self, queue: str) -> None:
        self._channel.queue_delete(queue)

    def bind(self, exchange: str, queue: str) -> None:
        self._exchanges.append(exchange)
        self._channel.exchange_declare(exchange, "fanout")
        self._channel.queue_bind(queue, exchange)

    def put(self, queue: str, *bodies: bytes) -> None:
        for body in bodies:
            self._channel.basic_publish("", queue, body)
        self.waiting(queue)  # an answer on this channel comes after everything sent on it

    def consume(self, queue: str) -> None:
        self._other = self._channel.connection.channel()
        self._other.basic_qos(prefetch_count=1)
        self._other.basic_consume(queue, lambda *found: None)

    def go(self) -> None:
        self._other.close()

    def waiting(self, queue: str) -> int | None:
        try:
            return int(self._channel.queue_declare(queue, passive=True).method.message_count)
        except ChannelClosedByBroker:
            self._channel = self._channel.connection.channel()
            return None

    def take(self, queue: str) -> list[bytes]:
        bodies = []
        while (body := self._channel.basic_get(queue, auto_ack=True)[2]) is not None:
            bodies.append(body)
        return bodies

    def break_connections(self) -> None:
        for ours in (cast(Consumer, self.consumer), cast(Publisher, self.publisher)):
            protocol = ours._link._protocol
            if protocol is not None:
                protocol.transport.abortConnection()

    async def block(self) -> None:
        await self._control("set_vm_memory_high_watermark", "absolute", "1")
        # The command returns before all connections have been told.
        for _ in range(60):
            states = await self._control("list_connections", "state", "--no-table-headers")
            if set(states.split()) <= {"blocking", "blocked"}:
                return
        raise AssertionError("the broker does not block")

    async def _control(self, *arguments: str) -> str:
        """Run rabbitmqctl, which takes seconds: the reactor must answer heartbeats meanwhile."""
        return await deferToThread(rabbitmqctl, self._services, *arguments)

    async def unblock(self) -> None:
        await self._control("set_vm_memory_high_watermark", "0.4")

    def clean(self) -> None:
        """Remove everything that was created."""
        for queue in self._names:
            self._channel.queue_delete(queue)
        for exchange in self._exchanges:
            self._channel.exchange_delete(exchange)


@contextmanager
def real_twin(services: Services, unique: str) -> Iterator[RealTwin]:
    """Yield RabbitMQ, and clean it up."""
    with foreign_channel(services) as channel:
        twin = RealTwin(services, unique, channel)
        try:
            yield twin
        finally:
            twin.clean()
