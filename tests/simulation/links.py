"""A manager's connections to the simulated broker: deliveries in order, confirms, losses."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from zope.interface import implementer

from tefmanager.amqp.codec import encode_table
from tefmanager.core.model.audience import Audience
from tefmanager.interfaces.amqp import (
    Delivered,
    Delivery,
    IConsumer,
    IDeliveries,
    IPublisher,
    Lying,
    Message,
    Take,
    Tell,
    tell_nobody,
)
from tefmanager.support.lease import Lease
from tests.simulation.broker import Broker, Stored
from tests.simulation.observer import Observer
from tests.simulation.world import Fate, Process

STOP_TIMEOUT = 5.0
"""Seconds to wait for confirms when stopping."""

BROKEN = "the connection broke"

TWICE = 0.01
"""How often the connection breaks after a message was put back, before the original is acknowledged."""

LATE = 5.0
"""Seconds after which a message may still arrive although its connection has broken."""


def find_out(process: Process, line: str, call: Callable[..., object], *args: object) -> None:
    """Let a process notice that a connection is gone: by an error, or because it is silent."""
    if process.cut:
        process.later(0.0, 2.0, call, *args)
    else:
        process.hear(line, (0.0, 0.05), call, *args)


@implementer(IConsumer)
class SimConsumer:
    """A manager's consuming connection; ``prefetch``: how many unacknowledged messages it gets."""

    def __init__(self, broker: Broker, process: Process, queue: str, prefetch: int = 20) -> None:
        self._broker = broker
        self._process = process
        self._queue = queue
        self.prefetch = prefetch
        self._window = 1
        self._deliveries: IDeliveries | None = None
        self._session = 0
        self._connected = False
        self._ceased = False
        self._tag = 0
        self._unacked: OrderedDict[int, Stored] = OrderedDict()
        self._given_back: OrderedDict[int, Stored] = OrderedDict()
        self.tell: Callable[[str], None] = lambda fault: None
        broker.attach(self)
        broker.consume(queue, self)
        process.deaths.append(self.broken)

    @property
    def _way(self) -> tuple[float, float]:
        return self._process.world.way("broker")

    def start(self, deliveries: IDeliveries, rank: int = 0, narrow: bool = False) -> None:
        """See `IConsumer.start`."""
        self._process.step()
        if self._process.alive:
            self._deliveries = deliveries
            self._ceased = False
            self._window = 1 if narrow else self.prefetch
            self._process.later(0.01, 0.1, self._connect)

    def _connect(self) -> None:
        if self._deliveries is None or self._connected:
            return
        if not self._broker.up or self._process.cut:
            self._process.later(0.1, 2.0, self._connect)
            return
        self._broker.declare(self._queue)
        self._connected = True
        self._session += 1
        self._tag = 0
        self.tell("")
        self._pump()

    async def cease(self) -> None:
        """See `IConsumer.cease`."""
        self._process.step()
        if self._process.alive:
            self._ceased = True

    @property
    def takes(self) -> bool:
        """See `Taker`."""
        return self._connected and not self._ceased and len(self._unacked) < self._window

    def widen(self, wholly: bool) -> None:
        """See `IConsumer.widen`."""
        if self._window < self.prefetch:
            self._window = self.prefetch if wholly else min(2 * self._window, self.prefetch)
            self._pump()

    def take(self, message: Stored) -> None:
        """See `Taker`."""
        self._tag += 1
        self._unacked[self._tag] = message
        known = (message.redelivered, message.body)
        headers = encode_table(message.headers) if message.headers else None
        delivery = Delivery(self._session, self._tag, *known, headers=headers, given_back=message.returns)
        self._process.hear("consumer", self._way, self._deliver, delivery)

    def _pump(self) -> None:
        self._broker.deal(self._queue)

    def _deliver(self, delivery: Delivery) -> None:
        if self._deliveries is not None and delivery.session == self._session:
            self._deliveries.delivered(delivery)

    def ack(self, session: int, tags: Sequence[int]) -> None:
        """See `IConsumer.ack`."""
        fate = self._process.fate()
        known = self._unacked or self._given_back
        meant = {tag: known[tag] for tag in tags if tag in known}
        if self._process.alive and fate is not Fate.UNHEARD:
            self._process.send("consumer", self._way, self._acked, session, meant, fate)
        else:
            self._lose(meant)
            self.broken()

    def _acked(self, session: int, meant: dict[int, Stored], fate: Fate) -> None:
        if session != self._session or not self._connected:
            self._lose(meant)
            return
        for tag, message in meant.items():
            del self._unacked[tag]
            self._broker.acknowledged(message)
        self._pump()
        if fate is Fate.UNANSWERED:
            self.broken()

    def _lose(self, meant: dict[int, Stored]) -> None:
        self._broker.unheard.update(message.body for message in meant.values())

    @property
    def process(self) -> Process:
        """See `Link`."""
        return self._process

    @property
    def connected(self) -> bool:
        """See `Link`."""
        return self._connected

    def flow(self) -> None:
        """A blocked broker continues to deliver."""

    def broken(self) -> None:
        """The connection breaks; the manager notices a little later than the broker."""
        if self._connected:
            self._drop()
            find_out(self._process, "consumer", self._lost, self._session)

    def _drop(self) -> None:
        self._connected = False
        self._given_back, self._unacked = self._unacked, OrderedDict()
        self._broker.give_back(self._queue, list(self._given_back.values()))

    def _lost(self, session: int) -> None:
        if self._deliveries is not None and session == self._session:
            self.tell(BROKEN)
            self._deliveries.session_lost(session, BROKEN)
            self._process.later(0.05, 1.0, self._connect)

    def renew(self, reason: str) -> None:
        """See `IConsumer.renew`."""
        self.broken()

    async def stop(self) -> None:
        """See `IConsumer.stop`."""
        await self._process.ask()
        self._deliveries = None
        self._broker.unanswered += 1  # the leadership ends, with everything that was under way
        if self._connected:
            self._drop()
        self._session += 1  # earlier deliveries belong to nobody


@dataclass(eq=False)
class Entry:
    """A message between its publishing and the broker's answer; ``either``: it may go to an exchange."""

    queue: str
    message: Message
    tell: Tell
    either: bool = False
    answer: Deferred[Delivered] = field(default_factory=Deferred)


def _tell(found: Audience, answer: Deferred[Audience]) -> None:
    if not answer.called:
        answer.callback(found)


@implementer(IPublisher)
class SimPublisher:
    """A manager's publishing connection."""

    def __init__(self, broker: Broker, process: Process, lease: Lease, observer: Observer) -> None:
        self._broker = broker
        self._process = process
        self._lease = lease
        self._judge = observer
        self._session = 0
        self._connected = False
        self._started = self._stopped = False
        self._writable = True
        self.tell_blocked: Callable[[str], None] = lambda fault: None
        self._unblocked: Callable[[], None] = lambda: None
        self._waiting: deque[Entry] = deque()
        self._open: list[Entry] = []
        self.tell: Callable[[str], None] = lambda fault: None
        lease.on_renewal(self._drain)
        broker.attach(self)
        process.deaths.append(self.broken)

    @property
    def _way(self) -> tuple[float, float]:
        return self._process.world.way("broker")

    def announce(self, key: str, body: Callable[[], bytes]) -> None:
        """See `IPublisher.announce`. Nobody receives it, since nothing depends on it; it is only built."""
        if self._connected and self._lease.holds:
            body()

    def start(self, unblocked: Callable[[], None] = lambda: None) -> None:
        """See `IPublisher.start`."""
        self._unblocked = unblocked
        self._started = True
        self._stopped = False
        self._process.later(0.01, 0.1, self._connect)

    def _connect(self) -> None:
        if not self._started or self._connected:
            return
        if not self._broker.up or self._process.cut:
            self._process.later(0.1, 2.0, self._connect)
            return
        self._connected = True
        self._session += 1
        self.tell("")
        self._writable = not self._broker.blocked
        self.tell_blocked("" if self._writable else "no space")
        self._drain()

    @property
    def process(self) -> Process:
        """See `Link`."""
        return self._process

    @property
    def connected(self) -> bool:
        """See `Link`."""
        return self._connected

    def flow(self) -> None:
        """See `Link`."""
        self._process.hear("publisher", self._way, self._flow)

    def _flow(self) -> None:
        was, self._writable = self._writable, not self._broker.blocked
        self.tell_blocked("" if self._writable else "no space")
        if self._writable and not was:
            self._unblocked()
        self._drain()

    async def send(self, queue: bytes, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """See `IPublisher.send`."""
        return await self._publish(Entry(queue.decode(), message, tell))

    async def dispatch(self, address: str, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """See `IPublisher.dispatch`."""
        return await self._publish(Entry(address, message, tell, either=True))

    async def audience(self, queue: str) -> Audience | None:
        """See `IPublisher.audience`. If the connection breaks, no answer comes."""
        if not self._connected:
            return None
        answer: Deferred[Audience] = Deferred()
        self._process.send("lookups", self._way, self._look, queue, answer)
        return await answer

    def _look(self, queue: str, answer: Deferred[Audience]) -> None:
        if self._connected and self._broker.up:
            found = self._broker.audience(queue)
            self._process.hear("lookups", self._way, _tell, found, answer)

    async def sift(self, queue: bytes, take: Take, at_most: int | None = None) -> str | None:
        """See `IPublisher.sift`. If the connection breaks, it ends early; what was taken out is gone."""
        while not (self._connected or self._stopped):
            await deferLater(self._process, 0.05)
        session, name = self._session, queue.decode()
        count = len(self._broker.queues.get(name, ()))
        for _ in range(count if at_most is None else min(count, at_most)):
            await self._process.ask()
            await deferLater(self._process, self._process.world.chance.uniform(*self._way))
            gone = session != self._session or not self._connected or self._process.cut
            if gone or name in self._broker.full or not self._broker.queues.get(name):
                return "it can't be gone on with"
            self._judge.writes(self._process.name, "the broker")
            stored = self._broker.queues[name].popleft()
            if not take(Lying(stored.body, stored.headers, b"")):
                self._broker.queues[name].append(stored)
                if self._process.world.chance.random() < TWICE:
                    self._broker.queues[name].appendleft(stored)
                    self.broken()
                    return "it can't be gone on with"
        return None

    async def declare(self, queue: bytes) -> None:
        """See `IPublisher.declare`."""
        while not (self._connected or self._stopped):
            await deferLater(self._process, 0.05)
        self._broker.declare(queue.decode())

    async def _publish(self, entry: Entry) -> Delivered:
        if self._stopped:
            return Delivered.LOST
        entry.answer = Deferred(lambda _: self._take_back(entry))
        self._waiting.append(entry)
        self._drain()
        return await entry.answer

    def _take_back(self, entry: Entry) -> None:
        if entry in self._waiting:
            self._waiting.remove(entry)

    def _drain(self) -> None:
        while self._waiting and self._connected and self._writable and self._lease.holds:
            fate = self._process.fate()
            if not self._process.alive:
                return
            entry = self._waiting.popleft()
            self._open.append(entry)
            self._judge.writes(self._process.name, "the broker")
            self._process.send("publisher", self._way, self._sent, self._session, entry, fate)

    def _sent(self, session: int, entry: Entry, fate: Fate) -> None:
        if session != self._session or not self._connected:
            if self._process.world.chance.random() < 0.5:
                late = partial(self._broker.put, entry.queue, entry.message.body, entry.message.headers)
                self._process.world.later(0.0, LATE, self._broker.receive, late)
        elif fate is Fate.UNHEARD:
            self.broken()
        else:
            self._broker.receive(lambda: self._arrive(session, entry, fate))

    def _arrive(self, session: int, entry: Entry, fate: Fate) -> None:
        full, barred = entry.queue in self._broker.full, entry.queue in self._broker.forbidden
        body, headers = entry.message.body, entry.message.headers
        there = not (full or barred) and self._broker.put(entry.queue, body, headers)
        if not (there or barred) and entry.either and entry.queue in self._broker.bindings:
            there = self._broker.put(self._broker.bindings[entry.queue], body, headers)
        if session != self._session or not self._connected:
            return
        if fate is Fate.UNANSWERED:
            self.broken()
        else:
            missing = Delivered.NACKED if full else Delivered.RETURNED
            outcome = Delivered.CONFIRMED if there else missing
            self._process.hear("publisher", self._way, self._confirm, session, entry, outcome)

    def _confirm(self, session: int, entry: Entry, outcome: Delivered) -> None:
        if session == self._session:
            self._settle(entry, outcome)

    def _settle(self, entry: Entry, outcome: Delivered) -> None:
        if entry in self._open:
            self._open.remove(entry)
            if not entry.answer.called:
                if outcome is not Delivered.CONFIRMED:
                    entry.tell("312 NO_ROUTE" if outcome is Delivered.RETURNED else "the connection broke")
                entry.answer.callback(outcome)

    def broken(self) -> None:
        """The connection breaks: what was not confirmed may have arrived or not."""
        if self._connected:
            self._broker.unanswered += bool(self._open)
            self._connected = False
            find_out(self._process, "publisher", self._lose)

    def _lose(self) -> None:
        self.tell(BROKEN)
        for entry in list(self._open):
            self._settle(entry, Delivered.LOST)
        self._process.later(0.05, 1.0, self._connect)

    def renew(self, reason: str) -> None:
        """See `IPublisher.renew`."""
        self.broken()

    async def stop(self) -> None:
        """See `IPublisher.stop`."""
        self._started = False
        self._stopped = True
        until = self._process.seconds() + STOP_TIMEOUT
        while self._open and self._connected and self._process.seconds() < until:
            await deferLater(self._process, 0.05)
        self._connected = False
        waiting, self._waiting = self._waiting, deque()
        for entry in (*self._open, *waiting):
            if not entry.answer.called:
                entry.answer.callback(Delivered.LOST)
        self._open.clear()
