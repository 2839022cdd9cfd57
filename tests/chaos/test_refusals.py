"""Each fault does what it says, and is mended afterwards."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pika
import psycopg2
import pytest
import pytest_twisted
from pika.exceptions import NackError
from psycopg2.errors import DiskFull, ReadOnlySqlTransaction
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from tefmanager.sandbox import Sandbox
from tests.chaos import refusals
from tests.chaos.grid import LIMITS, Grid, Program
from tests.chaos.journal import Journal
from tests.chaos.space import READ_ONLY
from tests.contract.etcds import http
from tests.contract.own_etcd import USER
from tests.integration.amqp_support import foreign_channel, rabbitmqctl
from tests.integration.grid_etcd import V3
from tests.services import Services


class During(random.Random):
    """Chances of a fault that looks at the grid while it is broken, and mends it at once."""

    def __init__(self, look: Callable[[], None]) -> None:
        super().__init__(0)
        self._look = look

    def uniform(self, a: float, b: float) -> float:
        """Say how long the fault lasts: it does not."""
        self._look()
        return 0.0


def awaited(doing: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns."""
    return pytest_twisted.blockon(Deferred.fromCoroutine(doing))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    """Three servers, and the tables of a manager that has ended."""
    sandbox = Sandbox(reactor, fast=True)
    try:
        direct = Services.of(sandbox, awaited(sandbox.start()))
        made = Grid(sandbox, direct, tmp_path_factory.mktemp("grid"), random.Random(0))
        awaited(made.make_resources())
        made.sender = Program([])
        _make_tables(made)
        yield made
        made.end()
    finally:
        awaited(sandbox.stop())


def _make_tables(grid: Grid) -> None:
    """Let a manager make them, past the proxies: this thread is where those run."""
    manager = grid.managers[0]
    manager._services = grid.direct
    manager.start()
    manager.stop()
    grid.space.prepare()


@pytest.fixture
def queues(grid: Grid) -> Iterator[None]:
    """A queue of each kind, without a message."""
    with foreign_channel(grid.direct) as channel:
        for name in (grid.broker.manager, grid.broker.dead, "tef.dev.worker.w"):
            channel.queue_declare(name, durable=True)
            channel.queue_purge(name)
    yield
    grid.gone.clear()


def send(grid: Grid, queue: str, **message: str) -> None:
    """Publish a persistent message that the broker has to confirm."""
    with foreign_channel(grid.direct) as channel:
        channel.confirm_delivery()
        properties = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish("", queue, json.dumps(message).encode(), properties, mandatory=True)


def queues_of(grid: Grid) -> set[str]:
    """Return the names of all queues."""
    return set(rabbitmqctl(grid.direct, "list_queues", "--no-table-headers", "name").split())


def sql(grid: Grid, statement: str) -> list[Any]:
    """Execute a statement as a manager would."""
    connection = psycopg2.connect(**grid.direct.database, application_name="tef-manager test")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def write(grid: Grid) -> None:
    """Make a row, or change it where it is there."""
    table = f'"{grid.managers[0].table("suite_ends")}"'
    made = f"insert into {table} values ('s', 'passed', 0)"
    sql(grid, f"{made} on conflict (guid, ending) do update set tasks = 1")


@pytest_twisted.ensureDeferred
async def test_lost_queues(grid: Grid, queues: None) -> None:
    """None is left, and it is known whose tasks were in them."""
    send(grid, grid.broker.manager, type="task", guid="unread")
    send(grid, grid.broker.manager, type="worker_status", name="w")
    send(grid, grid.broker.dead, type="task", guid="dead")
    send(grid, "tef.dev.worker.w", type="task", guid="sent")
    await refusals.lose_queues(grid, "rabbitmq", During(lambda: None))
    assert queues_of(grid) == set()
    assert grid.gone == {grid.broker.manager: ["unread"], grid.broker.dead: ["dead"]}


@pytest_twisted.ensureDeferred
async def test_deleted_queues(grid: Grid, queues: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The managers' queue stays while a confirmed task is in it, and goes with an unconfirmed one."""
    monkeypatch.setattr(refusals, "PATIENCE", 0.5)
    Journal(grid.folder / "worker.w.jsonl")
    journal = Journal(grid.folder / "sender.jsonl")
    journal.note("sent", guid="unread")
    send(grid, grid.broker.manager, type="task", guid="unread")
    send(grid, grid.broker.dead, type="task", guid="dead")
    journal.note("confirmed", guid="unread")
    await refusals.delete_queues(grid, "rabbitmq", During(lambda: None))
    assert queues_of(grid) == {grid.broker.manager}
    assert grid.gone == {grid.broker.dead: ["dead"]}
    assert grid.broker.take(grid.broker.manager) == ["unread"]
    (grid.folder / "sender.jsonl").unlink()
    Journal(grid.folder / "sender.jsonl").note("sent", guid="unconfirmed")
    await refusals.delete_queues(grid, "rabbitmq", During(lambda: None))
    assert queues_of(grid) == set()
    assert grid.gone[grid.broker.manager] == ["unconfirmed"]


@pytest_twisted.ensureDeferred
async def test_queues_that_refuse(grid: Grid, queues: None) -> None:
    """One queue takes nothing and keeps what it has; others take everything."""
    send(grid, grid.broker.dead, type="task", guid="before")

    def look() -> None:
        send(grid, grid.broker.manager, type="task", guid="elsewhere")
        with pytest.raises(NackError):
            send(grid, grid.broker.dead, type="task", guid="refused")

    await refusals.refuse_dead(grid, "rabbitmq", During(look))
    send(grid, grid.broker.dead, type="task", guid="after")
    assert grid.broker.take(grid.broker.dead) == ["before", "after"]
    grid.workers[0].name = "w"

    def look_again() -> None:
        with pytest.raises(NackError):
            send(grid, "tef.dev.worker.w", type="task", guid="refused")

    await refusals.refuse_work(grid, "rabbitmq", During(look_again))
    send(grid, "tef.dev.worker.w", type="task", guid="after")


@pytest.mark.parametrize(
    ("writes", "error"),
    [
        (["insert suite_ends"], DiskFull),
        (["update suite_ends"], DiskFull),
        ([READ_ONLY], ReadOnlySqlTransaction),
        (["insert tasks"], None),
    ],
    ids=str,
)
def test_no_room(grid: Grid, writes: list[str], error: type[Exception] | None) -> None:
    """Just what is meant is refused, with PostgreSQL's own code; reading works."""
    write(grid)
    grid.space.refuse(writes)
    try:
        assert grid.known_guids() == set()
        if error is None:
            write(grid)
        else:
            with pytest.raises(error):
                write(grid)
    finally:
        grid.space.free()
    write(grid)


@pytest_twisted.ensureDeferred
async def test_no_room_for_a_while(grid: Grid) -> None:
    """Something is refused, and nothing any more afterwards."""
    seen = []
    look = During(lambda: seen.append(_refused(grid)))
    for _ in range(8):
        await refusals.fill_database(grid, "postgresql", look)
    assert all(seen)
    assert READ_ONLY in seen
    assert not _refused(grid)


def _refused(grid: Grid) -> object:
    [(read_only,)] = sql(grid, "show default_transaction_read_only")
    return READ_ONLY if read_only == "on" else sql(grid, "select writes from chaos_full")


@pytest_twisted.ensureDeferred
async def test_an_older_etcd(grid: Grid) -> None:
    """What was written since is gone, and the judge has it."""
    keys = grid.etcd.keys
    count = "/tef/dev/resources/floor/ref_count"
    keys().put(count, "1")
    await refusals.restore_etcd(grid, "etcd", During(lambda: keys().put(count, "2")))
    assert keys().get(count) == "1"
    assert [change.count for change in grid.changes if change.resource == "floor"] == [0, 1, 2]
    assert [change.count for change in grid.etcd.changes() if change.resource == "floor"] == [0, 1]
    keys().put(count, "0")


@pytest_twisted.ensureDeferred
async def test_a_right_that_is_missing(grid: Grid) -> None:
    """The managers may read everything, and change all resources but one."""
    refused: list[list[str]] = []
    await refusals.forbid_resource(grid, "etcd", During(lambda: refused.append(_unwritable(grid))))
    [names] = refused
    assert len(names) == 1
    assert _unwritable(grid) == []


def _unwritable(grid: Grid) -> list[str]:
    """Return the resources that a manager may not change."""
    host, port = grid.direct.etcd
    account = json.dumps({"name": USER, "password": USER}).encode()
    keys = V3((host, port), http("POST", f"http://{host}:{port}/v3/auth/authenticate", account)["token"])
    return [name for name in LIMITS if not _may_write(keys, f"/tef/dev/resources/{name}/ref_count")]


def _may_write(keys: V3, key: str) -> bool:
    assert keys.get(key) == "0"
    try:
        keys.put(key, "0")
    except AssertionError as error:
        assert "permission denied" in str(error)
        return False
    return True
