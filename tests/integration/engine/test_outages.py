"""Services that end, are killed or freeze while the daemon runs, or are not there when it starts."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from pika.exceptions import AMQPError
from twisted.internet.defer import Deferred

from tefmanager.sandbox.server import Server
from tests.integration.daemon import Daemon, running
from tests.integration.grid_client import Grid, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, Shared, all_back, makes_resources
from tests.services import Services

OPTIONS = ("--etcd-api=v3", "--dispatch-interval=2", "--dispatch-timeout=15")

FOUND = 15.0
"""Seconds after which a service that went silent must have been found out."""

BACK = 20.0
"""Seconds after which everything must go on: the longest pause between two attempts to connect is 10."""

LOSSES = {
    "rabbitmq": ("BROKER_LOST|consumer", "BROKER_LOST|publisher"),
    "postgresql": ("LEADERSHIP_LOST|",),
    "etcd": ("RESOURCES_LOST|",),
}
"""What the log says, by the service that is gone."""

WAITS = {
    "rabbitmq": "BROKER_WAITING|",
    "postgresql": "WAITING_FOR|database 127.0.0.1:",
    "etcd": "RESOURCES_LOST|etcd 127.0.0.1:",
}
"""How the log says what is being waited for."""


@dataclass
class Scene:
    """A daemon at work, a resource, and a client with a worker that has to connect anew now and then."""

    services: Services
    daemon: Daemon
    grid: Grid
    resource: Shared
    worker: RubyWorker

    def connect(self) -> None:
        """Connect the client and the worker again, as programs in the field do."""
        with suppress(AMQPError):
            self.grid.close()
        self.grid = Grid(self.services.amqp_url, self.daemon.prefix)
        self.worker = RubyWorker(self.grid, self.worker.worker_type, self.worker.name)

    def task(self) -> str:
        """Send a task that needs the resource."""
        return self.grid.task(self.worker.worker_type, resources=[self.resource.name])

    def completed(self) -> list[str]:
        """Return the guids of all completed tasks."""
        start = f"TASK_COMPLETED|{self.worker.worker_type}|"
        return [line.split("|")[2] for line in self.daemon.logged((start,))]


@pytest.fixture
def scene(own: Services, tmp_path: Path, unique: str) -> Iterator[Scene]:
    """One for each test."""
    with (
        makes_resources(APIS["v3"](own.etcd)) as make,
        running(Daemon(own, tmp_path, unique, *OPTIONS)) as daemon,
    ):
        grid = Grid(own.amqp_url, daemon.prefix)
        scene = Scene(own, daemon, grid, make(1), RubyWorker(grid, fresh("type")))
        yield scene
        scene.grid.close()


def server_of(services: Services, name: str) -> Server:
    """Return a server of the sandbox."""
    server = getattr(services.sandbox, name)
    assert isinstance(server, Server)
    return server


Mend = Callable[[], Coroutine[Deferred[Any], Any, None]]


async def broken(services: Services, name: str, how: str) -> Mend:
    """Stop, kill or freeze a server; return what mends it."""
    server = server_of(services, name)
    if how != "freeze":
        await getattr(server, how)()
        return server.start
    server.freeze()

    async def thaw() -> None:
        server.thaw()

    return thaw


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("how", ["stop", "kill", "freeze"])
@pytest_twisted.ensureDeferred
async def test_a_service_goes_and_comes_back(scene: Scene, name: str, how: str) -> None:
    """The daemon says so within 15 s, stays up and goes on; the task in flight is done where it is."""
    scene.worker.free()
    in_flight = scene.task()
    received = scene.worker.expect()
    scene.worker.begin(received)
    scene.grid.settle()
    pid, mend = scene.daemon.pid, await broken(scene.services, name, how)
    try:
        for line in LOSSES[name]:
            scene.daemon.log.wait(line, timeout=FOUND)
    finally:
        await mend()
    if name == "rabbitmq":
        scene.connect()
    scene.worker.finish(received)
    waiting = scene.task()
    again = scene.worker.expect(BACK)
    assert again.guid == waiting
    scene.worker.begin(again)
    scene.worker.finish(again)
    scene.grid.wait(lambda: scene.completed() == [in_flight, waiting], "both tasks completed")
    scene.grid.wait(lambda: all_back(scene.resource), "the reference back")
    assert scene.daemon.pid == pid
    assert not scene.daemon.logged(("DISPATCH_TIMEOUT|", "TASK_RELEASED|", "WORKER_MISSING|"))


@pytest_twisted.ensureDeferred
async def test_tasks_without_resources_go_on_without_etcd(scene: Scene) -> None:
    """Only who needs resources waits for Etcd."""
    scene.worker.free()
    mend = await broken(scene.services, "etcd", "kill")
    try:
        scene.daemon.log.wait("RESOURCES_LOST|", timeout=FOUND)
        held_back = scene.task()
        free = scene.grid.task(scene.worker.worker_type)
        received = scene.worker.expect()
        assert received.guid == free
        scene.worker.begin(received)
        scene.worker.finish(received)
        scene.grid.settle()
    finally:
        await mend()
    assert scene.worker.expect(BACK).guid == held_back


@pytest_twisted.ensureDeferred
async def test_nothing_is_there_at_first(own: Services, tmp_path: Path, unique: str) -> None:
    """Started before its services, in whatever order they come, it waits for each, says so, and works."""
    daemon = Daemon(own, tmp_path, unique, *OPTIONS)
    mends = {name: await broken(own, name, "stop") for name in LOSSES}
    try:
        daemon.start(ready=False)
        daemon.log.wait(WAITS["postgresql"])
        daemon.log.wait(WAITS["rabbitmq"])
        await mends.pop("postgresql")()
        daemon.log.wait("LEADERSHIP_GAINED|", timeout=BACK)
        daemon.log.wait(WAITS["etcd"], timeout=BACK)
        await mends.pop("rabbitmq")()
        daemon.log.wait("BROKER_CONNECTED|consumer", timeout=BACK)
        grid = Grid(own.amqp_url, daemon.prefix)
        worker = RubyWorker(grid, fresh("type"))
        worker.free()
        grid.task(worker.worker_type)
        worker.expect(BACK)
        await mends.pop("etcd")()
        daemon.log.wait("RESOURCES_READ|", timeout=BACK)
        grid.close()
        daemon.stop()
    finally:
        for mend in mends.values():
            await mend()
        daemon.end()
