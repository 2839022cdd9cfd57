"""Fixtures of tests that judge the daemon from outside. A module's ``OPTIONS`` are its daemon's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tefmanager.sandbox import Sandbox
from tests.contract.stores import RealTwin
from tests.integration.daemon import CALM, Daemon, running
from tests.integration.grid_client import Grid, fresh
from tests.integration.grid_etcd import APIS, Keys, Make, Witness, makes_resources
from tests.integration.http_client import Http, shown
from tests.services import Services


@pytest.fixture(scope="module")
def daemon(
    request: pytest.FixtureRequest, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """One daemon for all tests of a module, which use worker types and guids of their own."""
    options = getattr(request.module, "OPTIONS", CALM)
    with running(Daemon(services, tmp_path_factory.mktemp("daemon"), fresh("shared"), *options)) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def both(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Http]]:
    """A daemon for all tests of a module, and a client of its HTTP server."""
    with shown(services, tmp_path_factory.mktemp("shown"), fresh("shown"), "--etcd-api=v3") as found:
        yield found


@pytest.fixture
def grid(services: Services, daemon: Daemon) -> Iterator[Grid]:
    """A client of the daemon."""
    grid = Grid(services.amqp_url, daemon.prefix)
    yield grid
    grid.close()


@pytest.fixture(scope="module", params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    """Each of Etcd's APIs."""
    return str(request.param)


@pytest.fixture(scope="module")
def daemon_on_api(
    request: pytest.FixtureRequest, services: Services, api: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Daemon]:
    """One daemon for each of Etcd's APIs, for all tests of a module."""
    options = (*request.module.OPTIONS, f"--etcd-api={api}")
    with running(Daemon(services, tmp_path_factory.mktemp("daemon"), fresh(api), *options)) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def keys(services: Services, api: str) -> Keys:
    """A client of Etcd, for another program."""
    return APIS[api](services.etcd)


@pytest.fixture
def make(keys: Keys) -> Iterator[Make]:
    """Create resources with new names, and remove them afterwards."""
    with makes_resources(keys) as make:
        yield make


@pytest.fixture
def witness(grid: Grid, make: Make) -> Witness:
    """A worker by which a test can tell that nothing happened."""
    return Witness(grid, make)


@pytest.fixture(scope="module")
def own() -> Iterator[Services]:
    """Services for one module, which may break them; all other modules share theirs."""
    from twisted.internet import reactor  # imported late: pytest-twisted must install the reactor first

    sandbox = Sandbox(reactor, fast=True)
    try:
        addresses = pytest_twisted.blockon(Deferred.fromCoroutine(sandbox.start()))
        yield Services.of(sandbox, addresses)
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(sandbox.stop()))


@pytest.fixture
def prefix(unique: str) -> str:
    """A table prefix of its own."""
    return f"t_{unique}_"


@pytest.fixture
def twin(services: Services, prefix: str) -> Iterator[RealTwin]:
    """A view of the tables from outside; they are removed at the end."""
    outside = RealTwin(services.database, prefix)
    try:
        yield outside
    finally:
        outside.close()
