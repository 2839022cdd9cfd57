"""Where log lines go. Nothing here waits for long, and every lost line is counted.

Lines are given to the kernel at once, so a process that is killed has lost none. If the kernel does not
accept them, because the disk is full or nobody reads the pipe, they are kept up to a limit, then dropped
and counted; no later line overtakes them. Every second, writing is tried again.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import TypeAlias

from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import LoggedEvent

KEPT = 256 * 1024
"""How many bytes are kept while they can't be written."""

RETRY = 1.0
"""Seconds between two attempts to write, and between two checks whether the file was renamed."""

PATIENCE = 0.1
"""Seconds that a write to a pipe may wait for its reader."""

MODE = 0o640
"""Permissions of a new file."""

_PIECE = select.PIPE_BUF
"""How many bytes can be written to a pipe without waiting, if any can."""


Later: TypeAlias = Callable[[float, Callable[[], None]], object]
Render: TypeAlias = Callable[[LoggedEvent], bytes]


class Output:
    """Writes lines to a file descriptor that never blocks, such as a file's.

    Args:
        fd: the file descriptor.
        later: calls a function after a number of seconds.
        render: formats a line about the log itself.

    Attributes:
        lock: must be held by a thread that writes.
    """

    def __init__(
        self,
        fd: int,
        later: Later,
        render: Render,
    ) -> None:
        self.lock = RLock()
        self._fd = fd
        self._later = later
        self._render = render
        self._kept = b""
        self._torn = False
        self._trying = False
        self._lost = 0
        self._reason = ""

    def write(self, lines: bytes) -> None:
        """Write whole lines."""
        if self._lost:
            self._lost += lines.count(b"\n")
        elif self._kept:
            self._keep(lines)
        elif rest := self._put(lines, PATIENCE):
            self._torn = len(rest) < len(lines) and lines[-len(rest) - 1] != ord("\n")
            self._keep(rest)
            self._try_later()

    def _keep(self, lines: bytes) -> None:
        room = KEPT - len(self._kept)
        end = len(lines) if len(lines) <= room else lines.rfind(b"\n", 0, room) + 1
        self._kept += lines[:end]
        self._lost = lines.count(b"\n", end)

    def _try_later(self) -> None:
        if not self._trying:
            self._trying = True
            self._later(RETRY, self._again)

    def _again(self) -> None:
        self._trying = False
        self.catch_up()

    def catch_up(self) -> None:
        """Try again to write what is kept; when all of it is written, report how much was lost."""
        with self.lock:
            self._catch_up()
            if self._kept or self._lost:
                self._try_later()

    def _catch_up(self) -> None:
        rest = self._put(self._kept, 0.0)
        if len(rest) < len(self._kept):
            self._torn = bool(rest) and self._kept[-len(rest) - 1] != ord("\n")
        self._kept = rest
        if not rest and self._lost:
            lost, self._lost = self._lost, 0
            self.write(self._render(catalogue.LOG_LOST(lost, self._reason)))

    def reopen(self) -> None:
        """Open a named output again; a stream has no name."""

    def _put(self, lines: bytes, patience: float) -> bytes:
        """Write as much as possible, and return the rest."""
        written, end = 0, time.monotonic() + patience
        try:
            while written < len(lines):
                written += self._write_some(memoryview(lines)[written:], end)
        except OSError as error:
            self._reason = error.strerror or str(error)
        return lines[written:]

    def _write_some(self, lines: memoryview, end: float) -> int:
        return os.write(self._fd, lines)


class StreamOutput(Output):
    """Writes to a pipe, a socket or a terminal, whose reader may be slow."""

    def __init__(
        self,
        fd: int,
        later: Later,
        render: Render,
    ) -> None:
        super().__init__(fd, later, render)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def _write_some(self, lines: memoryview, end: float) -> int:
        if not self._poll.poll(max(0.0, end - time.monotonic()) * 1000):
            raise BlockingIOError(0, "nobody reads it")
        return os.write(self._fd, lines[:_PIECE])


class FileOutput(Output):
    """Appends to a file and follows its name: if it is renamed or removed, a new file is created.

    Raises OSError if it can't be opened the first time.
    """

    def __init__(
        self,
        path: Path,
        later: Later,
        render: Render,
    ) -> None:
        super().__init__(_open(path), later, render)
        self._path = path
        self._look = time.monotonic() + RETRY
        self._refused = False
        self._begin()

    def write(self, lines: bytes) -> None:
        """Write whole lines."""
        now = time.monotonic()
        if now >= self._look:
            self._look = now + RETRY
            if self._is_elsewhere():
                self.reopen()
        super().write(lines)

    def _is_elsewhere(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        except OSError:
            return False  # it can't be inspected, so it can't be opened either: keep the old file
        here = os.fstat(self._fd)
        return (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino)

    def reopen(self) -> None:
        """Open the file again; if that fails, keep the old one."""
        with self.lock:
            try:
                fd = _open(self._path)
            except OSError as error:
                self._refuse(error)
            else:
                old, self._fd = self._fd, fd
                os.close(old)
                self._begin()

    def _refuse(self, error: OSError) -> None:
        if not self._refused:  # reported once
            self._refused = True
            super().write(self._render(catalogue.LOG_NOT_REOPENED(self._path, error.strerror)))

    def _begin(self) -> None:
        self._refused = False
        if self._torn:  # its beginning is in the old file: drop the rest
            self._torn = False
            self._kept = self._kept[self._kept.index(b"\n") + 1 :]
            self._lost += 1
        if self._ends_torn():
            self._kept = b"\n" + self._kept
        if self._kept or self._lost:
            self.catch_up()

    def _ends_torn(self) -> bool:
        """Tell whether the last line is incomplete because a process or machine died."""
        found = os.fstat(self._fd)
        if not (stat.S_ISREG(found.st_mode) and found.st_size):
            return False
        return os.pread(self._fd, 1, found.st_size - 1) != b"\n"


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, MODE)
    except FileExistsError:
        return os.open(path, flags | os.O_CREAT, MODE)
    os.fchmod(fd, MODE)  # a daemon's umask would hide the file from those who watch it
    return fd
