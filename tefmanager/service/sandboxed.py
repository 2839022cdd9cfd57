"""The manager with services of its own: starts a sandbox and the manager, and removes all when it stops."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tefmanager.config.config import Config
from tefmanager.sandbox import Sandbox, SandboxError, describe
from tefmanager.sandbox.machine import HOST, free_ports
from tefmanager.support.taskgroup import TaskGroup

log = Logger()

_TCP = re.compile(r"tcp:(?:port=)?([1-9]\d*)(?::interface=([\w.]+))?")
"""An address for the page on this machine: port, interface."""


class Sandboxed(Service):
    """Runs a service on a sandbox.

    Args:
        config: to be completed with the sandbox's addresses.
        make: makes the service from the completed configuration.
        give_up: is called with a reason if the sandbox can't start.
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
        config = with_own_page(self._config)
        for line in describe(found, config.env, page_address(config.http.endpoint)):
            _say(line)
        self._inner = self._make(config.with_services(found.amqp_url, found.database, found.etcd))
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


def with_own_page(config: Config) -> Config:
    """Return a configuration whose page has a port of its own.

    Another manager on this machine may use the default port, so the page gets a free one instead. An
    address that the user asked for is kept.
    """
    found = _TCP.fullmatch(config.http.endpoint)
    if config.http.asked or found is None or _is_free(int(found[1])):
        return config
    [port] = free_ports(1)
    return replace(config, http=replace(config.http, endpoint=f"tcp:{port}:interface={HOST}"))


def page_address(endpoint: str) -> str:
    """Return the page's URL for a Twisted endpoint description. One that is not plain TCP is kept."""
    found = _TCP.fullmatch(endpoint)
    return f"http://{found[2] or HOST}:{found[1]}/" if found else endpoint


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError:
            return False
    return True


def _say(line: str) -> None:
    """Print a line to the terminal. It is not logged, because the addresses contain passwords."""
    out = sys.__stdout__
    if out is not None:
        print(line, file=out, flush=True)
