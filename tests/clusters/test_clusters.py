"""A part of a cluster dies while the daemon is at work on it: the rest goes on, and nothing is lost."""

from __future__ import annotations

import http.client
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tests.clusters.servers import Brokers, Databases, Etcds, Member
from tests.integration.daemon import Daemon, running
from tests.integration.grid_client import Grid, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, Shared, all_back, makes_resources
from tests.services import Services

_log = logging.getLogger(__name__)

OPTIONS = ("--dispatch-interval=2", "--dispatch-timeout=5")
TASKS = 1000
BEFORE = 500
"""How many of them are done before something is killed."""

BACK = 30.0
"""Seconds after which everything must go on."""

EXCUSES = ("DISPATCH_TIMEOUT|", "DISPATCH_UNCERTAIN|", "TASK_RELEASED|")
"""What must be logged of a task that is run twice."""

Strike = Callable[[], Coroutine[Deferred[Any], Any, None]]


@dataclass
class Load:
    """Tasks over two resources, and six workers that do them at once."""

    daemon: Daemon
    grid: Grid
    resources: list[Shared]
    workers: list[RubyWorker]

    async def survives(self, strike: Strike) -> None:
        """Let something be killed in mid-work; all is done nevertheless, once, and nothing is left held."""
        names = [resource.name for resource in self.resources]
        for worker in self.workers:
            worker.work_off()
            worker.free()
        begin = time.monotonic()
        guids = [self.grid.task(self.workers[0].worker_type, resources=names) for _ in range(TASKS)]
        self.grid.wait(lambda: self._received() >= BEFORE, f"{BEFORE} tasks", BACK)
        rate = self._received() / (time.monotonic() - begin)
        await strike()
        pause = Pause(self._received)
        self.grid.wait(lambda: pause.over(TASKS), "all tasks at workers", BACK + 30.0)
        self.grid.wait(lambda: self._over(guids), "all tasks", BACK)
        runs = Counter(received.guid for worker in self.workers for received in worker.received)
        excused = {line.split("|")[2] for line in self.daemon.logged(EXCUSES)}
        assert {guid for guid, count in runs.items() if count > 1} <= excused
        assert set(runs) == set(guids)
        self.grid.wait(lambda: all_back(*self.resources), "all references back")
        _log.info("%.0f tasks/s before; then a pause of %.1f s", rate, pause.longest)

    def _over(self, guids: Sequence[str]) -> bool:
        """Let workers say how they are, as they do in the field, and tell whether all tasks are done."""
        self.grid.serve(0.5)
        for worker in self.workers:
            worker.heartbeat()
        return self._completed() >= set(guids)

    def _received(self) -> int:
        return sum(len(worker.received) for worker in self.workers)

    def _completed(self) -> set[str]:
        return {line.split("|")[2] for line in self.daemon.logged(("TASK_COMPLETED|",))}


class Pause:
    """The longest time in which a count did not grow."""

    def __init__(self, count: Callable[[], int]) -> None:
        self.longest = 0.0
        self._count = count
        self._last = (count(), time.monotonic())

    def over(self, wanted: int) -> bool:
        """Look at it, and tell whether it is as high as wanted."""
        count, now = self._count(), time.monotonic()
        self.longest = max(self.longest, now - self._last[1])
        if count != self._last[0]:
            self._last = (count, now)
        return count >= wanted


@contextmanager
def load(
    services: Services, tmp_path: Path, unique: str, others: Services, api: str = "v3"
) -> Iterator[Load]:
    """A daemon at work on some services; workers, senders and resource clients are at the others."""
    with (
        makes_resources(APIS[api](others.etcd)) as make,
        running(Daemon(services, tmp_path, unique, *OPTIONS, f"--etcd-api={api}")) as daemon,
    ):
        grid = Grid(others.amqp_url, daemon.prefix)
        worker_type = fresh("type")
        workers = [RubyWorker(grid, worker_type) for _ in range(6)]
        yield Load(daemon, grid, [make(3), make(4)], workers)
        grid.close()


@pytest_twisted.ensureDeferred
async def test_nothing_is_killed(services: Services, tmp_path: Path, unique: str) -> None:
    """The same on one server of each kind: what the others are to be compared with."""

    async def nothing() -> None:
        return

    with load(services, tmp_path, unique, services) as scene:
        await scene.survives(nothing)


@pytest_twisted.ensureDeferred
async def test_broker_node_is_killed(
    services: Services, brokers: Brokers, tmp_path: Path, unique: str
) -> None:
    """The daemon goes on at another node of three; its queue is a quorum queue."""
    first, second, _ = brokers.nodes
    urls = ",".join(node.url for node in brokers.nodes)
    cluster, others = replace(services, amqp_url=urls), replace(services, amqp_url=second.url)
    with load(cluster, tmp_path, unique, others) as scene:
        listed = second.control("list_queues", "name", "type").splitlines()
        kinds = dict(line.split("\t") for line in listed)
        assert kinds[scene.daemon.queue] == "quorum"
        assert kinds[f"{scene.daemon.prefix}.manager.dead"] == "quorum"
        connected = scene.daemon.log.events("BROKER_CONNECTED|consumer")
        assert f":{first.port}" in connected[-1]
        await scene.survives(first.kill)
        connected = scene.daemon.log.events("BROKER_CONNECTED|consumer")
        assert f":{first.port}" not in connected[-1]
        await first.start()


@pytest.mark.parametrize("api", APIS)
@pytest_twisted.ensureDeferred
async def test_etcd_leader_is_killed(
    services: Services, etcds: Etcds, tmp_path: Path, unique: str, api: str
) -> None:
    """The two others choose a leader, and the daemon goes on with them."""
    leader = leader_of(etcds.members)
    rest = [member for member in etcds.members if member is not leader]
    hosts = ",".join(f"127.0.0.1:{member.port}" for member in (leader, *rest))
    cluster = replace(services, etcd=(hosts, leader.port))
    others = replace(services, etcd=("127.0.0.1", rest[0].port))
    with load(cluster, tmp_path, unique, others, api) as scene:
        await scene.survives(leader.kill)
        assert leader_of(rest) is not leader
        await leader.start()


def leader_of(members: list[Member]) -> Member:
    """Return the one that leads."""
    ids = {}
    leader = None
    for member in members:
        connection = http.client.HTTPConnection("127.0.0.1", member.port, timeout=10)
        connection.request("POST", "/v3/maintenance/status", "{}")
        status = json.loads(connection.getresponse().read())
        connection.close()
        ids[status["header"]["member_id"]] = member
        leader = status["leader"]
    return ids[leader]


@pytest_twisted.ensureDeferred
async def test_primary_is_killed(
    services: Services, databases: Databases, tmp_path: Path, unique: str
) -> None:
    """The standby is promoted, and the daemon goes on there, because it looks for who may write."""
    primary, standby = databases.primary, databases.standby
    pair = {
        **primary.database,
        "host": "127.0.0.1,127.0.0.1",
        "port": f"{primary.port},{standby.port}",
        "target_session_attrs": "read-write",
    }

    async def fail_over() -> None:
        await primary.kill()
        await standby.promote()

    with load(replace(services, database=pair), tmp_path, unique, services) as scene:
        await scene.survives(fail_over)
        leaderships = scene.daemon.logged(("LEADERSHIP_GAINED|",))
        assert len(leaderships) == 2
        assert [row["outcome"] for row in scene.daemon.rows("history")] == ["completed"] * TASKS
