"""A manager that is frozen while it works, and thaws when another one has long taken over."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon
from tests.integration.grid_client import Grid, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, all_back, makes_resources
from tests.services import Services

OPTIONS = ("--dispatch-interval=2", "--dispatch-timeout=3", "--missing-interval=60")

TAKEOVER = 15.0
"""Seconds within which the standby must become active."""


@pytest.mark.parametrize("api", APIS)
def test_frozen_and_thawed(services: Services, tmp_path: Path, unique: str, api: str) -> None:
    """The standby becomes active within 15 s; the thawed manager does nothing more, and stands by."""
    options = (*OPTIONS, f"--etcd-api={api}")
    first = Daemon(services, tmp_path / "first", unique, *options)
    second = Daemon(services, tmp_path / "second", unique, *options)
    grid = Grid(services.amqp_url, first.prefix)
    with makes_resources(APIS[api](services.etcd)) as make:
        resources = [make(3), make(2)]
        try:
            first.start()
            second.start(ready=False)
            second.log.wait("WAITING_FOR|")
            workers = at_the_ready(grid, 6)
            guids = frozen_in_mid_work(first, grid, workers, [each.name for each in resources])
            second.log.wait("LEADERSHIP_GAINED|", timeout=TAKEOVER)
            grid.wait(lambda: len(done(second)) > 20, "the second one at work", 60.0)
            said = len(first.log.lines)
            sent = {received.guid for worker in workers for received in worker.received}
            os.kill(first.pid, signal.SIGCONT)
            grid.wait(lambda: done(first, second) >= set(guids), "all tasks", 60.0)
            first.log.wait("LEADERSHIP_LOST|")
            first.log.wait("WAITING_FOR|another manager is active")
            # What it had sent before it froze, and heard of only now, it may still tell.
            told = {guid_of(line) for line in first.log.lines[said:] if " info DISPATCH|" in line}
            assert told <= sent
            assert runs_twice(workers) <= {guid_of(line) for line in second.log.events("DISPATCH_TIMEOUT|")}
            grid.wait(lambda: all_back(*resources), "all references back")
            second.stop()
            first.wait_ready()
            first.stop()
        finally:
            first.end()
            second.end()
            grid.close()


def at_the_ready(grid: Grid, count: int) -> list[RubyWorker]:
    """Return workers of one type that do at once whatever comes."""
    worker_type = fresh("type")
    workers = [RubyWorker(grid, worker_type) for _ in range(count)]
    for worker in workers:
        worker.work_off()
        worker.free()
    return workers


def frozen_in_mid_work(
    daemon: Daemon, grid: Grid, workers: list[RubyWorker], names: list[str]
) -> list[str]:
    """Give it much to do, freeze it while it does, and give it more; return the guids."""
    worker_type = workers[0].worker_type
    guids = [grid.task(worker_type, resources=names) for _ in range(150)]
    grid.wait(lambda: len(done(daemon)) >= 30, "30 tasks done")
    os.kill(daemon.pid, signal.SIGSTOP)
    return guids + [grid.task(worker_type, resources=names) for _ in range(50)]


def runs_twice(workers: list[RubyWorker]) -> set[str]:
    """Return the guids that came to workers more than once."""
    runs = Counter(received.guid for worker in workers for received in worker.received)
    return {guid for guid, count in runs.items() if count > 1}


def done(*daemons: Daemon) -> set[str]:
    """Return the guids of the tasks that are logged as completed."""
    return {guid_of(line) for daemon in daemons for line in daemon.log.events("TASK_COMPLETED|")}


def guid_of(line: str) -> str:
    """Return the guid in a line about a task."""
    return line.split("|")[2]
