"""A helper that simulates a grid: workers that complete tasks at once, and a client that submits tasks.

It shares the machine's cores with what is measured, so it does as little as possible: it uses the manager's
own AMQP protocol (consuming a message costs 7 µs; pika needs 100), prepares everything that it will send,
and sends its three messages about a task in one write. Each worker has a channel, as in the field, but all
channels are on one connection. It reads these lines, and prints events
(`benchmarks.services.programs.told`)::

    workers    all workers say idle                               → workers
    submit     begin to submit; when all are confirmed             → submitted
               when as many have come to workers as submitted      → worked
    beat       send heartbeats from now on                        → beating
    samples    how long each task took to its worker               → samples

Times are those of ``time.monotonic``, which all processes share.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure

from benchmarks.grid import bodies
from benchmarks.grid.spec import LoadSpec
from benchmarks.grid.submitter import SUBMITTERS, Submitter
from benchmarks.services.programs import told
from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.connection import connect
from tefmanager.amqp.frames import Properties, ack_frames
from tefmanager.amqp.tls_context import client_tls
from tefmanager.amqp.unasked import ChannelEvents
from tefmanager.config.endpoints import AmqpEndpoint

FIRST_WORKER = 2
"""The first worker's channel; the channel before it declares queues and sends heartbeats."""

_BEAT_STEP = 0.1


class Worker(ChannelEvents):
    """A worker that takes a task, completes it at once, and is idle again."""

    def __init__(self, load: Load, protocol: AmqpProtocol, number: int, spec: LoadSpec) -> None:
        self._load = load
        self._protocol = protocol
        self.channel = FIRST_WORKER + number
        says = ("working", "task_complete", "idle") if spec.answer else ()
        self._answer = b"".join(status_frames(spec, number, each, self.channel) for each in says)

    def delivered(self, tag: int, redelivered: bool, properties: Properties, body: bytes) -> None:
        """Record the task's arrival, and answer."""
        now = time.monotonic()
        self._protocol.transport.write(ack_frames(self.channel, [(tag, False)]) + self._answer)
        self._load.came(bodies.number_of(body), now)


class Load:
    """The simulated grid.

    Args:
        spec: what it does.
    """

    def __init__(self, reactor: Any, spec: LoadSpec) -> None:
        self._reactor = reactor
        self._spec = spec
        self._submitter: Submitter
        self._protocol: AmqpProtocol
        self._numbers: list[int] = []
        self._times: list[float] = []
        self._beats = LoopingCall(self._beat)
        self._beaten = 0.0

    # --- beginning and end ---

    async def open(self) -> None:
        """Connect, and create all queues and consumers."""
        endpoint = AmqpEndpoint(port=self._spec.port, heartbeat=0)
        self._protocol = await connect(self._reactor, endpoint, "workers", client_tls)
        channel = await self._protocol.open_channel(1, ChannelEvents())
        await channel.queue_declare(queue=self._spec.queue, durable=True)
        if self._spec.listen:
            for start in range(0, self._spec.workers, 50):
                some = range(start, min(start + 50, self._spec.workers))
                await gatherResults([Deferred.fromCoroutine(self._open_worker(each)) for each in some])
        sending = await connect(self._reactor, endpoint, "submitter", client_tls)
        self._submitter = SUBMITTERS[self._kind()](self._reactor, sending, self._spec)
        await self._submitter.open()

    def _kind(self) -> str:
        return "rate" if self._spec.rate else "one by one" if self._spec.pause else "window"

    async def _open_worker(self, number: int) -> None:
        worker = Worker(self, self._protocol, number, self._spec)
        channel = await self._protocol.open_channel(worker.channel, worker)
        address = self._spec.address(number)
        await channel.queue_declare(queue=address, durable=True)
        await channel.basic_consume(queue=address, consumer_tag=f"w{number}")

    async def close(self) -> None:
        """Remove all queues, including the manager's."""
        if self._beats.running:
            self._beats.stop()
        channel = self._protocol.channels[1]
        ours = [self._spec.address(number) for number in range(self._spec.workers * self._spec.listen)]
        for name in (*ours, self._spec.queue, f"{self._spec.queue}.dead", f"{self._spec.queue}.rejected"):
            await channel.queue_delete(queue=name)

    # --- commands ---

    def do(self, line: str) -> None:
        """Carry out a line of input."""
        {
            "workers": self._all_idle,
            "submit": self._submit,
            "beat": self._start_beats,
            "samples": self._tell,
        }[line]()

    def _all_idle(self) -> None:
        self._protocol.transport.write(
            b"".join(status_frames(self._spec, number, "idle", 1) for number in range(self._spec.workers))
        )
        told(event="workers", at=time.monotonic())

    def _submit(self) -> None:
        self._submitter.start()

    def came(self, number: int, now: float) -> None:
        """Count a task that arrived at a worker."""
        self._numbers.append(number)
        self._times.append(now)
        if len(self._times) == self._spec.tasks:
            told(event="worked", first=self._times[0], last=now)
        self._submitter.came(number)

    # --- heartbeats ---

    def _start_beats(self) -> None:
        self._beats.start(_BEAT_STEP)
        told(event="beating", at=time.monotonic())

    def _beat(self) -> None:
        workers = self._spec.workers
        before, self._beaten = self._beaten, self._beaten + _BEAT_STEP * workers / self._spec.heartbeat
        due = range(int(before), int(self._beaten))
        frames = [status_frames(self._spec, number % workers, "idle", 1) for number in due]
        self._protocol.transport.write(b"".join(frames))

    # --- results ---

    def _tell(self) -> None:
        sent = self._submitter.sent
        pairs = zip(self._numbers, self._times, strict=True)
        times = [round(1000 * (at - sent[number]), 3) for number, at in pairs if number in sent]
        twice = sum(count - 1 for count in Counter(self._numbers).values())
        told(event="samples", milliseconds=times, arrivals=self._times[: self._spec.tasks], twice=twice)


def status_frames(spec: LoadSpec, number: int, says: str, channel: int) -> bytes:
    """Return the frames of a worker's message."""
    body = bodies.status(f"{spec.prefix}-{number}", spec.address(number), says)
    return bodies.to_queue(channel, spec.queue, body)


class _Lines(LineReceiver):
    """Reads lines of input, and reports its end."""

    delimiter = b"\n"

    def __init__(self, load: Load) -> None:
        self._load = load
        self.ended: Deferred[None] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        self._load.do(line.decode())

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


async def serve(reactor: Any, spec: LoadSpec) -> None:
    """Run the grid until the input ends."""
    load = Load(reactor, spec)
    await load.open()
    lines = _Lines(load)
    # Not on our own output: that would become non-blocking, and long events would be cut.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    StandardIO(lines, reactor=reactor, stdout=nowhere)  # type: ignore[no-untyped-call, call-arg]
    told(event="open")
    await lines.ended
    await load.close()


def main() -> int:
    """Run the grid; return the exit status."""
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    failures: list[Failure] = []
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)

    def begin() -> None:
        done = Deferred.fromCoroutine(serve(reactor, LoadSpec.from_json(sys.argv[1])))
        done.addErrback(failures.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    for failure in failures:
        sys.stderr.write(failure.getTraceback())
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
