"""The log file of a manager at work: rotated, on a full disk, and when it is killed."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon import until
from tests.integration.debian import program
from tests.integration.grid_client import Grid, ReadmeWorker, fresh
from tests.integration.logged import LoggedDaemon
from tests.paths import ROOT
from tests.services import Services

LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]{12}[+-]\d\d:\d\d [a-z]+ (\[[\w.]+\] .*|[A-Z_]+(\|.*)?)")


@pytest.fixture
def daemon(services: Services, tmp_path: Path) -> Iterator[LoggedDaemon]:
    """A daemon of a test's own; what it logged must be whole lines."""
    daemon = LoggedDaemon(services, tmp_path, fresh("log"), "--dispatch-interval=60")
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.end()
    lines = [line for file in tmp_path.glob("tef.log*") for line in file.read_text().splitlines()]
    assert [line for line in lines if not LINE.fullmatch(line)] == []


@pytest.fixture
def grid(services: Services, daemon: LoggedDaemon) -> Iterator[Grid]:
    """A client of it."""
    grid = Grid(services.amqp_url, daemon.prefix)
    yield grid
    grid.close()


def guids(daemon: LoggedDaemon, event: str) -> list[str]:
    """Return the guids of all lines of an event, in all files; sorted."""
    lines = [line for line in daemon.every_line() if f" info {event}|" in line]
    return sorted(line.split("|")[2] for line in lines)


def has_lines(file: Path) -> bool:
    """Tell whether a log has been begun."""
    return file.exists() and file.stat().st_size > 0


def test_rotated_under_load_by_logrotate(daemon: LoggedDaemon, grid: Grid, tmp_path: Path) -> None:
    """With the file that we ship, again and again amid the work: no line is lost, and none comes twice."""
    pid = tmp_path / "tef-manager.pid"
    pid.write_text(f"{daemon.pid}\n")
    text = (ROOT / "conf/tef-manager.logrotate").read_text()
    text = text.replace("/var/log/tef-manager/*.log", f"{tmp_path}/tef.log")
    configuration = tmp_path / "logrotate"
    configuration.write_text(text.replace("/run/tef-manager/tef-manager.pid", str(pid)))
    configuration.chmod(0o644)
    command = [
        program("logrotate", "logrotate"),
        "--force",
        "--state",
        str(tmp_path / "state"),
        str(configuration),
    ]
    worker = ReadmeWorker(grid, fresh("type"))
    worker.work_off()
    worker.free()
    sent = []
    for _ in range(10):
        sent += [grid.task(worker.worker_type) for _ in range(150)]
        grid.wait(lambda: has_lines(daemon.file), "lines in the new file")  # an empty one is not rotated
        rotating = subprocess.Popen(command, stderr=subprocess.PIPE)
        grid.wait(lambda process=rotating: process.poll() is not None, "logrotate")  # type: ignore[misc]
        assert rotating.stderr is not None
        assert (rotating.returncode, rotating.stderr.read()) == (0, b"")
    grid.wait(lambda: len(worker.received) == len(sent), "all tasks", timeout=300)
    grid.settle()
    daemon.stop()
    for file in tmp_path.glob("tef.log.*.gz"):
        subprocess.run(["gunzip", str(file)], check=True)
    assert len(list(tmp_path.glob("tef.log.*"))) == 10
    for event in ("TASK_ACCEPTED", "DISPATCH", "TASK_WORKING", "TASK_COMPLETED"):
        found = guids(daemon, event)
        assert [guid for guid in found if guid in set(sent)] == sorted(sent)


def test_renamed_and_reopened(daemon: LoggedDaemon, grid: Grid) -> None:
    """On SIGHUP the next line is in a new file; what was before is in the old one."""
    before = grid.task("t")
    daemon.log.wait(f"TASK_ACCEPTED|t|{before}")
    old = daemon.file.rename(f"{daemon.file}.1")
    os.kill(daemon.pid, signal.SIGHUP)
    until(daemon.file.exists, "the new file")
    after = grid.task("t")
    until(lambda: after in daemon.file.read_text(), "the next line")
    assert before in old.read_text()
    assert after not in old.read_text()


def limit(daemon: LoggedDaemon, size: int) -> None:
    """Let its files not grow beyond a size: for a log that is what a full disk is."""
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk(daemon: LoggedDaemon, grid: Grid) -> None:
    """The manager works on; when there is room again the log has what was kept, and how much was lost."""
    limit(daemon, daemon.file.stat().st_size + 10)
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    kept = grid.task(worker.worker_type)
    received = worker.expect()
    worker.begin(received)
    worker.finish(received)
    sent = 5000  # of each a line that is cut
    for _ in range(sent):
        grid.send(b"no JSON " + b"x" * 2000)
    lost = grid.task(worker.worker_type)
    assert worker.expect().guid == lost
    assert kept not in daemon.file.read_text()
    limit(daemon, resource.RLIM_INFINITY)
    [told] = daemon.log.wait("LOG_LOST|")
    worker.begin(worker.received[-1])
    [line] = daemon.log.wait(f"TASK_WORKING|{worker.worker_type}|{lost}|")
    rejected = len(daemon.log.events("MESSAGE_ERROR|INVALID_JSON|"))
    assert 50 < rejected < sent
    events = daemon.log.events()
    assert events.index(told) == events.index(line) - 1
    assert f"TASK_ACCEPTED|{worker.worker_type}|{kept}|1|" in events
    count, reason = told.split("|")[1:]
    # The rest of the rejected, and that the second task was accepted and dispatched.
    assert (int(count), reason) == (sent - rejected + 2, "File too large")
    daemon.stop()


@pytest.mark.parametrize(
    ("point", "line"),
    [("dispatch.asked", "TASK_ACCEPTED|"), ("reject.answered", "MESSAGE_ERROR|INVALID_JSON|")],
)
def test_killed_amid_an_effect(services: Services, tmp_path: Path, point: str, line: str) -> None:
    """What a turn has logged is there when its first effect can be seen, and the process dies at once."""
    daemon = LoggedDaemon(services, tmp_path, fresh("log"), "--dispatch-interval=60")
    grid = Grid(services.amqp_url, daemon.prefix)
    try:
        worker = ReadmeWorker(grid, fresh("type"))
        grid.send(b"no JSON") if point == "reject.answered" else worker.free()
        grid.task(worker.worker_type)
        daemon.start(ready=False, variables={"TEF_MANAGER_CRASH_AT": point})
        daemon.killed()
        assert daemon.log.events(line)
    finally:
        grid.close()
        daemon.end()
