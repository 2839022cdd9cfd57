"""The other programs of a grid: workers, senders and observers as in the field, using only pika.

Nothing of the manager is imported here: what is sent and expected is what the protocol's page says.
"""

from __future__ import annotations

import json
import time
import uuid
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pika
import pika.exceptions
from pika.adapters.blocking_connection import BlockingChannel

PATIENCE = 45.0
"""Seconds to wait for a message before a test fails."""


def fresh(kind: str) -> str:
    """Return a name that nothing else has."""
    return f"{kind}-{uuid.uuid4().hex[:10]}"


@dataclass(frozen=True)
class Received:
    """A message as received from the broker."""

    body: bytes
    properties: pika.BasicProperties
    exchange: str
    routing_key: str

    @property
    def message(self) -> Any:
        """The body, decoded from JSON."""
        return json.loads(self.body)

    @property
    def guid(self) -> str:
        """The task's guid."""
        return str(self.message["guid"])


class Grid:
    """A client's connection to the broker, and the workers that use it.

    Args:
        url: RabbitMQ's URL, ending in a slash.
        prefix: the manager's name prefix.
        vhost: as in the URL.
    """

    def __init__(self, url: str, prefix: str, vhost: str = "%2f") -> None:
        self.prefix = prefix
        self.queue = f"{prefix}.manager"
        parameters = pika.URLParameters(url + vhost)
        parameters.heartbeat = 0  # a test may not serve the connection for a while
        self.connection = pika.BlockingConnection(parameters)
        self.channel = self.connection.channel()
        # Like Ruby workers: whoever comes first declares the queue, with exactly these properties.
        self.channel.queue_declare(self.queue, durable=True)
        self._replies: dict[str, Received] = {}
        self._reply_queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.consume(self._reply_queue, self._on_reply)
        self._sentinel: ReadmeWorker | None = None

    def close(self) -> None:
        """Disconnect."""
        if self.connection.is_open:
            self.connection.close()

    # --- sending ---

    def send(self, message: Any, **properties: Any) -> None:
        """Publish a message to the manager: bytes unchanged, everything else as compact UTF-8 JSON."""
        body = message if isinstance(message, bytes) else compact(message)
        fields: dict[str, Any] = {"content_type": "application/octet-stream", "delivery_mode": 2}
        fields.update({"priority": 0, **properties})
        self.channel.basic_publish("", self.queue, body, pika.BasicProperties(**fields))

    def task(self, task_type: str, **fields: Any) -> str:
        """Submit a task and return its guid."""
        message = {"type": "task", "task_type": task_type, "guid": fresh("task"), **fields}
        self.send(message)
        return str(message["guid"])

    def ask(self, message: Any, timeout: float = PATIENCE) -> Any:
        """Send a message that wants a reply, and return the reply's contents."""
        correlation_id = fresh("ask")
        self.send(message, reply_to=self._reply_queue, correlation_id=correlation_id)
        return self.reply(correlation_id, timeout).message["response"]

    def reply(self, correlation_id: str, timeout: float = PATIENCE) -> Received:
        """Wait for the reply with a correlation id."""
        self.wait(lambda: correlation_id in self._replies, "a reply", timeout)
        return self._replies.pop(correlation_id)

    @property
    def reply_queue(self) -> str:
        """The queue for this client's replies."""
        return str(self._reply_queue)

    def unread_replies(self) -> list[Received]:
        """Return replies that nobody has waited for."""
        return list(self._replies.values())

    def _on_reply(self, received: Received) -> None:
        self._replies[received.properties.correlation_id or fresh("none")] = received

    # --- observing ---

    def wait(self, true: Callable[[], object], what: str = "it", timeout: float = PATIENCE) -> None:
        """Serve the connection until a condition holds."""
        deadline = time.monotonic() + timeout
        while not true():
            assert time.monotonic() < deadline, f"waited in vain for {what}"
            self.connection.process_data_events(time_limit=0.02)

    def serve(self, seconds: float) -> None:
        """Serve the connection for a while; only for tests that depend on time itself."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self.connection.process_data_events(time_limit=min(left, 0.02))

    def workers(self) -> dict[str, Any]:
        """Return the answer to ``get_workers``, by name."""
        return {worker["name"]: worker for worker in self.ask({"type": "get_workers"})}

    def status(self, name: str) -> str | None:
        """Return a worker's status, or None if the manager does not know it."""
        worker = self.workers().get(name)
        return None if worker is None else worker["status"]

    def settle(self) -> None:
        """Return when everything sent has been handled, and the resulting dispatches have been made.

        A task that is sent now is dispatched after tasks that earlier messages made possible.
        """
        if self._sentinel is None:
            self._sentinel = ReadmeWorker(self, fresh("sentinel"))
        self._sentinel.say("ready")
        guid = self.task(self._sentinel.worker_type, priority=-1e300)
        assert self._sentinel.expect().guid == guid
        self._sentinel.say("working", task=guid)
        self._sentinel.say("ready")
        self.wait(lambda: self.status(self._sentinel.name) == "idle", "the sentinel")  # type: ignore[union-attr]

    def take_all(self, queue: str, count: int, timeout: float = PATIENCE) -> list[Received]:
        """Wait for so many messages from a queue, and return them."""
        found: list[Received] = []

        def enough() -> bool:
            while (one := self._get(queue)) is not None:
                found.append(one)
            return len(found) >= count

        self.wait(enough, f"{count} messages in {queue}", timeout)
        return found

    def _get(self, queue: str) -> Received | None:
        method, properties, body = self.channel.basic_get(queue, auto_ack=True)
        if method is None:
            return None
        return Received(body, properties, method.exchange, method.routing_key)

    def depth(self, queue: str) -> int:
        """Return how many messages are ready in a queue."""
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def consume(self, queue: str, tell: Callable[[Received], None]) -> str:
        """Consume a queue, acknowledging each message at once."""

        def told(channel: Any, method: Any, properties: pika.BasicProperties, body: bytes) -> None:
            tell(Received(body, properties, method.exchange, method.routing_key))

        return str(self.channel.basic_consume(queue, told, auto_ack=True))

    @contextmanager
    def scratch(self) -> Iterator[BlockingChannel]:
        """Yield a channel that a test may break."""
        channel = self.connection.channel()
        try:
            yield channel
        finally:
            if channel.is_open:
                channel.close()


def compact(message: Any) -> bytes:
    """Return JSON in the form of the Ruby programs."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()


class FieldWorker(ABC):
    """A worker of the grid, and its queue.

    Args:
        grid: its connection.
        worker_type: the task type it takes.
        name: a unique name.
        declared: whether it has declared its queue.
    """

    def __init__(
        self, grid: Grid, worker_type: str, name: str | None = None, *, declared: bool = True
    ) -> None:
        self.grid = grid
        self.worker_type = worker_type
        self.name = name or fresh("worker")
        self.queue = f"tef.dev.worker.{self.name}"
        self.exchange_name = self.queue
        self.inbox: deque[Received] = deque()
        self.received: list[Received] = []
        self.job: Callable[[Received], None] | None = None
        if declared:
            self.declare()

    def declare(self) -> None:
        """Declare the queue and consume it."""
        self.grid.channel.queue_declare(self.queue, durable=True)
        self.grid.consume(self.queue, self._arrived)

    def vanish(self) -> None:
        """Delete the queue, like a worker that is gone."""
        self.grid.channel.queue_delete(self.queue)

    def _arrived(self, received: Received) -> None:
        self.received.append(received)
        if self.job is None:
            self.inbox.append(received)
        else:
            self.job(received)

    def say(self, status: str, **fields: Any) -> None:
        """Publish a status."""
        message = {"type": "worker_status", "name": self.name, "worker_type": self.worker_type}
        self.grid.send({**message, "exchange_name": self.exchange_name, "status": status, **fields})

    def expect(self, timeout: float = PATIENCE) -> Received:
        """Wait for the next task."""
        self.grid.wait(lambda: self.inbox, f"a task at {self.name}", timeout)
        return self.inbox.popleft()

    def work_off(self, duration: Callable[[], float] = lambda: 0.0) -> None:
        """From now on work on each task for so many seconds, as long as the connection is served."""
        self.job = lambda received: self._do(received, duration())

    def _do(self, received: Received, seconds: float) -> None:
        self.begin(received)
        self.grid.connection.call_later(seconds, lambda: self.finish(received))

    @property
    def status(self) -> str | None:
        """Its status for the manager."""
        return self.grid.status(self.name)

    # What the two vocabularies say in different words:

    @abstractmethod
    def free(self) -> None:
        """Say that it is free."""

    @abstractmethod
    def begin(self, received: Received) -> None:
        """Say that it works on a task."""

    @abstractmethod
    def finish(self, received: Received) -> None:
        """Say that a task is done, and that it is free."""


class ReadmeWorker(FieldWorker):
    """A worker as in the README: ready, working with its task, ready, offline."""

    def free(self) -> None:
        self.say("ready")

    def begin(self, received: Received) -> None:
        self.say("working", task=received.guid)

    def finish(self, received: Received) -> None:
        self.say("ready")


class RubyWorker(FieldWorker):
    """A worker like the Ruby programs: idle, working, its result, task_complete, idle."""

    def __init__(
        self, grid: Grid, worker_type: str, name: str | None = None, *, declared: bool = True
    ) -> None:
        super().__init__(grid, worker_type, name, declared=declared)
        self.current = "idle"
        self.results = f"tef.dev.{worker_type}.worker_generated_messages"
        grid.channel.exchange_declare(self.results, "topic", durable=True)

    def say(self, status: str, **fields: Any) -> None:
        self.current = status if status in ("idle", "working") else self.current
        super().say(status, **fields)

    def heartbeat(self) -> None:
        """Repeat the current status, as its other thread does every 20 seconds."""
        self.say(self.current)

    def free(self) -> None:
        self.say("idle")

    def begin(self, received: Received) -> None:
        self.say("working")

    def finish(self, received: Received) -> None:
        result = {**received.message, "result": "done"}
        self.grid.channel.basic_publish(self.results, "task", compact(result))
        self.say("task_complete")
        self.say("idle")


BOTH = (ReadmeWorker, RubyWorker)
"""The two vocabularies in the field."""
