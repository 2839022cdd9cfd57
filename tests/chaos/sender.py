"""The sender of all tasks, as a program: ``python -m tests.chaos.sender``.

It records in its journal which tasks RabbitMQ has confirmed: these must not be lost. An unconfirmed task
may have arrived or not, and is never sent again: another task is sent in its place.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import pika

from tests.chaos.field import FieldProgram
from tests.chaos.journal import Journal

DOOMED = 0.01
"""The share of tasks that every worker gives up, so that some die."""


class Sender(FieldProgram):
    """Sends tasks at an even pace, each confirmed before the next.

    Args:
        url: RabbitMQ's URL, with the vhost.
        manager: the manager's queue.
        types, resources: task types and resources of the tasks.
        tasks: how many must be confirmed.
        seconds: the time over which they are spread.
        seed: decides what is random about them.
        journal: records what it does.
    """

    def __init__(
        self,
        url: str,
        manager: str,
        types: list[str],
        resources: list[str],
        tasks: int,
        seconds: float,
        seed: int,
        journal: Journal,
    ) -> None:
        super().__init__(url)
        self._manager = manager
        self._types = types
        self._resources = resources
        self._tasks = tasks
        self._interval = seconds / tasks
        self._random = random.Random(seed)
        self._journal = journal
        self._begin = time.monotonic()
        self._sent = 0
        self._confirmed = 0

    def done(self) -> bool:
        """Tell whether all tasks are confirmed."""
        return self._confirmed >= self._tasks

    def serve(self, connection: Any) -> None:
        """Send the tasks that are due."""
        channel = connection.channel()
        channel.queue_declare(self._manager, durable=True)
        channel.confirm_delivery()
        while not self.done():
            due = self._begin + self._confirmed * self._interval
            while (early := due - time.monotonic()) > 0:
                connection.process_data_events(time_limit=early)
            self._send(channel)

    def _send(self, channel: Any) -> None:
        self._sent += 1
        task = self._made(f"chaos-{self._sent:06}")
        self._journal.note("sent", guid=task["guid"])
        properties = pika.BasicProperties(content_type="application/octet-stream", delivery_mode=2)
        channel.basic_publish("", self._manager, json.dumps(task).encode(), properties, mandatory=True)
        self._confirmed += 1
        self._journal.note("confirmed", guid=task["guid"])

    def _made(self, guid: str) -> dict[str, Any]:
        count = self._random.choice((0, 1, 1, 2, 3))
        return {
            "type": "task",
            "guid": guid,
            "task_type": self._random.choice(self._types),
            "priority": self._random.randint(1, 3),
            "resources": self._random.sample(self._resources, min(count, len(self._resources))),
            "suite_guid": f"suite-{self._random.randint(1, 5)}",
            "task_data": {
                "text": "ünïcödé ☃" * self._random.randint(1, 50),
                "doomed": self._random.random() < DOOMED,
            },
        }


def main() -> None:
    """Send tasks as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.sender")
    for name in ("url", "manager"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("types", "resources"):
        parser.add_argument(f"--{name}", nargs="+", required=True)
    for name in ("tasks", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--journal", type=Path, required=True)
    options = vars(parser.parse_args())
    Sender(**{**options, "journal": Journal(options["journal"])}).run()


if __name__ == "__main__":
    main()
