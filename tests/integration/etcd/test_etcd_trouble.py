"""The daemon and an Etcd that is restored, or refuses something: everything else goes on."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tefmanager.etcd.owner import FOLDER
from tests.contract.etcds import ForeignV2, ForeignV3
from tests.contract.own_etcd import ROOT_V2, USER, OwnEtcd
from tests.integration.daemon import CALM, Daemon, running, until
from tests.integration.grid_client import Grid, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, V3, Shared, all_back, at_work, makes_resources
from tests.services import Services

BASE = "/tef/dev/resources"
LOGIN = {"TEF_ETCD_USER_DEV": USER, "TEF_ETCD_PASSWORD_DEV": USER}


def awaited(work: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns."""
    return pytest_twisted.blockon(Deferred.fromCoroutine(work))


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[OwnEtcd]:
    """An Etcd of the test's own."""
    made = OwnEtcd(tmp_path / "etcd")
    awaited(made.start())
    yield made
    awaited(made.kill())


def daemon(services: Services, etcd: OwnEtcd, folder: Path, api: str, **variables: str) -> Daemon:
    """Return a manager that uses it."""
    own = Services(services.amqp_url, services.database, etcd.endpoint, services.sandbox)
    options = (*CALM, f"--etcd-api={api}", "--dispatch-interval=1")
    return Daemon(own, folder / "daemon", fresh("trouble"), *options, variables=variables)


@pytest.mark.parametrize("api", APIS)
@pytest_twisted.ensureDeferred
async def test_restored(services: Services, etcd: OwnEtcd, tmp_path: Path, api: str) -> None:
    """A task at work has its reference again after an older Etcd came back."""
    with makes_resources(APIS[api](etcd.endpoint)) as make:
        resource = make(1)
        await etcd.remember()
        with running(daemon(services, etcd, tmp_path, api)) as manager:
            grid = Grid(services.amqp_url, manager.prefix)
            worker, received = at_work(grid, resource)
            assert resource.count == 1
            await etcd.bring_back()
            [line] = manager.log.wait("RESOURCES_REPLACED|")
            assert "before" in line
            until(lambda: resource.count == 1 and len(resource.locks()) == 1)
            manager.log.wait("RESERVATION_TAKEN|")
            worker.finish(received)
            until(lambda: all_back(resource))
            grid.close()


@pytest_twisted.ensureDeferred
async def test_restored_with_users(services: Services, etcd: OwnEtcd, tmp_path: Path) -> None:
    """The manager's token names a time that an older Etcd has not reached: it logs in anew and goes on."""
    await etcd.users.let_nobody_in("v3")
    for begin in (f"{BASE}/", f"/tef/dev/{FOLDER}/"):
        await etcd.users.permit("v3", begin)
    resource = Shared(V3(etcd.endpoint, await etcd.users.token()), "r").make(1)
    await etcd.remember()
    resource = Shared(V3(etcd.endpoint, await etcd.users.token()), "r")
    for number in range(200):
        resource.put("source", str(number))
    with running(daemon(services, etcd, tmp_path, "v3", **LOGIN)) as manager:
        grid = Grid(services.amqp_url, manager.prefix)
        worker, received = at_work(grid, resource)
        await etcd.bring_back()
        manager.log.wait("RESOURCES_REPLACED|")
        restored = Shared(V3(etcd.endpoint, await etcd.users.token()), "r")
        until(lambda: restored.count == 1 and len(restored.locks()) == 1)
        worker.finish(received)
        until(lambda: all_back(restored))
        grid.close()


@pytest.mark.parametrize("api", APIS)
@pytest_twisted.ensureDeferred
async def test_denied(services: Services, etcd: OwnEtcd, tmp_path: Path, api: str) -> None:
    """A task whose resource may not be changed is held back and told; the right is given, and it goes."""
    await etcd.users.let_nobody_in()
    token = ROOT_V2 if api == "v2" else await etcd.users.token()
    foreign = (ForeignV2 if api == "v2" else ForeignV3)(etcd.url, BASE, token)
    for name in ("good", "bad"):
        await foreign.set(f"{name}/ref_limit", "9")
    for begin in (f"{BASE}/good/", f"/tef/dev/{FOLDER}/"):
        await etcd.users.permit(api, begin)
    with running(daemon(services, etcd, tmp_path, api, **LOGIN)) as manager:
        grid = Grid(services.amqp_url, manager.prefix)
        worker = RubyWorker(grid, fresh("type"))
        worker.free()
        held = grid.task(worker.worker_type, resources=["bad", "good"])
        [line] = manager.log.wait("TASK_CANNOT_RUN|")
        assert held in line
        assert "bad" in line
        other = grid.task(worker.worker_type, resources=["good"])
        received = worker.expect()
        assert received.guid == other
        worker.begin(received)
        worker.finish(received)
        worker.free()
        assert manager.log.events("RESOURCES_LOST|") == []
        await etcd.users.permit(api, f"{BASE}/bad/")
        assert worker.expect().guid == held
        grid.close()
