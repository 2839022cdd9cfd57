"""Declaring queues, exchanges and bindings, and looking whether an exchange is there."""

from __future__ import annotations

from typing import Any

from txamqp.client import ChannelClosed

from tefmanager.amqp.events import ChannelEvents
from tefmanager.amqp.protocol import AmqpProtocol
from tefmanager.amqp.topology import Topology

NOT_FOUND = 404


async def exchange_exists(protocol: AmqpProtocol, name: str | bytes) -> bool:
    """Tell whether there is an exchange of that name.

    It is asked for on a channel of its own, since the broker closes the channel where there is none. Raises
    `txamqp.client.Closed` when the connection goes, or the broker refuses for another reason.
    """
    number = protocol.free_channel()
    try:
        channel = await protocol.open_channel(number, ChannelEvents())
        await channel.exchange_declare(exchange=name, passive=True)
        await channel.channel_close(200, "", 0, 0)
    except ChannelClosed as error:
        if error.args[0].reply_code == NOT_FOUND:
            return False
        raise
    else:
        return True
    finally:
        protocol.drop_channel(number)


async def declare_queue(protocol: AmqpProtocol, name: bytes) -> None:
    """Declare a queue on a channel of its own. Raises `txamqp.client.Closed`."""
    number = protocol.free_channel()
    try:
        channel = await protocol.open_channel(number, ChannelEvents())
        await channel.queue_declare(queue=name, durable=True)
        await channel.channel_close(200, "", 0, 0)
    finally:
        protocol.drop_channel(number)


async def declare(protocol: AmqpProtocol, channel: Any, topology: Topology) -> None:
    """Declare and bind all of it. Raises `txamqp.client.Closed` where something is there but otherwise."""
    for queue in topology.queues:
        await channel.queue_declare(queue=queue, durable=True)
    await declare_topic(channel, topology.events_exchange)
    for exchange, key in topology.bindings:
        if not await exchange_exists(protocol, exchange):
            await declare_topic(channel, exchange)
        await channel.queue_bind(queue=topology.in_queue, exchange=exchange, routing_key=key)


async def declare_topic(channel: Any, exchange: str) -> None:
    """Declare a durable topic exchange. Raises `txamqp.client.Closed`."""
    await channel.exchange_declare(exchange=exchange, type="topic", durable=True)
