"""The demo's processes: the manager with its sandbox, and the workers. None of them outlives the demo."""

from __future__ import annotations

import os
import queue
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tefmanager.sandbox import Programs, SandboxError, guard

START_LIMIT = 120.0
"""Seconds that the sandbox may take to start."""

_STOP_LIMIT = 30.0
_WORKER = (sys.executable, "-P", "-m", "tefmanager.demo.worker")
_ADDRESSES = ("TEF_AMQP_URL_DEV", "TEF_ETCD_HOST_DEV", "TEF_ETCD_PORT_DEV")


class DemoError(Exception):
    """The demo can't continue; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Services:
    """The addresses of the sandbox's services.

    Attributes:
        amqp_url: RabbitMQ's URL.
        etcd_url: Etcd's URL.
        variables: environment variables for programs that use them.
    """

    amqp_url: str
    etcd_url: str
    variables: Mapping[str, str]


class Child:
    """A process under a guard, which ends it on request, or when the demo dies.

    Args:
        name: for people.
        arguments: absolute path of the program, and its arguments.
        environment: all its variables.
        errors: file for its standard error.
        stdout: file for its standard output, or ``subprocess.PIPE``.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        errors: Path,
        stdout: int = subprocess.DEVNULL,
    ) -> None:
        self.name = name
        self.errors = errors
        python = [sys.executable, "-I", "-S", guard.__file__]
        manners = [str(int(signal.SIGTERM)), str(_STOP_LIMIT), "-1", "-1"]
        with errors.open("ab") as file:
            self.process = subprocess.Popen(
                [*python, *manners, *arguments],
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=file,
            )

    def ended(self) -> str:
        """Return how it ended and what it printed, or an empty text while it runs."""
        status = self.process.poll()
        if status is None:
            return ""
        said = self.errors.read_text("utf-8", "replace").strip()
        return f"{self.name} ended with exit status {status}" + (f":\n{said}" if said else "")

    def stop(self) -> None:
        """Ask it to end."""
        self.process.terminate()

    def wait(self) -> int:
        """Wait for its end and return its exit status."""
        status = self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        return status


class Grid:
    """The processes of the demo.

    Args:
        folder: for their logs.

    Attributes:
        log: the manager's log file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "manager.log"
        self._children: list[Child] = []
        self._environment = {
            name: text for name, text in os.environ.items() if not name.upper().startswith("TEF_")
        } | {"TEF_ENV": "dev"}

    def start_manager(self, etcd_api: str) -> Services:
        """Start the manager with a sandbox, and return when its services are running.

        Raises `DemoError` if they don't come up.
        """
        options = ("--sandbox", f"--etcd-api={etcd_api}", f"--log-file={self.log}")
        arguments = [_twistd(), "-n", "--pidfile=", "tef-manager", *options]
        errors = self.folder / "manager.errors"
        manager = Child("the manager", arguments, self._environment, errors, subprocess.PIPE)
        self._children.append(manager)
        exported = _exported(manager)
        services = Services(
            exported["TEF_AMQP_URL_DEV"],
            f"http://{exported['TEF_ETCD_HOST_DEV']}:{exported['TEF_ETCD_PORT_DEV']}",
            exported,
        )
        self._environment |= exported
        return services

    def start_worker(self, worker_type: str, name: str) -> None:
        """Start an example worker."""
        arguments = [*_WORKER, "--type", worker_type, "--name", name]
        self._children.append(Child(name, arguments, self._environment, self.folder / f"{name}.errors"))

    def check(self, patience: float = 0.0) -> None:
        """Raise `DemoError` if a process has ended, or ends within some seconds."""
        deadline = time.monotonic() + patience
        while True:
            for child in self._children:
                if ended := child.ended():
                    raise DemoError(ended)
            if time.monotonic() >= deadline:
                return
            time.sleep(0.05)

    def stop(self) -> list[str]:
        """End all processes, the workers first; return what did not end as it should.

        Signals are ignored from here on: however impatient the user is, everything must be removed.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        children, self._children = self._children, []
        manager, workers = children[:1], children[1:]
        return _stop(workers) + _stop(manager)


@contextmanager
def new_grid() -> Iterator[Grid]:
    """Create a grid with a folder of its own; at the end stop it and remove the folder.

    After a `DemoError` the folder is kept, and the error is raised again with its name.
    """
    folder = Path(tempfile.mkdtemp(prefix="tef-demo-"))
    grid = Grid(folder)
    keep = False
    try:
        yield grid
    except DemoError as error:
        keep = True
        raise DemoError(f"{error}\nLogs are in {folder}") from error
    finally:
        grid.stop()
        if not keep:
            shutil.rmtree(folder)


def _stop(children: Sequence[Child]) -> list[str]:
    for child in children:
        child.stop()
    # twistd stops cleanly, and then kills itself with the signal that it received.
    return [child.ended() for child in children if child.wait() not in (0, 128 + signal.SIGTERM)]


def check_machine() -> None:
    """Raise `DemoError`, one line, if a program is missing."""
    _twistd()
    try:
        Programs.find()
    except SandboxError as error:
        raise DemoError(str(error)) from None


def _twistd() -> str:
    scripts = sysconfig.get_path("scripts")
    found = shutil.which("twistd", path=scripts) or shutil.which("twistd")
    if found is None:
        raise DemoError("twistd not found: install Twisted, or run script/demo, which does")
    return found


def _exported(manager: Child) -> dict[str, str]:
    """Return the variables that the manager tells people to export, as soon as it has printed all."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    assert manager.process.stdout is not None
    threading.Thread(target=_read_lines, args=(manager.process.stdout, lines), daemon=True).start()
    found: dict[str, str] = {}
    deadline = time.monotonic() + START_LIMIT
    while not found.keys() >= set(_ADDRESSES):
        found |= _variables(_next_line(manager, lines, deadline))
    return found


def _next_line(manager: Child, lines: queue.SimpleQueue[str | None], deadline: float) -> str:
    try:
        line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
    except queue.Empty:
        raise DemoError(f"the sandbox did not start within {START_LIMIT:.0f} seconds") from None
    if line is None:
        manager.process.wait()
        raise DemoError(manager.ended())
    return line


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[str | None]) -> None:
    """Read to the end, so that the manager never blocks for want of a reader."""
    for line in stream:
        lines.put(line.decode("utf-8", "replace"))
    lines.put(None)


def _variables(line: str) -> dict[str, str]:
    words = shlex.split(line) if line.lstrip().startswith("export ") else []
    return dict(word.split("=", 1) for word in words[1:])
