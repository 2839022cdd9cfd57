"""Where lines of the log go: files that are renamed, disks that are full, pipes that nobody reads."""

from __future__ import annotations

import os
import resource
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tefmanager.logfile import outputs
from tefmanager.logfile.outputs import KEPT, PATIENCE, FileOutput, StreamOutput
from tefmanager.protocol.catalogue import LoggedEvent


class Timers:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, call: Callable[[], None]) -> None:
        self.waiting.append((seconds, call))

    def ring(self) -> None:
        """Let a second go by."""
        waiting, self.waiting = self.waiting, []
        assert waiting
        for _, call in waiting:
            call()


def render(line: LoggedEvent) -> bytes:
    """Make the bytes of a line about the log."""
    return f"{line.text}\n".encode()


@pytest.fixture
def timers() -> Timers:
    """Timers that ring when they are told to."""
    return Timers()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A log file that is not there yet."""
    return tmp_path / "tef.log"


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: what fits is written, the rest is refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# --- a file ---


def test_a_new_file_can_be_read_by_its_group(path: Path, timers: Timers) -> None:
    """A daemon's umask hides it from nobody who is meant to watch it."""
    before = os.umask(0o077)
    try:
        FileOutput(path, timers, render).write(b"a\n")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_that_is_there_is_appended_to(path: Path, timers: Timers) -> None:
    """Its mode is left as somebody wanted it."""
    path.write_bytes(b"before\n")
    path.chmod(0o604)
    output = FileOutput(path, timers, render)
    output.write(b"a\n")
    with path.open("ab") as other:
        other.write(b"of another program\n")
    output.write(b"b\n")
    assert path.read_bytes() == b"before\na\nof another program\nb\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_torn_line_is_ended(path: Path, timers: Timers) -> None:
    """What a dead-lettering machine left does not swallow the next line."""
    path.write_bytes(b"before\nto")
    FileOutput(path, timers, render).write(b"a\n")
    assert path.read_bytes() == b"before\nto\na\n"


@pytest.mark.parametrize("act", [lambda path: path.rename(f"{path}.1"), lambda path: path.unlink()])
def test_a_file_that_was_renamed_is_followed(
    path: Path, timers: Timers, monkeypatch: pytest.MonkeyPatch, act: Callable[[Path], None]
) -> None:
    """Without any signal, as soon as it is looked again; so is one that was removed."""
    monkeypatch.setattr(outputs, "RETRY", 0.0)
    output = FileOutput(path, timers, render)
    output.write(b"a\n")
    act(path)
    output.write(b"b\n")
    assert path.read_bytes() == b"b\n"


def test_a_file_is_not_looked_for_at_each_write(path: Path, timers: Timers) -> None:
    """Within a second lines still go to the renamed one, and none is lost."""
    output = FileOutput(path, timers, render)
    renamed = path.rename(f"{path}.1")
    output.write(b"a\n")
    output.reopen()
    output.write(b"b\n")
    assert (renamed.read_bytes(), path.read_bytes()) == (b"a\n", b"b\n")


def test_a_file_that_can_not_be_reopened(path: Path, timers: Timers) -> None:
    """That is told once, in the old one, which goes on."""
    output = FileOutput(path, timers, render)
    old = path.rename(f"{path}.1")
    path.mkdir()
    for line in (b"a\n", b"b\n"):
        output.reopen()
        output.write(line)
    path.rmdir()
    output.reopen()
    output.write(b"c\n")
    assert old.read_text() == f"LOG_NOT_REOPENED|{path}|Is a directory\na\nb\n"
    assert path.read_bytes() == b"c\n"


def test_a_file_that_can_not_be_opened(path: Path, timers: Timers) -> None:
    """That is for the caller to tell."""
    with pytest.raises(FileNotFoundError):
        FileOutput(path / "x", timers, render)


# --- a full disk ---


def test_a_full_disk_tears_no_line(path: Path, timers: Timers) -> None:
    """What did not fit is written as soon as there is room, in order, and nothing is lost."""
    output = FileOutput(path, timers, render)
    with full_at(5):
        output.write(b"one\ntwo\n")
        output.write(b"three\n")
        timers.ring()
        assert path.read_bytes() == b"one\nt"
    timers.ring()
    output.write(b"four\n")
    assert path.read_bytes() == b"one\ntwo\nthree\nfour\n"
    assert not timers.waiting


def test_a_disk_that_stays_full(path: Path, timers: Timers) -> None:
    """Beyond a limit lines are dropped, counted, and told of in their place when there is room."""
    output = FileOutput(path, timers, render)
    long = b"x" * 999 + b"\n"
    with full_at(2500):
        output.write(long * 3)
        for _ in range(KEPT // 1000 + 9):
            output.write(long)
        output.write(b"not even a short one\n")
        timers.ring()
    timers.ring()
    output.write(b"after\n")
    lines = path.read_bytes().splitlines()
    assert lines[-2:] == [b"LOG_LOST|11|File too large", b"after"]
    assert set(lines[:-2]) == {b"x" * 999}
    assert len(lines[:-2]) + 11 == 3 + KEPT // 1000 + 9 + 1


def test_a_turn_that_is_more_than_is_kept(path: Path, timers: Timers) -> None:
    """It is dropped from where the limit is, at the end of a line."""
    output = FileOutput(path, timers, render)
    line = b"x" * 99 + b"\n"
    with full_at(150):
        output.write(line * 5000)
    timers.ring()
    *kept, told = path.read_bytes().splitlines(keepends=True)
    assert set(kept) == {line}
    assert told == b"LOG_LOST|%d|File too large\n" % (5000 - len(kept))
    assert KEPT - 200 < sum(map(len, kept)) < KEPT + 200


def test_it_is_tried_a_last_time_when_the_process_ends(path: Path, timers: Timers) -> None:
    """Without waiting for the timer."""
    output = FileOutput(path, timers, render)
    with full_at(1):
        output.write(b"one\n")
    output.catch_up()
    assert path.read_bytes() == b"one\n"


def test_rotating_while_the_disk_is_full(path: Path, timers: Timers) -> None:
    """A line whose beginning is in the old file does not go on in the new one."""
    output = FileOutput(path, timers, render)
    with full_at(6):
        output.write(b"one\ntwo\nthree\n")
        path.rename(f"{path}.1")
    output.reopen()
    output.write(b"four\n")
    assert path.read_bytes() == b"three\nLOG_LOST|1|File too large\nfour\n"


def test_rotating_with_nothing_but_a_torn_line(path: Path, timers: Timers) -> None:
    """It is counted."""
    output = FileOutput(path, timers, render)
    with full_at(1):
        output.write(b"one\n")
        path.rename(f"{path}.1")
    output.reopen()
    assert path.read_bytes() == b"LOG_LOST|1|File too large\n"


def test_a_torn_line_in_the_new_file_while_the_disk_is_full(path: Path, timers: Timers) -> None:
    """It is ended before what was kept is written, and not after it."""
    output = FileOutput(path, timers, render)
    with full_at(0):
        output.write(b"one\n")
        path.rename(f"{path}.1")
    path.write_bytes(b"to")
    output.reopen()
    assert path.read_bytes() == b"to\none\n"


def test_a_torn_line_and_a_full_disk_at_the_start(path: Path, timers: Timers) -> None:
    """The process starts, and the line is ended when there is room."""
    path.write_bytes(b"to")
    with full_at(2):
        output = FileOutput(path, timers, render)
        output.write(b"one\n")
    timers.ring()
    assert path.read_bytes() == b"to\none\n"


# --- a pipe ---


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe."""
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


def drained(fd: int) -> bytes:
    """Return what is in a pipe."""
    os.set_blocking(fd, False)
    found = b""
    while True:
        try:
            found += os.read(fd, 1 << 20)
        except BlockingIOError:
            return found


def test_a_pipe_that_nobody_reads(pipe: tuple[int, int], timers: Timers) -> None:
    """A write waits a moment, those after it not at all; what fits neither pipe nor memory is counted."""
    read, write = pipe
    output = StreamOutput(write, timers, render)
    line = b"x" * 999 + b"\n"
    begin = time.monotonic()
    for _ in range(1000):
        output.write(line)
    assert PATIENCE <= time.monotonic() - begin < 300 * PATIENCE  # had each waited, it were 1,000
    found = b""
    while timers.waiting:
        found += drained(read)
        timers.ring()
    *kept, told = (found + drained(read)).splitlines(keepends=True)
    assert set(kept) == {line}
    assert told == b"LOG_LOST|%d|nobody reads it\n" % (1000 - len(kept))


def test_a_pipe_that_is_read_slowly(pipe: tuple[int, int], timers: Timers) -> None:
    """A long turn does not wait for each of its pieces, but a moment for all."""
    read, write = pipe
    output = StreamOutput(write, timers, render)
    stop = threading.Event()

    def drip() -> None:
        while not stop.wait(PATIENCE / 2):
            os.read(read, 4096)

    reader = threading.Thread(target=drip)
    reader.start()
    begin = time.monotonic()
    output.write((b"x" * 999 + b"\n") * 200)
    took = time.monotonic() - begin
    stop.set()
    reader.join()
    assert took < 15 * PATIENCE  # had each piece waited, it were 25
    assert len(timers.waiting) == 1


def test_a_pipe_whose_reader_is_gone(timers: Timers) -> None:
    """The process goes on."""
    read, write = os.pipe()
    os.close(read)
    StreamOutput(write, timers, render).write(b"a\n")
    os.close(write)
    assert len(timers.waiting) == 1
