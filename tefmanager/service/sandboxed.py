"""The manager on services of its own: starts a sandbox, the manager on it, and removes all when stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tefmanager.config.config import Config
from tefmanager.sandbox import Sandbox, SandboxError, describe
from tefmanager.support.taskgroup import TaskGroup

log = Logger()


class Sandboxed(Service):
    """Runs a service on a sandbox.

    Args:
        config: to be completed with the sandbox's addresses.
        make: makes the service of the completed configuration.
        give_up: is called with a reason when the sandbox can't be had.
    """

    def __init__(
        self,
        reactor: Any,
        config: Config,
        make: Callable[[Config], IService],
        give_up: Callable[[str], None],
    ) -> None:
        self._config = config
        self._make = make
        self._give_up = give_up
        self._sandbox = Sandbox(reactor)
        self._inner: IService | None = None
        self._task_group = TaskGroup(self._failed)

    def startService(self) -> None:
        """Start the sandbox, then the service."""
        super().startService()  # type: ignore[no-untyped-call]
        self._task_group.run(self._start())

    async def _start(self) -> None:
        _say("Starting RabbitMQ, PostgreSQL and Etcd; this takes some seconds.")
        try:
            found = await self._sandbox.start()
        except SandboxError as error:
            self._give_up(str(error))
            return
        for line in describe(found, self._config.env):
            _say(line)
        self._inner = self._make(self._config.with_services(found.amqp_url, found.database, found.etcd))
        self._inner.startService()  # type: ignore[no-untyped-call]

    def _failed(self, failure: Failure) -> None:
        log.failure("the sandbox failed", failure)
        self._give_up(f"the sandbox failed: {failure.getErrorMessage()}")

    def stopService(self) -> Deferred[None]:
        """Stop the service, then the sandbox."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._task_group.cancel()
        await self._task_group.wait()
        if self._inner is not None:
            stopping = self._inner.stopService()  # type: ignore[no-untyped-call]
            if stopping is not None:
                await stopping
        await self._sandbox.stop()


def _say(line: str) -> None:
    """Tell the person at the terminal; it is no event, and the addresses hold passwords."""
    out = sys.__stdout__
    if out is not None:
        print(line, file=out, flush=True)
