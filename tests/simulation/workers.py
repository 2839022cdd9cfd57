"""Workers of both vocabularies with their real faults: slow, stuck, deaf, killed, restarted."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from tests.simulation.broker import Broker
from tests.simulation.voices import Saying, Voice
from tests.simulation.world import World

HEARTBEAT = 20.0
"""Seconds between two heartbeats."""

CROSSING = 0.05
"""How often a heartbeat from a Ruby worker's other thread is so slow that it crosses the first thread's
message."""


MOST_SAID = 20
"""How many messages of a worker may come again."""

NOTHING: Mapping[str, Any] = {}

DEADLY = -1.0
"""The duration, in seconds, of a task that kills its worker."""


class SimWorker:
    """A worker program. ``ruby``: it speaks like the Ruby programs, otherwise as the README says.

    Args:
        voice: what it says beside what the protocol demands.
        on_start, on_result: called with (worker, guid) when a task begins, and when its result is
            published.
        on_said: called with what it says of a task that it ends.
        on_crash: called to let the worker die of its task.

    Attributes:
        stuck: it does nothing at all.
        hung: its task does not end; its heartbeats continue.
        deaf: it takes nothing from its queue; its heartbeats continue.
        fetches: it consumes its queue only until it has a message.
        away: it has lost its connection, and connects again.
        gone: it has died for ever: *ready*, which it would say first, would mean that its task is done.
        born: when it last started.
        said: its last messages since it left and came back, or None.
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
        voice: Voice,
        on_start: Callable[[str, str], None],
        on_result: Callable[[str, str], None],
        on_said: Callable[[Saying], None],
        on_crash: Callable[[SimWorker], None],
    ) -> None:
        self.world = world
        self.name = name
        self.broker = broker
        self.worker_type = worker_type
        self.ruby = ruby
        self.alive = self.gone = False
        self.stuck = self.hung = self.deaf = False
        self.give_up_next = self.fetches = self.away = False
        self.task: str | None = None
        self.voice = voice
        self.born = 0.0
        self.said: deque[dict[str, Any]] | None = None
        self._manager_queue = manager_queue
        self._on_start = on_start
        self._on_result = on_result
        self._on_said = on_said
        self._attempt = 0
        self._on_crash = on_crash
        self._life = 0
        self._work: IDelayedCall | None = None
        self._announced = "idle"
        self._outbox: deque[dict[str, Any]] = deque()
        self._sending: IDelayedCall | None = None
        broker.watch(name, self._queue_changed)
        broker.attend(name, lambda: self.attends)

    @property
    def attends(self) -> bool:
        """Whether it consumes its queue."""
        return self.alive and not self.away and not (self.fetches and self.task is not None)

    @property
    def heard(self) -> bool:
        """Whether what it says now arrives."""
        return self.broker.up and not self.away

    @property
    def idle(self) -> bool:
        """Whether it would begin a task at once."""
        well = self.alive and not (self.stuck or self.hung or self.deaf or self.away)
        return well and self.task is None and not self.broker.queues.get(self.name)

    # --- its life ---

    def start(self) -> None:
        """Start, or start again under the same name, with whatever is left in the queue."""
        if self.alive or self.gone:
            return
        self.alive = True
        self.stuck = self.hung = self.deaf = False
        self.task = None
        self._life += 1
        self.born = self.world.time
        self.broker.declare(self.name)
        self._say_free()
        self._beat(self._life)
        self.look()

    def rejoin(self) -> None:
        """Declare its queue again if the broker has forgotten it."""
        if self.alive:
            self.broker.declare(self.name)
            self.look()

    def kill(self) -> None:
        """Die at once without a message. A README worker does not come back under its name: see `gone`."""
        self.alive, self.gone = False, not self.ruby
        self.task = None
        self._outbox.clear()
        if self._work is not None and self._work.active():
            self._work.cancel()

    def leave(self) -> None:
        """Say goodbye and end; only README workers do this."""
        if self.alive:
            self._put(self._status("offline"))
            self.kill()
            self.gone = False

    # --- what it says ---

    def _beat(self, life: int) -> None:
        if self.alive and life == self._life:
            if not self.stuck:
                message = self._status(self._announced, self.task if self._announced == "working" else None)
                if self._announced == "working":
                    message |= self.voice.progress()
                if self.ruby and self.world.chance.random() < CROSSING:
                    self.world.later(0.0, 3.0, self._put, message)
                else:
                    self._send(message)
            self.world.later(HEARTBEAT, HEARTBEAT + 0.5, self._beat, life)

    def _status(self, status: str, task: str | None = None) -> dict[str, Any]:
        message = {
            "type": "worker_status",
            "name": self.name,
            "worker_type": self.worker_type,
            "exchange_name": self.name,
            "status": status,
        }
        if task is not None and not self.ruby:
            message["task"] = task
        about = {} if task is None else self.voice.about(task, self._attempt)
        return message | self.voice.always() | about

    def _say_free(self, said: Mapping[str, Any] = NOTHING) -> None:
        self._announced = "idle" if self.ruby else "ready"
        self._send({**self._status(self._announced), **said})

    def _say_over(self, guid: str) -> None:
        """Say that it has ended a task, and that it is free; a README worker has one message for both."""
        saying = self.voice.end(guid, self._attempt)
        self._on_said(saying)
        if not saying.retry:
            self._on_result(self.name, guid)
        said = {**self.voice.about(guid, self._attempt), **saying.fields}
        if self.ruby:
            self._send({**self._status("task_complete"), **said})
            said = {}
        self._say_free(said)

    def _send(self, message: dict[str, Any]) -> None:
        """Send a message, in order; while the broker is away, try again."""
        self._outbox.append(message)
        if self._sending is None or not self._sending.active():
            self._flush()

    def _flush(self) -> None:
        while self._outbox:
            if not self.heard or self.broker.blocked:
                self._sending = self.world.later(0.5, 1.5, self._flush)
                return
            self._put(self._outbox.popleft())

    def _put(self, message: dict[str, Any]) -> None:
        if self.heard:
            arrives = partial(self._arrives, message)
            self.world.in_order(self, *self.world.way("workers"), self.broker.receive, arrives)

    def _arrives(self, message: dict[str, Any]) -> None:
        if message["status"] == "offline":
            self.said = deque(maxlen=MOST_SAID)
        if self.said is not None:
            self.said.append(message)
        self.broker.put(self._manager_queue, json.dumps(message).encode())

    # --- what it does ---

    def _queue_changed(self) -> None:
        self.world.later(*self.world.way("workers"), self.look)

    def look(self) -> None:
        """Begin the next task in the queue, if possible."""
        can = self.alive and self.task is None and not (self.stuck or self.deaf or self.away)
        if can and self.broker.up:
            queue = self.broker.queues.get(self.name)
            if queue:
                message = queue.popleft()
                self._begin(json.loads(message.body), message.headers)

    def _begin(self, task: dict[str, Any], headers: Mapping[str, Any]) -> None:
        self.task, self._attempt = task["guid"], headers["x-tef-attempt"]
        self._announced = "working"
        self._on_start(self.name, self.task)
        self._send(self._status("working", self.task))
        seconds = float(task["task_data"]["seconds"])
        if seconds == DEADLY:
            self._on_crash(self)
            return
        self._work = self.world.later(seconds, seconds * 1.2, self._end)

    def _end(self) -> None:
        if self.stuck or self.hung:
            self._work = self.world.later(5.0, 10.0, self._end)
            return
        guid, self.task = self.task, None
        assert guid is not None
        if self.give_up_next:
            self.give_up_next = False
            if self.ruby:  # when a README worker says *ready*, it says that its task is done
                self._say_free()
                self.look()
                return
        self._say_over(guid)
        self.look()
