"""Administers RabbitMQ directly, not through the proxies: with pika and with RabbitMQ's own tool.

All methods block, so they are called in a thread.
"""

from __future__ import annotations

import json
import time

from pika.exceptions import ChannelClosedByBroker

from tests.integration.amqp_support import foreign_channel, rabbitmqctl
from tests.services import Services

Gone = dict[str, list[str]]
"""Guids of tasks by the queue whose messages are lost."""

_POLICY = "refuses"
_LIMIT = 30.0
"""Seconds within which RabbitMQ must take back deliveries of broken connections."""


class Broker:
    """Operations on RabbitMQ's queues.

    Args:
        services: RabbitMQ's address.
        manager: the managers' queue.
    """

    def __init__(self, services: Services, manager: str) -> None:
        self._services = services
        self.manager = manager
        self.dead = f"{manager}.dead"
        self.rejected = f"{manager}.rejected"

    def empty(self) -> Gone:
        """Take all tasks out of the managers' queue and the dead queue while nobody else is connected.

        Unacknowledged deliveries return to the queue when their consumer is gone.
        """
        gone: Gone = {self.manager: [], self.dead: []}
        end = time.monotonic() + _LIMIT
        while left := [queue for queue in gone if self._in_use(queue)]:
            assert time.monotonic() < end, "RabbitMQ keeps consumers whose connections are broken"
            for queue in left:
                gone[queue] += self.take(queue)
        return gone

    def _in_use(self, queue: str) -> bool:
        """Tell whether a queue has messages or consumers; False if it does not exist."""
        with foreign_channel(self._services) as channel:
            try:
                told = channel.queue_declare(queue, passive=True).method
            except ChannelClosedByBroker:
                return False
        return bool(told.message_count or told.consumer_count)

    def take_dead(self) -> list[str]:
        """Take everything out of the dead queue, if it exists; return the guids."""
        return self.take(self.dead) if self._in_use(self.dead) else []

    def take(self, queue: str) -> list[str]:
        """Take all messages out of a queue; return the guids of the tasks among them."""
        guids = []
        with foreign_channel(self._services) as channel:
            while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
                message = json.loads(got[2])
                if message["type"] == "task":
                    guids.append(message["guid"])
        return guids

    def delete(self, queue: str) -> None:
        """Delete a queue and its contents, even if it has consumers."""
        with foreign_channel(self._services) as channel:
            channel.queue_delete(queue)

    def empty_and_delete(self, queue: str) -> list[str]:
        """Delete a queue that others publish to; return the guids of the tasks that were in it."""
        guids: list[str] = []
        while True:
            guids += self.take(queue) if self._in_use(queue) else []
            try:
                with foreign_channel(self._services) as channel:
                    channel.queue_delete(queue, if_empty=True)
            except ChannelClosedByBroker:  # a message arrived in between
                continue
            return guids

    def refuse(self, queue: str) -> None:
        """Make a queue refuse messages: it is longer than its limit, and rejects further messages."""
        rejects: dict[str, object] = {"overflow": "reject-publish"}
        # Set the overflow behaviour first: otherwise the limit would make it drop messages.
        for policy in (rejects, {**rejects, "max-length": 0}):
            about = (_POLICY, f"^{queue.replace('.', '[.]')}$", json.dumps(policy))
            rabbitmqctl(self._services, "set_policy", "--apply-to", "queues", *about)

    def accept(self) -> None:
        """Make the queue accept messages again."""
        rabbitmqctl(self._services, "clear_policy", _POLICY)
