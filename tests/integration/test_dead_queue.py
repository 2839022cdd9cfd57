"""The dead queue of a real RabbitMQ: what is taken out of it, and that nothing else is lost."""

from __future__ import annotations

import json
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from tefmanager.amqp.connection import LinkState
from tefmanager.amqp.deadqueue import PREFETCH, DeadQueue
from tefmanager.amqp.publisher import Publisher
from tefmanager.interfaces import DeadQueueLost, IDeadQueue
from tests.integration.amqp_support import (
    awaited,
    endpoint_of,
    foreign_channel,
    later,
    publishing,
    the_reactor,
    until,
)
from tests.services import Services

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 2}
"""A queue that drops what was given back more than twice."""

ATTEMPTS = [
    {"number": 1, "worker": "w", "end": "offline", "dispatched": 1, "started": None, "ended": 2**40}
]


def bury(channel: BlockingChannel, queue: str, *guids: str) -> None:
    """Put dead tasks into a queue, as the manager does."""
    for guid in guids:
        headers: dict[str, Any] = {"x-tef-guid": guid, "x-tef-reason": "ü", "x-tef-attempts": ATTEMPTS}
        properties = pika.BasicProperties("application/octet-stream", delivery_mode=2, headers=headers)
        channel.basic_publish("", queue, body_of(guid), properties)


def body_of(guid: str) -> bytes:
    """Return a task's message, with what only bytes can hold."""
    return json.dumps({"type": "task", "task_type": "t", "guid": guid}).encode() + b"\n"


async def take(channel: BlockingChannel, queue: str, count: int) -> dict[str, Any]:
    """Wait until so many messages have come out of a queue; return their properties by guid.

    A quorum queue has back a moment later what was on its way to a channel that is closed.
    """
    found: dict[str, Any] = {}

    def enough() -> bool:
        while (one := channel.basic_get(queue, auto_ack=True))[0] is not None:
            guid = json.loads(one[2])["guid"]
            assert one[2] == body_of(guid)
            assert guid not in found
            found[guid] = one[1]
        return len(found) >= count

    await until(enough)
    return found


def dead_queue(publisher: Publisher, unique: str) -> DeadQueue:
    """Return what is under test; ``<unique>.dead`` is the queue, ``<unique>`` the manager's."""
    return DeadQueue(the_reactor(), publisher, f"{unique}.dead".encode(), unique.encode())


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
@awaited
async def test_what_is_passed_over_stays(
    services: Services, unique: str, arguments: dict[str, Any]
) -> None:
    """However often somebody looks, no message is lost or altered, also where the broker counts that."""
    guids = [f"task-{number}" for number in range(PREFETCH + 5)]
    with foreign_channel(services) as channel:
        channel.queue_declare(f"{unique}.dead", durable=True, arguments=arguments)
        bury(channel, f"{unique}.dead", *guids)
        async with publishing(endpoint_of(services)) as (publisher, _):
            dead = dead_queue(publisher, unique)
            for _ in range(6):
                assert not await dead.drop("somebody else")
            assert await dead.drop(guids[7])
            assert not await dead.drop(guids[7])
        found = await take(channel, f"{unique}.dead", len(guids) - 1)
        channel.queue_delete(f"{unique}.dead")
    assert sorted(found) == sorted({*guids} - {guids[7]})
    for guid, properties in found.items():
        assert properties.headers["x-tef-guid"] == guid
        assert properties.headers["x-tef-attempts"] == ATTEMPTS
        assert (properties.content_type, properties.delivery_mode) == ("application/octet-stream", 2)


@awaited
async def test_one_is_submitted_again(services: Services, unique: str) -> None:
    """It comes to the manager once and as it was, though it lay there twice."""
    with foreign_channel(services) as channel:
        for queue in (unique, f"{unique}.dead"):
            channel.queue_declare(queue, durable=True)
        bury(channel, f"{unique}.dead", "a", "b", "a")
        async with publishing(endpoint_of(services)) as (publisher, _):
            assert await dead_queue(publisher, unique).retry("a")
        assert list(await take(channel, f"{unique}.dead", 1)) == ["b"]
        [properties] = (await take(channel, unique, 1)).values()
        assert (properties.headers, properties.delivery_mode) == (None, 2)
        for queue in (unique, f"{unique}.dead"):
            channel.queue_delete(queue)


@awaited
async def test_several_at_once(services: Services, unique: str) -> None:
    """Those who are at the queue at the same moment hide nothing from each other."""
    guids = [f"task-{number}" for number in range(10)]
    with foreign_channel(services) as channel:
        channel.queue_declare(f"{unique}.dead", durable=True)
        bury(channel, f"{unique}.dead", *guids)
        async with publishing(endpoint_of(services)) as (publisher, _):
            dead = dead_queue(publisher, unique)
            found = await gatherResults([later(dead.drop(guid)) for guid in [*guids, "?"]])
        assert found == [True] * 10 + [False]
        assert channel.queue_delete(f"{unique}.dead").method.message_count == 0


@awaited
async def test_nowhere_to_go(services: Services, unique: str) -> None:
    """A task that can't be submitted, since the manager's queue is gone, is in the dead queue still."""
    with foreign_channel(services) as channel:
        channel.queue_declare(f"{unique}.dead", durable=True)
        bury(channel, f"{unique}.dead", "a", "b")
        async with publishing(endpoint_of(services)) as (publisher, _):
            with pytest.raises(DeadQueueLost):
                await dead_queue(publisher, unique).retry("b")
        assert sorted(await take(channel, f"{unique}.dead", 2)) == ["a", "b"]
        channel.queue_delete(f"{unique}.dead")


@awaited
async def test_without_a_queue(services: Services, unique: str) -> None:
    """Where there is none, no task is in it, and the connection lives on."""
    async with publishing(endpoint_of(services)) as (publisher, states):
        assert verifyObject(IDeadQueue, dead_queue(publisher, unique))
        for _ in range(2):
            assert not await dead_queue(publisher, unique).drop("a")
        assert states.count(LinkState.LOST) == 0


@awaited
async def test_messages_of_others(services: Services, unique: str) -> None:
    """What has no header is known by its body; what is no task at all stays as it is."""
    with foreign_channel(services) as channel:
        channel.queue_declare(f"{unique}.dead", durable=True)
        for body in (body_of("a"), b"\xff no JSON", b"[]"):
            channel.basic_publish("", f"{unique}.dead", body)
        async with publishing(endpoint_of(services)) as (publisher, _):
            assert await dead_queue(publisher, unique).drop("a")
        left = [channel.basic_get(f"{unique}.dead", auto_ack=True)[2] for _ in range(3)]
        assert left == [b"\xff no JSON", b"[]", None]
        channel.queue_delete(f"{unique}.dead")


@awaited
async def test_a_lost_connection(services: Services, unique: str) -> None:
    """It is done on the next one, or told: nothing is lost, and nothing is submitted twice."""
    guids = [f"task-{number}" for number in range(300)]
    with foreign_channel(services) as channel:
        for queue in (unique, f"{unique}.dead"):
            channel.queue_declare(queue, durable=True)
        bury(channel, f"{unique}.dead", *guids)
        async with publishing(endpoint_of(services)) as (publisher, states):
            await until(lambda: states.count(LinkState.CONNECTED))
            retrying = later(dead_queue(publisher, unique).retry(guids[-1]))
            await until(lambda: depth(channel, f"{unique}.dead") < len(guids))
            assert publisher._protocol is not None
            publisher._protocol.transport.abortConnection()
            try:
                done = await retrying
            except DeadQueueLost:
                done = False
        left, again = list_guids(channel, f"{unique}.dead"), list_guids(channel, unique)
        for queue in (unique, f"{unique}.dead"):
            channel.queue_delete(queue)
    assert set(left) | set(again) == set(guids)
    assert again == ([guids[-1]] if done else [])


def depth(channel: BlockingChannel, queue: str) -> int:
    """Return how many messages are ready in a queue."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def list_guids(channel: BlockingChannel, queue: str) -> list[str]:
    """Take all messages out of a queue, and return their guids."""
    found: list[str] = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        found.append(json.loads(body)["guid"])
