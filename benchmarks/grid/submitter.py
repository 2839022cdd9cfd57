"""The client of the simulated grid: submits tasks as fast as confirms allow, at a rate, or one by one."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.grid import bodies
from benchmarks.grid.spec import LoadSpec
from benchmarks.services.programs import told
from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.unasked import ChannelEvents

CHANNEL = 1


class Submitter(ChannelEvents):
    """Submits tasks on a connection of its own, each persistent and confirmed by the broker.

    This one has a window of unconfirmed tasks, and otherwise submits as fast as it can.

    Attributes:
        sent: when each task was sent, by number.
    """

    def __init__(self, reactor: Any, protocol: AmqpProtocol, spec: LoadSpec) -> None:
        self.reactor = reactor
        self.spec = spec
        self.sent: dict[int, float] = {}
        self._protocol = protocol
        self._next = 0
        self._unconfirmed: set[int] = set()
        self._highest = 0
        queue = spec.address(0) if spec.bare else spec.queue
        self._frames = [bodies.to_queue(CHANNEL, queue, self._body(number)) for number in range(spec.tasks)]

    def _body(self, number: int) -> bytes:
        return bodies.task(number, bodies.names_for(number, self.spec.each, self.spec.names))

    async def open(self) -> None:
        """Open the channel."""
        channel = await self._protocol.open_channel(CHANNEL, self)
        await channel.confirm_select()

    @property
    def left(self) -> bool:
        """Whether there are tasks that were not sent yet."""
        return self._next < self.spec.tasks

    def start(self) -> None:
        """Begin."""
        self._fill()

    def _fill(self) -> None:
        room = self.spec.window - len(self._unconfirmed)
        if room >= min(self.spec.window, self.spec.tasks - self._next) // 10:
            self.send(room)

    def send(self, count: int) -> None:
        """Send so many tasks, or as many as are left."""
        first, self._next = self._next, min(self._next + count, self.spec.tasks)
        now = time.monotonic()
        self._protocol.transport.write(b"".join(self._frames[first : self._next]))
        for number in range(first, self._next):
            self.sent[number] = now
            self._unconfirmed.add(number + 1)

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """Count what the broker has accepted."""
        if not ok:
            raise RuntimeError("the broker has refused a task")
        if multiple:
            self._unconfirmed = {each for each in self._unconfirmed if each > tag}
        else:
            self._unconfirmed.discard(tag)
        if self.left:
            self.more()
        elif not self._unconfirmed:
            told(event="submitted", first=self.sent[0], last=time.monotonic())

    def more(self) -> None:
        """Send more tasks, if it is time, after a confirm."""
        self._fill()

    def came(self, number: int) -> None:
        """Note that a task has arrived at a worker."""


class AtRate(Submitter):
    """Submits so many tasks per second, whatever becomes of them."""

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        self._step()

    def _step(self) -> None:
        self.send(1)
        if self.left:
            due = self._began + self._next / self.spec.rate
            self.reactor.callLater(max(0.0, due - time.monotonic()), self._step)

    def more(self) -> None:
        """Ignore confirms."""


class OneByOne(Submitter):
    """Submits one task at a time, some time after the last one has arrived: the grid is idle each time."""

    def start(self) -> None:
        """Begin."""
        self.send(1)

    def more(self) -> None:
        """Ignore confirms."""

    def came(self, number: int) -> None:
        """Schedule the next task."""
        if self.left:
            self.reactor.callLater(self.spec.pause, self.send, 1)


SUBMITTERS: dict[str, type[Submitter]] = {"window": Submitter, "rate": AtRate, "one by one": OneByOne}
"""All submitters by name."""
