"""Declares queues, exchanges and bindings, and checks whether they exist."""

from __future__ import annotations

from typing import Any

from txamqp.client import ChannelClosed

from tefmanager.amqp.lookups import Lookups

NOT_FOUND = 404


async def exchange_exists(channel: Any, name: str | bytes) -> bool:
    """Tell whether there is an exchange of that name.

    If there is none, the broker closes the channel. Raises `txamqp.client.Closed` if the connection breaks
    or the broker refuses for another reason.
    """
    return await _found(channel.exchange_declare(exchange=name, passive=True))


async def queue_exists(channel: Any, name: str | bytes) -> bool:
    """Tell whether there is a queue of that name, of any kind; see `exchange_exists`."""
    return await _found(channel.queue_declare(queue=name, passive=True))


async def _found(looked: Any) -> bool:
    try:
        await looked
    except ChannelClosed as error:
        if error.args[0].reply_code == NOT_FOUND:
            return False
        raise
    return True


async def need_queue(lookups: Lookups, name: str | bytes) -> None:
    """Declare a queue if it is missing; an existing one is left as it is. Raises `Closed`."""
    if not await lookups.ask(lambda channel: queue_exists(channel, name)):
        await lookups.ask(lambda channel: declare_queue(channel, name))


async def need_topic(lookups: Lookups, exchange: str) -> None:
    """Declare a topic exchange unless there is one of that name, of any type. Raises `Closed`."""
    if not await lookups.ask(lambda channel: exchange_exists(channel, exchange)):
        await lookups.ask(lambda channel: declare_topic(channel, exchange))


async def need_binding(lookups: Lookups, queue: str, exchange: str, key: str) -> None:
    """Bind a queue to an exchange; declare the exchange if it is missing. Raises `Closed`."""
    await need_topic(lookups, exchange)
    await lookups.ask(lambda channel: _bind(channel, queue, exchange, key))


async def _bind(channel: Any, queue: str, exchange: str, key: str) -> None:
    await channel.queue_bind(queue=queue, exchange=exchange, routing_key=key)


async def declare_queue(channel: Any, name: str | bytes) -> None:
    """Declare a durable queue. Raises `txamqp.client.Closed`."""
    await channel.queue_declare(queue=name, durable=True)


async def declare_topic(channel: Any, exchange: str) -> None:
    """Declare a durable topic exchange. Raises `txamqp.client.Closed`."""
    await channel.exchange_declare(exchange=exchange, type="topic", durable=True)
