"""What each set-up can do: a hundred instant workers, with no resources and with three of twenty each.

Only the outcome is judged. The rates are logged; ``docs/scaling.md`` has a table of them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from benchmarks.grid.spec import LoadSpec
from benchmarks.services.programs import Helper, until
from tests.clusters.servers import Brokers, Databases, Etcds
from tests.clusters.test_clusters import leader_of
from tests.integration.daemon import Daemon, running
from tests.integration.grid_etcd import APIS, all_back, makes_resources
from tests.services import Services

_log = logging.getLogger(__name__)

WORKERS = 100
TASKS = {0: 3000, 3: 1500}
"""Tasks, by how many resources each needs."""

RESOURCES, LIMIT = 20, 15
"""A hundred tasks of three just fit in."""

PATIENCE = 300.0


def measure(set_up: str, services: Services, folder: Path, unique: str, each: int, api: str = "v3") -> None:
    """Let the workers do tasks as fast as they come, and log how many they did in a second."""
    options = ("--dispatch-interval=2", f"--etcd-api={api}")
    with (
        makes_resources(APIS[api](first_of(services.etcd))) as make,
        running(Daemon(services, folder, unique, *options)) as daemon,
    ):
        resources = [make(LIMIT) for _ in range(RESOURCES if each else 0)]
        seconds = _play(daemon, services, folder, each, [resource.name for resource in resources])
        done = [row["outcome"] for row in daemon.rows("history")]
        assert done == ["completed"] * TASKS[each]
        until(lambda: all_back(*resources), "all references back")
    _log.info("%s, %d resources (%s): %.0f tasks/s", set_up, each, api, TASKS[each] / seconds)


def first_of(etcd: tuple[str, int]) -> tuple[str, int]:
    """Return the first address of one or several."""
    host, _, port = etcd[0].split(",")[0].partition(":")
    return host, int(port or etcd[1])


def _play(daemon: Daemon, services: Services, folder: Path, each: int, names: Sequence[str]) -> float:
    """Return the seconds from the first task sent to the last one in history."""
    port = urlsplit(services.amqp_url.split(",")[0]).port or 0
    spec = LoadSpec(port, daemon.prefix, workers=WORKERS, tasks=TASKS[each], each=each, names=names)
    helper = Helper("the simulated grid", "benchmarks.grid.load", [spec.to_json()], folder / "load.err")
    try:
        helper.wait("open", PATIENCE)
        helper.tell("workers")
        until(lambda: len(daemon.rows("workers")) == WORKERS, "all workers", PATIENCE)
        helper.tell("submit")
        begun = helper.wait("submitted", PATIENCE)["first"]
        ended = helper.wait("worked", PATIENCE)["last"]
        until(lambda: len(daemon.rows("history")) == TASKS[each], "all tasks in history", PATIENCE, 0.1)
        return float(ended - begun)
    finally:
        helper.stop()


@pytest.mark.parametrize(("api", "each"), [("v3", 0), ("v3", 3), ("v2", 3)])
def test_one_server_of_each(services: Services, tmp_path: Path, unique: str, api: str, each: int) -> None:
    """What the clusters are to be compared with."""
    measure("one server of each", services, tmp_path, unique, each, api)


@pytest.mark.parametrize("each", TASKS)
def test_quorum_queues(
    services: Services, brokers: Brokers, tmp_path: Path, unique: str, each: int
) -> None:
    """Three RabbitMQ nodes; every queue is replicated to each."""
    urls = ",".join(node.url for node in brokers.nodes)
    measure("three RabbitMQ nodes", replace(services, amqp_url=urls), tmp_path, unique, each)


@pytest.mark.parametrize("api", APIS)
def test_etcd_members(services: Services, etcds: Etcds, tmp_path: Path, unique: str, api: str) -> None:
    """Three Etcd members, of which the manager asks the leader."""
    leader = leader_of(etcds.members)
    members = [leader, *(member for member in etcds.members if member is not leader)]
    hosts = ",".join(f"127.0.0.1:{member.port}" for member in members)
    cluster = replace(services, etcd=(hosts, leader.port))
    measure("three Etcd members", cluster, tmp_path, unique, 3, api)


@pytest.mark.parametrize("each", TASKS)
def test_synchronous_standby(
    services: Services, databases: Databases, tmp_path: Path, unique: str, each: int
) -> None:
    """Each commit is on the standby, too, before it counts."""
    measure(
        "PostgreSQL with a standby",
        replace(services, database=databases.primary.database),
        tmp_path,
        unique,
        each,
    )
