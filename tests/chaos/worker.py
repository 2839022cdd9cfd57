"""A worker of the grid, as a program: ``python -m tests.chaos.worker``.

It takes a task from its queue as soon as it arrives, and records in its journal what it begins and ends. A
broken connection does not stop it: it continues, and sends its messages on the next connection.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pika
from pika.exceptions import AMQPError

from tests.chaos.field import FieldProgram
from tests.chaos.journal import Journal

HEARTBEAT = 2.0
"""Seconds after which the worker repeats its status."""

WORDS = {
    "ruby": ("idle", ("task_complete", "idle"), ("idle",)),
    "readme": ("ready", ("ready",), ("offline", "ready")),
}
"""How a worker of each vocabulary says that it is free, that it is done, and that it gives up."""


class Cancelled(AMQPError):  # type: ignore[misc]  # pika has no types
    """The worker's queue was deleted."""


@dataclass(frozen=True)
class Task:
    """What a worker has to know of a task; every worker gives up one that is ``doomed``."""

    guid: str
    doomed: bool


class Worker(FieldProgram):
    """Does one task at a time.

    Args:
        url: of RabbitMQ, with the vhost.
        manager: the manager's queue.
        name, worker_type: what it is called, and what it does.
        vocabulary: ``ruby`` or ``readme``.
        longest: seconds that a task may take.
        journal: for what it does.
    """

    def __init__(
        self,
        url: str,
        manager: str,
        name: str,
        worker_type: str,
        vocabulary: str,
        longest: float,
        journal: Journal,
    ) -> None:
        super().__init__(url)
        self._manager = manager
        self._name = name
        self._type = worker_type
        self._names_task = vocabulary == "readme"
        self._free, self._ended, self._given_up = WORDS[vocabulary]
        self._longest = longest
        self._journal = journal
        self._queue = f"tef.dev.worker.{name}"
        self._channel: Any = None
        self._inbox: deque[Task] = deque()
        self._task: Task | None = None
        self._ends = 0.0

    def done(self) -> bool:
        """It works until it is killed."""
        return False

    def serve(self, connection: Any) -> None:
        """Take tasks and do them."""
        self._channel = connection.channel()
        self._channel.queue_declare(self._manager, durable=True)
        self._channel.queue_declare(self._queue, durable=True)
        self._channel.add_on_cancel_callback(self._cancelled)
        self._channel.basic_consume(self._queue, self._arrived, auto_ack=True)
        beat = 0.0
        while True:
            if time.monotonic() >= beat:
                self._repeat()
                beat = time.monotonic() + HEARTBEAT
            self._work()
            connection.process_data_events(time_limit=self._rest(beat))

    def _rest(self, beat: float) -> float:
        """Return the seconds until there is something to do."""
        due = beat if self._task is None else min(beat, self._ends)
        return max(0.001, due - time.monotonic())

    def _cancelled(self, _method: Any) -> None:
        raise Cancelled

    def _arrived(self, _channel: Any, method: Any, _properties: Any, body: bytes) -> None:
        message = json.loads(body)
        task = Task(message["guid"], message.get("task_data", {}).get("doomed", False))
        self._journal.note("came", worker=self._name, guid=task.guid, redelivered=method.redelivered)
        self._inbox.append(task)
        self._work()

    def _work(self) -> None:
        """End the task that is over, and begin the next one."""
        if self._task is not None and time.monotonic() >= self._ends:
            task, self._task = self._task, None
            event, words = ("give up", self._given_up) if task.doomed else ("end", self._ended)
            self._journal.note(event, worker=self._name, guid=task.guid)
            for status in words:
                self._say(status)
        if self._task is None and self._inbox:
            self._task = self._inbox.popleft()
            self._ends = time.monotonic() + random.uniform(0.0, self._longest)
            self._journal.note("begin", worker=self._name, guid=self._task.guid)
            self._repeat()

    def _repeat(self) -> None:
        """Say what the worker is doing."""
        if self._task is None:
            self._say(self._free)
        elif self._names_task:
            self._say("working", task=self._task.guid)
        else:
            self._say("working")

    def _say(self, status: str, **more: str) -> None:
        about = {"name": self._name, "worker_type": self._type, "exchange_name": self._queue}
        message = {"type": "worker_status", **about, "status": status, **more}
        properties = pika.BasicProperties(content_type="application/octet-stream", delivery_mode=2)
        self._channel.basic_publish("", self._manager, json.dumps(message).encode(), properties)


def main() -> None:
    """Run a worker as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.worker")
    for name in ("url", "manager", "name", "type", "vocabulary"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--longest", type=float, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = parser.parse_args()
    Worker(
        options.url,
        options.manager,
        options.name,
        options.type,
        options.vocabulary,
        options.longest,
        Journal(options.journal),
    ).run()


if __name__ == "__main__":
    main()
