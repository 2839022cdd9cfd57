"""Workers that are real programs, killed: what they were at goes on in seconds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon
from tests.integration.grid_client import Grid, fresh
from tests.services import Services


@contextmanager
def programs(
    services: Services, grid: Grid, vocabulary: str, folder: Path
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run two workers of a type that is their vocabulary's; yields the processes by name."""
    running: dict[str, subprocess.Popen[bytes]] = {}
    for name in (fresh("worker"), fresh("worker")):
        command = [sys.executable, "-m", "tests.chaos.worker", "--url", services.amqp_url]
        command += ["--manager", grid.queue, "--name", name, "--type", vocabulary]
        command += ["--vocabulary", vocabulary, "--longest", "100000"]
        command += ["--journal", str(folder / name)]
        running[name] = subprocess.Popen(command)
    try:
        yield running
    finally:
        for process in running.values():
            process.kill()
            process.wait()


@pytest.mark.parametrize("vocabulary", ["ruby", "readme"])
def test_killed_at_work(services: Services, tmp_path: Path, vocabulary: str) -> None:
    """The other worker gets its task long before the missing interval is over."""
    daemon = Daemon(services, tmp_path, fresh("killed"))
    try:
        daemon.start()
        grid = Grid(services.amqp_url, daemon.prefix)
        with programs(services, grid, vocabulary, tmp_path) as running:
            guid = grid.task(vocabulary)
            daemon.log.wait(f"TASK_WORKING|{vocabulary}|{guid}|")
            [line] = daemon.log.events("TASK_WORKING|")
            killed = line.split("|")[3]
            [other] = set(running) - {killed}
            daemon.log.wait(f"WORKER_REGISTERED|{other}|")
            grid.serve(1.0)
            running[killed].kill()
            daemon.log.wait(f"DISPATCH|{vocabulary}|{guid}|{other}")
            assert daemon.log.events(f"QUEUE_DESERTED|{killed}|")
    finally:
        daemon.end()
