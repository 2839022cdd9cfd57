"""A helper that runs the sandbox's servers, which wait for the disk as in production.

It is a separate process so that the measuring one needs no reactor. It prints the addresses, and stops the
servers when its input ends.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.stdio import StandardIO
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from benchmarks.services.programs import told
from tefmanager.sandbox import Sandbox


class _Input(Protocol):
    """Reports the end of the input."""

    def __init__(self) -> None:
        self.ended: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended.callback(None)


async def serve(reactor: Any, fast: bool) -> None:
    """Run the servers until the input ends."""
    lifeline = _Input()
    StandardIO(lifeline, reactor=reactor)  # type: ignore[no-untyped-call]
    sandbox = Sandbox(reactor, fast=fast)
    try:
        found = await sandbox.start()
        told(
            event="started",
            amqp_url=found.amqp_url,
            database=found.database,
            etcd=found.etcd,
            folder=str(found.folder),
            roots={server.name: server.pids()[0] for server in _servers(sandbox)},
        )
        await lifeline.ended
    finally:
        await sandbox.stop()


def _servers(sandbox: Sandbox) -> list[Any]:
    return [sandbox.rabbitmq, sandbox.postgresql, sandbox.etcd]


def main() -> int:
    """Run the servers; return the exit status."""
    from twisted.internet import reactor as the_reactor

    reactor: Any = the_reactor
    failures: list[Failure] = []
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)

    def begin() -> None:
        done = Deferred.fromCoroutine(serve(reactor, "--fast" in sys.argv))
        done.addErrback(failures.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=True)
    for failure in failures:
        sys.stderr.write(f"{failure.getErrorMessage()}\n")
    return len(failures)


if __name__ == "__main__":
    sys.exit(main())
