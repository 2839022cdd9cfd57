"""The demo as a user starts it: what it shows, how it ends, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.demo_support import child_environment, processes_in, temporary_files
from tests.paths import ROOT

LIMIT = 120.0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start the demo in a folder of its own, in lines of 80 characters."""
    environment = {**child_environment(tmp_path), "COLUMNS": "80", "PYTHONUNBUFFERED": "1"}

    def start(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "tefmanager.demo", *arguments],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def left(tmp_path: Path) -> list[str]:
    """Return the names of temporary files that are left, after seeing that no process is."""
    folder = temporary_files(tmp_path)
    assert processes_in(folder) == []
    return sorted(path.name for path in folder.iterdir())


def until_at_work(demo: subprocess.Popen[str]) -> None:
    """Read on until tasks are at work; a demo that ends before that tells why."""
    assert demo.stdout is not None
    while " working, " not in demo.stdout.readline():
        assert demo.poll() is None, demo.communicate()


def rows(output: str) -> dict[str, list[str]]:
    """Return the cells of the table's lines, by the first of them."""
    found = re.findall(r"^(demo-\d+) +(.*?) *$", output, re.MULTILINE)
    return {guid: re.split("  +", rest) for guid, rest in found}


@pytest.mark.parametrize("api", ["v2", "v3"])
def test_all_goes_well(start: Start, tmp_path: Path, api: str) -> None:
    """Every task is in the table with its worker, times and result; exit status 0; nothing is left."""
    demo = start("--tasks=8", "--workers=4", f"--etcd-api={api}")
    output, errors = demo.communicate(timeout=LIMIT)
    assert (demo.returncode, errors) == (0, ""), output
    table = rows(output)
    assert list(table) == [f"demo-{number:02}" for number in range(1, 9)]
    for number, (_, worker, waited, ran, result) in enumerate(table.values(), 1):
        assert worker in (("shell-1", "shell-2") if number % 2 else ("report-1", "report-2"))
        assert re.fullmatch(r"\d+\.\d\d s", waited)
        assert 0.3 <= float(ran.removesuffix(" s")) < 60
        assert result.startswith(f"{number}² = {number**2}" if number % 2 else f"{number * 25} lines, ")
    assert re.search(r"^8 of 8 tasks done, .*; limits kept; 0 references left$", output, re.MULTILINE)
    assert re.search(r"^ +\d+\.\d s  \d done, \d working, \d waiting; database \d/3", output, re.MULTILINE)
    assert all(len(line) <= 80 for line in output.splitlines())
    assert left(tmp_path) == []


def test_lost_results(start: Start, tmp_path: Path) -> None:
    """Tasks that find no worker are lost when the time is up: exit status 1, and the log is kept."""
    demo = start("--tasks=4", "--workers=1", "--timeout=4")
    output, errors = demo.communicate(timeout=LIMIT)
    assert demo.returncode == 1
    table = rows(output)
    assert [guid for guid, cells in table.items() if cells[-1] == "no result"] == ["demo-02", "demo-04"]
    assert "\n2 of 4 tasks done, " in output
    (folder,) = left(tmp_path)
    assert folder.startswith("tef-demo-")
    log = temporary_files(tmp_path) / folder / "manager.log"
    assert errors.endswith(f"Logs are in {log.parent}\n")
    assert "TASK_ACCEPTED|report|demo-02|" in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped(start: Start, tmp_path: Path, number: int) -> None:
    """A signal in the midst of it removes everything; the exit status is that of a shell."""
    demo = start()
    until_at_work(demo)
    demo.send_signal(number)
    _, errors = demo.communicate(timeout=LIMIT)
    assert (demo.returncode, errors) == (128 + number, "")
    assert left(tmp_path) == []


def test_dead_worker(start: Start, tmp_path: Path) -> None:
    """A worker that dies is told in one line, and ends the demo with exit status 1."""
    demo = start("--workers=2")
    until_at_work(demo)
    os.kill(worker_pid(temporary_files(tmp_path), "shell-1"), signal.SIGKILL)
    _, errors = demo.communicate(timeout=LIMIT)
    assert demo.returncode == 1
    assert errors.startswith("shell-1 ended with exit status 137\nLogs are in ")
    assert len(left(tmp_path)) == 1


def worker_pid(folder: Path, name: str) -> int:
    """Return the id of a worker's process, which is not that of its guard."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for pid in processes_in(folder):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if name.encode() in command and not any(part.endswith(b"guard.py") for part in command):
                return pid
    raise AssertionError(f"no process of {name}")


def test_help_needs_nothing(tmp_path: Path) -> None:
    """``script/demo --help`` shows the options, and installs nothing first."""
    environment = {**os.environ, "VENV": str(tmp_path / "venv"), "PYTHON": sys.executable}
    command = [str(ROOT / "script" / "demo"), "--help"]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: script/demo ")
    assert not (tmp_path / "venv").exists()
