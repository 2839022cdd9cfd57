"""The demo's connection to RabbitMQ: submits tasks, asks for the workers, and collects the results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pika

from tefmanager.demo.suite import DemoTask

_KEEPER = "tef.dev.demo.keeper"


class Keeper:
    """Collects the results that workers publish.

    Args:
        channel: a channel to RabbitMQ.
        types: the types of the workers.

    Attributes:
        results: all results, by the guid of their task, in the order of their arrival.
    """

    def __init__(self, channel: Any, types: Iterable[str]) -> None:
        self.results: dict[str, list[dict[str, Any]]] = {}
        channel.queue_declare(_KEEPER, durable=True)
        for each in types:
            exchange = f"tef.dev.{each}.worker_generated_messages"
            channel.exchange_declare(exchange, "topic", durable=True)
            channel.queue_bind(_KEEPER, exchange, "task")
        channel.basic_consume(_KEEPER, self._take)

    def _take(self, channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        message = json.loads(body)
        self.results.setdefault(message["guid"], []).append(message)
        channel.basic_ack(method.delivery_tag)


class Client:
    """Talks to the manager.

    Args:
        url: RabbitMQ's URL.
        types: the types of the workers.

    Attributes:
        keeper: collects the results.
        workers: the manager's last answer to ``get_workers``.
    """

    def __init__(self, url: str, types: Iterable[str]) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._channel.queue_declare("tef.dev.manager", durable=True)
        self._replies = self._channel.queue_declare("", exclusive=True).method.queue
        self._channel.basic_consume(self._replies, self._answered, auto_ack=True)
        self.keeper = Keeper(self._channel, types)
        self.workers: list[dict[str, Any]] = []

    def submit(self, tasks: Iterable[DemoTask]) -> None:
        """Send tasks to the manager."""
        for task in tasks:
            self._send(task.message(), delivery_mode=2)

    def ask_for_workers(self) -> None:
        """Ask for the workers; a later `turn` receives the answer."""
        self._send({"type": "get_workers"}, reply_to=self._replies, correlation_id="workers")

    def turn(self, seconds: float) -> None:
        """Process what has arrived, or wait for it so many seconds."""
        self._connection.process_data_events(time_limit=seconds)

    def _send(self, message: dict[str, Any], **properties: Any) -> None:
        body = json.dumps(message, ensure_ascii=False).encode()
        self._channel.basic_publish("", "tef.dev.manager", body, pika.BasicProperties(**properties))

    def _answered(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self.workers = json.loads(body)["response"]
