"""A simulated RabbitMQ: durable queues, redelivery in order, connections that break."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from tefmanager.core.model.audience import Audience
from tests.simulation.world import Process, World

DELIVERY_LIMIT = 20
"""RabbitMQ 4's default limit: how often a message may be given back to a quorum queue."""

NONE: Mapping[str, object] = {}


@dataclass(frozen=True)
class Stored:
    """A message in a queue; ``returns``: how often it was given back to the queue."""

    body: bytes
    redelivered: bool = False
    returns: int = 0
    headers: Mapping[str, object] = field(default_factory=dict)


class Link(Protocol):
    """A manager's connection."""

    @property
    def process(self) -> Process:
        """The process that it belongs to."""

    @property
    def connected(self) -> bool:
        """Whether the broker has the connection."""

    def broken(self) -> None:
        """The broker has lost the connection."""

    def flow(self) -> None:
        """The broker has begun, or ceased, to accept messages."""


class Taker(Protocol):
    """A consumer of a queue."""

    @property
    def takes(self) -> bool:
        """Whether it accepts a message now."""

    def take(self, message: Stored) -> None:
        """Accept a message."""


class Broker:
    """Queues, and who is told when a message is put into one.

    Attributes:
        queues: messages by queue; nothing can be published to a queue that does not exist.
        up: False while nobody can connect.
        bindings: exchanges, each with the queue that gets its messages.
        destroyed: ids of tasks whose copies were in the dead queue when somebody deleted it.
        full: queues that refuse messages.
        forbidden: queues whose exchanges the manager's user may not publish to.
        delivery_limit: how often a message may be given back; after that it is dropped.
        dropped: messages dropped for that reason.
        forgotten: the contents of queues that the broker has forgotten, by queue.
        unanswered: times at which a manager could not know whether a message had arrived.
        unheard: how often an acknowledgement was lost, by message: the message comes again.
        goodbyes: when each worker's last goodbye that was not redelivered was acknowledged.
        wishes_came, wishes_heard: when each message that asks for a task to be tried elsewhere came, and
            when it was acknowledged without having been redelivered.
        blocked: True while nobody may publish; consuming continues.
        hung: True while the broker accepts everything and delivers nothing.
        audit: called with (queue, body) for each message that is put into a queue.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.up = True
        self.blocked = False
        self.hung = False
        self.bindings: dict[str, str] = {}
        self.queues: dict[str, deque[Stored]] = {}
        self.full: set[str] = set()
        self.forbidden: set[str] = set()
        self.delivery_limit = DELIVERY_LIMIT
        self.dropped: list[bytes] = []
        self.forgotten: dict[str, list[bytes]] = {}
        self.destroyed: set[object] = set()
        self.unanswered = 0
        self.unheard: Counter[bytes] = Counter()
        self.goodbyes: dict[str, float] = {}
        self.wishes_came: dict[bytes, float] = {}
        self.wishes_heard: dict[bytes, float] = {}
        self.audit: Callable[[str, bytes], None] = lambda queue, body: None
        self._watchers: dict[str, list[Callable[[], None]]] = {}
        self._links: list[Link] = []
        self._takers: dict[str, list[Taker]] = {}
        self._held: list[Callable[[], object]] = []
        self._programs: dict[str, list[Callable[[], bool]]] = {}

    def declare(self, queue: str) -> None:
        """Create a durable queue."""
        self.queues.setdefault(queue, deque())

    def delete(self, queue: str) -> None:
        """Remove a queue and its contents."""
        self.queues.pop(queue, None)

    def put(self, queue: str, body: bytes, headers: Mapping[str, object] = NONE) -> bool:
        """Accept a message; return False if the queue does not exist."""
        if queue not in self.queues:
            return False
        self.audit(queue, body)
        if b'"retry"' in body:
            self.wishes_came.setdefault(body, self.world.time)
        self.queues[queue].append(Stored(body, headers=headers))
        self.changed(queue)
        return True

    def ever(self, queue: str) -> list[bytes]:
        """Return what is in a queue, and what was in it when the broker forgot it."""
        there = [message.body for message in self.queues.get(queue, ())]
        return [*self.forgotten.get(queue, ()), *there]

    def receive(self, arrive: Callable[[], object]) -> None:
        """Receive something from a connection; while the broker is blocked it waits in the socket."""
        if self.blocked:
            self._held.append(arrive)
        else:
            arrive()

    def give_back(self, queue: str, messages: Sequence[Stored]) -> None:
        """Put unacknowledged messages back in their old places."""
        self.declare(queue)
        for message in reversed(messages):
            if message.returns < self.delivery_limit:
                again = replace(message, redelivered=True, returns=message.returns + 1)
                self.queues[queue].appendleft(again)
            else:
                self.dropped.append(message.body)
        self.changed(queue)

    def acknowledged(self, message: Stored) -> None:
        """A consumer has acknowledged a message."""
        if not message.redelivered and b'"offline"' in message.body:
            self.goodbyes[json.loads(message.body)["name"]] = self.world.time
        if not message.redelivered and b'"retry"' in message.body:
            self.wishes_heard[message.body] = self.world.time

    def consume(self, queue: str, taker: Taker) -> None:
        """Deliver a queue's messages to a consumer, which may be one of several."""
        self._takers.setdefault(queue, []).append(taker)
        self.watch(queue, lambda: self.deal(queue))

    def deal(self, queue: str) -> None:
        """Deliver waiting messages of a queue to its consumers, in no particular order among these."""
        messages = None if self.hung else self.queues.get(queue)
        while messages and (takers := [each for each in self._takers.get(queue, ()) if each.takes]):
            self.world.chance.choice(takers).take(messages.popleft())

    def attend(self, queue: str, attends: Callable[[], bool]) -> None:
        """Register how to ask a worker whether it consumes a queue now."""
        self._programs.setdefault(queue, []).append(attends)

    def audience(self, queue: str) -> Audience:
        """Return who consumes a queue."""
        consumers = sum(attends() for attends in self._programs.get(queue, ()))
        return Audience(queue in self.queues, consumers, len(self.queues.get(queue, ())))

    def watch(self, queue: str, call: Callable[[], None]) -> None:
        """Call a function whenever a queue may have new messages."""
        self._watchers.setdefault(queue, []).append(call)

    def changed(self, queue: str) -> None:
        """Notify those who watch a queue."""
        for call in self._watchers.get(queue, []):
            call()

    def attach(self, link: Link) -> None:
        """Register a manager's connection, so that it can be broken."""
        self._links.append(link)

    # --- faults ---

    def stop(self) -> None:
        """Go down; everything durable stays."""
        self.up = False
        self.break_links()

    def forget(self) -> None:
        """Go down, and lose all queues with their contents."""
        self.stop()
        queues, self.queues = self.queues, {}
        for queue, messages in queues.items():
            self.forgotten.setdefault(queue, []).extend(message.body for message in messages)

    def start(self) -> None:
        """Come up again."""
        self.up = True
        self.world.mended()
        for queue in list(self.queues):
            self.changed(queue)

    def block(self) -> None:
        """Stop accepting messages."""
        self.blocked = True
        self._tell_flow()

    def unblock(self) -> None:
        """Accept messages again, first those that wait in the sockets."""
        self.blocked = False
        self.world.mended()
        held, self._held = self._held, []
        for arrive in held:
            arrive()
        self._tell_flow()

    def hang(self) -> None:
        """Stop delivering."""
        self.hung = True

    def go_on(self) -> None:
        """Deliver again."""
        self.hung = False
        self.world.mended()
        for queue in list(self.queues):
            self.changed(queue)

    def _tell_flow(self) -> None:
        for link in list(self._links):
            link.flow()

    def break_links(self, process: Process | None = None) -> None:
        """Break all connections of the managers, or of one of them."""
        for link in list(self._links):
            if process is None or link.process is process:
                link.broken()

    def break_one(self) -> None:
        """Break one connection."""
        connected = [link for link in self._links if link.connected]
        if connected:
            self.world.chance.choice(connected).broken()
