"""Programs that are measured, and helpers that measure. None of them outlives the benchmark."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tefmanager.sandbox import guard

ROOT = Path(__file__).parents[2]
"""The checkout."""

PATIENCE = 60.0
"""Seconds after which an expected event counts as missing."""

_GRACE = 20.0


class BenchmarkError(Exception):
    """Something could not be measured; the text says why, for people."""


def environment(**more: str) -> dict[str, str]:
    """Return variables for a program that needs the checkout's modules, without any ``TEF_…`` variable."""
    kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("TEF_")}
    return {**kept, "PYTHONPATH": str(ROOT), **more}


class Program:
    """A program under a guard, which ends it and its children on request, or when the benchmark dies.

    Args:
        name: for people.
        arguments: absolute path of the program, and its arguments.
        variables: its whole environment.
        folder: its working folder, which also gets its output: ``<name>.out`` and ``<name>.err``.
    """

    def __init__(
        self, name: str, arguments: Sequence[str], variables: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.output = folder / f"{name}.out"
        self.errors = folder / f"{name}.err"
        python = [sys.executable, "-I", "-S", guard.__file__]
        manners = [str(int(signal.SIGTERM)), str(_GRACE), "-1", "-1"]
        with self.output.open("wb") as out, self.errors.open("wb") as err:
            self._process = subprocess.Popen(
                [*python, *manners, *arguments],
                env=dict(variables),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            )

    @property
    def root(self) -> int:
        """The id of the guard, the parent of the program's processes."""
        return self._process.pid

    @property
    def pid(self) -> int:
        """The id of the program itself."""
        return guard.descendants(self._process.pid)[0]

    @property
    def failed(self) -> bool:
        """Whether it has ended with an error."""
        return bool(self._process.poll())

    def check(self) -> None:
        """Raise `BenchmarkError` if it has ended."""
        if self._process.poll() is not None:
            raise BenchmarkError(self._last_words())

    def wait(self, seconds: float = PATIENCE) -> str:
        """Wait until it ends successfully, and return its output. Raises `BenchmarkError`."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"{self.name} did not end within {seconds:g} s") from None
        if status:
            raise BenchmarkError(self._last_words())
        return self.output.read_text()

    def stop(self) -> None:
        """Stop it cleanly, or kill it after 20 seconds."""
        self._process.terminate()
        self._gone()

    def kill(self) -> None:
        """Kill it at once."""
        self._process.send_signal(signal.SIGQUIT)
        self._gone()

    def _gone(self) -> None:
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _last_words(self) -> str:
        said = self.errors.read_text("utf-8", "replace").strip() or self.output.read_text(
            "utf-8", "replace"
        )
        return f"{self.name} ended with exit status {self._process.returncode}:\n{said[-2000:]}"


class Helper:
    """A program of ours that reads lines, prints events as lines of JSON, and ends with its input.

    Args:
        name: for people.
        module: dotted name of its module.
        arguments: arguments of its command line.
        errors: file for its standard error.
    """

    def __init__(self, name: str, module: str, arguments: Sequence[str], errors: Path) -> None:
        self.name = name
        self._errors = errors
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        with errors.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                env=environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                start_new_session=True,  # after Ctrl-C, we decide what stops first
            )
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    @property
    def root(self) -> int:
        """Its process id."""
        return self._process.pid

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._events.put(json.loads(line))
        self._events.put(None)

    def tell(self, line: str) -> None:
        """Send it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def wait(self, event: str, seconds: float = PATIENCE) -> dict[str, Any]:
        """Wait for an event with this name, and return it. Raises `BenchmarkError`."""
        deadline = time.monotonic() + seconds
        while True:
            told = self._next(event, deadline)
            if told["event"] == event:
                return told

    def _next(self, event: str, deadline: float) -> dict[str, Any]:
        try:
            told = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise BenchmarkError(f"{self.name}: no {event!r} in time") from None
        if told is None:
            said = self._errors.read_text("utf-8", "replace")
            raise BenchmarkError(f"{self.name} has ended:\n{said[-2000:]}")
        return told

    def stop(self) -> None:
        """Let it end; it is killed after 30 seconds."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def told(**event: object) -> None:
    """In a helper: print an event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def until(true: Any, what: str, seconds: float = PATIENCE, pause: float = 0.01) -> None:
    """Poll until a condition holds. Raises `BenchmarkError` if it takes too long."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(pause)
