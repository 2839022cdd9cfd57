"""The consumer against a real RabbitMQ, fed by a client that is not ours."""

from __future__ import annotations

import datetime
import struct
from decimal import Decimal

import pika
import pytest
from twisted.internet.threads import deferToThread

from tefmanager.amqp.codec import Timestamp, decode_table
from tefmanager.amqp.connection import LinkState
from tefmanager.amqp.consumer import Consumer
from tefmanager.amqp.frames import ack_frames
from tefmanager.config.endpoints import AmqpEndpoint
from tests.integration.amqp_support import (
    Inbox,
    awaited,
    consuming,
    endpoint_of,
    foreign_channel,
    rabbitmqctl,
    starting,
    the_reactor,
    topology_of,
    until,
)
from tests.services import Services

BODIES = [
    b"",
    b"\xff\xfe\x00 not UTF-8",
    "ä€😀".encode(),
    b"x" * 10_000_000,
    ("€" * 100_000).encode(),  # three bytes each: cut by every frame's end
    b"x" * 131064,
    b"x" * 131065,
]


@awaited
async def test_bodies(services: Services, unique: str) -> None:
    """Bodies of any size and kind arrive byte for byte, in order."""
    topology = topology_of(unique)
    async with consuming(endpoint_of(services), topology) as (consumer, inbox, _):
        with foreign_channel(services) as channel:
            for body in BODIES:
                channel.basic_publish("", topology.in_queue, body)
        deliveries = await inbox.wait(len(BODIES))
        assert inbox.bodies == BODIES
        assert [delivery.tag for delivery in deliveries] == list(range(1, len(BODIES) + 1))
        consumer.ack(deliveries[0].session, [delivery.tag for delivery in deliveries])
    with foreign_channel(services) as channel:
        assert channel.queue_declare(topology.in_queue, passive=True).method.message_count == 0


HEADERS = {
    "text": "€",
    "true": True,
    "small": -1,
    "large": -(2**40),
    "decimal": Decimal("1.25"),
    "bytes": b"\xff",
    "none": None,
    "list": [1, "a", [None]],
    "table": {"a": {"b": 1}},
}


@awaited
async def test_headers(services: Services, unique: str) -> None:
    """Headers of every type that a common client sends are read; properties arrive as they were sent."""
    topology = topology_of(unique)
    when = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    properties = pika.BasicProperties(
        content_type="application/json",
        content_encoding="utf-8",
        headers={**HEADERS, "date": when},
        delivery_mode=2,
        priority=3,
        correlation_id="corr",
        reply_to="réply",
        expiration="60000",
        message_id="m",
        timestamp=1,
        type="t",
        app_id="a",
    )
    async with consuming(endpoint_of(services), topology) as (_, inbox, _):
        with foreign_channel(services) as channel:
            channel.basic_publish("", topology.in_queue, b"{}", properties)
            channel.basic_publish("", topology.in_queue, b"{}")
        full, bare = await inbox.wait(2)
    assert (full.content_type, full.correlation_id, full.reply_to) == (
        b"application/json",
        b"corr",
        "réply".encode(),
    )
    assert full.headers is not None
    assert decode_table(full.headers) == {**HEADERS, "date": Timestamp(1577836800)}
    assert (bare.content_type, bare.correlation_id, bare.reply_to, bare.headers) == (None,) * 4


RAW_TABLES = {
    "bunny's": b"\x01bb\xff\x01ss\x00\x01\x01ll"
    + b"\x00" * 8
    + b"\x01dd"
    + b"\x00" * 8
    + b"\x01VV\x01tt\x01",
    "unsigned": b"\x01BB\xff\x01uu\xff\xff\x01ii\xff\xff\xff\xff\x01LL" + b"\xff" * 8,
    "key not UTF-8": b"\x02\xff\xfeV",
    "text not UTF-8": b"\x01kS\x00\x00\x00\x02\xff\xfe",
    "same key twice": b"\x01kV\x01kV",
}


@awaited
async def test_raw_headers(services: Services, unique: str) -> None:
    """Tables made by hand, as strange as the broker lets pass, cost neither message nor connection."""
    topology = topology_of(unique)
    async with consuming(endpoint_of(services), topology) as (_, inbox, states):
        with foreign_channel(services) as channel:
            for fields in RAW_TABLES.values():
                _publish_raw(channel, topology.in_queue, struct.pack(">I", len(fields)) + fields)
            channel.basic_publish("", topology.in_queue, b"last")
        await inbox.wait(len(RAW_TABLES) + 1)
        assert states.count(LinkState.LOST) == 0
    for fields, delivery in zip(RAW_TABLES.values(), inbox.deliveries, strict=False):
        sent = decode_table(struct.pack(">I", len(fields)) + fields)
        assert delivery.headers is not None
        # RabbitMQ 4 sorts them, and makes the largest number of 64 bits the smallest negative one.
        assert decode_table(delivery.headers) in (sent, {**sent, "L": -1})


class _RawProperties(pika.BasicProperties):  # type: ignore[misc]  # pika has no types
    """Properties that are nothing but headers, as bytes."""

    def __init__(self, raw: bytes) -> None:
        super().__init__()
        self._raw = raw

    def encode(self) -> list[bytes]:
        return [b"\x20\x00", self._raw]


def _publish_raw(
    channel: pika.adapters.blocking_connection.BlockingChannel, queue: str, raw: bytes
) -> None:
    channel.basic_publish("", queue, b"raw", _RawProperties(raw))


@awaited
async def test_declares(services: Services, unique: str) -> None:
    """Queues and exchanges are there as the protocol says: others can declare them likewise."""
    bindings = ((f"{unique}.new", "task"), (f"{unique}.fanout", ""))
    topology = topology_of(unique, *bindings)
    with foreign_channel(services) as channel:
        channel.exchange_declare(f"{unique}.fanout", "fanout")
        async with consuming(endpoint_of(services), topology) as (_, inbox, _):
            for queue in topology.queues:
                channel.queue_declare(queue, durable=True)
            channel.exchange_declare(topology.events_exchange, "topic", durable=True)
            channel.exchange_declare(f"{unique}.new", "topic", durable=True)
            for exchange, key in bindings:
                channel.basic_publish(exchange, key, exchange.encode())
            await inbox.wait(2)
    assert sorted(inbox.bodies) == sorted(exchange.encode() for exchange, _ in bindings)


@awaited
async def test_declared_otherwise(services: Services, unique: str) -> None:
    """A queue that exists with other arguments is said, and consuming begins once it is gone."""
    topology = topology_of(unique)
    with foreign_channel(services) as channel:
        channel.queue_declare(topology.in_queue, durable=False)
        async with starting([endpoint_of(services)], topology) as (_, inbox, states):
            await until(lambda: states.count(LinkState.WAITING))
            states_seen = [detail for _, detail in states.seen]
            channel.queue_delete(topology.in_queue)
            await until(lambda: states.count(LinkState.CONNECTED))
            channel.basic_publish("", topology.in_queue, b"x")
            await inbox.wait(1)
    assert "406 PRECONDITION_FAILED - inequivalent arg 'durable'" in states_seen[0]
    assert len(states_seen) == 1


@awaited
async def test_prefetch(services: Services, unique: str) -> None:
    """No more than the prefetch count is delivered before something is acknowledged."""
    topology = topology_of(unique)
    async with consuming(endpoint_of(services), topology, prefetch=5) as (consumer, inbox, _):
        with foreign_channel(services) as channel:
            for number in range(20):
                channel.basic_publish("", topology.in_queue, b"%d" % number)
            await inbox.wait(5)
            await until(lambda: _ready(channel, topology.in_queue) == 15)
            assert len(inbox.deliveries) == 5
            consumer.ack(1, [2, 1])
            await inbox.wait(7)
            await until(lambda: _ready(channel, topology.in_queue) == 13)
            assert len(inbox.deliveries) == 7


def _ready(channel: pika.adapters.blocking_connection.BlockingChannel, queue: str) -> int:
    return int(channel.queue_declare(queue, passive=True).method.message_count)


@awaited
async def test_byte_limit(services: Services, unique: str) -> None:
    """Above the limit nothing more is read, below it reading goes on, and nothing is lost or changed."""
    topology = topology_of(unique)
    body = b"x" * 1_000_000
    options = {"byte_limit": 5_000_000, "prefetch": 100}
    async with consuming(endpoint_of(services), topology, **options) as (consumer, inbox, _):
        protocol = consumer._link._protocol
        assert protocol is not None
        with foreign_channel(services) as channel:
            for number in range(30):
                channel.basic_publish("", topology.in_queue, b"%2d" % number + body)
            await until(lambda: protocol.heartbeat.deaf)
            await until(lambda: _ready(channel, topology.in_queue) == 0)  # the broker has sent all
        assert len(inbox.deliveries) == 5
        for tag in range(1, 31):
            await inbox.wait(tag)
            consumer.ack(1, [tag])
    assert inbox.bodies == [b"%2d" % number + body for number in range(30)]


@awaited
async def test_redelivery_after_channel_closed(services: Services, unique: str) -> None:
    """When the broker closes the channel the session is lost, said why, and all comes again."""
    topology = topology_of(unique)
    async with consuming(endpoint_of(services), topology) as (consumer, inbox, states):
        with foreign_channel(services) as channel:
            channel.basic_publish("", topology.in_queue, b"a")
            channel.basic_publish("", topology.in_queue, b"b")
        await inbox.wait(2)
        consumer.ack(1, [1])
        protocol = consumer._link._protocol
        assert protocol is not None
        protocol.transport.write(ack_frames(1, [(99, False)]))
        await inbox.wait(3)
        assert [session for session, _ in inbox.lost] == [1]
        assert "406 PRECONDITION_FAILED - unknown delivery tag 99" in inbox.lost[0][1]
        again = inbox.deliveries[2]
        assert (again.session, again.tag, again.body, again.redelivered) == (2, 1, b"b", True)
        consumer.ack(1, [2])  # of a past session: nothing happens
        consumer.ack(2, [1, 1, 7])  # strange tags: nothing happens
        consumer.ack(2, [1])
        await until(lambda: states.count(LinkState.CONNECTED) == 2)
        with foreign_channel(services) as channel:
            channel.basic_publish("", topology.in_queue, b"c")
        await inbox.wait(4)
        assert len(inbox.lost) == 1


@awaited
async def test_queue_deleted(services: Services, unique: str) -> None:
    """When the queue is deleted it is declared again, and consuming goes on."""
    topology = topology_of(unique)
    async with consuming(endpoint_of(services), topology) as (_, inbox, states):
        with foreign_channel(services) as channel:
            channel.queue_delete(topology.in_queue)
            await until(lambda: states.count(LinkState.CONNECTED) == 2)
            channel.basic_publish("", topology.in_queue, b"x")
        await inbox.wait(1)
        assert "deleted" in inbox.lost[0][1]


@awaited
async def test_connection_closed_by_operator(services: Services, unique: str) -> None:
    """When an operator closes the connection it is made anew, and the log says whose doing it was."""
    topology = topology_of(unique)
    async with consuming(endpoint_of(services), topology) as (_, inbox, states):
        # In a thread: who does not read while it runs finds the connection gone, and no reason.
        closing = "close_all_connections", "maintenance of the moon"
        await deferToThread(rabbitmqctl, services, *closing)
        await until(lambda: states.count(LinkState.CONNECTED) == 2)
        assert "320 CONNECTION_FORCED - maintenance of the moon" in states.details(LinkState.LOST)
        with foreign_channel(services) as channel:
            channel.basic_publish("", topology.in_queue, b"x")
        await inbox.wait(1)


@awaited
async def test_socket_killed(services: Services, unique: str) -> None:
    """When the socket dies the connection is made anew."""
    async with consuming(endpoint_of(services), topology_of(unique)) as (consumer, inbox, states):
        protocol = consumer._link._protocol
        assert protocol is not None
        protocol.transport.abortConnection()
        await until(lambda: states.count(LinkState.CONNECTED) == 2)
        assert len(inbox.lost) == 1


@awaited
async def test_stop_and_start(services: Services, unique: str) -> None:
    """After a stop messages go back to the queue; after another start they come again."""
    topology = topology_of(unique)
    async with consuming(endpoint_of(services), topology) as (consumer, inbox, states):
        with foreign_channel(services) as channel:
            for body in (b"a", b"b"):
                channel.basic_publish("", topology.in_queue, body)
            await inbox.wait(2)
            consumer.ack(1, [1])
            await consumer.stop()
            await until(lambda: _ready(channel, topology.in_queue) == 1)
        consumer.start(inbox)
        await inbox.wait(3)
        assert (inbox.deliveries[2].body, inbox.deliveries[2].session) == (b"b", 2)
        assert inbox.lost == []
        assert states.count(LinkState.LOST) == 0


@awaited
async def test_stop_while_connecting(services: Services, unique: str) -> None:
    """A stop in the middle of connecting leaves nothing behind; a start after it works."""
    topology = topology_of(unique)
    async with consuming(endpoint_of(services), topology) as (consumer, inbox, states):
        await consumer.stop()
        for _ in range(3):
            consumer.start(inbox)
            await consumer.stop()
        consumer.start(inbox)
        await until(lambda: states.count(LinkState.CONNECTED) == 2)


@awaited
async def test_several_brokers(services: Services, unique: str) -> None:
    """Brokers are tried in turn; what is the matter with each is said."""
    away = AmqpEndpoint(port=1)
    async with starting([away, endpoint_of(services)], topology_of(unique)) as (_, _, states):
        await until(lambda: states.count(LinkState.CONNECTED))
        assert states.seen[0][0] is LinkState.WAITING
        assert states.seen[0][1].startswith("127.0.0.1:1, vhost /: ")
        assert "refused" in states.seen[0][1]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"password": "hunter2"}, "403 ACCESS_REFUSED"),
        ({"user": "nobody", "password": "hunter2"}, "403 ACCESS_REFUSED"),
        ({"vhost": "nowhere"}, "530 NOT_ALLOWED - vhost nowhere not found"),
    ],
)
@awaited
async def test_refused(services: Services, unique: str, changes: dict[str, str], reason: str) -> None:
    """A refused login says where and why, once and not at each attempt, and never with the password."""
    endpoint = endpoint_of(services, **changes)
    async with starting([endpoint], topology_of(unique)) as (_, _, states):
        await until(lambda: states.count(LinkState.WAITING))
    assert states.count(LinkState.WAITING) == 1
    assert reason in states.details(LinkState.WAITING)
    assert f"127.0.0.1:{endpoint.port}" in states.details(LinkState.WAITING)
    assert "hunter2" not in str(states.seen)


@awaited
async def test_stopped_before_the_name_is_known(services: Services, unique: str) -> None:
    """One that was stopped while it looked for the broker does not come back beside the next one."""
    topology, inbox = topology_of(unique), Inbox()
    states: list[LinkState] = []
    consumer = Consumer(
        the_reactor(), [endpoint_of(services)], topology, on_state=lambda state, _: states.append(state)
    )
    for _ in range(3):
        consumer.start(inbox)
        await consumer.stop()
    consumer.start(inbox)
    await until(lambda: LinkState.CONNECTED in states)
    with foreign_channel(services) as channel:
        for number in range(100):
            channel.basic_publish("", topology.in_queue, b"%d" % number)
        await inbox.wait(100)
        assert channel.queue_declare(topology.in_queue, passive=True).method.consumer_count == 1
    await consumer.stop()
    assert inbox.bodies == [b"%d" % number for number in range(100)]
    assert states == [LinkState.CONNECTED]
