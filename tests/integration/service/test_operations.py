"""``docs/operations.md``: its procedures are followed on real services, and do what the page says."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tefmanager.sandbox.machine import Account
from tefmanager.sandbox.server import Server
from tests.integration.amqp_support import awaited
from tests.integration.daemon import FAULTS, Daemon, Log, plugin_folder, until
from tests.integration.grid_client import Grid, Received, RubyWorker, fresh
from tests.integration.pages import Reader, section
from tests.integration.rights import DATABASE, DATABASE_PASSWORD, PREFIX, Administrator
from tests.paths import ROOT
from tests.services import Services

PAGE = ROOT / "docs" / "operations.md"
OPTIONS = "--dispatch-interval=60 --dispatch-timeout=2 --release-grace=0.5 --max-attempts=2 --http="

SYSTEMCTL = """#!/bin/sh
# Does with a daemon what systemctl does with a service: it returns when it is ready, or is no more.
set -eu
cd '{folder}'
ready() {{ grep -cE 'BROKER_CONNECTED.consumer|another manager is active' tef-manager.log || true; }}
start() {{
    touch tef-manager.log
    before=$(ready)
    '{twistd}' --pidfile=manager.pid tef-manager --log-file='{folder}/tef-manager.log' {options}
    while [ "$(ready)" = "$before" ]; do sleep 0.05; done
}}
stop() {{
    pid=$(cat manager.pid)
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
}}
case "$1 $2" in
    'start tef-manager') start ;;
    'stop tef-manager') stop ;;
    'restart tef-manager') stop; start ;;
    'reload tef-manager') kill -HUP "$(cat manager.pid)" ;;
    *) exit 1 ;;
esac
"""


class Site:
    """A service ``tef-manager`` in the environment ``prod``, and somebody who operates it by the page.

    Attributes:
        log: of the service, from now on.
        grid: clients and workers.
    """

    def __init__(self, services: Services, folder: Path) -> None:
        self.services = services
        self.folder = folder
        self._administrator = Administrator(services, folder)
        self._administrator.follow("postgresql-one")
        self._install()
        host, port = services.etcd
        self._variables = {
            "PYTHONPATH": f"{plugin_folder(folder)}:{ROOT}",
            "TEF_ENV": "prod",
            "TEF_AMQP_URL_PROD": services.amqp_url,
            "TEF_MANAGER_DB_CONFIG": str(folder),
            "TEF_ETCD_HOST_PROD": f"{host}:{port}",
        }
        self.reader = Reader(folder, self._administrator.environment | self._variables)

    def start(self) -> None:
        """Start the service, and connect clients and workers."""
        self.shell("systemctl start tef-manager")
        self.log = Log(self.folder / "tef-manager.log")
        self.connect()

    def stop(self) -> None:
        """Stop the service, if it was started."""
        if (self.folder / "manager.pid").exists():
            self.shell("systemctl stop tef-manager")

    def _install(self) -> None:
        """Put systemctl and tefctl where they are found, and write how to reach the database."""
        twistd = Path(sys.executable).with_name("twistd")
        programs = {
            "systemctl": SYSTEMCTL.format(folder=self.folder, twistd=twistd, options=OPTIONS),
            "tefctl": f'#!/bin/sh\nexec {sys.executable} -m tefmanager.ctl "$@"\n',
        }
        for name, text in programs.items():
            path = self.folder / "programs" / name
            path.write_text(text)
            path.chmod(0o755)
        login = {"username": "tef_manager", "password": DATABASE_PASSWORD, "database": DATABASE}
        keys = {**login, "host": self.services.database["host"], "port": self.services.database["port"]}
        lines = "".join(f"{key}: '{value}'\n" for key, value in keys.items())
        (self.folder / "database_prod.yml").write_text(lines)

    def shell(self, script: str) -> str:
        """Run commands, as the page's reader would."""
        return self._administrator.shell(script, **self._variables)

    def follow(self, heading: str, *only: int) -> None:
        """Do what a section says, or only some of its blocks, and see what it shows."""
        found = section(PAGE, heading)
        for block in [found[index] for index in only] if only else found:
            self.reader.follow(block)

    def follow_while(self, heading: str, index: int, act: Callable[[], None]) -> None:
        """Do what a block says, which does not end before the grid has done something."""
        with ThreadPoolExecutor(1) as other:
            following = other.submit(self.follow, heading, index)
            act()
            self.grid.wait(following.done, heading)
        following.result()

    def connect(self) -> None:
        """Connect clients and workers anew."""
        self.grid = Grid(self.services.amqp_url, PREFIX)

    def news(self, start: str) -> Callable[[], object]:
        """Return what waits for an event that begins so and that is not in the log yet."""
        known = len(self.log.events(start))
        return lambda: self.log.wait(start, known + 1)

    def begun(self, *resources: str, worker: RubyWorker | None = None) -> tuple[RubyWorker, Received]:
        """Return a worker that works at a task."""
        worker = worker or RubyWorker(self.grid, fresh("type"))
        worker.free()
        self.grid.task(worker.worker_type, resources=resources)
        received = worker.expect()
        worker.begin(received)
        self.log.wait(f"TASK_WORKING|{worker.worker_type}|{received.guid}|")
        return worker, received

    def done(self, worker: RubyWorker) -> str:
        """Let a worker do its next task, and return which that was."""
        received = worker.expect()
        worker.begin(received)
        worker.finish(received)
        self.log.wait(f"TASK_COMPLETED|{worker.worker_type}|{received.guid}|")
        return received.guid

    def listed(self, guid: str) -> bool:
        """Tell whether a task is among those that are not finished."""
        return guid in self.shell("tefctl tasks --limit 1000")

    def held(self, resource: str) -> str:
        """Return the count of references to a resource."""
        return self.shell(
            f"etcdctl get --print-value-only /tef/prod/resources/{resource}/ref_count"
        ).strip()


@pytest.fixture(scope="module")
def site(own: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One site for all procedures, the service on which has no fault of its own."""
    folder = tmp_path_factory.mktemp("site")
    site = Site(own, folder)
    try:
        site.start()
        yield site
    finally:
        site.stop()
    lines = [line for file in folder.glob("tef-manager.log*") for line in Log(file).lines]
    assert not [line for line in lines if any(fault in line for fault in FAULTS)]


async def lose(server: Server) -> None:
    """Let a service die with all its data."""
    await server.kill()
    shutil.rmtree(server.folder / "data")


def test_pause(site: Site) -> None:
    """The page's loop ends when the last task does, what comes then waits, and goes on later."""
    worker, received = site.begun()
    paused = site.news("STATE_CHANGE|running|paused")

    def act() -> None:
        paused()
        worker.finish(received)

    site.follow_while("Pause for maintenance", 0, act)
    guid = site.grid.task(worker.worker_type)
    site.log.wait(f"TASK_ACCEPTED|{worker.worker_type}|{guid}|")
    assert site.listed(guid)
    assert not worker.inbox
    site.follow("Pause for maintenance", 1)
    assert site.done(worker) == guid


def test_drain(site: Site) -> None:
    """The page's loop ends when the worker is idle, with nothing in its queue."""
    worker = RubyWorker(site.grid, fresh("type"), "worker_foo")
    _, received = site.begun(worker=worker)
    waiting = site.grid.task(worker.worker_type)
    paused = site.news("STATE_CHANGE|running|paused")

    def act() -> None:
        paused()
        worker.finish(received)

    site.follow_while("Drain a worker", 0, act)
    assert not worker.inbox
    site.follow("Drain a worker", 1)
    assert site.done(worker) == waiting


def test_resource(site: Site) -> None:
    """A resource is made, gets windows, and is closed and opened."""
    site.follow("Add a resource")
    assert "licence" in site.shell("tefctl resources list")


def test_rotate(site: Site) -> None:
    """No line is lost, and none is in both files, when the log is renamed under load."""
    kind = fresh("type")
    sent = [site.grid.task(kind)]
    site.log.wait(f"TASK_ACCEPTED|{kind}|")
    with ThreadPoolExecutor(1) as other:
        following = other.submit(site.follow, "Rotate the log")
        while not following.done():
            sent.append(site.grid.task(kind))
            site.grid.serve(0.005)
    following.result()
    sent.append(site.grid.task(kind))
    until((site.folder / "tef-manager.log").exists, "the new log")
    new, old = Log(site.folder / "tef-manager.log"), site.log
    new.wait(f"TASK_ACCEPTED|{kind}|{sent[-1]}|")
    accepted = old.events(f"TASK_ACCEPTED|{kind}|") + new.events(f"TASK_ACCEPTED|{kind}|")
    assert [line.split("|")[2] for line in accepted] == sent
    site.log = new


def test_failover(site: Site, tmp_path: Path) -> None:
    """The standby takes over, and the one that was restarted stands by."""
    services = site.services
    login = {"dbname": DATABASE, "user": "tef_manager", "password": DATABASE_PASSWORD}
    elsewhere = Services(services.amqp_url, {**services.database, **login}, services.etcd, services.sandbox)
    standby = Daemon(elsewhere, tmp_path, "standby", "--http=", env="prod")
    standby.prefix = PREFIX
    try:
        standby.start(ready=False)
        standby.log.wait("WAITING_FOR|another manager is active")
        stands_by, active = site.news("WAITING_FOR|another manager"), site.news("BROKER_CONNECTED|consumer")
        site.follow("Failover")
        standby.wait_ready()
        stands_by()
        standby.stop()
    finally:
        standby.end()
    active()


def test_postgresql_is_lost(site: Site) -> None:
    """After the restore it is as the page's table says, and goes on."""
    kept, done = site.grid.task(fresh("type")), fresh("task")
    worker = RubyWorker(site.grid, fresh("type"))
    site.grid.send({"type": "task", "task_type": worker.worker_type, "guid": done})
    site.log.wait(f"TASK_ACCEPTED|{worker.worker_type}|{done}|")
    site.follow("Back up")
    worker.free()
    assert site.done(worker) == done
    site.shell("tefctl resources set-limit restored 1")
    busy, late = site.begun("restored")
    assert site.held("restored") == "1"
    given_back = site.news("RESERVATION_GIVEN_BACK|")
    site.follow("PostgreSQL is lost", 0)
    given_back()
    until(lambda: site.held("restored") == "0", "the reference")
    assert [site.listed(guid) for guid in (kept, done, late.guid)] == [True, True, False]
    busy.finish(late)
    site.follow("PostgreSQL is lost", 1)
    worker.free()
    assert site.done(worker) == done


def test_postgresql_without_a_backup(site: Site) -> None:
    """With an empty database it begins anew; told to take over Etcd, it gives back what nothing holds."""
    site.shell("tefctl resources set-limit restored 1")
    site.begun("restored")
    block = section(PAGE, "PostgreSQL is lost")[0]
    lines = block.text.splitlines(keepends=True)
    kept = "".join(line for line in lines if "pg_restore" not in line and "update" not in line)
    taken = site.news("ETCD_TAKEN|")
    site.reader.follow(replace(block, text=kept))
    taken()
    site.shell("tefctl resources take-over --yes")
    until(lambda: site.held("restored") == "0", "the reference")
    assert json.loads(site.shell("tefctl --json tasks"))["total"] == 0


@awaited
async def test_etcd_from_a_snapshot(site: Site) -> None:
    """What the manager held when the snapshot was made, and holds no more, is given back."""
    site.shell("tefctl resources set-limit snapshot 1")
    worker, received = site.begun("snapshot")
    site.shell("etcdctl snapshot save etcd.snapshot")
    worker.finish(received)
    until(lambda: site.held("snapshot") == "0", "the reference")
    etcd = site.services.sandbox.etcd
    lost, given_back = site.news("RESOURCES_LOST|"), site.news("RESERVATION_GIVEN_BACK|")
    await lose(etcd)
    lost()
    restore(etcd, site)
    await etcd.start()
    site.shell("systemctl restart tef-manager")
    given_back()
    until(lambda: site.held("snapshot") == "0", "the reference")


def restore(etcd: Server, site: Site) -> None:
    """Put the snapshot where Etcd will find it."""
    arguments = etcd.command().arguments
    names = ("--name", "--initial-cluster", "--initial-advertise-peer-urls", "--data-dir")
    options = " ".join(f"{name} '{arguments[arguments.index(name) + 1]}'" for name in names)
    site.shell(f"etcdctl snapshot restore etcd.snapshot {options}")
    account = Account.unprivileged()
    for path in [etcd.folder / "data", *(etcd.folder / "data").rglob("*")]:
        os.chown(path, account.user, account.group)


@awaited
async def test_etcd_is_lost(site: Site) -> None:
    """What is held is held again once the resource is there, and its limit is kept."""
    site.shell("tefctl resources set-limit licence 1")
    worker, received = site.begun("licence")
    second = RubyWorker(site.grid, worker.worker_type)
    etcd = site.services.sandbox.etcd
    site.follow("Etcd is lost", 0)
    lost = site.news("RESOURCES_LOST|")
    await lose(etcd)
    lost()
    await etcd.start()
    site.follow("Etcd is lost", 1)
    site.log.wait(f"RESERVATION_TAKEN|{worker.worker_type}|{received.guid}|")
    assert site.held("licence") == "1"
    second.free()
    waiting = site.grid.task(worker.worker_type, resources=["licence"])
    site.log.wait(f"RESOURCE_WAIT|{worker.worker_type}|")
    worker.finish(received)
    worker.say("offline")
    assert site.done(second) == waiting


@awaited
async def test_rabbitmq_is_lost(site: Site) -> None:
    """Tasks that were taken in go out again, dead ones come back from history, definitions are there."""
    dead = RubyWorker(site.grid, fresh("type"))
    guid = site.grid.task(dead.worker_type, task_data="a\nb")
    for _ in range(2):
        dead.free()
        dead.begin(dead.expect())
        dead.say("offline")
    site.log.wait(f"TASK_DEAD|{dead.worker_type}|{guid}|")
    site.shell("rabbitmqctl -q add_vhost of-others")
    site.follow("Back up", 1)
    lost = RubyWorker(site.grid, fresh("type"), declared=False)
    site.grid.channel.queue_declare(lost.queue, durable=True)
    lost.free()
    sent = site.grid.task(lost.worker_type)
    site.log.wait(f"DISPATCH|{lost.worker_type}|{sent}|")
    rabbitmq = site.services.sandbox.rabbitmq
    connected = site.news("BROKER_CONNECTED|consumer")
    await lose(rabbitmq)
    await rabbitmq.start()
    connected()
    site.follow("RabbitMQ is lost", 0)
    assert "of-others" in site.shell("rabbitmqctl -q list_vhosts")
    site.connect()
    again = RubyWorker(site.grid, lost.worker_type, lost.name)
    again.free()
    assert site.done(again) == sent
    dead = RubyWorker(site.grid, dead.worker_type)
    dead.free()
    site.follow("RabbitMQ is lost", 1)
    assert dead.expect().message["task_data"] == "a\nb"
