"""The base of the sandbox's servers: start, wait for an answer, stop, break."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import ConnectError
from twisted.internet.task import deferLater

from tefmanager.sandbox.machine import Account, SandboxError
from tefmanager.sandbox.process import Command, Process

__all__ = ["SandboxError", "Server"]

Reactor = Any
"""The reactor: processes, TCP and time, for which zope has no common name."""

START_LIMIT = 90.0
"""Seconds after which starting a server that does not answer fails."""

_PROBE_LIMIT = 5.0
_PROBE_INTERVAL = 0.05
_LOG_LINES = 15


class NotReady(Exception):
    """The server does not answer as it should yet."""


class Server(ABC):
    """A server of the sandbox. A subclass says which command to run and how to see that it answers.

    It keeps its ports and its data from one `start` to the next.

    Args:
        reactor: runs everything.
        folder: the server's own folder, created at the first start.
        account: the user that runs it.
    """

    name = ""

    def __init__(self, reactor: Reactor, folder: Path, account: Account) -> None:
        self.folder = folder
        self.log = folder.with_name(
            f"{folder.name}.log"
        )  # we open the log ourselves: not in another user's folder
        self._reactor = reactor
        self._account = account
        self._process: Process | None = None
        self._prepared = False
        self._wanted = False

    # What differs between servers ---------------------------------------------------------------

    @abstractmethod
    async def prepare(self) -> None:
        """Create what the server needs before its first start."""

    @abstractmethod
    def command(self) -> Command:
        """Return the command to run."""

    @abstractmethod
    async def probe(self) -> None:
        """Do what a client would do first. Raises `NotReady`, or a network error."""

    # What all servers share ---------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether any of its processes exists, frozen or not."""
        return self._process is not None and self._process.status is None

    def pids(self) -> list[int]:
        """Return the ids of all its processes."""
        return [] if self._process is None else self._process.pids()

    async def start(self) -> None:
        """Start it and wait until it answers. Does nothing if it is running.

        Raises `SandboxError` with its exit status and the end of its log if it does not come up.
        """
        if self.running:
            return
        self._wanted = True
        if not self._prepared:
            self._account.make_folder(self.folder)
            await self.prepare()
            self._prepared = True
        if not self._wanted:
            raise SandboxError(f"{self.name} was stopped before it had started")
        self._process = Process(self._reactor, self.command())
        await self._ready(self._process)

    async def stop(self) -> None:
        """Stop it cleanly and wait until none of its processes is left. A frozen server is thawed first."""
        self._wanted = False
        if self._process is not None:
            self._process.stop()
            await self._process.wait()

    async def kill(self) -> None:
        """Kill all its processes with SIGKILL and wait until none is left."""
        self._wanted = False
        if self._process is not None:
            self._process.kill()
            await self._process.wait()

    async def discard(self) -> None:
        """End it the quickest way that leaves nothing outside its folder; its data is not needed again."""
        await self.kill()

    def freeze(self) -> None:
        """Suspend all its processes (SIGSTOP): connections stay open, nobody answers."""
        if self._process is not None:
            self._process.freeze()

    def thaw(self) -> None:
        """Let its processes continue after `freeze`."""
        if self._process is not None:
            self._process.thaw()

    async def run(self, command: Command) -> None:
        """Run a program to its end. Raises `SandboxError` unless its exit status is 0."""
        self._process = Process(self._reactor, command)
        if await self._process.wait():
            raise self._failed(Path(command.arguments[0]).name)

    async def _ready(self, process: Process) -> None:
        limit = self._reactor.callLater(START_LIMIT, process.kill)
        try:
            if not await self._answers(process):
                late = "" if limit.active() else f" did not answer within {START_LIMIT:.0f} seconds and"
                raise self._failed(f"{self.name}{late}")
        finally:
            if limit.active():
                limit.cancel()

    async def _answers(self, process: Process) -> bool:
        """Probe again and again until the server answers or has ended."""
        while process.status is None:
            probe = Deferred.fromCoroutine(self.probe()).addTimeout(_PROBE_LIMIT, self._reactor)
            try:
                await probe
            except (NotReady, ConnectError, TimeoutError, OSError):
                await deferLater(self._reactor, _PROBE_INTERVAL)
            else:
                return True
        return False

    def _failed(self, who: str) -> SandboxError:
        status = None if self._process is None else self._process.status
        what = "is still running" if status is None else _exit_text(status)
        return SandboxError(f"{who} {what}; the end of {self.log}:\n{_tail(self.log)}")


def _exit_text(status: int) -> str:
    return f"was ended by signal {status - 128}" if status > 128 else f"ended with exit status {status}"


def _tail(log: Path) -> str:
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        return f"({error.strerror})"
    return "\n".join(lines[-_LOG_LINES:]) or "(empty)"
