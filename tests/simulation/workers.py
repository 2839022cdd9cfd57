"""Workers of both vocabularies, as they are in the field: slow, stuck, killed, restarted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from tests.simulation.broker import Broker
from tests.simulation.world import World

HEARTBEAT = 20.0
"""Seconds between two heartbeats."""


class SimWorker:
    """A worker program. ``ruby`` speaks as the Ruby programs do, otherwise as the README says.

    Args:
        on_start, on_result: are told (worker, guid) when a task begins and when its result is out.
    """

    def __init__(
        self,
        world: World,
        broker: Broker,
        manager_queue: str,
        name: str,
        worker_type: str,
        *,
        ruby: bool,
        on_start: Callable[[str, str], None],
        on_result: Callable[[str, str], None],
    ) -> None:
        self.world = world
        self.name = name
        self.broker = broker
        self.worker_type = worker_type
        self.ruby = ruby
        self.alive = False
        self.stuck = False
        self.give_up_next = False
        self.task: str | None = None
        self._manager_queue = manager_queue
        self._on_start = on_start
        self._on_result = on_result
        self._life = 0
        self._work: IDelayedCall | None = None
        self._announced = "idle"
        broker.watch(name, self._look)

    def start(self) -> None:
        """Begin, or begin again under the same name, with whatever is left in the queue."""
        if self.alive:
            return
        self.alive = True
        self.stuck = False
        self.task = None
        self._life += 1
        self.broker.declare(self.name)
        self._say_free()
        self._beat(self._life)
        self._look()

    def kill(self) -> None:
        """Die at once, without a word."""
        self.alive = False
        self.task = None
        if self._work is not None and self._work.active():
            self._work.cancel()

    def leave(self) -> None:
        """Say goodbye and end; only README workers do."""
        if self.alive:
            self._say("offline")
            self.kill()

    def _beat(self, life: int) -> None:
        if self.alive and life == self._life:
            if not self.stuck:
                self._say(self._announced, self.task if self._announced == "working" else None)
            self.world.later(HEARTBEAT, HEARTBEAT + 0.5, self._beat, life)

    def _say(self, status: str, task: str | None = None) -> None:
        message = {
            "type": "worker_status",
            "name": self.name,
            "worker_type": self.worker_type,
            "exchange_name": self.name,
            "status": status,
        }
        if task is not None and not self.ruby:
            message["task"] = task
        self._send(message)

    def _send(self, message: dict[str, Any]) -> None:
        """A worker's own connection is as broken as the broker; it tries until it has said it."""
        if not self.broker.up:
            self.world.later(0.5, 1.5, self._send, message)
            return
        self.broker.put(self._manager_queue, json.dumps(message).encode())

    def _say_free(self) -> None:
        self._announced = "idle" if self.ruby else "ready"
        self._say(self._announced)

    def _look(self) -> None:
        if self.alive and self.task is None and not self.stuck and self.broker.up:
            queue = self.broker.queues.get(self.name)
            if queue:
                body = queue.popleft().body
                self._begin(json.loads(body))

    def _begin(self, task: dict[str, Any]) -> None:
        self.task = task["guid"]
        self._announced = "working"
        self._on_start(self.name, self.task)
        self._say("working", self.task)
        seconds = float(task["task_data"]["seconds"])
        self._work = self.world.later(seconds, seconds * 1.2, self._end)

    def _end(self) -> None:
        if self.stuck:
            self._work = self.world.later(5.0, 10.0, self._end)
            return
        guid, self.task = self.task, None
        assert guid is not None
        if self.give_up_next:
            self.give_up_next = False
            if self.ruby:  # a README worker that says it is ready says that it is done
                self._say_free()
                self._look()
                return
        self._on_result(self.name, guid)
        if self.ruby:
            self._say("task_complete")
        self._say_free()
        self._look()
