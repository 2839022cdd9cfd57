"""Channels of a real RabbitMQ: few of them are enough, and what ends one concerns itself alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tefmanager.amqp import amqp_protocol
from tefmanager.amqp.budget import ChannelBudget
from tefmanager.amqp.connection import LinkState
from tefmanager.amqp.consumer import Consumer
from tefmanager.amqp.outlets import LARGE
from tefmanager.interfaces.amqp import Delivered, Message
from tests.integration.amqp_support import (
    Inbox,
    States,
    awaited,
    consuming,
    endpoint_of,
    foreign_channel,
    largest_message,
    later,
    publishing,
    rabbitmqctl,
    the_reactor,
    topology_of,
    until,
)
from tests.services import Services

CONFIRMED, RETURNED, REFUSED = Delivered.CONFIRMED, Delivered.RETURNED, Delivered.REFUSED


def forgive(failure: Failure) -> None:
    """Whoever was cancelled says so."""
    failure.trap(CancelledError)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 6, 2047])
@awaited
async def test_many_queues_gone(
    services: Services, unique: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few channels there are: what goes to a queue that is gone comes back, and others arrive."""
    monkeypatch.setattr(amqp_protocol, "MAX_CHANNELS", most)
    with foreign_channel(services) as channel:
        channel.queue_declare(unique)
        channel.exchange_declare(f"{unique}.exchange", "fanout")
        channel.queue_bind(unique, f"{unique}.exchange")
        async with publishing(endpoint_of(services), events=f"{unique}.events") as (publisher, states):
            gone = [later(publisher.dispatch(f"{unique}.{n}", Message(b"x"))) for n in range(100)]
            there = [later(publisher.dispatch(unique, Message(b"y"))) for _ in range(10)]
            answered = later(publisher.send(unique.encode(), Message(b"z" * LARGE)))
            assert set(await gatherResults(gone)) == {RETURNED}
            assert set(await gatherResults([*there, answered])) == {CONFIRMED}
            if most > 1:  # otherwise nobody can find out that it is one
                assert await publisher.dispatch(f"{unique}.exchange", Message(b"y")) is CONFIRMED
            assert states.count(LinkState.LOST) == 0


@awaited
async def test_no_channel_for_the_dead_queue(
    services: Services, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no channel left, who wants to look through the dead queue is told."""
    monkeypatch.setattr(amqp_protocol, "MAX_CHANNELS", 3)
    async with publishing(endpoint_of(services), events=f"{unique}.events") as (publisher, states):
        await until(lambda: states.count(LinkState.CONNECTED))
        reason = await publisher.sift(b"dead", lambda lying: False)
        assert reason is not None
        assert "no more than 3 channels" in reason


def asks(channel: BlockingChannel, queue: str, answers: list[bytes]) -> bytes:
    """Let a client ask for an answer without a queue, and return the name that RabbitMQ has made for it."""
    channel.queue_declare(queue)
    channel.basic_consume("amq.rabbitmq.reply-to", lambda *it: answers.append(it[-1]), auto_ack=True)
    asked = pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id="1")
    channel.basic_publish("", queue, b"question", asked)
    return str(channel.basic_get(queue, auto_ack=True)[1].reply_to).encode()


@pytest.fixture
def limited(services: Services, unique: str) -> Iterator[str]:
    """A user who may open few channels."""
    rabbitmqctl(services, "add_user", unique, "secret")
    rabbitmqctl(services, "set_permissions", unique, ".*", ".*", ".*")
    yield unique
    rabbitmqctl(services, "delete_user", unique)


@pytest.mark.parametrize("most", [2, 3, 5])
@awaited
async def test_limit_of_a_user(services: Services, limited: str, most: int) -> None:
    """Consumer and publisher share what a user may open, whoever comes first, and settle down."""
    rabbitmqctl(services, "set_user_limits", limited, json.dumps({"max-channels": most}))
    endpoint = endpoint_of(services, user=limited, password="secret")
    budget = ChannelBudget(the_reactor().seconds)
    inbox, states = Inbox(), States()
    topology = topology_of(limited, (f"{limited}.others", "task"))
    async with publishing(endpoint, events=f"{limited}.events", budget=budget) as (publisher, told):
        await until(lambda: told.count(LinkState.CONNECTED))
        consumer = Consumer(the_reactor(), [endpoint], topology, on_state=states, budget=budget)
        consumer.start(inbox)
        try:
            await until(lambda: states.count(LinkState.CONNECTED))
            for _ in range(3):  # what is lost while channels are given up is sent again by whoever cares
                await publisher.send(topology.in_queue.encode(), Message(b"x"))
            await inbox.wait(1)
            outcomes = [await publisher.dispatch(f"{limited}.nowhere", Message(b"x")) for _ in range(3)]
            assert outcomes[-1] is RETURNED
            lost = told.count(LinkState.LOST) + states.count(LinkState.LOST)
            await deferLater(the_reactor(), 1.0)
            assert told.count(LinkState.LOST) + states.count(LinkState.LOST) == lost <= 6
            with foreign_channel(services) as channel:
                assert await publisher.send(asks(channel, limited, []), Message(b"y")) is CONFIRMED
        finally:
            await consumer.stop()


@awaited
async def test_cancelled_lookups(services: Services, unique: str) -> None:
    """Who no longer waits for a look-up, at whatever moment, is in no other's way."""
    async with publishing(endpoint_of(services)) as (publisher, states):
        await until(lambda: states.count(LinkState.CONNECTED))
        for number in range(30):
            first = later(publisher.dispatch(f"{unique}.a{number}", Message(b"1")))
            first.addErrback(forgive)
            await deferLater(the_reactor(), 0.0003 * number)
            first.cancel()
            assert await publisher.dispatch(f"{unique}.b{number}", Message(b"2")) is RETURNED
        assert states.count(LinkState.LOST) == 0


@awaited
async def test_cancelled_walk_through_the_dead_queue(services: Services, unique: str) -> None:
    """Who no longer waits for the dead queue leaves no channel behind that another would run into."""
    async with publishing(endpoint_of(services)) as (publisher, states):
        await publisher.declare(queue := unique.encode())
        for number in range(20):
            assert await publisher.send(queue, Message(b"%d" % number)) is CONFIRMED
        for number in range(10):
            walk = later(publisher.sift(queue, lambda lying: False))
            walk.addErrback(forgive)
            await deferLater(the_reactor(), 0.002 * number)
            walk.cancel()
        assert await publisher.sift(queue, lambda lying: False) is None
        assert (states.count(LinkState.LOST), states.details(LinkState.CLOSED)) == (0, "")


@awaited
async def test_direct_reply(services: Services, unique: str) -> None:
    """An answer to a direct reply-to, which is no queue, arrives, and counts as arrived."""
    with foreign_channel(services) as channel:
        answers: list[bytes] = []
        asker = asks(channel, unique, answers)
        async with publishing(endpoint_of(services)) as (publisher, _):
            assert await publisher.send(asker, Message(b"answer")) is CONFIRMED
        await until(lambda: channel.connection.process_data_events(0) or answers == [b"answer"])


@pytest.mark.parametrize(
    "name", ["AAAA.BBB", "!!!.x", "g2EF.x", "g1h2AAtyZXBseUAxMjM0NQAAAfQAAAAAAAAAAQ==.x"]
)
@awaited
async def test_direct_reply_to_nobody(services: Services, unique: str, name: str) -> None:
    """A name that was made up, or whose node is gone, breaks RabbitMQ's connection: only that answer's."""
    nobody = f"amq.rabbitmq.reply-to.{name}".encode()
    with foreign_channel(services) as channel:
        answers: list[bytes] = []
        asker = asks(channel, unique, answers)
        async with publishing(endpoint_of(services)) as (publisher, states):
            why: list[str] = []
            bad = later(publisher.send(nobody, Message(b"answer"), why.append))
            good = later(publisher.send(asker, Message(b"answer")))
            dispatches = [later(publisher.dispatch(unique, Message(b"task"))) for _ in range(100)]
            assert await gatherResults(dispatches) == [CONFIRMED] * 100
            assert (await bad, why) == (Delivered.LOST, ["541 INTERNAL_ERROR"])
            assert await good is CONFIRMED
            assert states.count(LinkState.LOST) == 0
        await until(lambda: channel.connection.process_data_events(0) or answers == [b"answer"])


# --- what the broker finds too large ---


@pytest.fixture
def small_messages(services: Services) -> Iterator[int]:
    """The broker takes nothing over so many bytes."""
    with largest_message(services, 100_000):
        yield 100_000


@awaited
async def test_too_large(services: Services, unique: str, small_messages: int) -> None:
    """What is too large is refused with the broker's reason, also the next time; nothing else suffers."""
    with foreign_channel(services) as channel:
        channel.queue_declare(unique)
        async with publishing(endpoint_of(services)) as (publisher, states):
            why: list[str] = []
            large = Message(b"x" * (small_messages + 1))
            calls = []
            for _ in range(50):
                calls.append(later(publisher.dispatch(unique, Message(b"small"))))
                calls.append(later(publisher.send(unique.encode(), large, why.append)))
            outcomes = await gatherResults(calls)
            assert outcomes[::2] == [CONFIRMED] * 50
            assert outcomes[1::2] == [REFUSED] * 50
            size = f"message size {small_messages + 1} is larger than configured max size {small_messages}"
            assert len(why) == 50
            assert all(size in reason for reason in why)
            assert size in states.details(LinkState.CLOSED)
            assert await publisher.dispatch(unique, large) is REFUSED
            assert await publisher.dispatch(unique, Message(b"x" * small_messages)) is CONFIRMED
            assert states.count(LinkState.LOST) == 0


# --- what is optional ---


@awaited
async def test_optional_things(services: Services, unique: str) -> None:
    """Queues and exchanges that are not for us, or of another type, keep nobody from working."""
    user = f"{unique}.user"
    rabbitmqctl(services, "add_user", user, "secret")
    may = f"^{unique}\\.in$"
    rabbitmqctl(services, "set_permissions", user, may, f"{may}|^$", ".*")
    endpoint = endpoint_of(services, user=user, password="secret")
    topology = topology_of(unique, ("amq.fanout", "task"), (f"{unique}.not.ours", "task"))
    with foreign_channel(services) as channel:
        async with (
            publishing(endpoint, events=topology.events_exchange) as (publisher, told),
            consuming(endpoint, topology) as (_, inbox, states),
        ):
            await until(lambda: told.count(LinkState.CONNECTED))
            channel.basic_publish("", topology.in_queue, b"heard")
            await inbox.wait(1)
            publisher.announce("task.accepted", lambda: b"{}")
            assert states.count(LinkState.LOST) == 0
            assert told.count(LinkState.LOST) == 0
        channel.queue_delete(topology.in_queue)
    rabbitmqctl(services, "delete_user", user)


@awaited
async def test_events_exchange_of_another_type(services: Services, unique: str) -> None:
    """Events go to an exchange of the name, whatever its type."""
    topology = topology_of(unique)
    with foreign_channel(services) as channel:
        channel.exchange_declare(topology.events_exchange, "fanout")
        channel.queue_declare(f"{unique}.heard")
        channel.queue_bind(f"{unique}.heard", topology.events_exchange)
        async with (
            publishing(endpoint_of(services), events=topology.events_exchange) as (publisher, told),
            consuming(endpoint_of(services), topology) as (_, _, states),
        ):
            await until(lambda: told.count(LinkState.CONNECTED))
            publisher.announce("task.accepted", lambda: b"{}")
            await until(lambda: channel.basic_get(f"{unique}.heard", auto_ack=True)[2] == b"{}")
            assert states.count(LinkState.LOST) == told.count(LinkState.LOST) == 0
        for queue in (topology.in_queue, topology.dead_queue, topology.rejected_queue, f"{unique}.heard"):
            channel.queue_delete(queue)
        channel.exchange_delete(topology.events_exchange)


@awaited
async def test_events_exchange_that_takes_nothing(services: Services, unique: str) -> None:
    """Where an exchange was made for other exchanges only there are no events, and all else goes on."""
    with foreign_channel(services) as channel:
        channel.exchange_declare(f"{unique}.events", "topic", internal=True)
        channel.queue_declare(unique)
        async with publishing(endpoint_of(services), events=f"{unique}.events") as (publisher, told):
            await until(lambda: told.count(LinkState.CONNECTED))
            for _ in range(50):
                publisher.announce("task.accepted", lambda: b"{}")
                assert await publisher.dispatch(unique, Message(b"task")) is CONFIRMED
            assert told.count(LinkState.LOST) == 0
        channel.exchange_delete(f"{unique}.events")
