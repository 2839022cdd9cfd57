"""Shared by the tests with a real RabbitMQ: another client, the broker's own tool, waiting."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ParamSpec

import pika
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from tefmanager.amqp.connection import LinkState
from tefmanager.amqp.consumer import Consumer
from tefmanager.amqp.publisher import Publisher
from tefmanager.amqp.topology import Topology
from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.interfaces.amqp import Delivery, IDeliveries
from tests.services import Services

PATIENCE = 45.0
"""Seconds to wait for what others do before a test fails."""


P = ParamSpec("P")


def awaited(test: Callable[P, Coroutine[Deferred[Any], Any, None]]) -> Callable[P, Deferred[None]]:
    """Turn a coroutine function into a test. A typed version of pytest-twisted's ``ensureDeferred``."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> Deferred[None]:
        return Deferred.fromCoroutine(test(*args, **kwargs))

    return run


def the_reactor() -> Any:
    """Return the reactor, which is installed only when the tests begin."""
    from twisted.internet import reactor

    return reactor


async def until(true: Callable[[], object]) -> None:
    """Wait until a condition holds that something else fulfils."""
    deadline = the_reactor().seconds() + PATIENCE
    while not true():
        assert the_reactor().seconds() < deadline, "waited in vain"
        await deferLater(the_reactor(), 0.01, lambda: None)


def endpoint_of(services: Services, **changes: Any) -> AmqpEndpoint:
    """Return the sandbox's broker, with changes."""
    return AmqpEndpoint(**{"port": services.sandbox.rabbitmq.port, **changes})


def topology_of(unique: str, *bindings: tuple[str, str]) -> Topology:
    """Return names that no other test uses."""
    return Topology(
        f"{unique}.in", f"{unique}.dead", f"{unique}.rejected", f"{unique}.events", bindings=bindings
    )


@contextmanager
def foreign_channel(services: Services) -> Iterator[BlockingChannel]:
    """Yield a channel of another client, which uses pika."""
    connection = pika.BlockingConnection(pika.URLParameters(services.amqp_url + "%2f"))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def rabbitmqctl(services: Services, *arguments: str) -> str:
    """Run the broker's tool and return its output."""
    broker = services.sandbox.rabbitmq
    own = {"HOME": str(broker.folder), "RUNNING_UNDER_SYSTEMD": ""}
    environment = {**os.environ, **broker.environment(), **own}
    program, node = "/usr/lib/rabbitmq/bin/rabbitmqctl", broker.node
    done = subprocess.run(
        [program, "-q", "-n", node, *arguments], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def largest_message(services: Services, size: int) -> Iterator[None]:
    """Set the broker's largest message for a while; channels read it when they are opened."""
    change = "application:set_env(rabbit, max_message_size, {}).".format
    before = rabbitmqctl(services, "eval", "rabbit_misc:get_env(rabbit, max_message_size, 0).").strip()
    rabbitmqctl(services, "eval", change(size))
    try:
        yield
    finally:
        rabbitmqctl(services, "eval", change(before))


class States:
    """Records the states that a connection reported."""

    def __init__(self) -> None:
        self.seen: list[tuple[LinkState, str]] = []

    def __call__(self, state: LinkState, detail: str) -> None:
        self.seen.append((state, detail))

    def count(self, state: LinkState) -> int:
        """Return how often a state was reported."""
        return sum(1 for seen, _ in self.seen if seen is state)

    def details(self, state: LinkState) -> str:
        """Return all details reported with a state."""
        return "\n".join(detail for seen, detail in self.seen if seen is state)


@implementer(IDeliveries)
class Inbox:
    """Keeps the consumer's deliveries."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self.lost: list[tuple[int, str]] = []

    def delivered(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)

    def session_lost(self, session: int, reason: str) -> None:
        self.lost.append((session, reason))

    @property
    def bodies(self) -> list[bytes]:
        """The bodies, in order."""
        return [delivery.body for delivery in self.deliveries]

    async def wait(self, count: int) -> list[Delivery]:
        """Wait for so many deliveries in total, and return them."""
        await until(lambda: len(self.deliveries) >= count)
        return self.deliveries


@asynccontextmanager
async def starting(
    endpoints: list[AmqpEndpoint], topology: Topology, **options: Any
) -> AsyncIterator[tuple[Consumer, Inbox, States]]:
    """Run a consumer that may not have connected yet."""
    inbox, states = Inbox(), States()
    consumer = Consumer(the_reactor(), endpoints, topology, on_state=states, **options)
    consumer.start(inbox)
    try:
        yield consumer, inbox, states
    finally:
        await consumer.stop()


@asynccontextmanager
async def consuming(
    endpoint: AmqpEndpoint, topology: Topology, **options: Any
) -> AsyncIterator[tuple[Consumer, Inbox, States]]:
    """Run a consumer that has connected once."""
    async with starting([endpoint], topology, **options) as (consumer, inbox, states):
        await until(lambda: states.count(LinkState.CONNECTED))
        yield consumer, inbox, states


@asynccontextmanager
async def publishing(endpoint: AmqpEndpoint, **options: Any) -> AsyncIterator[tuple[Publisher, States]]:
    """Run a publisher."""
    states = States()
    publisher = Publisher(the_reactor(), [endpoint], on_state=states, **options)
    publisher.start(lambda: states(LinkState.UNBLOCKED, "told"))
    try:
        yield publisher, states
    finally:
        await publisher.stop()


def later(coroutine: Any) -> Deferred[Any]:
    """Run a coroutine concurrently."""
    return Deferred.fromCoroutine(coroutine)
