"""The dead queue of a real RabbitMQ: what is taken out of it, and that nothing else is lost."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import NackError
from twisted.internet.defer import gatherResults

from tefmanager.amqp.connection import LinkState
from tefmanager.amqp.deadqueue import MARK, PREFETCH
from tefmanager.interfaces.amqp import Lying, Message, Take
from tests.integration.amqp_support import (
    awaited,
    endpoint_of,
    foreign_channel,
    later,
    publishing,
    until,
)
from tests.services import Services

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 2}
"""A queue that drops what was given back more than twice."""

UNREADABLE = b"\0\0\0\x08\x02\xff\xfeI\0\0\0\1"
"""Headers with a name that is not UTF-8."""

ATTEMPTS = [
    {"number": 1, "worker": "w", "end": "offline", "dispatched": 1, "started": None, "ended": 2**40}
]


def wanted(*guids: str) -> Take:
    """Return what takes the messages of these guids."""
    return lambda lying: (lying.headers or {}).get("x-tef-guid") in guids


def shower(shown: list[Lying]) -> Take:
    """Return what takes nothing, and lists what it is shown."""

    def look(lying: Lying) -> bool:
        shown.append(lying)
        return False

    return look


def dead_letter(channel: BlockingChannel, queue: str, *guids: str) -> None:
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


@pytest.mark.parametrize("arguments", [{}, QUORUM], ids=["classic", "quorum"])
@awaited
async def test_what_is_passed_over_stays(
    services: Services, unique: str, arguments: dict[str, Any]
) -> None:
    """However often somebody looks, no message is lost or altered, also where the broker counts that."""
    guids = [f"task-{number}" for number in range(PREFETCH + 5)]
    dead = f"{unique}.dead"
    with foreign_channel(services) as channel:
        channel.queue_declare(dead, durable=True, arguments=arguments)
        dead_letter(channel, dead, *guids)
        async with publishing(endpoint_of(services)) as (publisher, _):
            shown: list[Lying] = []
            for _ in range(6):
                shown.clear()
                assert await publisher.sift(dead.encode(), shower(shown)) is None
                assert sorted(str((lying.headers or {})["x-tef-guid"]) for lying in shown) == sorted(guids)
            assert await publisher.sift(dead.encode(), wanted(guids[7])) is None
        found = await take(channel, dead, len(guids) - 1)
        channel.queue_delete(dead)
    assert sorted(found) == sorted({*guids} - {guids[7]})
    for guid, properties in found.items():
        assert properties.headers["x-tef-guid"] == guid
        assert properties.headers["x-tef-attempts"] == ATTEMPTS
        assert (properties.content_type, properties.delivery_mode) == ("application/octet-stream", 2)


@awaited
async def test_only_the_first_messages(services: Services, unique: str) -> None:
    """Who wants to see a few is not shown all; others come the next time."""
    dead = f"{unique}.dead"
    with foreign_channel(services) as channel:
        channel.queue_declare(dead, durable=True)
        dead_letter(channel, dead, *"abcde")
        async with publishing(endpoint_of(services)) as (publisher, _):
            seen: set[object] = set()
            for _ in range(3):
                shown: list[object] = []

                def look(lying: Lying, shown: list[object] = shown) -> bool:
                    shown.append((lying.headers or {})["x-tef-guid"])
                    return False

                assert await publisher.sift(dead.encode(), look, at_most=2) is None
                assert 2 <= len(shown) <= 4
                seen.update(shown)
            assert seen == {*"abcde"}
        assert sorted(await take(channel, dead, 5)) == [*"abcde"]
        channel.queue_delete(dead)


@awaited
async def test_several_at_once(services: Services, unique: str) -> None:
    """Those who are at the queue at the same moment hide nothing from each other."""
    guids = [f"task-{number}" for number in range(10)]
    dead = f"{unique}.dead"
    with foreign_channel(services) as channel:
        channel.queue_declare(dead, durable=True)
        dead_letter(channel, dead, *guids)
        async with publishing(endpoint_of(services)) as (publisher, _):
            walks = [later(publisher.sift(dead.encode(), wanted(guid))) for guid in [*guids, "?"]]
            assert await gatherResults(walks) == [None] * 11
        assert channel.queue_delete(dead).method.message_count == 0


@awaited
async def test_somebody_else_at_the_queue(services: Services, unique: str) -> None:
    """What another consumer takes meanwhile lets nothing be shown twice, or be taken for a second copy."""
    guids = [f"task-{number}" for number in range(50)]
    dead = f"{unique}.dead"
    with foreign_channel(services) as channel:
        channel.queue_declare(dead, durable=True)
        dead_letter(channel, dead, *guids)
        async with publishing(endpoint_of(services)) as (publisher, _):
            shown: list[object] = []
            held: list[Any] = []

            def look(lying: Lying) -> bool:
                shown.append((lying.headers or {})["x-tef-guid"])
                if len(held) < 20:
                    held.append(channel.basic_get(dead))
                return False

            await publisher.sift(dead.encode(), look)
        assert len(shown) == len(set(shown))
        for method, _, _ in held:
            if method is not None:
                channel.basic_nack(method.delivery_tag)
        assert sorted(await take(channel, dead, len(guids))) == sorted(guids)
        channel.queue_delete(dead)


@awaited
async def test_a_queue_that_takes_nothing_back(services: Services, unique: str) -> None:
    """What can't be put back stays where it is, and who wanted to look is told."""
    dead = f"{unique}.dead"
    with foreign_channel(services) as channel:
        channel.queue_declare(
            dead, durable=True, arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
        )
        dead_letter(channel, dead, "a", "b")
        channel.confirm_delivery()
        others = (f"other-{number}" for number in count())
        async with publishing(endpoint_of(services)) as (publisher, _):

            def look(lying: Lying) -> bool:
                with pytest.raises(NackError):  # somebody else is quicker, and fills it
                    for other in others:
                        dead_letter(channel, dead, other)
                return False

            reason = await publisher.sift(dead.encode(), look)
            assert reason is not None
            assert reason.startswith("a message was nacked")
        found = await take(channel, dead, 2)
        assert {"a", "b"} <= set(found)
        channel.queue_delete(dead)


@awaited
async def test_without_a_queue(services: Services, unique: str) -> None:
    """Where there is none, nothing is in it, and the connection lives on."""
    async with publishing(endpoint_of(services)) as (publisher, states):
        for _ in range(2):
            assert await publisher.sift(f"{unique}.dead".encode(), wanted("a")) is None
        assert states.count(LinkState.LOST) == 0


@awaited
async def test_messages_of_others(services: Services, unique: str) -> None:
    """What is no task at all, or has headers that hardly anybody can read, is shown, and stays as it is."""
    dead = f"{unique}.dead"
    with foreign_channel(services) as channel:
        channel.queue_declare(dead, durable=True)
        for body in (body_of("a"), b"\xff no JSON", b"[]", b""):
            channel.basic_publish("", dead, body, pika.BasicProperties(headers={"CC": ["elsewhere"]}))
        async with publishing(endpoint_of(services)) as (publisher, _):
            await publisher.send(dead.encode(), Message(b"names", original=UNREADABLE))
            shown: list[Lying] = []
            for _ in range(2):
                shown.clear()
                assert await publisher.sift(dead.encode(), shower(shown)) is None
            bodies = [lying.body for lying in shown]
            assert bodies == [body_of("a"), b"\xff no JSON", b"[]", b"", b"names"]
        left = [channel.basic_get(dead, auto_ack=True) for _ in range(6)]
        assert [body for _, _, body in left] == [*bodies, None]
        assert {*left[0][1].headers} == {"x-tef-cc", MARK}
        channel.queue_delete(dead)


@awaited
async def test_a_lost_connection(services: Services, unique: str) -> None:
    """Who wanted to look is told; nothing is lost."""
    guids = [f"task-{number}" for number in range(3 * PREFETCH)]
    dead = f"{unique}.dead"
    with foreign_channel(services) as channel:
        channel.queue_declare(dead, durable=True)
        dead_letter(channel, dead, *guids)
        async with publishing(endpoint_of(services)) as (publisher, states):
            await until(lambda: states.count(LinkState.CONNECTED))

            def look(lying: Lying) -> bool:
                if (lying.headers or {})["x-tef-guid"] == guids[PREFETCH + 1]:
                    assert publisher._protocol is not None
                    publisher._protocol.transport.abortConnection()
                return False

            assert await publisher.sift(dead.encode(), look) is not None
            await until(lambda: depth(channel, dead) >= len(guids))
        assert set(list_guids(channel, dead)) == set(guids)
        channel.queue_delete(dead)


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
