"""One program under its guard, for the reactor."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IProcessTransport, IReactorProcess
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tefmanager.sandbox import guard
from tefmanager.sandbox.machine import Account

GRACE = 10.0
"""Seconds that a program may take to stop before it is killed."""


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run.

    Attributes:
        arguments: absolute path of the program, then its arguments.
        folder: working folder, and the program's ``HOME``.
        log: file to which its output is appended.
        account: the user that runs it.
        environment: variables besides ``HOME``, ``PATH`` and ``LANG``; nothing is inherited.
        stop_signal: the signal at which it stops cleanly.
    """

    arguments: Sequence[str]
    folder: Path
    log: Path
    account: Account = field(default_factory=Account)
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: int = signal.SIGTERM


class Process:
    """A running program; it ends together with everything that it started.

    Args:
        reactor: starts it at once.
        command: the command to run.
    """

    def __init__(self, reactor: IReactorProcess, command: Command) -> None:
        self.status: int | None = None
        self._waiting: list[Deferred[int]] = []
        protocol = _GuardProtocol(self._ended)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(command.log, flags, 0o600), "ab") as log:
            self._guard: IProcessTransport = reactor.spawnProcess(
                protocol,
                sys.executable,
                _guarded(command),
                env=_environment(command),
                path=str(command.folder),
                childFDs={0: "w", 1: log.fileno(), 2: log.fileno()},
            )

    def wait(self) -> Deferred[int]:
        """Return its exit status when all its processes have ended; 128 + N after signal N."""
        done: Deferred[int] = Deferred()
        if self.status is None:
            self._waiting.append(done)
        else:
            done.callback(self.status)
        return done

    def stop(self) -> None:
        """Ask it to stop; after `GRACE` seconds it is killed. A frozen program is thawed."""
        self._signal_guard(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it and everything that it started, at once."""
        self._signal_guard(signal.SIGQUIT)

    def freeze(self) -> None:
        """Suspend it and everything that it started, with SIGSTOP; connections stay open."""
        self._signal_program(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue after `freeze`."""
        self._signal_program(signal.SIGCONT)

    def pids(self) -> list[int]:
        """Return the ids of all its processes, the guard first; empty after its end."""
        pid = self._guard.pid
        return [] if pid is None or self.status is not None else [pid, *guard.descendants(pid)]

    def _signal_guard(self, number: int) -> None:
        with suppress(ProcessExitedAlready):
            self._guard.signalProcess(number)

    def _signal_program(self, number: int) -> None:
        if self.status is None and self._guard.pid is not None:
            guard.signal_descendants(self._guard.pid, number)

    def _ended(self, status: int) -> None:
        self.status = status
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.callback(status)


class _GuardProtocol(ProcessProtocol):
    def __init__(self, ended: Callable[[int], None]) -> None:
        self._ended = ended

    def processEnded(self, reason: Failure) -> None:
        self._ended(_status(reason.value))


def _status(ended: BaseException | None) -> int:
    if not isinstance(ended, ProcessTerminated):
        return 0
    return ended.exitCode if ended.exitCode is not None else 128 + (ended.signal or 0)


def _guarded(command: Command) -> list[str]:
    # Isolated and without site: the guard needs neither, and starts in half the time.
    python = [sys.executable, "-I", "-S", guard.__file__]
    rights = [str(command.account.user), str(command.account.group)]
    return [*python, str(int(command.stop_signal)), str(GRACE), *rights, *command.arguments]


def _environment(command: Command) -> dict[str, str]:
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/usr/bin:/sbin:/bin"
    return {"HOME": str(command.folder), "LANG": "C.UTF-8", "PATH": path, **command.environment}
