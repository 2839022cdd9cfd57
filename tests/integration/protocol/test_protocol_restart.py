"""The daemon judged from outside: ended, killed, started again, and one that waits for another."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from tests.integration.daemon import CALM, Daemon, running, until
from tests.integration.grid_client import FieldWorker, Grid, ReadmeWorker, Received, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, Shared
from tests.services import Services

TAKEOVER = 5.0
"""Seconds after the active manager's death within which the standby must become active."""


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    """Each of both."""
    return str(request.param)


@pytest.fixture
def daemon(services: Services, tmp_path: Path, unique: str) -> Iterator[Daemon]:
    """A daemon for one test, which stops and starts it."""
    with running(Daemon(services, tmp_path, unique, *CALM, "--etcd-api=v3")) as daemon:
        yield daemon


@pytest.fixture
def grid(services: Services, daemon: Daemon) -> Iterator[Grid]:
    """A client of it."""
    grid = Grid(services.amqp_url, daemon.prefix)
    yield grid
    grid.close()


def end(daemon: Daemon, how: str) -> None:
    """End it as an operator or as a crash does."""
    if how == "stop":
        daemon.stop()
    else:
        daemon.kill()


def in_flight(grid: Grid, *resources: Shared, work: bool = True) -> tuple[RubyWorker, Received]:
    """Return a worker that has a task, and works at it or has only been sent it."""
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    grid.task(worker.worker_type, resources=[resource.name for resource in resources])
    received = worker.expect()
    if work:
        worker.begin(received)
    grid.settle()
    return worker, received


def outcomes(daemon: Daemon, guid: str) -> list[str]:
    """Return how the tasks of a guid have ended."""
    return [row["outcome"] for row in daemon.rows("history", guid=guid)]


HOW = pytest.mark.parametrize("how", ["stop", "kill"])


# --- in flight ---


@pytest.mark.parametrize(("how", "work"), [("stop", True), ("kill", True), ("kill", False)])
def test_finished_after_restart(
    services: Services, tmp_path: Path, unique: str, how: str, work: bool, api: str
) -> None:
    """A task in flight is finished by its worker after the restart, and its references are given back."""
    resource = Shared(APIS[api](services.etcd), fresh("resource")).make(1)
    with running(Daemon(services, tmp_path, unique, *CALM, f"--etcd-api={api}")) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix)
        worker, received = in_flight(grid, resource, work=work)
        (lock,) = resource.locks()
        end(daemon, how)
        daemon.start()
        shown = grid.workers()[worker.name]
        assert (shown["status"], shown["task"]) == ("working" if work else "dispatched", received.message)
        assert resource.locks() == [lock]
        worker.finish(received)
        until(lambda: resource.count == 0 and not resource.locks())
        grid.settle()
        assert outcomes(daemon, received.guid) == ["completed"]
        assert worker.status == "idle"
        assert len(worker.received) == 1
        grid.close()
    resource.remove()


@HOW
def test_finished_during_restart(grid: Grid, daemon: Daemon, how: str) -> None:
    """What workers and senders say while nobody listens is heard afterwards, in its order."""
    worker, received = in_flight(grid)
    end(daemon, how)
    worker.finish(received)
    guids = [grid.task(worker.worker_type) for _ in range(3)]
    worker.work_off()
    daemon.start()
    grid.wait(lambda: len(worker.received) == 4, "the other tasks")
    assert [one.guid for one in worker.received[1:]] == guids
    grid.settle()
    assert [outcomes(daemon, guid) for guid in (received.guid, *guids)] == [["completed"]] * 4


def test_waiting_over_restart(grid: Grid, daemon: Daemon) -> None:
    """Tasks that wait are there again, in the order of their priorities and ages, byte for byte."""
    worker = ReadmeWorker(grid, fresh("type"))
    guids = [grid.task(worker.worker_type, priority=at % 3, task_data="ä" * at) for at in range(9)]
    grid.settle()
    daemon.stop()
    daemon.start()
    worker.work_off()
    worker.free()
    grid.wait(lambda: len(worker.received) == 9, "all tasks")
    by_priority = [guids[at] for rest in (2, 1, 0) for at in range(9) if at % 3 == rest]
    assert [one.guid for one in worker.received] == by_priority
    assert [one.message["task_data"] for one in worker.received] == [
        "ä" * guids.index(guid) for guid in by_priority
    ]


def test_guid_of_before(grid: Grid, daemon: Daemon) -> None:
    """A guid that waits or is in flight is still known after a restart."""
    worker, received = in_flight(grid)
    waiting = grid.task(worker.worker_type)
    grid.settle()
    daemon.kill()
    daemon.start()
    grid.task(worker.worker_type, guid=received.guid)
    grid.task(worker.worker_type, guid=waiting)
    worker.work_off()
    worker.finish(received)
    grid.wait(lambda: len(worker.received) == 2, "the waiting task")
    grid.settle()
    assert [one.guid for one in worker.received] == [received.guid, waiting]


def test_reservation_without_attempt(services: Services, tmp_path: Path, unique: str, api: str) -> None:
    """A reference of ours that no attempt needs any more is given back at the start; others' are not."""
    resource = Shared(APIS[api](services.etcd), fresh("resource")).make(5, count=1)
    with running(Daemon(services, tmp_path, unique, *CALM, f"--etcd-api={api}")) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix)
        worker, received = in_flight(grid, resource)
        daemon.kill()
        # A crash after the reservation and before the commit leaves just this.
        resource.put(f"locks/{daemon.prefix}:999999~1600000000~3", "3")
        resource.put("locks/another:1~1600000000~1", "1")
        assert resource.add(1) == 3
        daemon.start()
        until(lambda: resource.count == 2 and len(resource.locks()) == 2)
        worker.finish(received)
        until(lambda: resource.count == 1 and len(resource.locks()) == 1)
        grid.close()
    resource.remove()


def test_attempt_without_reservation(services: Services, tmp_path: Path, unique: str, api: str) -> None:
    """An attempt in flight whose reference got lost has it again after a start."""
    resource = Shared(APIS[api](services.etcd), fresh("resource")).make(5)
    with running(Daemon(services, tmp_path, unique, *CALM, f"--etcd-api={api}")) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix)
        worker, received = in_flight(grid, resource)
        daemon.kill()
        resource.remove()
        resource.make(5)
        daemon.start()
        until(lambda: resource.count == 1 and len(resource.locks()) == 1)
        worker.finish(received)
        until(lambda: resource.count == 0 and not resource.locks())
        grid.close()
    resource.remove()


# --- delivered again ---


def deliver_again(grid: Grid, daemon: Daemon, message: object) -> None:
    """Start the daemon, which must be down, with a message in its queue that is marked as redelivered."""
    assert not daemon.alive
    grid.send(message)
    until(lambda: grid.depth(grid.queue) == 1)
    with grid.scratch() as channel:
        method, _, _ = channel.basic_get(grid.queue)
        assert method is not None
    until(lambda: grid.depth(grid.queue) == 1)
    daemon.start()


def test_task_delivered_again_after_its_end(grid: Grid, daemon: Daemon) -> None:
    """A finished guid may be used again, but not by a message that the broker delivers again."""
    worker, received = in_flight(grid)
    worker.finish(received)
    worker.work_off()
    grid.settle()
    daemon.stop()
    deliver_again(grid, daemon, received.body)
    grid.settle()
    assert len(worker.received) == 1
    assert daemon.log.events(f"TASK_DUPLICATE|{worker.worker_type}|{received.guid}|")
    grid.send(received.body)
    grid.wait(lambda: len(worker.received) == 2, "the task, sent anew")


def test_new_task_delivered_again(grid: Grid, daemon: Daemon) -> None:
    """A task that was delivered before, and of which nothing is known, is a new one."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    grid.settle()
    daemon.stop()
    guid = fresh("task")
    deliver_again(grid, daemon, {"type": "task", "task_type": worker.worker_type, "guid": guid})
    assert worker.expect().guid == guid


@pytest.mark.parametrize("named", [False, True])
def test_completion_delivered_again(grid: Grid, daemon: Daemon, named: bool) -> None:
    """A redelivered completion ends a dispatched task only if it names it: it may be of the task before."""
    worker, received = in_flight(grid, work=False)
    daemon.stop()
    message = {"type": "worker_status", "name": worker.name, "exchange_name": worker.queue}
    more = {"task": received.guid} if named else {}
    deliver_again(grid, daemon, {**message, "status": "task_complete", **more})
    grid.settle()
    assert outcomes(daemon, received.guid) == (["completed"] if named else [])
    worker.begin(received)
    worker.finish(received)
    grid.settle()
    assert outcomes(daemon, received.guid) == ["completed"]


# --- what is kept ---


@pytest.mark.parametrize("state", ["paused", "stopped"])
def test_state_is_kept(grid: Grid, daemon: Daemon, state: str) -> None:
    """A manager that was paused or stopped is so after a restart, and runs when told to."""
    worker = ReadmeWorker(grid, fresh("type"))
    worker.free()
    assert grid.ask({"type": "set_state", "data": state}) is True
    daemon.stop()
    guid = grid.task(worker.worker_type)
    daemon.start()
    worker.free()
    assert worker.status == "idle"
    assert not worker.inbox
    grid.send({"type": "set_state", "data": "running"})
    assert worker.expect().guid == guid
    daemon.log.wait(f"STATE_CHANGE|{state}|running")


def test_pause_of_a_suite_is_kept(grid: Grid, daemon: Daemon) -> None:
    """A suite that was paused is so after a restart, for tasks that come then as well."""
    worker, suite = ReadmeWorker(grid, fresh("type")), fresh("suite")
    grid.send({"type": "pause_suite", "data": suite})
    guids = [grid.task(worker.worker_type, suite_guid=suite)]
    grid.settle()
    daemon.kill()
    daemon.start()
    guids.append(grid.task(worker.worker_type, suite_guid=suite))
    worker.work_off()
    worker.free()
    grid.settle()
    assert not worker.received
    grid.send({"type": "ready_suite", "data": suite})
    grid.wait(lambda: len(worker.received) == 2, "both tasks")
    assert [one.guid for one in worker.received] == guids


def test_workers_are_kept(grid: Grid, daemon: Daemon) -> None:
    """A worker that is free is known and gets work before it has said anything to the new process."""
    worker: FieldWorker = RubyWorker(grid, fresh("type"))
    worker.free()
    grid.settle()
    daemon.stop()
    daemon.start()
    guid = grid.task(worker.worker_type)
    assert worker.expect().guid == guid


# --- one after the other ---


@HOW
def test_standby(
    services: Services, daemon: Daemon, grid: Grid, tmp_path: Path, unique: str, how: str
) -> None:
    """A second process of the same name waits, does nothing, and takes over in seconds."""
    worker, received = in_flight(grid)
    standby = Daemon(services, tmp_path / "standby", unique, *CALM, "--etcd-api=v3")
    try:
        standby.start(ready=False)
        (line,) = standby.log.wait("WAITING_FOR|")
        assert "another manager" in line
        guid = grid.task(worker.worker_type)
        worker.finish(received)
        again = worker.expect()
        assert again.guid == guid
        worker.begin(again)
        grid.settle()
        assert not standby.log.events("DISPATCH|")
        end(daemon, how)
        standby.log.wait("LEADERSHIP_GAINED|", timeout=TAKEOVER)
        standby.wait_ready()
        worker.finish(again)
        later = grid.task(worker.worker_type)
        assert worker.expect().guid == later
        assert outcomes(daemon, guid) == ["completed"]
        daemon.start(ready=False)
        daemon.log.wait("WAITING_FOR|")
        standby.stop()
        daemon.wait_ready()
    finally:
        standby.end()


def test_two_start_at_once(services: Services, tmp_path: Path, unique: str) -> None:
    """On a database without tables one of two makes them and leads; the other waits, and succeeds it."""
    both = [Daemon(services, tmp_path / name, unique, *CALM, "--etcd-api=v3") for name in "ab"]
    try:
        for each in both:
            each.start(ready=False)
        until(lambda: any(each.log.events("LEADERSHIP_GAINED|") for each in both))
        active, standby = sorted(both, key=lambda each: not each.log.events("LEADERSHIP_GAINED|"))
        standby.log.wait("WAITING_FOR|another manager is active")
        active.stop()
        standby.wait_ready()
        standby.stop()
    finally:
        for each in both:
            each.end()


def test_end_while_waiting(services: Services, daemon: Daemon, tmp_path: Path, unique: str) -> None:
    """A standby ends when told to, and waits for nothing."""
    standby = Daemon(services, tmp_path / "standby", unique, *CALM, "--etcd-api=v3")
    try:
        standby.start(ready=False)
        standby.log.wait("WAITING_FOR|")
        standby.stop()
        assert "without waiting any longer" not in standby.log.tail()
    finally:
        standby.end()


def test_session_with_database_lost(services: Services, grid: Grid, daemon: Daemon) -> None:
    """A leadership that lost its database session ends, another begins, and nothing sent is lost."""
    worker, received = in_flight(grid)
    connection = psycopg2.connect(**services.database)
    connection.autocommit = True
    with connection.cursor() as cursor:
        # There is no other manager now, so that only this one can hold a lock of this kind.
        cursor.execute("select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'")
        assert cursor.fetchall() == [(True,)]
    connection.close()
    guids = [grid.task(worker.worker_type) for _ in range(5)]
    worker.work_off()
    worker.finish(received)
    grid.wait(lambda: len(worker.received) == 6, "all tasks")
    assert [one.guid for one in worker.received[1:]] == guids
    daemon.log.wait("LEADERSHIP_GAINED|2|")
    grid.settle()
    assert all(outcomes(daemon, guid) == ["completed"] for guid in (received.guid, *guids))


def test_stop_is_quick(grid: Grid, daemon: Daemon) -> None:
    """With tasks waiting and in flight the daemon ends, and waits for none of them."""
    in_flight(grid)
    for _ in range(50):
        grid.task(fresh("type"))
    grid.settle()
    daemon.stop()
    assert "without waiting any longer" not in daemon.log.tail()
    daemon.start()


def test_stopped_amid_messages(grid: Grid, daemon: Daemon) -> None:
    """A stop leaves nothing half done: no message that was handled is delivered again."""
    task_type = fresh("type")
    for _ in range(3000):
        grid.task(task_type)
    daemon.log.wait("TASK_ACCEPTED|")
    daemon.stop()
    taken = len(daemon.rows("tasks"))
    daemon.start()
    daemon.log.wait("TASK_ACCEPTED|", 3000 - taken)
    grid.settle()
    assert len(daemon.rows("tasks")) == 3000
    assert not daemon.logged(("TASK_DUPLICATE|",))


def test_killed_again_and_again(services: Services, tmp_path: Path, unique: str, api: str) -> None:
    """30 tasks over a resource, the daemon killed five times: each is done, and all is given back."""
    resource = Shared(APIS[api](services.etcd), fresh("resource")).make(2)
    options = (*CALM, f"--etcd-api={api}", "--dispatch-timeout=3")
    with running(Daemon(services, tmp_path, unique, *options)) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix)
        workers = [RubyWorker(grid, fresh("worker")) for _ in range(3)]
        for worker in workers:
            worker.worker_type = "t"
            worker.work_off(lambda: 0.02)
            worker.free()
        guids = [grid.task("t", resources=[resource.name]) for _ in range(30)]

        def done() -> set[str]:
            return {one.guid for worker in workers for one in worker.received}

        for goal in (3, 7, 11, 16, 22):
            grid.wait(lambda: len(done()) >= goal, f"{goal} tasks")  # noqa: B023
            daemon.kill()
            daemon.start()
            for worker in workers:
                worker.heartbeat()
        grid.wait(lambda: len(done()) == 30, "all tasks", timeout=40)
        grid.wait(lambda: len(daemon.rows("history")) >= 30, "the end of all tasks", timeout=40)
        until(lambda: resource.count == 0 and not resource.locks())
        finished = [row["guid"] for row in daemon.rows("history", task_type="t")]
        assert sorted(finished) == sorted(guids)
        grid.close()
    resource.remove()


def test_two_ends(daemon: Daemon) -> None:
    """A second SIGTERM while it ends does no harm."""
    os.kill(daemon.pid, signal.SIGTERM)
    daemon.stop()
    daemon.start()
