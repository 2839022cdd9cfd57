"""The daemon judged from outside: what happens when nothing happens for too long."""

from __future__ import annotations

import pytest

from tests.integration.daemon import QUICK, Daemon, until
from tests.integration.grid_client import BOTH, FieldWorker, Grid, ReadmeWorker, Received, RubyWorker, fresh

OPTIONS = (*QUICK, "--time-limit=1")
"""A daemon of little patience: 1 s to begin, 0.4 s to explain an idle, 2 s to be heard again."""


def given(worker: FieldWorker, **fields: object) -> Received:
    """Return a task that was dispatched to a worker which has not said anything yet."""
    worker.free()
    worker.grid.task(worker.worker_type, **fields)
    return worker.expect()


def outcomes(daemon: Daemon, guid: str) -> list[str]:
    """Return how the attempts at a task have ended."""
    return [row["outcome"] for row in daemon.rows("attempts", guid=guid)]


def beat_until(grid: Grid, workers: list[RubyWorker], daemon: Daemon, start: str) -> None:
    """Let workers send their heartbeats until something is logged."""

    def beat() -> bool:
        for worker in workers:
            worker.heartbeat()
        grid.serve(0.1)
        return bool(daemon.log.events(start))

    grid.wait(beat, start)


def free_until_sent(grid: Grid, worker: FieldWorker) -> None:
    """Let a worker say that it is free until something is sent to it."""

    def told() -> bool:
        worker.free()
        grid.serve(0.1)
        return bool(worker.inbox)

    grid.wait(told, f"a task at {worker.name}")


# --- dispatched, and nothing comes ---


@pytest.mark.parametrize("kind", BOTH)
def test_dispatch_timeout(grid: Grid, daemon: Daemon, kind: type[FieldWorker]) -> None:
    """A worker that only says it is free is taken not to have got its task, which is sent again."""
    worker = kind(grid, fresh("type"))
    received = given(worker)
    worker.free()
    again = worker.expect()
    line = f"DISPATCH_TIMEOUT|{worker.worker_type}|{received.guid}|{worker.name}"
    until(lambda: daemon.log.events(line))
    assert again.body == received.body
    worker.begin(again)
    assert worker.status == "working"
    worker.finish(again)
    until(lambda: daemon.rows("history", guid=received.guid))
    assert outcomes(daemon, received.guid) == ["dispatch_timeout", "completed"]
    later = grid.task(worker.worker_type)
    free_until_sent(grid, worker)  # its heartbeats: it is free, so it does not have what was sent first
    assert worker.expect().guid == later


@pytest.mark.parametrize("kind", BOTH)
def test_slow_worker_does_both(grid: Grid, daemon: Daemon, kind: type[FieldWorker]) -> None:
    """A worker that finds its task twice in its queue, and does it twice, has done no other."""
    worker = kind(grid, fresh("type"))
    first = given(worker, time_limit=60)
    worker.free()
    second = worker.expect()
    assert second.guid == first.guid
    later = grid.task(worker.worker_type)
    for received in (first, second):
        worker.begin(received)
        worker.finish(received)
    received = worker.expect()
    assert received.guid == later
    grid.settle()
    (row,) = daemon.rows("history", guid=first.guid)
    assert row["outcome"] == "completed"
    assert daemon.rows("history", guid=later) == []
    worker.begin(received)
    worker.finish(received)
    grid.settle()
    assert daemon.rows("history", guid=first.guid) == [row]
    assert outcomes(daemon, later) == ["completed"]


def test_restarted_under_its_name(grid: Grid, daemon: Daemon) -> None:
    """A worker died before it took its task, and another did it; its successor finds the old message."""
    dead = RubyWorker(grid, fresh("type"), declared=False)
    grid.channel.queue_declare(dead.queue, durable=True)
    dead.free()
    guid = grid.task(dead.worker_type)
    daemon.log.wait(f"DISPATCH_TIMEOUT|{dead.worker_type}|{guid}|{dead.name}")
    other = RubyWorker(grid, dead.worker_type)
    other.free()
    received = other.expect()
    other.begin(received)
    successor = RubyWorker(grid, dead.worker_type, dead.name)
    successor.free()
    old = successor.expect()
    assert old.guid == received.guid == guid
    successor.begin(old)
    other.finish(received)
    grid.settle()
    assert outcomes(daemon, guid) == ["dispatch_timeout", "completed"]
    successor.finish(old)
    grid.settle()
    assert outcomes(daemon, guid) == ["dispatch_timeout", "completed"]
    assert daemon.log.events(f"COMPLETION_IGNORED|{dead.name}|{guid}|")
    later = {grid.task(dead.worker_type) for _ in range(2)}
    assert {other.expect().guid, successor.expect().guid} == later


def test_no_dispatch_timeout_for_one_that_works(grid: Grid, daemon: Daemon) -> None:
    """A ``working`` in time is enough, whatever idle heartbeats come before it."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker, time_limit=60)
    worker.heartbeat()
    worker.begin(received)
    silent = RubyWorker(grid, fresh("type"))
    later = given(silent)
    beat_until(grid, [worker], daemon, f"DISPATCH_TIMEOUT|{silent.worker_type}|{later.guid}|")
    assert not daemon.log.events(f"DISPATCH_TIMEOUT|{worker.worker_type}|")
    assert worker.status == "working"


def test_forbidden_exchange(grid: Grid, daemon: Daemon) -> None:
    """An address to which nobody may publish harms nobody else; its task goes to another worker."""
    worker = ReadmeWorker(grid, fresh("type"), declared=False)
    worker.exchange_name = "amq.rabbitmq.trace"
    worker.free()
    guid = grid.task(worker.worker_type)
    grid.settle()
    other = ReadmeWorker(grid, worker.worker_type)
    free_until_sent(grid, other)
    assert other.expect().guid == guid
    grid.settle()


# --- working, then idle ---


def test_release_grace(grid: Grid, daemon: Daemon) -> None:
    """An idle in the midst of work, and nothing after it: given up, released, sent again."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker, time_limit=60)
    worker.begin(received)
    worker.say("idle")
    daemon.log.wait(f"TASK_RELEASED|{worker.worker_type}|{received.guid}|{worker.name}|")
    assert worker.expect().body == received.body
    until(lambda: outcomes(daemon, received.guid) == ["given_up"])


# --- silence ---


def test_missing_with_nothing(grid: Grid, daemon: Daemon) -> None:
    """A worker that is not heard of is missing, gets nothing, and is back when it is heard."""
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    daemon.log.wait(f"WORKER_MISSING|{worker.name}|")
    assert worker.status == "missing"
    guid = grid.task(worker.worker_type)
    grid.settle()
    assert not worker.inbox
    worker.heartbeat()
    assert worker.expect().guid == guid


def test_heartbeats_keep_it(grid: Grid, daemon: Daemon) -> None:
    """A worker that is heard in time is not missing, one that is silent from the same moment on is."""
    worker, silent = RubyWorker(grid, fresh("type")), RubyWorker(grid, fresh("type"))
    worker.free()
    silent.free()
    beat_until(grid, [worker], daemon, f"WORKER_MISSING|{silent.name}|")
    assert not daemon.log.events(f"WORKER_MISSING|{worker.name}|")
    assert worker.status == "idle"


@pytest.mark.parametrize("working", [False, True])
def test_missing_with_task(grid: Grid, daemon: Daemon, working: bool) -> None:
    """The task of a worker that is not heard of goes to another one, before those that came later."""
    worker, other = RubyWorker(grid, fresh("type")), RubyWorker(grid, fresh("type"))
    other.worker_type = worker.worker_type
    received = given(worker, time_limit=60)
    if working:
        worker.begin(received)
    later = grid.task(worker.worker_type)
    daemon.log.wait(f"WORKER_MISSING|{worker.name}|")
    other.work_off()
    other.free()
    grid.wait(lambda: len(other.received) == 2, "both tasks")
    assert [one.guid for one in other.received] == [received.guid, later]


def missing_with_task(grid: Grid, daemon: Daemon, kind: type[FieldWorker]) -> tuple[FieldWorker, Received]:
    """Return a worker that was lost in the midst of a task, which waits again."""
    worker = kind(grid, fresh("type"))
    received = given(worker, time_limit=60)
    worker.begin(received)
    daemon.log.wait(f"WORKER_MISSING|{worker.name}|")
    until(lambda: [row["state"] for row in daemon.rows("tasks", guid=received.guid)] == ["waiting"])
    return worker, received


@pytest.mark.parametrize("kind", BOTH)
def test_heard_again_with_working(grid: Grid, daemon: Daemon, kind: type[FieldWorker]) -> None:
    """A lost worker that says it works gets its task back, since it evidently still runs it."""
    worker, received = missing_with_task(grid, daemon, kind)
    worker.begin(received)
    shown = grid.workers()[worker.name]
    assert (shown["status"], shown["task"]) == ("working", received.message)
    other = kind(grid, worker.worker_type)
    other.free()
    grid.settle()
    assert not other.inbox
    worker.finish(received)
    until(lambda: daemon.rows("history", guid=received.guid))
    grid.settle()
    assert not other.inbox
    assert len(worker.received) == 1


def test_heard_again_but_too_late(grid: Grid, daemon: Daemon) -> None:
    """A lost worker that works on what another has by now is only busy."""
    worker, received = missing_with_task(grid, daemon, RubyWorker)
    other = RubyWorker(grid, worker.worker_type)
    other.free()
    again = other.expect()
    other.begin(again)
    worker.begin(received)
    shown = grid.workers()
    assert (shown[worker.name]["status"], shown[worker.name]["task"]) == ("working", None)
    assert shown[other.name]["task"] == received.message


def test_late_completion_of_waiting(grid: Grid, daemon: Daemon) -> None:
    """A completion that comes late finishes the task where it waits: nobody does it again."""
    worker, received = missing_with_task(grid, daemon, RubyWorker)
    worker.finish(received)
    grid.settle()
    assert [row["outcome"] for row in daemon.rows("history", guid=received.guid)] == ["completed"]
    assert worker.status == "idle"
    assert not worker.inbox


def test_late_completion_elsewhere(grid: Grid, daemon: Daemon) -> None:
    """The first completion wins: the second is only logged, and both workers go on."""
    worker, received = missing_with_task(grid, daemon, RubyWorker)
    other = RubyWorker(grid, worker.worker_type)
    other.free()
    again = other.expect()
    other.begin(again)
    worker.finish(received)
    grid.settle()
    (row,) = daemon.rows("history", guid=received.guid)
    other.finish(again)
    grid.settle()
    assert daemon.rows("history", guid=received.guid) == [row]
    assert daemon.log.events(f"COMPLETION_IGNORED|{other.name}|")
    later = [grid.task(worker.worker_type) for _ in range(2)]
    assert {worker.expect().guid, other.expect().guid} == set(later)


# --- too long ---


def test_time_limit(grid: Grid, daemon: Daemon) -> None:
    """A worker that takes too long is stalled; its task goes to another; it gets none until it is free."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker)
    worker.begin(received)
    beat_until(grid, [worker], daemon, f"WORKER_STALLED|{worker.name}|")
    assert worker.status == "stalled"
    worker.heartbeat()
    grid.settle()
    assert not worker.inbox
    other = RubyWorker(grid, worker.worker_type)
    other.free()
    again = other.expect()
    assert again.body == received.body
    other.begin(again)
    other.finish(again)
    worker.free()
    assert worker.status == "idle"
    later = [grid.task(worker.worker_type) for _ in range(2)]
    assert {worker.expect().guid, other.expect().guid} == set(later)
    assert outcomes(daemon, received.guid) == ["stalled", "completed"]


def test_stalled_task_avoids_its_worker(grid: Grid, daemon: Daemon) -> None:
    """The worker that let a task stall does not get that one again, though it takes others."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker)
    worker.begin(received)
    beat_until(grid, [worker], daemon, f"WORKER_STALLED|{worker.name}|")
    worker.free()
    later = grid.task(worker.worker_type)
    assert worker.expect().guid == later
    other = RubyWorker(grid, worker.worker_type)
    other.free()
    assert other.expect().guid == received.guid


def test_time_limit_of_the_task(grid: Grid, daemon: Daemon) -> None:
    """A task's own time limit counts, from when it is worked on, be it shorter or longer than the usual."""
    short, usual, long = (RubyWorker(grid, fresh("type")) for _ in range(3))
    limits = {short: 0.3, usual: None, long: 60}
    for worker, limit in limits.items():
        worker.begin(given(worker, time_limit=limit))
    beat_until(grid, [short, usual, long], daemon, f"WORKER_STALLED|{usual.name}|")
    order = [event.split("|")[1] for event in daemon.log.events("WORKER_STALLED|")]
    assert order[-2:] == [short.name, usual.name]
    assert long.status == "working"


def test_stalled_worker_completes(grid: Grid, daemon: Daemon) -> None:
    """A stalled worker that comes to its end after all has done the task."""
    worker = RubyWorker(grid, fresh("type"))
    received = given(worker)
    worker.begin(received)
    beat_until(grid, [worker], daemon, f"WORKER_STALLED|{worker.name}|")
    worker.finish(received)
    grid.settle()
    assert [row["outcome"] for row in daemon.rows("history", guid=received.guid)] == ["completed"]
    assert worker.status == "idle"
    other = RubyWorker(grid, worker.worker_type)
    other.free()
    grid.settle()
    assert not other.inbox


def test_stalled_then_offline(grid: Grid, daemon: Daemon) -> None:
    """A stalled worker may leave; its task is tried by another, once."""
    worker = ReadmeWorker(grid, fresh("type"))
    received = given(worker)
    worker.begin(received)
    daemon.log.wait(f"WORKER_STALLED|{worker.name}|")
    worker.say("offline")
    assert worker.status is None
    other = ReadmeWorker(grid, worker.worker_type)
    other.work_off()
    other.free()
    grid.wait(lambda: other.received, "the task")
    grid.settle()
    assert [one.guid for one in other.received] == [received.guid]
