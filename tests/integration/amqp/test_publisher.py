"""The publisher against a real RabbitMQ: what arrives, where, and what it says of each message."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.threads import deferToThread

from tefmanager.amqp.codec import TableError
from tefmanager.amqp.confirms import NACK
from tefmanager.amqp.connection import LinkState
from tefmanager.amqp.publisher import Publisher
from tefmanager.interfaces.amqp import Delivered, Message
from tests.integration.amqp_support import (
    awaited,
    endpoint_of,
    foreign_channel,
    later,
    publishing,
    rabbitmqctl,
    the_reactor,
    until,
)
from tests.services import Services

CONFIRMED, RETURNED = Delivered.CONFIRMED, Delivered.RETURNED


@awaited
async def test_what_arrives(services: Services, unique: str) -> None:
    """The broker has the message persistent, with its properties, and the body byte for byte."""
    bodies = [b"", b"\xff\x00", b"x" * 10_000_000, "€".encode() * 100_000]
    headers = {"reason": "€", "n": 1, "list": ["a", {"b": None}], "raw": b"\xff"}
    with foreign_channel(services) as channel:
        channel.queue_declare(unique, durable=True)
        async with publishing(endpoint_of(services)) as (publisher, _):
            for body in bodies:
                message = Message(body, b"corr", b"reply", b"application/json", headers)
                assert await publisher.send(unique.encode(), message) is CONFIRMED
            assert await publisher.send(unique.encode(), Message(b"bare")) is CONFIRMED
        for body in bodies:
            _, properties, arrived = channel.basic_get(unique, auto_ack=True)
            assert arrived == body
            assert properties.delivery_mode == 2
            assert (properties.correlation_id, properties.reply_to) == ("corr", "reply")
            assert properties.content_type == "application/json"
            assert properties.headers == headers
        _, properties, _ = channel.basic_get(unique, auto_ack=True)
        assert properties.delivery_mode == 2
        assert (properties.content_type, properties.headers, properties.reply_to) == (None, None, None)


@awaited
async def test_many_in_flight(services: Services, unique: str) -> None:
    """Of 500 messages at once, half to nowhere, each gets its own answer, and the others their order."""
    with foreign_channel(services) as channel:
        channel.queue_declare(unique)
        async with publishing(endpoint_of(services)) as (publisher, _):
            queues = [unique.encode(), b"nowhere." + unique.encode()]
            for send in (
                publisher.send,
                lambda queue, message: publisher.dispatch(queue.decode(), message),
            ):
                outcomes = await gatherResults(
                    [later(send(queues[n % 2], Message(b"%d" % (n // 2)))) for n in range(500)]
                )
                assert outcomes == [CONFIRMED, RETURNED] * 250
                got = [channel.basic_get(unique, auto_ack=True)[2] for _ in range(250)]
                assert got == [b"%d" % n for n in range(250)]


@awaited
async def test_queue_vanishes_in_between(services: Services, unique: str) -> None:
    """Equal messages to one queue that comes and goes: returned are just those that did not arrive."""
    with foreign_channel(services) as channel:
        async with publishing(endpoint_of(services)) as (publisher, _):
            for _ in range(10):
                channel.queue_declare(unique)
                first = [later(publisher.send(unique.encode(), Message(b"x"))) for _ in range(49)]
                assert await publisher.send(unique.encode(), Message(b"x")) is CONFIRMED
                second = [later(publisher.send(unique.encode(), Message(b"x"))) for _ in range(50)]
                arrived = channel.queue_delete(unique).method.message_count
                outcomes = [CONFIRMED, *await gatherResults(first + second)]
                confirmed = outcomes.count(CONFIRMED)
                assert outcomes == [CONFIRMED] * confirmed + [RETURNED] * (100 - confirmed)
                assert 1 <= arrived <= confirmed < 100


@awaited
async def test_nacked(services: Services, unique: str) -> None:
    """A queue that is full refuses, and so it is said."""
    with foreign_channel(services) as channel:
        channel.queue_declare(unique, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        async with publishing(endpoint_of(services)) as (publisher, _):
            assert await publisher.send(unique.encode(), Message(b"1")) is CONFIRMED
            await until(lambda: channel.queue_declare(unique, passive=True).method.message_count == 1)
            why: list[str] = []
            assert await publisher.send(unique.encode(), Message(b"2"), why.append) is Delivered.NACKED
            assert why == [NACK]


@awaited
async def test_dispatch_to_queue_or_exchange(services: Services, unique: str) -> None:
    """A queue is preferred to an exchange of the same name; to an exchange the key is ``task``."""
    with foreign_channel(services) as channel:
        exchange, target = f"{unique}.é.exchange", f"{unique}.target"
        channel.exchange_declare(exchange, "direct")
        channel.queue_declare(target)
        async with publishing(endpoint_of(services)) as (publisher, _):
            assert await publisher.dispatch(exchange, Message(b"unbound")) is RETURNED
            channel.queue_bind(target, exchange, "task")
            for body in (b"1", b"2"):
                assert await publisher.dispatch(exchange, Message(body)) is CONFIRMED
            channel.queue_declare(exchange)
            channel.queue_unbind(target, exchange, "task")
            assert await publisher.dispatch(exchange, Message(b"3")) is CONFIRMED
        assert [channel.basic_get(target, auto_ack=True)[2] for _ in range(3)] == [b"1", b"2", None]
        assert channel.basic_get(exchange, auto_ack=True)[2] == b"3"


@awaited
async def test_order_at_an_unknown_exchange(services: Services, unique: str) -> None:
    """Messages to an address that has yet to be found out keep the order of the calls."""
    with foreign_channel(services) as channel:
        channel.exchange_declare(unique, "fanout")
        channel.queue_declare(f"{unique}.target")
        channel.queue_bind(f"{unique}.target", unique)
        async with publishing(endpoint_of(services)) as (publisher, _):
            calls = [later(publisher.dispatch(unique, Message(b"%d" % n))) for n in range(20)]
            assert set(await gatherResults(calls)) == {CONFIRMED}
        got = [channel.basic_get(f"{unique}.target", auto_ack=True)[2] for _ in range(20)]
        assert got == [b"%d" % n for n in range(20)]


@awaited
async def test_exchange_vanishes(services: Services, unique: str) -> None:
    """A vanished exchange returns its own message only; others go on, also to other exchanges."""
    gone, other = f"{unique}.gone", f"{unique}.other"
    with foreign_channel(services) as channel:
        for exchange in (gone, other):
            channel.exchange_declare(exchange, "fanout")
            channel.queue_declare(f"{exchange}.target")
            channel.queue_bind(f"{exchange}.target", exchange)
        async with publishing(endpoint_of(services)) as (publisher, states):
            for exchange in (gone, other):
                assert await publisher.dispatch(exchange, Message(b"x")) is CONFIRMED
            channel.exchange_delete(gone)
            calls = [later(publisher.dispatch(name, Message(b"y"))) for name in (gone, other, other)]
            queued = later(publisher.send(f"{other}.target".encode(), Message(b"z")))
            assert await gatherResults([*calls, queued]) == [RETURNED, CONFIRMED, CONFIRMED, CONFIRMED]
            channel.queue_declare(gone)
            assert await publisher.dispatch(gone, Message(b"queue now")) is CONFIRMED
            assert states.count(LinkState.LOST) == 0
        assert channel.basic_get(gone, auto_ack=True)[2] == b"queue now"


@pytest.mark.parametrize("address", ["", "x" * 255, "é" * 127, "é" * 128, "amq.nothing", "'/\n"])
@awaited
async def test_strange_addresses(services: Services, address: str) -> None:
    """An address where nothing is, however strange, only returns the message."""
    async with publishing(endpoint_of(services)) as (publisher, states):
        assert await publisher.dispatch(address, Message(b"x")) is RETURNED
        # RabbitMQ 4 ends the connection over one of them: it is made anew, and nobody asks for that again.
        assert await publisher.send(b"nowhere", Message(b"x")) in (RETURNED, Delivered.LOST)
        assert await publisher.send(address.encode(), Message(b"x")) is RETURNED
        assert states.count(LinkState.LOST) <= 1


@awaited
async def test_internal_exchange(services: Services, unique: str) -> None:
    """An exchange that refuses publishers closes the channel: its message is returned, and others go on."""
    with foreign_channel(services) as channel:
        channel.exchange_declare(unique, "fanout", internal=True)
        async with publishing(endpoint_of(services)) as (publisher, states):
            why: list[str] = []
            assert await publisher.dispatch(unique, Message(b"x"), why.append) is RETURNED
            assert await publisher.dispatch("amq.topic", Message(b"x"), why.append) is RETURNED
            assert [reason[:7] for reason in why] == ["403 ACC", "312 NO_"]
            assert states.count(LinkState.LOST) == 0


@awaited
async def test_not_encodable(services: Services, unique: str) -> None:
    """A message that can't be encoded is its caller's error only."""
    with foreign_channel(services) as channel:
        channel.queue_declare(unique)
        async with publishing(endpoint_of(services)) as (publisher, _):
            assert await publisher.send(unique.encode(), Message(b"x")) is CONFIRMED
            with pytest.raises(TableError):
                await publisher.send(unique.encode(), Message(b"x", correlation_id=b"x" * 256))
            assert await publisher.send(unique.encode(), Message(b"x")) is CONFIRMED


@awaited
async def test_waits_for_the_connection(services: Services, unique: str) -> None:
    """Messages from before the connection go out in their order; a cancelled one does not."""
    with foreign_channel(services) as channel:
        channel.queue_declare(unique)
        publisher = Publisher(the_reactor(), [endpoint_of(services)])
        calls = [later(publisher.send(unique.encode(), Message(b"%d" % n))) for n in range(5)]
        cancelled = calls.pop(2)
        cancelled.cancel()
        with pytest.raises(CancelledError):
            await cancelled
        publisher.start()
        assert set(await gatherResults(calls)) == {CONFIRMED}
        await publisher.stop()
        got = [channel.basic_get(unique, auto_ack=True)[2] for _ in range(4)]
        assert got == [b"0", b"1", b"3", b"4"]


@awaited
async def test_connection_lost(services: Services, unique: str) -> None:
    """What was in flight when the connection went is lost, and the next message goes by another."""
    with foreign_channel(services) as channel:
        channel.queue_declare(unique)
        async with publishing(endpoint_of(services)) as (publisher, states):
            await until(lambda: states.count(LinkState.CONNECTED))
            protocol = publisher._protocol
            assert protocol is not None
            lost = later(publisher.send(unique.encode(), Message(b"x")))
            protocol.transport.abortConnection()
            assert await lost is Delivered.LOST
            assert await publisher.send(unique.encode(), Message(b"y")) is CONFIRMED
            assert await publisher.dispatch(f"{unique}.nowhere", Message(b"y")) is RETURNED
            assert states.count(LinkState.CONNECTED) == 2


@awaited
async def test_search_goes_on_after_a_loss(
    services: Services, unique: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the connection goes while an address is being found out, that goes on with the next."""
    with foreign_channel(services) as channel:
        channel.exchange_declare(unique, "fanout")
        channel.queue_declare(f"{unique}.target")
        channel.queue_bind(f"{unique}.target", unique)
        async with publishing(endpoint_of(services)) as (publisher, states):
            await until(lambda: states.count(LinkState.CONNECTED))
            protocol = publisher._protocol
            assert protocol is not None
            open_channel = protocol.open_channel

            def lose(*args: Any) -> Any:
                protocol.transport.abortConnection()
                return open_channel(*args)

            monkeypatch.setattr(protocol, "open_channel", lose)
            assert await publisher.dispatch(unique, Message(b"x")) is CONFIRMED
            assert states.count(LinkState.CONNECTED) == 2


@awaited
async def test_stop_waits_for_confirms(services: Services, unique: str) -> None:
    """A stop waits for what is under way; what comes after is lost at once; a start makes it work again."""
    with foreign_channel(services) as channel:
        channel.queue_declare(unique)
        async with publishing(endpoint_of(services)) as (publisher, states):
            await until(lambda: states.count(LinkState.CONNECTED))
            calls = [later(publisher.send(unique.encode(), Message(b"x"))) for _ in range(100)]
            stopped = later(publisher.stop())
            assert await publisher.send(unique.encode(), Message(b"x")) is Delivered.LOST
            await stopped
            assert {answer.result for answer in calls} == {CONFIRMED}
            publisher.start()
            assert await publisher.send(unique.encode(), Message(b"x")) is CONFIRMED


@awaited
async def test_stop_while_disconnected(services: Services) -> None:
    """A stop without a connection does not wait, and settles what waits."""
    publisher = Publisher(the_reactor(), [endpoint_of(services, port=1)])
    publisher.start()
    call = later(publisher.send(b"q", Message(b"x")))
    await publisher.stop()
    assert await call is Delivered.LOST


@awaited
async def test_blocked(services: Services, unique: str) -> None:
    """While the broker is short of memory messages wait, and go out when it has recovered."""
    with foreign_channel(services) as channel:
        channel.queue_declare(unique)
        async with publishing(endpoint_of(services)) as (publisher, states):
            assert await publisher.send(unique.encode(), Message(b"0")) is CONFIRMED
            protocol = publisher._protocol
            assert protocol is not None
            await deferToThread(rabbitmqctl, services, "set_vm_memory_high_watermark", "absolute", "1")
            try:
                first = later(publisher.send(unique.encode(), Message(b"1")))
                await until(lambda: protocol.blocked)
                waiting = [later(publisher.send(unique.encode(), Message(b"%d" % n))) for n in (2, 3, 4)]
                cancelled = waiting.pop(1)
                cancelled.cancel()
                with pytest.raises(CancelledError):
                    await cancelled
            finally:
                await deferToThread(rabbitmqctl, services, "set_vm_memory_high_watermark", "0.4")
            assert await gatherResults([first, *waiting]) == [CONFIRMED] * 3
            assert protocol.blocked is None
            assert states.count(LinkState.LOST) == 0
            assert states.count(LinkState.BLOCKED) == 1
            blocked = [detail for state, detail in states.seen if state is LinkState.UNBLOCKED]
            assert blocked == [str(protocol.endpoint), "told"]
        got = [channel.basic_get(unique, auto_ack=True)[2] for _ in range(4)]
        assert got == [b"0", b"1", b"2", b"4"]
