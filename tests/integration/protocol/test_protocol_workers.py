"""The daemon judged from outside: the table of what it does by what it holds for a worker.

The rows in which a time runs out are in a module of their own.
"""

from __future__ import annotations

import pytest

from tests.integration.daemon import CALM, Daemon, until
from tests.integration.grid_client import BOTH, FieldWorker, Grid, ReadmeWorker, Received, RubyWorker, fresh

OPTIONS = (*CALM, "--release-grace=0.4")
"""A worker that says idle in the midst of a task has 0.4 seconds."""

FREE = ("ready", "idle")
"""The two words for it."""


def given(worker: FieldWorker) -> Received:
    """Return a task that was dispatched to a worker which has not said anything yet."""
    worker.free()
    worker.grid.task(worker.worker_type)
    return worker.expect()


def outcome(daemon: Daemon, guid: str) -> str | None:
    """Return how a task ended, or None if it did not."""
    rows = daemon.rows("history", guid=guid)
    return str(rows[-1]["outcome"]) if rows else None


# --- registering ---


@pytest.mark.parametrize("status", [*FREE, "working", "task_complete"])
def test_first_status_registers(grid: Grid, daemon: Daemon, status: str) -> None:
    """Whatever the first status of an unknown name is, but offline, it joins the workers."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.say(status)
    assert worker.status == (
        "idle" if status in FREE else "working" if status == "working" else worker.status
    )
    assert worker.name in grid.workers()
    expected = f"WORKER_REGISTERED|{worker.name}|{worker.worker_type}|{worker.queue}"
    assert daemon.log.events(f"WORKER_REGISTERED|{worker.name}|") == [expected]


def test_offline_does_not_register(grid: Grid) -> None:
    """One that leaves without having come is not in the workers."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.say("offline")
    assert worker.status is None


def test_worker_type_may_be_left_out(grid: Grid) -> None:
    """Once registered, a worker need not repeat its type."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.say("ready")
    for status in ("ready", "working", "ready"):
        message = {"type": "worker_status", "name": worker.name, "exchange_name": worker.queue}
        grid.send({**message, "status": status})
    assert worker.status == "idle"
    guid = grid.task(worker.worker_type)
    assert worker.expect().guid == guid


def test_other_exchange_name(grid: Grid) -> None:
    """A worker that comes with another address gets its tasks there."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.say("ready")
    assert grid.workers()[worker.name]["work_queue"] == worker.queue
    old, worker.queue = worker.queue, fresh("queue")
    worker.declare()
    worker.exchange_name = worker.queue
    worker.say("ready")
    assert grid.workers()[worker.name]["work_queue"] == worker.queue
    grid.task(worker.worker_type)
    assert worker.expect().routing_key == worker.queue != old


def test_other_worker_type(grid: Grid) -> None:
    """A worker that comes with another type gets the tasks of that, and no longer those of the old one."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.say("ready")
    old, worker.worker_type = worker.worker_type, fresh("type")
    worker.say("ready")
    grid.task(old)
    guid = grid.task(worker.worker_type)
    assert worker.expect().guid == guid
    grid.settle()
    assert not worker.inbox


# --- one that holds nothing ---


@pytest.mark.parametrize("word", FREE)
def test_nothing_and_free(grid: Grid, word: str) -> None:
    """It is available, and saying so again and again changes nothing."""
    worker = ReadmeWorker(grid, fresh("type"))
    for _ in range(3):
        worker.say(word)
        assert worker.status == "idle"
    guid = grid.task(worker.worker_type)
    assert worker.expect().guid == guid


def test_nothing_and_working(grid: Grid) -> None:
    """It is busy: no task until it says that it is free."""
    worker = RubyWorker(grid, fresh("type"))
    worker.say("working")
    guid = grid.task(worker.worker_type)
    grid.settle()
    assert not worker.inbox
    assert worker.status == "working"
    worker.free()
    assert worker.expect().guid == guid


def test_nothing_and_working_on_waiting(grid: Grid, daemon: Daemon) -> None:
    """It works on a task that waits here: that is its task, and nobody else gets it."""
    worker = ReadmeWorker(grid, fresh("type"))
    guid = grid.task(worker.worker_type)
    worker.say("working", task=guid)
    other = ReadmeWorker(grid, worker.worker_type)
    other.free()
    grid.settle()
    assert not worker.inbox
    assert not other.inbox
    shown = grid.workers()[worker.name]
    assert (shown["status"], shown["task"]["guid"]) == ("working", guid)
    worker.say("ready")
    assert worker.status == "idle"
    until(lambda: outcome(daemon, guid) == "completed")
    grid.settle()
    assert not other.inbox


@pytest.mark.parametrize("kind", ["finished", "unknown"])
def test_nothing_and_working_on_another(grid: Grid, kind: str) -> None:
    """It works on a task that is finished, or that nobody knows: it is only busy."""
    worker = ReadmeWorker(grid, fresh("type"))
    guid = fresh("task")
    if kind == "finished":
        received = given(worker)
        worker.begin(received)
        worker.finish(received)
        guid = received.guid
    worker.say("working", task=guid)
    later = grid.task(worker.worker_type)
    grid.settle()
    shown = grid.workers()[worker.name]
    assert (shown["status"], shown["task"]) == ("working", None)
    assert not worker.inbox
    worker.say("ready")
    assert worker.expect().guid == later


# --- one to which a task was dispatched ---


@pytest.mark.parametrize("kind", BOTH)
def test_dispatched_and_working(grid: Grid, daemon: Daemon, kind: type[FieldWorker]) -> None:
    """The task is working, whether it is named or not."""
    worker = kind(grid, fresh("type"))
    received = given(worker)
    shown = grid.workers()[worker.name]
    assert (shown["status"], shown["task"]) == ("dispatched", received.message)
    worker.begin(received)
    shown = grid.workers()[worker.name]
    assert (shown["status"], shown["task"]) == ("working", received.message)
    (row,) = daemon.rows("tasks", guid=received.guid)
    assert (row["state"], row["worker"]) == ("working", worker.name)


@pytest.mark.parametrize("word", FREE)
def test_dispatched_and_free(grid: Grid, word: str) -> None:
    """A heartbeat that crossed the dispatch drops no task, and the worker is not stuck afterwards."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker)
    for _ in range(3):
        worker.say(word)
    grid.task(worker.worker_type)
    grid.settle()
    assert worker.status == "dispatched"
    assert not worker.inbox
    worker.begin(received)
    worker.finish(received)
    worker.begin(worker.expect())
    assert len(worker.received) == 2


def test_dispatched_and_complete(grid: Grid, daemon: Daemon) -> None:
    """A quick worker's task is done, even if its ``working`` was never heard."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker)
    worker.finish(received)
    assert worker.status == "idle"
    until(lambda: outcome(daemon, received.guid) == "completed")


# --- one that works ---


@pytest.mark.parametrize("kind", BOTH)
def test_working_and_working(grid: Grid, daemon: Daemon, kind: type[FieldWorker]) -> None:
    """A heartbeat changes nothing."""
    worker = kind(grid, fresh("type"))
    received = given(worker)
    worker.begin(received)
    grid.settle()
    (before,) = daemon.rows("tasks", guid=received.guid)
    for _ in range(3):
        worker.begin(received)
    grid.settle()
    (after,) = daemon.rows("tasks", guid=received.guid)
    assert after == before
    assert worker.status == "working"


def test_working_and_complete(grid: Grid, daemon: Daemon) -> None:
    """The task is done; the worker is free only when it says so."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker)
    worker.begin(received)
    worker.say("task_complete")
    later = grid.task(worker.worker_type)
    grid.settle()
    assert outcome(daemon, received.guid) == "completed"
    assert not worker.inbox
    worker.say("idle")
    assert worker.expect().guid == later
    assert len(daemon.log.events(f"TASK_COMPLETED|{worker.worker_type}|{received.guid}|")) == 1


def test_working_and_ready(grid: Grid, daemon: Daemon) -> None:
    """The task is done and the worker free: the README's workers have no other way to say it."""
    worker = ReadmeWorker(grid, fresh("type"))
    received = given(worker)
    worker.begin(received)
    worker.say("ready")
    assert worker.status == "idle"
    assert outcome(daemon, received.guid) == "completed"


@pytest.mark.parametrize("next_word", ["working", "task_complete"])
def test_working_and_idle_and_more(grid: Grid, daemon: Daemon, next_word: str) -> None:
    """An idle that something else follows at once was a heartbeat that crossed: nothing is given up."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker)
    worker.say("working")
    worker.say("idle")
    worker.say(next_word)
    # Another says nothing after it, and later: when that is found out, this one would have been.
    other = RubyWorker(grid, fresh("type"))
    dropped = given(other)
    other.say("working")
    other.say("idle")
    daemon.log.wait(f"TASK_RELEASED|{other.worker_type}|{dropped.guid}|{other.name}|")
    assert not daemon.log.events(f"TASK_RELEASED|{worker.worker_type}|")
    done = next_word == "task_complete"
    assert outcome(daemon, received.guid) == ("completed" if done else None)
    assert worker.status == "working"


def test_working_and_idle(grid: Grid, daemon: Daemon) -> None:
    """An idle that nothing follows gives the task up: it is queued again at its old place."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker)
    worker.say("working")
    later = grid.task(worker.worker_type)
    worker.say("idle")
    daemon.log.wait(f"TASK_RELEASED|{worker.worker_type}|{received.guid}|{worker.name}|")
    again = worker.expect()
    assert (again.guid, again.body) == (received.guid, received.body)
    worker.begin(again)
    worker.finish(again)
    assert worker.expect().guid == later


# --- one that leaves ---


@pytest.mark.parametrize("working", [False, True])
def test_offline(grid: Grid, daemon: Daemon, working: bool) -> None:
    """It is gone, and its task goes to another worker before the tasks that came later."""
    worker = ReadmeWorker(grid, fresh("type"))
    received = given(worker)
    if working:
        worker.begin(received)
    later = grid.task(worker.worker_type)
    worker.say("offline")
    assert worker.status is None
    assert daemon.log.events(f"CONTROL_SUCCESS|WORKER_OFFLINE|{worker.name}")
    other = ReadmeWorker(grid, worker.worker_type)
    other.work_off()
    other.free()
    grid.wait(lambda: len(other.received) == 2, "both tasks")
    assert [one.guid for one in other.received] == [received.guid, later]
    assert other.received[0].body == received.body
    assert not worker.inbox


def test_offline_with_nothing(grid: Grid) -> None:
    """It is gone, and may come again."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    worker.say("offline")
    worker.say("offline")
    grid.task(worker.worker_type)
    grid.settle()
    assert not worker.inbox
    worker.free()
    worker.expect()


def test_late_completion_after_offline(grid: Grid, daemon: Daemon) -> None:
    """A completion by one that has left finishes the task that waits again."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker)
    worker.say("working")
    worker.say("offline")
    worker.say("task_complete", task=received.guid)
    worker.say("idle")
    grid.settle()
    assert outcome(daemon, received.guid) == "completed"
    assert not worker.inbox


# --- unknown words ---


def test_unknown_status(grid: Grid, daemon: Daemon) -> None:
    """It is logged, answered when asked, and changes nothing."""
    worker = ReadmeWorker(grid, fresh("type"))
    received = given(worker)
    worker.begin(received)
    message = {"type": "worker_status", "name": worker.name, "exchange_name": worker.queue}
    answer = grid.ask({**message, "status": "on|fire"})
    assert answer in daemon.log.events()
    shown = grid.workers()[worker.name]
    assert (shown["status"], shown["task"]) == ("working", received.message)
    worker.finish(received)
    assert worker.status == "idle"


# --- the end of attempts ---


def test_dead_task(grid: Grid, daemon: Daemon) -> None:
    """A task given back five times goes to the dead queue as it came, its history in the headers."""
    worker = ReadmeWorker(grid, fresh("type"))
    guid = fresh("task")
    body = b'{"type":"task", "task_type":"%s", "guid":"%s", "x":"\xc3\xa4"}'
    body %= (worker.worker_type.encode(), guid.encode())
    grid.send(body)
    for _ in range(5):
        worker.free()
        worker.begin(worker.expect())
        worker.say("offline")
    (dead,) = grid.take_all(f"{grid.queue}.dead", 1)
    assert dead.body == body
    assert dead.properties.delivery_mode == 2
    (history,) = [value for value in dead.properties.headers.values() if isinstance(value, list)]
    assert [(attempt["number"], attempt["worker"]) for attempt in history] == [
        (number, worker.name) for number in range(1, 6)
    ]
    daemon.log.wait(f"TASK_DEAD|{worker.worker_type}|{guid}|")
    until(lambda: outcome(daemon, guid) == "dead")
    worker.free()
    grid.settle()
    assert not worker.inbox


def test_undelivered_does_not_count(grid: Grid) -> None:
    """A task that finds no queue is sent again as often as it takes."""
    worker = ReadmeWorker(grid, fresh("type"), declared=False)
    guid = grid.task(worker.worker_type)
    for _ in range(6):
        worker.free()
        grid.settle()
    other = ReadmeWorker(grid, worker.worker_type)
    other.free()
    assert other.expect().guid == guid
