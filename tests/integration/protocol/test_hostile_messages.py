"""A running daemon under attack over AMQP: it stays small, goes on, and keeps to itself what it reads."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from tests.integration.daemon import Daemon, until
from tests.integration.grid_client import Grid, ReadmeWorker, fresh
from tests.integration.http_client import Http

MOST_MEMORY = 600
"""Megabytes that the daemon may take at its largest. Without bounds it took 800 to 1,000."""


@pytest.fixture
def daemon(both: tuple[Daemon, Http]) -> Daemon:
    """The daemon."""
    return both[0]


def most_memory(daemon: Daemon) -> float:
    """Return how many megabytes the daemon has taken at its largest."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{daemon.pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def check_alive(daemon: Daemon, http: Http, grid: Grid) -> None:
    """Check that a task goes through, that the page is there, and that no leadership was lost."""
    worker = ReadmeWorker(grid, fresh("kind"))
    grid.task(worker.worker_type)
    worker.free()
    received = worker.expect()
    worker.begin(received)
    worker.finish(received)
    worker.say("offline")
    grid.settle()
    assert http.get("/api/events").status == http.get("/health").status == 200
    assert not daemon.log.events("LEADERSHIP_LOST|")


def test_texts_that_took_long(both: tuple[Daemon, Http], grid: Grid) -> None:
    """Digits without end, and what else patterns were slow with, are rejected in no time."""
    daemon, http = both
    began = time.monotonic()
    for field in ("priority", "time_limit"):
        for text in ("1" * 120_000 + "x", "1" * 22_000, " " * 120_000 + "x"):
            grid.send({"type": "task", "task_type": "t", "guid": fresh("g"), field: text})
    check_alive(daemon, http, grid)
    assert time.monotonic() - began < 30


def test_what_grew_in_memory(both: tuple[Daemon, Http], grid: Grid) -> None:
    """12 MB of empty lists stay 12 MB, in whatever field, and are gone when they are rejected."""
    daemon, http = both
    lists = b"[" + b"[]," * 4_000_000 + b"[]]"
    for field in (b"type", b"guid", b"resources", b"name"):
        grid.send(b'{"type":"task","task_type":"t","%s":%s}' % (field, lists))
    check_alive(daemon, http, grid)
    assert most_memory(daemon) < MOST_MEMORY


def test_questions_about_large_tasks(both: tuple[Daemon, Http], grid: Grid) -> None:
    """400 questions for workers that have large tasks are answered, or told to ask later."""
    daemon, http = both
    for _ in range(3):
        worker = ReadmeWorker(grid, fresh("kind"))
        grid.task(worker.worker_type, task_data="x" * 600_000)
        worker.free()
        worker.begin(worker.expect())
    replies = grid.channel.queue_declare("", exclusive=True).method.queue
    for _ in range(400):
        grid.send({"type": "get_workers"}, reply_to=replies, correlation_id="1")
    check_alive(daemon, http, grid)
    grid.channel.queue_delete(replies)
    assert most_memory(daemon) < MOST_MEMORY


@pytest.mark.parametrize("depth", [900, 960, 968, 1000, 100_000])
def test_what_is_nested_deep(both: tuple[Daemon, Http], grid: Grid, depth: int) -> None:
    """It is logged, cut, and the page lives."""
    daemon, http = both
    before = len(daemon.log.events("MESSAGE_ERROR|"))
    grid.send(b'{"type":' + b"[" * depth + b"]" * depth + b"}")
    until(lambda: len(daemon.log.events("MESSAGE_ERROR|")) > before, "a line")
    assert len(daemon.log.events("MESSAGE_ERROR|")[-1]) < 3000
    check_alive(daemon, http, grid)


def test_what_the_page_shows_of_it(both: tuple[Daemon, Http], grid: Grid) -> None:
    """The log has the start of a bad message; the page, JSON and the stream have nothing."""
    daemon, http = both
    secret = fresh("s3cret")
    grid.send({"type": "task", "guid": "g", "task_data": secret})
    grid.send(f"not JSON: {secret}".encode())
    until(lambda: sum(secret in line for line in daemon.log.lines) == 2, "two lines")
    assert secret.encode() not in http.get("/api/events").body
    with http.stream() as events:
        assert secret not in json.dumps(next(events))


def test_a_queue_that_the_broker_named(grid: Grid) -> None:
    """A worker may have its tasks sent to a queue for which it has asked RabbitMQ to find a name."""
    worker = ReadmeWorker(grid, fresh("kind"), declared=False)
    worker.exchange_name = worker.queue = grid.reply_queue
    assert worker.queue.startswith("amq.gen-")
    worker.free()
    guid = grid.task(worker.worker_type)
    grid.wait(lambda: guid in [each.message.get("guid") for each in grid.unread_replies()], "the task")


@pytest.mark.parametrize("name", ["", ".dead", ".rejected", ".events"])
def test_workers_that_want_tasks_elsewhere(both: tuple[Daemon, Http], grid: Grid, name: str) -> None:
    """Who says that its tasks go to the manager's own queue, or to those who follow it, is no worker."""
    daemon, http = both
    worker, kind = fresh("forger"), fresh("kind")
    status = {"type": "worker_status", "name": worker, "worker_type": kind, "status": "idle"}
    grid.send({**status, "exchange_name": f"{grid.queue}{name}"})
    daemon.log.wait(f"CONTROL_FAILED|PARSE_JSON|INVALID_FIELD|{worker}|exchange_name is ")
    guid = grid.task(kind)
    grid.settle()
    assert http.get(f"/api/tasks/{guid}").json["task"]["state"] == "waiting"
