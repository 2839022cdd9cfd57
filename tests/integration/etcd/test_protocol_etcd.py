"""The daemon judged from outside: what it reserves, by both of Etcd's APIs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.daemon import CALM, Daemon, running, until
from tests.integration.grid_client import FieldWorker, Grid, ReadmeWorker, Received, RubyWorker, fresh
from tests.integration.grid_etcd import (
    APIS,
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


# --- one task ---


def test_while_in_flight(grid: Grid, daemon: Daemon, make: Make) -> None:
    """A held reference is counted, and has a lock key that leads to its attempt; then both are gone."""
    resource = make(3)
    worker, received = at_work(grid, resource)
    assert resource.count == 1
    (lock,) = resource.locks()
    prefix, _, attempt = lock.client.rpartition(":")
    (row,) = daemon.rows("tasks", guid=received.guid)
    assert (prefix, int(attempt)) == (daemon.prefix, row["attempt"])
    assert (lock.count, lock.value) == (1, "1")
    assert abs(lock.time - time.time()) < 60
    worker.finish(received)
    until(lambda: all_back(resource))
    assert resource.fields() == {"ref_count": "0", "ref_limit": "3", "available": "1", "source": "test"}


def test_lock_keys_count_up(grid: Grid, make: Make) -> None:
    """The value of each lock key is the count after it was added, the references of others included."""
    resource = make(9, count=4)
    workers = [at_work(grid, resource) for _ in range(3)]
    assert resource.count == 7
    assert [(lock.count, lock.value) for lock in resource.locks()] == [(5, "5"), (6, "6"), (7, "7")]
    for worker, received in workers:
        worker.finish(received)
    until(lambda: resource.count == 4 and not resource.locks())


@pytest.mark.parametrize("form", ["list", "text", "twice", "text twice"])
def test_forms_of_resources(grid: Grid, make: Make, form: str) -> None:
    """A list of names, or one string with a bar between them; what is named twice counts once."""
    a, b = make(1), make(1)
    forms = {
        "list": [a.name, b.name],
        "text": f"{a.name}|{b.name}",
        "twice": [a.name, b.name, a.name],
        "text twice": f"{b.name}|{a.name}|{b.name}",
    }
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    grid.task(worker.worker_type, resources=forms[form])
    received = worker.expect()
    worker.begin(received)
    assert (a.count, b.count) == (1, 1)
    assert (len(a.locks()), len(b.locks())) == (1, 1)
    worker.finish(received)
    until(lambda: all_back(a, b))


@pytest.mark.parametrize("name", ["with space", "ä€😀", "per%cent", "plus+and?query#hash", "a.b-c_d~e:f"])
def test_names_of_resources(grid: Grid, keys: Keys, name: str) -> None:
    """A resource may have any name that a key can have."""
    resource = Shared(keys, f"{fresh('odd')} {name}").make(1)
    worker, received = at_work(grid, resource)
    assert (resource.count, len(resource.locks())) == (1, 1)
    worker.finish(received)
    until(lambda: all_back(resource))
    resource.remove()


# --- limits ---


def test_limit(grid: Grid, make: Make, witness: Witness) -> None:
    """As many as the limit allows go out, the next when one comes back."""
    resource = make(2)
    workers = [RubyWorker(grid, fresh("type")) for _ in range(3)]
    for worker in workers:
        worker.worker_type = workers[0].worker_type
        worker.free()
    guids = [grid.task(workers[0].worker_type, resources=[resource.name]) for _ in range(3)]
    grid.wait(lambda: sum(len(worker.inbox) for worker in workers) == 2, "two tasks")
    busy = [worker for worker in workers if worker.inbox]
    (idle,) = [worker for worker in workers if not worker.inbox]
    witness.nothing_for(idle)
    assert resource.count == 2
    first = busy[0].expect()
    busy[0].begin(first)
    busy[0].finish(first)
    grid.wait(lambda: len([one for worker in workers for one in worker.received]) == 3, "the third")
    assert {one.guid for worker in workers for one in worker.received} == set(guids)
    assert resource.count == 2


def test_missing_limit_is_none_at_all(grid: Grid, make: Make, witness: Witness) -> None:
    """Without ``ref_limit`` nobody gets a reference, until there is one."""
    resource = make(None)
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type, resources=[resource.name])
    witness.nothing_for(worker)
    resource.put("ref_limit", "1")
    assert worker.expect().guid == guid


def test_no_limit(grid: Grid, make: Make) -> None:
    """With -1 there are as many references as anybody wants, and they are counted."""
    resource = make(-1)
    workers = [at_work(grid, resource) for _ in range(5)]
    assert (resource.count, len(resource.locks())) == (5, 5)
    for worker, received in workers:
        worker.finish(received)
    until(lambda: all_back(resource))


def test_not_available(grid: Grid, make: Make, witness: Witness) -> None:
    """With ``available`` 0 nobody gets a reference, however high the limit; with 1 again one does."""
    resource = make(-1, available="0")
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type, resources=[resource.name])
    witness.nothing_for(worker)
    assert all_back(resource)
    resource.put("available", "1")
    assert worker.expect().guid == guid


def test_limit_lowered(grid: Grid, make: Make, witness: Witness) -> None:
    """Who holds a reference keeps it when the limit is lowered; nobody new gets one above it."""
    resource = make(2)
    workers = [at_work(grid, resource) for _ in range(2)]
    resource.put("ref_limit", "1")
    late = RubyWorker(grid, fresh("type"))
    late.free()
    guid = grid.task(late.worker_type, resources=[resource.name])
    for worker, received in workers:
        witness.nothing_for(late)
        worker.finish(received)
    assert late.expect().guid == guid
    until(lambda: resource.count == 1)


def test_all_or_none(grid: Grid, make: Make, witness: Witness) -> None:
    """While one resource is short, none of the others is touched; others may have them."""
    free, short = make(1), make(1, count=1)
    worker = RubyWorker(grid, fresh("type"))
    worker.free()
    guid = grid.task(worker.worker_type, resources=[free.name, short.name])
    witness.nothing_for(worker)
    assert all_back(free)
    other, received = at_work(grid, free)
    short.add(-1)
    witness.nothing_for(worker)
    assert short.count == 0
    other.finish(received)
    assert worker.expect().guid == guid
    assert (free.count, short.count) == (1, 1)


# --- many ---


def test_many_tasks_over_few_resources(grid: Grid, make: Make) -> None:
    """60 tasks, 6 workers, limits of 2 and 3: each is reached, never passed, and all is given back."""
    two, three = make(2), make(3)
    workers = [(RubyWorker, ReadmeWorker)[at % 2](grid, "t") for at in range(6)]
    kind = fresh("type")
    held: dict[str, int] = {two.name: 0, three.name: 0}
    most = dict(held)
    done: list[str] = []

    def work(worker: FieldWorker) -> Callable[[Received], None]:
        def begin(received: Received) -> None:
            worker.begin(received)
            for name in received.message["resources"]:
                held[name] += 1
                most[name] = max(most[name], held[name])
            grid.connection.call_later(0.03, lambda: finish(received))

        def finish(received: Received) -> None:
            for name in received.message["resources"]:
                held[name] -= 1
            done.append(received.guid)
            worker.finish(received)

        return begin

    for worker in workers:
        worker.worker_type = kind
        worker.job = work(worker)
        worker.free()
    wanted = [[two.name], [three.name], [two.name, three.name]]
    guids = [grid.task(kind, resources=wanted[at % 3], task_data="ä" * at) for at in range(60)]
    seen: dict[str, set[int]] = {two.name: set(), three.name: set()}

    def finished() -> bool:
        for resource in (two, three):
            seen[resource.name].add(resource.count)
        return len(done) == 60

    grid.wait(finished, "60 tasks")
    assert sorted(done) == sorted(guids)
    assert most == {two.name: 2, three.name: 3}
    assert max(seen[two.name]) == 2
    assert max(seen[three.name]) == 3
    until(lambda: all_back(two, three))


def test_many_resources_of_one_task(grid: Grid, make: Make) -> None:
    """A task may need a hundred of them, more than fit into a transaction of Etcd."""
    resources = [make(1) for _ in range(100)]
    worker, received = at_work(grid, *resources)
    assert [resource.count for resource in resources] == [1] * 100
    worker.finish(received)
    until(lambda: all_back(*resources))


# --- which API ---


def test_auto(services: Services, tmp_path: Path, unique: str) -> None:
    """``auto`` takes v2 where the base key exists there, otherwise v3."""
    v2, v3 = (Shared(kind(services.etcd), f"auto-{unique}", "prod") for kind in APIS.values())
    v3.make(1)
    daemon = Daemon(services, tmp_path, unique, *CALM, env="prod")
    for resource in (v3, v2):
        with running(daemon):
            grid = Grid(services.amqp_url, daemon.prefix)
            worker, received = at_work(grid, resource)
            assert resource.count == 1
            worker.finish(received)
            until(lambda: all_back(resource))  # noqa: B023
            grid.close()
        v2.make(1)
    APIS["v2"](services.etcd).delete("/tef/prod")
    v3.remove()
