"""Runs one program and makes sure that none of its processes outlives the process that started the guard.

Started by path, as ``python guard.py STOP_SIGNAL GRACE UID GID PROGRAM ARGUMENT...``, with a pipe as its
standard input that its parent never writes to. It needs only the standard library and works before it drops
privileges, since the unprivileged user may not be able to read this Python at all.

The guard stays between its parent and the program:

* when the program ends, the guard ends with the same exit status, or 128 + N after signal N;
* SIGTERM, or the end of the pipe because the parent died, stops the program: STOP_SIGNAL first, and
  SIGKILL after GRACE seconds;
* SIGQUIT kills the program at once.

It adopts the processes that the program leaves behind, daemons included, and kills them before it ends.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_NOBODY_ELSE = -1
_STDIN = 0


def descendants(pid: int) -> list[int]:
    """Return the ids of all living descendants of a process, parents before their children."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for each in found:
        found.extend(children.get(each, ()))
    return found[1:]


def _parents() -> dict[int, int]:
    """Return the parent of each process that is not a zombie."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with suppress(OSError):
            # The name before the last bracket may contain anything, even brackets and blanks.
            state, parent, *_ = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            if state not in (b"Z", b"X"):
                parents[int(folder.name)] = int(parent)
    return parents


def signal_descendants(pid: int, number: int) -> None:
    """Send a signal to all descendants of a process, including those that are born meanwhile."""
    reached: set[int] = set()
    while found := [each for each in descendants(pid) if each not in reached]:
        for each in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(each, number)
        reached.update(found)


class _Wakeup:
    """Turns signals into something that can be waited for together with the pipe."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def wait(self, pipe_open: bool, seconds: float | None) -> set[int]:
        """Return the signals that arrived; the end of the pipe counts as SIGTERM."""
        watched = [self.reader, _STDIN] if pipe_open else [self.reader]
        ready, _, _ = select.select(watched, [], [], seconds)
        numbers = set(os.read(self.reader, 4096)) if self.reader in ready else set()
        if _STDIN in ready and not os.read(_STDIN, 4096):
            numbers.add(signal.SIGTERM)
        return numbers


class Guard:
    """The guard of one program.

    Args:
        stop_signal: the signal at which the program stops cleanly.
        grace: seconds that it may take for that.
        account: user and group id to run it as, or -1 and -1 for the present user.
        command: absolute path and arguments.
    """

    def __init__(
        self, stop_signal: int, grace: float, account: tuple[int, int], command: Sequence[str]
    ) -> None:
        self._stop_signal = stop_signal
        self._grace = grace
        self._account = account
        self._command = command
        self._child = 0
        self._deadline: float | None = None

    def run(self) -> int:
        """Run the program; return its exit status when none of its processes is left."""
        os.setsid()  # so that after Ctrl-C in the terminal the parent decides what stops first
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        wakeup = _Wakeup()
        self._child = os.fork()
        if not self._child:
            self._become_program()
        try:
            return self._supervise(wakeup)
        finally:
            self._clear()

    def _become_program(self) -> None:
        """In the child: execute the program, or exit with 127."""
        try:
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(os.open(os.devnull, os.O_RDONLY), _STDIN)
            user, group = self._account
            if user != _NOBODY_ELSE:
                os.setgroups([group])
                os.setgid(group)
                os.setuid(user)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after setuid, which would clear it
            os.execv(self._command[0], list(self._command))
        except OSError as error:
            os.write(2, f"{self._command[0]}: {error.strerror}\n".encode())
        finally:
            os._exit(127)

    def _supervise(self, wakeup: _Wakeup) -> int:
        """Pass signals on until the program has ended; return its exit status."""
        while True:
            numbers = wakeup.wait(self._deadline is None, self._seconds_left())
            status = self._reap()
            if status is not None:
                return status
            if signal.SIGTERM in numbers and self._deadline is None:
                self._stop()
            if signal.SIGQUIT in numbers or self._seconds_left() == 0:
                signal_descendants(os.getpid(), signal.SIGKILL)

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())

    def _stop(self) -> None:
        self._deadline = time.monotonic() + self._grace
        signal_descendants(
            os.getpid(), signal.SIGCONT
        )  # a frozen program would not receive the other signal
        os.kill(self._child, self._stop_signal)

    def _reap(self) -> int | None:
        """Reap all ended children; return the program's exit status if it was among them."""
        result = None
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                if pid == self._child:
                    code = os.waitstatus_to_exitcode(status)
                    result = 128 - code if code < 0 else code
        return result

    def _clear(self) -> None:
        """Kill what the program left behind: the guard has adopted it, so it sees when nothing is left."""
        with suppress(ChildProcessError):
            while True:
                signal_descendants(os.getpid(), signal.SIGKILL)
                os.waitpid(-1, 0)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def main(arguments: Sequence[str]) -> int:
    """Parse the command line, run the guard, return the exit status."""
    stop_signal, grace, user, group, *command = arguments
    return Guard(int(stop_signal), float(grace), (int(user), int(group)), command).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
