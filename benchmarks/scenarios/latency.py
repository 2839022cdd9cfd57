"""Milliseconds from a task's publishing to its arrival at a worker: idle, and under a steady load.

Measured in the same round for comparison: a message that the same client publishes and consumes directly
through the same broker; a commit of one row in PostgreSQL; and a transaction of three keys in Etcd.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import TypeAlias

import psycopg2

from benchmarks.case import Case, Measure
from benchmarks.grid.grid import Grid, Resources, open_grid
from benchmarks.peers.kinds import CELERY, DASK, DRAMATIQ, PROCRASTINATE, Kind
from benchmarks.peers.runner import WARM_UP, open_peer
from benchmarks.results import Facts, Outcome, distribution, percentile
from benchmarks.scenarios.throughput import US
from benchmarks.services.bench import Bench, Options
from benchmarks.services.etcd import BASE, Etcd

GROUP = "latency"
MEDIAN = "ms, median"
P99 = "ms, 99 %"
QUANTILES = "ms"
IDLE = "idle"

RATE = 300
"""Tasks per second of the steady load."""

PAUSE = 0.02
"""Seconds between two tasks in an idle grid."""

IDLE_WORKERS = 8
BUSY_WORKERS = 100

_SECONDS = 20
_FIRST = 50
"""How many tasks are ignored at the beginning, while caches are cold."""

Timed: TypeAlias = Callable[[Bench, int], Sequence[float]]
"""Does something so many times, and returns the milliseconds of each."""


def cases(options: Options) -> Iterator[Case]:
    """Iterate over the cases."""
    tasks = options.scaled(350)
    seconds = 3 + tasks * 0.028
    for what, measure in (
        ("round trip", _round_trip),
        ("commit", _commit),
        ("Etcd transaction", _transaction),
    ):
        yield Case(GROUP, {"who": "bare", "what": what}, seconds, MEDIAN, _counted(measure, tasks))
    for each in (0, 3):
        yield _grid_case(IDLE, tasks, IDLE_WORKERS, each, seconds)
    busy = RATE * (2 if options.quick else _SECONDS)
    for each in (0, 3):
        yield _grid_case(f"{RATE} tasks/s", busy, BUSY_WORKERS, each, 5 + busy / RATE)
    for kind in (CELERY, DRAMATIQ, PROCRASTINATE, DASK):
        yield Case(GROUP, {"who": kind.name, "what": IDLE}, 5 + seconds, MEDIAN, _peer(kind, tasks))


def _outcome(samples: Sequence[float]) -> Outcome:
    """Return the outcome for samples in milliseconds, ignoring the first ones."""
    counted = samples[min(_FIRST, len(samples) // 5) :]
    values = {MEDIAN: percentile(counted, 50), P99: percentile(counted, 99), "samples": float(len(counted))}
    return Outcome(values, {QUANTILES: distribution(counted)})


# --- ours ---


def _grid_case(what: str, tasks: int, workers: int, each: int, seconds: float) -> Case:
    facts: Facts = {"who": US, "what": what, "workers": workers, "resources": each}
    how = {"pause": PAUSE} if what == IDLE else {"rate": float(RATE)}

    def measure(bench: Bench) -> Outcome:
        resources = Resources(each=each)
        with open_grid(bench, resources) as grid:
            grid.daemon.start()
            grid.daemon.wait_ready()
            return _outcome(_samples(grid, resources, workers=workers, tasks=tasks, **how))

    return Case(GROUP, facts, seconds, MEDIAN, measure)


def _samples(grid: Grid, resources: Resources, **fields: float) -> Sequence[float]:
    with grid.load(grid.spec(resources, **fields)) as load:
        load.tell("workers")
        grid.tables.wait("workers", int(fields["workers"]))
        time.sleep(0.5)
        load.tell("submit")
        load.wait("worked", 120)
        load.tell("samples")
        return list(load.wait("samples")["milliseconds"])


# --- directly ---


def _counted(measure: Timed, tasks: int) -> Measure:
    return lambda bench: _outcome(measure(bench, tasks))


def _round_trip(bench: Bench, count: int) -> Sequence[float]:
    with open_grid(bench, Resources()) as grid:  # its manager is not started
        spec = grid.spec(Resources(), workers=1, tasks=count, pause=PAUSE, bare=True, answer=False)
        with grid.load(spec) as load:
            load.tell("submit")
            load.wait("worked", 120)
            load.tell("samples")
            return list(load.wait("samples")["milliseconds"])


def _commit(bench: Bench, count: int) -> Sequence[float]:
    with closing(psycopg2.connect(**bench.database)) as connection, connection.cursor() as cursor:
        cursor.execute("create table bench_commit (number bigint primary key, body bytea)")
        connection.commit()

        def step(number: int) -> None:
            cursor.execute("insert into bench_commit values (%s, %s)", (number, b"x" * 200))
            connection.commit()

        try:
            return _timed(step, count)
        finally:
            cursor.execute("drop table bench_commit")
            connection.commit()


def _transaction(bench: Bench, count: int) -> Sequence[float]:
    with closing(Etcd(bench.etcd)) as etcd:
        keys = [f"{BASE}/bench-{name}/ref_count" for name in range(3)]
        try:
            return _timed(lambda number: etcd.transact([(key, str(number)) for key in keys]), count)
        finally:
            etcd.clear()


def _timed(step: Callable[[int], None], count: int) -> list[float]:
    times = []
    for number in range(count):
        time.sleep(PAUSE)
        began = time.monotonic()
        step(number)
        times.append(1000 * (time.monotonic() - began))
    return times


# --- the others ---


def _peer(kind: Kind, tasks: int) -> Measure:
    def measure(bench: Bench) -> Outcome:
        with open_peer(bench, kind) as peer:
            peer.start_workers()
            peer.warm_up()
            sent = peer.submitted(peer.submit(tasks, PAUSE))["times"]
            begun = dict(peer.wait(WARM_UP + tasks))
            return _outcome([1000 * (begun[WARM_UP + number] - at) for number, at in enumerate(sent)])

    return measure
