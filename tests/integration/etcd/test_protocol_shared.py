"""The daemon judged from outside: resources that others use and change, windows, and what is given back."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.integration.daemon import CALM, Daemon, running, until
from tests.integration.grid_client import BOTH, FieldWorker, Grid, ReadmeWorker, RubyWorker, fresh
from tests.integration.grid_etcd import (
    Keys,
    Make,
    Shared,
    Witness,
    all_back,
    at_work,
)
from tests.services import Services

OPTIONS = (*CALM, "--release-grace=0.3", "--max-attempts=0")


@pytest.fixture(scope="module")
def daemon(daemon_on_api: Daemon) -> Daemon:
    """One for each API."""
    return daemon_on_api


# --- others ---


def test_foreign_references_count(grid: Grid, make: Make, witness: Witness) -> None:
    """What another program holds is respected; what it gives back wakes a waiting task."""
    resource = make(2, count=2)
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type, resources=[resource.name])
    witness.nothing_for(worker)
    assert resource.count == 2
    resource.add(-1)
    assert worker.expect().guid == guid
    assert resource.count == 2


def test_foreign_locks_are_left_alone(grid: Grid, make: Make) -> None:
    """Lock keys of others stay as they are, even of one whose name begins as ours does."""
    resource = make(5, count=2)
    foreign = {f"locks/{grid.prefix}x:1~1600000000~1": "1", "locks/res_man_7~1600000000~2": "2"}
    for field, value in foreign.items():
        resource.put(field, value)
    worker, received = at_work(grid, resource)
    assert (resource.count, len(resource.locks())) == (3, 3)
    worker.finish(received)
    until(lambda: all(field in foreign for field in resource.fields() if "locks" in field), "our lock key")
    assert resource.count == 2
    assert {field: value for field, value in resource.fields().items() if "locks" in field} == foreign


def test_others_change_the_count_all_the_time(grid: Grid, make: Make) -> None:
    """Between many changes by another program no reference is lost or made up."""
    resource = make(6)
    workers = [RubyWorker(grid, fresh("type")) for _ in range(3)]
    for worker in workers:
        worker.worker_type = workers[0].worker_type
        worker.work_off()
        worker.free()
    for _ in range(30):
        grid.task(workers[0].worker_type, resources=[resource.name])
    foreign, most = 0, 0

    def done() -> bool:
        nonlocal foreign, most
        step = random.choice([1, -1]) if foreign else 1
        if step < 0 or resource.count < 6 - len(workers):
            resource.add(step)
            foreign += step
        most = max(most, resource.count)
        return sum(len(worker.received) for worker in workers) >= 30

    grid.wait(done, "30 tasks")
    grid.settle()
    until(lambda: resource.count == foreign and not resource.locks())
    assert most <= 6


def test_created_while_running(grid: Grid, keys: Keys, witness: Witness) -> None:
    """A resource that somebody makes now counts at once."""
    resource = Shared(keys, fresh("new"))
    worker, received = at_work(grid, resource)
    assert resource.fields() == {}
    worker.finish(received)
    resource.make(1, count=1)
    worker.free()
    guid = grid.task(worker.worker_type, resources=[resource.name])
    witness.nothing_for(worker)
    resource.add(-1)
    assert worker.expect().guid == guid
    assert resource.count == 1
    resource.remove()


def test_removed_while_running(grid: Grid, make: Make, witness: Witness) -> None:
    """A resource that somebody removes limits nothing any more."""
    resource = make(0)
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type, resources=[resource.name])
    witness.nothing_for(worker)
    resource.remove()
    assert worker.expect().guid == guid
    resource.make(0)


def test_unknown_are_allowed(grid: Grid, keys: Keys, make: Make) -> None:
    """A name without an entry limits nothing and gets none; the others of the task count."""
    unknown, known = Shared(keys, fresh("nobody")), make(1)
    worker, received = at_work(grid, unknown, known)
    assert unknown.fields() == {}
    assert known.count == 1
    worker.finish(received)
    until(lambda: all_back(known))
    assert unknown.fields() == {}


def test_unknown_may_have_to_wait(services: Services, tmp_path: Path, keys: Keys, api: str) -> None:
    """With ``--unknown-resources wait`` a task waits for the entry, and is woken by it."""
    options = (*CALM, f"--etcd-api={api}", "--unknown-resources=wait")
    with running(Daemon(services, tmp_path, fresh(f"{api}wait"), *options)) as daemon:
        grid = Grid(services.amqp_url, daemon.prefix)
        resource = Shared(keys, fresh("late"))
        worker = RubyWorker(grid, fresh("type"))
        worker.free()
        guid = grid.task(worker.worker_type, resources=[resource.name])
        grid.settle()
        assert not worker.inbox
        resource.make(1)
        received = worker.expect()
        assert received.guid == guid
        until(lambda: resource.count == 1)
        worker.begin(received)
        worker.finish(received)
        until(lambda: all_back(resource))
        resource.remove()
        grid.close()


# --- windows ---


def test_window_closes(grid: Grid, make: Make, witness: Witness) -> None:
    """Inside a window its ``available`` stands for the resource's own; a change of it counts at once."""
    resource = make(5)
    resource.window(available=0)
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type, resources=[resource.name])
    witness.nothing_for(worker)
    resource.put("windows/1/available", "1")
    assert worker.expect().guid == guid


def test_window_limits(grid: Grid, make: Make, witness: Witness) -> None:
    """Inside a window its limit stands for the resource's own, lower or higher."""
    resource = make(5)
    resource.window(limit=1)
    at_work(grid, resource)
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type, resources=[resource.name])
    witness.nothing_for(worker)
    resource.put("ref_limit", "0")
    resource.put("windows/1/limit", "2")
    assert worker.expect().guid == guid
    assert resource.count == 2


def test_window_of_another_day(grid: Grid, make: Make) -> None:
    """A window of another day of the week is none today."""
    resource = make(1)
    today = (time.localtime().tm_wday + 1) % 7
    resource.window(day_of_week=(today + 3) % 7, available=0)
    worker, received = at_work(grid, resource)
    worker.finish(received)
    until(lambda: all_back(resource))


def test_window_of_today(grid: Grid, make: Make, witness: Witness) -> None:
    """Days count from Sunday."""
    resource = make(1)
    today = (time.localtime().tm_wday + 1) % 7
    for day in {today, (time.localtime(time.time() + 120).tm_wday + 1) % 7}:
        resource.window(str(day), day_of_week=day, available=0)
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    grid.task(worker.worker_type, resources=[resource.name])
    witness.nothing_for(worker)


def local_time(hour: int, minute: int, second: int) -> dict[str, str]:
    """Return the variable by which it is now this time of the day, at the daemon's place."""
    now = time.gmtime()
    behind = (now.tm_hour - hour) * 3600 + (now.tm_min - minute) * 60 + now.tm_sec - second
    behind = (behind + 43200) % 86400 - 43200
    sign, rest = "-" if behind < 0 else "", abs(behind)
    return {"TZ": f"HERE{sign}{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"}


NIGHTS: dict[str, tuple[int, dict[str, object]]] = {
    "ends": (1, {"start_time": "22:00", "end_time": "0:00", "available": 0}),
    "begins": (0, {"start_time": "0:00", "end_time": "9:00", "limit": 1}),
}
"""A resource's own limit, and a window."""


@pytest.mark.parametrize("kind", NIGHTS)
def test_window_at_midnight(services: Services, tmp_path: Path, keys: Keys, api: str, kind: str) -> None:
    """A window that ends or begins at midnight does so then, and wakes the task that waits for it."""
    limit, window = NIGHTS[kind]
    resource = Shared(keys, fresh("night")).make(limit)
    resource.window("1", **window)
    options = (*CALM, f"--etcd-api={api}")
    midnight = time.monotonic() + 4
    daemon = Daemon(services, tmp_path, fresh(f"{api}night"), *options, variables=local_time(23, 59, 56))
    with running(daemon):
        grid = Grid(services.amqp_url, daemon.prefix)
        worker = RubyWorker(grid, fresh("type"))
        worker.free()
        guid = grid.task(worker.worker_type, resources=[resource.name])
        assert worker.expect().guid == guid
        assert time.monotonic() > midnight - 1.5
        grid.close()
    resource.remove()


@pytest.mark.parametrize("hour", [23, 1])
def test_window_crosses_midnight(
    services: Services, tmp_path: Path, keys: Keys, api: str, hour: int
) -> None:
    """A window whose end is before its start is open late in the evening and early in the morning."""
    resource = Shared(keys, fresh("night")).make(1)
    resource.window(start_time="22:30", end_time="2:15", available=0)
    options = (*CALM, f"--etcd-api={api}")
    daemon = Daemon(services, tmp_path, fresh(f"{api}night"), *options, variables=local_time(hour, 30, 0))
    with running(daemon):
        grid = Grid(services.amqp_url, daemon.prefix)
        worker = RubyWorker(grid, fresh("type"))
        worker.free()
        grid.task(worker.worker_type, resources=[resource.name])
        daemon.log.wait("RESOURCE_WAIT|")
        grid.settle()
        assert not worker.inbox
        grid.close()
    resource.remove()


# --- given back, once ---


@pytest.mark.parametrize("kind", BOTH)
def test_given_back_once(grid: Grid, make: Make, kind: type[FieldWorker], witness: Witness) -> None:
    """However often an end is told, only our own reference is given back; another's stays."""
    resource = make(5, count=2)
    worker = kind(grid, fresh("type"))
    worker.free()
    grid.task(worker.worker_type, resources=[resource.name])
    received = worker.expect()
    worker.begin(received)
    assert resource.count == 3
    for _ in range(3):
        worker.say("task_complete", task=received.guid)
        worker.finish(received)
    witness.nothing_for(worker)
    until(lambda: resource.count == 2 and not resource.locks())


def test_given_back_when_a_worker_leaves(grid: Grid, make: Make) -> None:
    """Its reference is given back, and the next attempt takes its own."""
    resource = make(1)
    worker, received = at_work(grid, resource)
    (first,) = resource.locks()
    worker.say("offline")
    until(lambda: all_back(resource))
    other = ReadmeWorker(grid, worker.worker_type)
    other.free()
    again = other.expect()
    assert again.guid == received.guid
    (second,) = resource.locks()
    assert second.client != first.client
    worker.say("task_complete", task=received.guid)
    until(lambda: all_back(resource))
    other.begin(again)
    other.finish(again)
    grid.settle()
    assert all_back(resource)


def test_given_back_when_given_up(grid: Grid, make: Make) -> None:
    """A worker that drops its task has its reference taken away."""
    resource = make(1)
    worker, received = at_work(grid, resource)
    (first,) = resource.locks()
    worker.say("idle")
    assert worker.expect().guid == received.guid
    (second,) = resource.locks()
    assert (second.client != first.client, resource.count) == (True, 1)


def test_given_back_when_undelivered(grid: Grid, daemon: Daemon, make: Make) -> None:
    """A dispatch that finds no queue holds nothing afterwards."""
    a, b = make(1), make(1)
    worker = RubyWorker(grid, fresh("type"), declared=False)
    worker.free()
    guid = grid.task(worker.worker_type, resources=[a.name, b.name])
    daemon.log.wait(f"DISPATCH_FAILED|{worker.worker_type}|{guid}|")
    until(lambda: all_back(a, b))


def test_nothing_held_while_waiting(grid: Grid, make: Make, witness: Witness) -> None:
    """A task without a worker holds nothing, one of a paused suite neither."""
    resource = make(1)
    grid.task(fresh("type"), resources=[resource.name])
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    suite = fresh("suite")
    grid.send({"type": "pause_suite", "data": suite})
    grid.task(worker.worker_type, resources=[resource.name], suite_guid=suite)
    witness.nothing_for(worker)
    assert all_back(resource)
