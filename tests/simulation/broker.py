"""RabbitMQ, simulated: durable queues, redelivery in order, connections that break."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from tefmanager.core.model.audience import Audience
from tests.simulation.world import Process, World

DELIVERY_LIMIT = 20
"""How often a message may be given back to a quorum queue of RabbitMQ 4, where nobody has set that."""

NONE: Mapping[str, object] = {}


@dataclass(frozen=True)
class Stored:
    """A message in a queue; ``returns``: how often it was given back to it."""

    body: bytes
    redelivered: bool = False
    returns: int = 0
    headers: Mapping[str, object] = field(default_factory=dict)


class Link(Protocol):
    """A manager's connection."""

    @property
    def process(self) -> Process:
        """Whose it is."""

    @property
    def connected(self) -> bool:
        """Whether the broker has it."""

    def broken(self) -> None:
        """The broker has lost it."""

    def flow(self) -> None:
        """The broker takes messages again, or no more."""


class Taker(Protocol):
    """A consumer of a queue."""

    @property
    def takes(self) -> bool:
        """Whether it takes a message now."""

    def take(self, message: Stored) -> None:
        """Take a message."""


class Broker:
    """Queues, and who is told when something comes into them.

    Attributes:
        queues: messages by queue; a queue that is not there cannot be published to.
        up: False while nobody can connect.
        bindings: exchanges, each with the queue its messages go to.
        destroyed: ids of tasks whose copies were in the queue of the dead when somebody deleted it.
        full: queues that refuse what is published to them.
        forbidden: queues whose exchanges the manager's user may not publish to.
        delivery_limit: how often a message may be given back; one more time, and it is dropped.
        dropped: what was dropped so.
        forgotten: what was in queues that are gone with the broker's memory, by queue.
        unanswered: times that a manager could not know whether a message had arrived.
        unheard: how often an acknowledgement was lost on its way, by the message: it comes again.
        goodbyes: when the last one of each worker was acknowledged that had not been delivered before.
        blocked: True while nobody may publish; consuming goes on.
        hung: True while it takes everything, and delivers nothing.
        audit: is told (queue, body) of each message that is put into a queue.
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
        self.audit: Callable[[str, bytes], None] = lambda queue, body: None
        self._watchers: dict[str, list[Callable[[], None]]] = {}
        self._links: list[Link] = []
        self._takers: dict[str, list[Taker]] = {}
        self._held: list[Callable[[], object]] = []
        self._programs: dict[str, list[Callable[[], bool]]] = {}

    def declare(self, queue: str) -> None:
        """Make a durable queue."""
        self.queues.setdefault(queue, deque())

    def delete(self, queue: str) -> None:
        """Remove a queue with all that is in it."""
        self.queues.pop(queue, None)

    def put(self, queue: str, body: bytes, headers: Mapping[str, object] = NONE) -> bool:
        """Take a message; False where there is no such queue."""
        if queue not in self.queues:
            return False
        self.audit(queue, body)
        self.queues[queue].append(Stored(body, headers=headers))
        self.changed(queue)
        return True

    def ever(self, queue: str) -> list[bytes]:
        """Return what is in a queue, and what was until the broker forgot it."""
        there = [message.body for message in self.queues.get(queue, ())]
        return [*self.forgotten.get(queue, ()), *there]

    def receive(self, arrive: Callable[[], object]) -> None:
        """Take in what came over a connection; while it is blocked that waits in the socket."""
        if self.blocked:
            self._held.append(arrive)
        else:
            arrive()

    def give_back(self, queue: str, messages: Sequence[Stored]) -> None:
        """Put unacknowledged messages back to where they were."""
        self.declare(queue)
        for message in reversed(messages):
            if message.returns < self.delivery_limit:
                again = replace(message, redelivered=True, returns=message.returns + 1)
                self.queues[queue].appendleft(again)
            else:
                self.dropped.append(message.body)
        self.changed(queue)

    def acknowledged(self, message: Stored) -> None:
        """A consumer has taken a message for good."""
        if not message.redelivered and b'"offline"' in message.body:
            self.goodbyes[json.loads(message.body)["name"]] = self.world.time

    def consume(self, queue: str, taker: Taker) -> None:
        """Deal the messages of a queue to a consumer, and to others that it may have."""
        self._takers.setdefault(queue, []).append(taker)
        self.watch(queue, lambda: self.deal(queue))

    def deal(self, queue: str) -> None:
        """Give what waits in a queue to its consumers; the broker does not care which of them gets what."""
        messages = None if self.hung else self.queues.get(queue)
        while messages and (takers := [each for each in self._takers.get(queue, ()) if each.takes]):
            self.world.chance.choice(takers).take(messages.popleft())

    def attend(self, queue: str, attends: Callable[[], bool]) -> None:
        """Let a worker be asked whether it consumes a queue now."""
        self._programs.setdefault(queue, []).append(attends)

    def audience(self, queue: str) -> Audience:
        """Return who listens at a queue."""
        consumers = sum(attends() for attends in self._programs.get(queue, ()))
        return Audience(queue in self.queues, consumers, len(self.queues.get(queue, ())))

    def watch(self, queue: str, call: Callable[[], None]) -> None:
        """Call something whenever a queue may have something new."""
        self._watchers.setdefault(queue, []).append(call)

    def changed(self, queue: str) -> None:
        """Tell those who watch a queue."""
        for call in self._watchers.get(queue, []):
            call()

    def attach(self, link: Link) -> None:
        """Note a manager's connection, so that it can be broken."""
        self._links.append(link)

    # --- what can be made to happen ---

    def stop(self) -> None:
        """Go away; everything durable stays."""
        self.up = False
        self.break_links()

    def forget(self) -> None:
        """Go away, and lose all queues with what is in them."""
        self.stop()
        queues, self.queues = self.queues, {}
        for queue, messages in queues.items():
            self.forgotten.setdefault(queue, []).extend(message.body for message in messages)

    def start(self) -> None:
        """Come back."""
        self.up = True
        self.world.mended()
        for queue in list(self.queues):
            self.changed(queue)

    def block(self) -> None:
        """Take no more messages."""
        self.blocked = True
        self._tell_flow()

    def unblock(self) -> None:
        """Take messages again, those first that wait in the sockets."""
        self.blocked = False
        self.world.mended()
        held, self._held = self._held, []
        for arrive in held:
            arrive()
        self._tell_flow()

    def hang(self) -> None:
        """Deliver nothing more."""
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
        """Break every connection of the managers, or of one of them."""
        for link in list(self._links):
            if process is None or link.process is process:
                link.broken()

    def break_one(self) -> None:
        """Break one of them."""
        connected = [link for link in self._links if link.connected]
        if connected:
            self.world.chance.choice(connected).broken()
