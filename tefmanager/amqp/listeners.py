"""Finds who consumes a queue, by a passive declare on the lookup channel, which a 404 closes."""

from __future__ import annotations

from typing import Any

from txamqp.client import ChannelClosed

from tefmanager.amqp.declare import NOT_FOUND
from tefmanager.core.model.audience import Audience


async def audience(channel: Any, queue: bytes) -> Audience:
    """Return who consumes a queue. Raises `txamqp.client.Closed`, also if the broker refuses."""
    try:
        told = await channel.queue_declare(queue=queue, passive=True)
    except ChannelClosed as error:
        if error.args[0].reply_code == NOT_FOUND:
            return Audience(False, 0, 0)
        raise
    return Audience(True, told.consumer_count, told.message_count)
