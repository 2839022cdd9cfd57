"""The daemon judged from outside: what it publishes of what happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import CALM, Daemon, running
from tests.integration.grid_client import Grid, ReadmeWorker, Received, fresh
from tests.services import Services

QUIET = 1.0
"""Seconds for which the manager publishes nothing where nobody listens."""


class Listener:
    """Somebody who is bound to the exchange of events."""

    def __init__(self, grid: Grid, *keys: str) -> None:
        self.grid = grid
        self.heard: list[Received] = []
        queue = grid.channel.queue_declare("", exclusive=True).method.queue
        for key in keys:
            grid.channel.queue_bind(queue, f"{grid.queue}.events", key)
        grid.consume(queue, self.heard.append)

    def of(self, **equal: Any) -> list[dict[str, Any]]:
        """Return what was heard that has these values."""
        messages = [received.message for received in self.heard]
        return [each for each in messages if equal.items() <= each.items()]

    def wait(self, event: str, **equal: Any) -> dict[str, Any]:
        """Wait for an event."""
        self.grid.wait(lambda: self.of(event=event, **equal), f"{event} of {equal}")
        return self.of(event=event, **equal)[0]


@pytest.fixture
def listener(grid: Grid) -> Listener:
    """Somebody who hears everything."""
    listener = Listener(grid, "#")
    grid.serve(QUIET)
    return listener


def play(grid: Grid, suite: str) -> tuple[ReadmeWorker, str]:
    """Let a new worker do one task of a suite."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type, suite_guid=suite, priority=3)
    received = worker.expect()
    worker.begin(received)
    worker.finish(received)
    return worker, guid


def test_a_task_from_beginning_to_end(grid: Grid, listener: Listener) -> None:
    """Its events come in order, transient, as JSON, under the routing keys that they name."""
    worker, guid = play(grid, suite := fresh("suite"))
    done = listener.wait("suite.finished", suite=suite)
    assert (done["completed"], done["stopped"], done["dead"]) == (1, 0, 0)
    story = [each["event"] for each in listener.of(guid=guid)]
    assert story == ["task.accepted", "task.dispatched", "task.working", "task.completed"]
    assert {each["suite"] for each in listener.of(guid=guid)} == {suite}
    assert listener.of(event="task.accepted", guid=guid)[0]["priority"] == 3
    assert listener.wait("worker.registered", worker=worker.name)["worker_type"] == worker.worker_type
    for received in listener.heard:
        assert received.routing_key == received.message["event"]
        assert received.exchange == f"{grid.queue}.events"
        assert received.properties.content_type == "application/json"
        assert received.properties.delivery_mode == 1


def test_a_suite_outlasts_a_restart(grid: Grid, daemon: Daemon) -> None:
    """What ended before it is counted with what ends after it."""
    play(grid, suite := fresh("suite"))
    grid.task(fresh("type"), suite_guid=suite)
    grid.settle()
    daemon.stop()
    daemon.start()
    grid.send({"type": "stop_suite", "data": suite})
    daemon.log.wait(f"SUITE_FINISHED|{suite}|1|1|0")


def test_an_event_follows_its_commit(grid: Grid, daemon: Daemon, listener: Listener) -> None:
    """Whoever hears that a task was accepted finds it in the database."""
    guid = grid.task(fresh("type"))
    listener.wait("task.accepted", guid=guid)
    assert daemon.rows("tasks", guid=guid)


def test_a_listener_is_told_what_it_is_bound_for(grid: Grid) -> None:
    """A topic queue hears the one kind of event, and the manager goes on with the others unheard."""
    suites = Listener(grid, "suite.*")
    grid.serve(QUIET)
    for _ in range(2):
        play(grid, suite := fresh("suite"))
        suites.wait("suite.finished", suite=suite)
    assert {received.routing_key for received in suites.heard} == {"suite.finished"}


def test_who_comes_later_hears_what_comes_later(grid: Grid, daemon: Daemon) -> None:
    """Where nobody listened nothing is published for a second; then it is."""
    grid.task(fresh("type"))
    grid.settle()
    late = Listener(grid, "task.accepted")
    grid.serve(QUIET)
    guid = grid.task(fresh("type"))
    late.wait("task.accepted", guid=guid)


def test_the_exchange_is_made_anew(grid: Grid) -> None:
    """Somebody removes it; events come again, and dispatching never noticed."""
    listener = Listener(grid, "task.accepted")
    grid.serve(QUIET)
    grid.channel.exchange_delete(f"{grid.queue}.events")
    play(grid, fresh("suite"))
    grid.channel.exchange_declare(f"{grid.queue}.events", "topic", durable=True)
    again = Listener(grid, "task.accepted")
    grid.serve(QUIET)
    guid = grid.task(fresh("type"))
    again.wait("task.accepted", guid=guid)
    assert not listener.of(guid=guid)


def test_switched_off(services: Services, tmp_path: Path, unique: str) -> None:
    """With ``--no-events`` the exchange is there and nothing comes, and tasks are done as ever."""
    with running(Daemon(services, tmp_path, unique, *CALM, "--no-events")) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix)
        listener = Listener(grid, "#")
        grid.serve(QUIET)
        play(grid, fresh("suite"))
        grid.settle()
        grid.serve(0.2)
        assert listener.heard == []
        grid.close()
