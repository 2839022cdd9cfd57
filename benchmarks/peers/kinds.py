"""The other task queues: how their workers are started, and what has to be created and removed for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pika
import psycopg2

from benchmarks.services.bench import Bench
from benchmarks.services.programs import PATIENCE, until

if TYPE_CHECKING:
    from benchmarks.peers.runner import Peer

SLOTS = "8"
"""How many tasks each of them runs at a time."""


@dataclass(frozen=True)
class Kind:
    """One of the other task queues.

    Attributes:
        name: its name.
        app: module of its tasks, before ``_app``.
        worker: makes its workers' command from its programs' variables.
        prepare: creates what it needs.
        clean: removes what it leaves on the servers.
    """

    name: str
    app: str
    worker: Callable[[Mapping[str, str]], Sequence[str]]
    prepare: Callable[[Peer], None]
    clean: Callable[[Bench, Mapping[str, str]], None]


def _celery_worker(variables: Mapping[str, str]) -> Sequence[str]:
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel=ERROR")
    pool = ("--pool=prefork", f"--concurrency={SLOTS}")
    return ("celery", "--app=benchmarks.peers.celery_app", "worker", *pool, *quiet)


def _dramatiq_worker(variables: Mapping[str, str]) -> Sequence[str]:
    slots = ("--processes=1", f"--threads={SLOTS}")
    return ("dramatiq", "benchmarks.peers.dramatiq_app", *slots, f"--queues={variables['BENCH_QUEUE']}")


def _procrastinate_worker(variables: Mapping[str, str]) -> Sequence[str]:
    app = "--app=benchmarks.peers.procrastinate_app.app"
    return ("procrastinate", app, "worker", f"--concurrency={SLOTS}")


def _dask_worker(variables: Mapping[str, str]) -> Sequence[str]:
    return _dask(variables, "--nworkers=1", f"--nthreads={SLOTS}", "--no-nanny")


def _dask_processes(variables: Mapping[str, str]) -> Sequence[str]:
    return _dask(variables, f"--nworkers={SLOTS}", "--nthreads=1")


def _dask(variables: Mapping[str, str], *slots: str) -> Sequence[str]:
    # Resources belong to a process: only with a single one do its limits apply to all tasks.
    resources = " ".join(f"r{number}=15" for number in range(20))
    where = variables["BENCH_SCHEDULER"]
    return ("dask", "worker", where, *slots, "--no-dashboard", f"--resources={resources}")


def _nothing(peer: Peer) -> None:
    """Do nothing: it declares its queues by itself."""


def _no_trace(bench: Bench, variables: Mapping[str, str]) -> None:
    """Do nothing: it leaves nothing behind."""


def _delete_queues(bench: Bench, variables: Mapping[str, str]) -> None:
    with pika.BlockingConnection(pika.URLParameters(bench.amqp_url + "%2f")) as connection:
        for suffix in ("", ".DQ", ".XQ"):
            connection.channel().queue_delete(variables["BENCH_QUEUE"] + suffix)


def _make_database(peer: Peer) -> None:
    name = _database(peer.variables)
    _execute(peer.bench, f"create database {name}")
    peer.variables["BENCH_DATABASE_URL"] = peer.bench.database_url.rpartition("/")[0] + f"/{name}"
    app = "--app=benchmarks.peers.procrastinate_app.app"
    peer.start("schema", "procrastinate", app, "schema", "--apply").wait()


def _drop_database(bench: Bench, variables: Mapping[str, str]) -> None:
    _execute(bench, f"drop database if exists {_database(variables)} with (force)")


def _database(variables: Mapping[str, str]) -> str:
    return variables["BENCH_QUEUE"].replace("-", "_")


def _execute(bench: Bench, statement: str) -> None:
    connection: Any = psycopg2.connect(**bench.database)
    connection.autocommit = True
    try:
        connection.cursor().execute(statement)
    finally:
        connection.close()


def _start_scheduler(peer: Peer) -> None:
    command = ("dask", "scheduler", "--host=127.0.0.1", "--port=0", "--no-dashboard")
    scheduler = peer.start("scheduler", *command)
    found: list[str] = []

    def listening() -> bool:
        scheduler.check()
        found[:] = re.findall(r"Scheduler at: +(tcp://\S+)", scheduler.errors.read_text())
        return bool(found)

    until(listening, "dask's scheduler", PATIENCE)
    peer.variables["BENCH_SCHEDULER"] = found[0]


CELERY = Kind("celery", "celery", _celery_worker, _nothing, _delete_queues)
DRAMATIQ = Kind("dramatiq", "dramatiq", _dramatiq_worker, _nothing, _delete_queues)
PROCRASTINATE = Kind(
    "procrastinate", "procrastinate", _procrastinate_worker, _make_database, _drop_database
)
DASK = Kind("dask", "dask", _dask_worker, _start_scheduler, _no_trace)
DASK_PROCESSES = Kind("dask-processes", "dask", _dask_processes, _start_scheduler, _no_trace)
