"""Daemons with one name prefix and one Etcd, but with several databases, or one after the other on one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from tests.integration.ctl.test_tefctl import command, environment
from tests.integration.daemon import Daemon, until
from tests.integration.grid_client import Grid, fresh
from tests.integration.grid_etcd import APIS, Keys, Make, at_work, makes_resources
from tests.services import Services

OPTIONS = ("--dispatch-interval=2", "--silence-limit=3")


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    """Each of Etcd's APIs."""
    return str(request.param)


@pytest.fixture
def keys(services: Services, api: str) -> Keys:
    """Etcd, as another program uses it."""
    return APIS[api](services.etcd)


@pytest.fixture
def make(keys: Keys) -> Iterator[Make]:
    """Make resources, and remove them afterwards."""
    with makes_resources(keys) as make:
        yield make


class Daemons:
    """Daemons of one name prefix, each on a database of its own unless it is told which."""

    def __init__(self, services: Services, folder: Path, api: str) -> None:
        self._services = services
        self._folder = folder
        self._api = api
        self._name = fresh("owner")
        self._databases: list[str] = []
        self.all: list[Daemon] = []

    def database(self) -> str:
        """Make an empty database."""
        self._databases.append(fresh("database"))
        self._run(f"create database \"{self._databases[-1]}\" encoding 'UTF8' template template0")
        return self._databases[-1]

    def copy(self, database: str) -> str:
        """Make a copy of a database that is in use, by a dump."""
        copied = self.database()
        login = {**self._services.database, "dbname": database}
        where = ("-h", str(login["host"]), "-p", str(login["port"]), "-U", str(login["user"]))
        variables = {"PGPASSWORD": str(login.get("password", "")), "PATH": "/usr/bin:/bin"}
        dump = subprocess.run(
            ["pg_dump", *where, database], env=variables, check=True, capture_output=True
        ).stdout
        subprocess.run(["psql", "-q", *where, copied], env=variables, check=True, input=dump)
        return copied

    def new(self, database: str, *options: str) -> Daemon:
        """Return a daemon, not started."""
        services = replace(self._services, database={**self._services.database, "dbname": database})
        daemon = Daemon(
            services,
            self._folder / str(len(self.all)),
            self._name,
            *OPTIONS,
            f"--etcd-api={self._api}",
            *options,
        )
        self.all.append(daemon)
        return daemon

    def end(self) -> None:
        """End all daemons, and remove their databases."""
        for daemon in self.all:
            daemon.end()
        for database in self._databases:
            self._run(f'drop database "{database}" with (force)')

    def _run(self, statement: str) -> None:
        connection = psycopg2.connect(**self._services.database)
        connection.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
        connection.cursor().execute(statement)
        connection.close()


@pytest.fixture
def daemons(services: Services, tmp_path: Path, api: str) -> Iterator[Daemons]:
    """What makes daemons."""
    found = Daemons(services, tmp_path, api)
    yield found
    found.end()


@pytest.fixture
def grids(services: Services) -> Iterator[Callable[[Daemon, str], Grid]]:
    """Make clients of daemons with their own queues."""
    made: list[Grid] = []

    def make(daemon: Daemon, queue: str = "") -> Grid:
        made.append(Grid(services.amqp_url, daemon.prefix))
        made[-1].queue = queue or daemon.queue
        return made[-1]

    yield make
    for grid in made:
        grid.close()


def test_two_databases(
    services: Services,
    api: str,
    daemons: Daemons,
    make: Make,
    grids: Callable[..., Grid],
) -> None:
    """Only the first uses Etcd, also while it is down; the second follows when somebody says so."""
    first = daemons.new(daemons.database())
    other = f"{first.prefix}.other"
    second = daemons.new(daemons.database(), f"--in-queue={other}")
    resource = make(1)
    first.start()
    at_work(grids(first), resource)
    held = [lock.client for lock in resource.locks()]
    second.start()
    [line] = second.log.wait("ETCD_TAKEN|")
    assert "|another grid, whose manager is alive|database " in line
    assert line.count(" on ") == 2
    worker, received = at_work(grids(second, other))
    worker.finish(received)
    waiting = grids(second, other).task(worker.worker_type, resources=[resource.name])
    second.log.wait("TASK_ACCEPTED|", 2)
    assert (resource.count, [lock.client for lock in resource.locks()]) == (1, held)

    def take_over(status: int) -> str:
        done = subprocess.run(
            command(f"--name-prefix={first.prefix}", "--json", "resources", "take-over", "--yes"),
            env=environment(services, api),
            capture_output=True,
            text=True,
        )
        assert done.returncode == status, done
        return done.stdout + done.stderr

    assert "is alive: stop it first" in take_over(1)
    first.stop()
    second.log.wait("ETCD_TAKEN|", 2)
    assert (resource.count, [lock.client for lock in resource.locks()]) == (1, held)
    assert json.loads(take_over(0))["forgotten"]
    second.log.wait("RESERVATION_GIVEN_BACK|")
    assert worker.expect().guid == waiting
    first.start()
    assert "whose manager is alive" in first.log.wait("ETCD_TAKEN|")[0]


def test_a_copy_of_the_database(daemons: Daemons, make: Make, grids: Callable[..., Grid]) -> None:
    """It waits until the other manager is dead, and then goes on with what the grid holds."""
    database = daemons.database()
    first = daemons.new(database)
    first.start()
    resource = make(1)
    at_work(grids(first), resource)
    second = daemons.new(daemons.copy(database), f"--in-queue={first.prefix}.other")
    second.start()
    assert "|this grid by another database or a copy of it" in second.log.wait("ETCD_TAKEN|")[0]
    assert resource.count == 1
    first.kill()
    second.log.wait("RESOURCES_READ|")
    assert (resource.count, len(resource.locks())) == (1, 1)
    assert second.log.events("RESERVATION_GIVEN_BACK|") == []


def test_a_takeover(daemons: Daemons, make: Make, grids: Callable[..., Grid]) -> None:
    """A standby on the same database finds a predecessor's sign of life, and waits for nothing."""
    database = daemons.database()
    first, second = daemons.new(database), daemons.new(database)
    first.start()
    resource = make(1)
    at_work(grids(first), resource)
    second.start(ready=False)
    second.log.wait("WAITING_FOR|another manager is active")
    first.kill()
    second.log.wait("RESOURCES_READ|")
    assert second.log.events("RESOURCES_LOST|") == second.log.events("ETCD_TAKEN|") == []
    assert resource.count == 1
    second.stop()
    first.start()
    first.log.wait("RESOURCES_READ|")
    until(lambda: resource.count == 1)
    assert first.log.events("RESOURCES_LOST|") == first.log.events("ETCD_TAKEN|") == []
