"""The cost of a long queue: 0 to 1,000,000 waiting tasks, of which 90 % can't run.

Those are first in line by their priority, and each needs one of 500 closed resources. The others need none.
All belong to 1,000 suites. The tasks are written into the manager's tables while it is stopped; workers
have said that they are idle before it starts. So the time to the first dispatch includes everything: the
start of Python, reading the rows, building the lanes.

The rate is that of the arrivals at workers after the first few hundred. It is measured with the same number
of tasks whatever the backlog; each is dispatched, worked on and completed.
"""

from __future__ import annotations

from collections.abc import Iterator

from psycopg2.sql import SQL, Literal

from benchmarks.case import Case
from benchmarks.grid import bodies
from benchmarks.grid.grid import Grid, Resources, open_grid
from benchmarks.results import Facts, Outcome
from benchmarks.scenarios.throughput import US
from benchmarks.services.bench import Bench, Options
from benchmarks.services.etcd import Etcd
from benchmarks.services.programs import Helper
from benchmarks.services.usage import memory

GROUP = "backlog"
SIZES = (0, 100, 1_000, 10_000, 100_000, 1_000_000)
QUICK = 10_000
RATE = "tasks/s"
FIRST = "s to first dispatch"
PEAK = "MB, most"
NOW = "MB, after"

WORKERS = 100
RESOURCES = 500
SUITES = 1000
_SKIPPED = 500
_PARKED_OF_TEN = 9
_ROW = f"""
insert into {{tasks}} (
    id, guid, task_type, priority, resources, suite, received, state, attempts, avoid, body
)
select number, 'b-' || lpad(number::text, 8, '0'), '{bodies.TYPE}', {{priority}}, {{resources}},
    'suite-' || floor(random() * {SUITES}), now(), 'waiting', 0, '{{{{}}}}',
    convert_to('{{{{"guid":"b-' || lpad(number::text, 8, '0') || {{rest}}, 'UTF8')
from generate_series(%s, %s) as number
"""


def cases(options: Options) -> Iterator[Case]:
    """Iterate over the cases."""
    tasks = options.scaled(3000, 100)
    for size in SIZES:
        if size <= QUICK or not options.quick:
            yield _case(size, tasks)


def _case(size: int, tasks: int) -> Case:
    facts: Facts = {"who": US, "waiting": size, "workers": WORKERS}
    return Case(
        GROUP, facts, 6 + tasks / 1000 + size / 25_000, RATE, lambda bench: _measure(bench, size, tasks)
    )


def _measure(bench: Bench, size: int, tasks: int) -> Outcome:
    skipped = min(_SKIPPED, tasks // 5)
    with open_grid(bench, Resources()) as grid:
        grid.daemon.start()  # the manager creates the tables
        grid.daemon.wait_ready()
        grid.daemon.stop()
        bench.say(f"{size:,} rows are written")
        _fill(grid, size, skipped + tasks)
        _close_resources(bench)
        with grid.load(grid.spec(Resources(), workers=WORKERS, tasks=skipped + tasks)) as load:
            load.tell("workers")
            load.wait("workers")
            bench.say(f"{size:,} tasks wait")
            return Outcome(_values(grid, load, skipped))


def _values(grid: Grid, load: Helper, skipped: int) -> dict[str, float]:
    began = grid.daemon.start()
    load.wait("worked", 120)
    now, peak = memory(grid.daemon.program.pid)
    grid.daemon.kill()  # it would continue with the remaining tasks
    load.tell("samples")
    arrivals = load.wait("samples")["arrivals"]
    rate = (len(arrivals) - skipped) / (arrivals[-1] - arrivals[skipped - 1])
    return {RATE: rate, FIRST: arrivals[0] - began, PEAK: peak, NOW: now}


def _fill(grid: Grid, size: int, tasks: int) -> None:
    """Write the waiting tasks: nine of ten are parked, and at least so many are not."""
    parked = size * _PARKED_OF_TEN // 10
    runnable = max(size - parked, tasks)
    grid.tables.run("select setseed(0.42)")
    names = f"array['parked-' || lpad(floor(random() * {RESOURCES})::text, 3, '0')]"
    _insert(grid, names, 5, 1, parked)
    _insert(grid, "'{}'::text[]", 1, parked + 1, parked + runnable)
    grid.tables.run("update {manager} set task_ids = %s", parked + runnable + 1)
    grid.tables.run("analyze {tasks}")
    grid.tables.run("checkpoint")  # otherwise it would happen during the measurement


def _insert(grid: Grid, resources: str, priority: int, first: int, last: int) -> None:
    rest = bodies.task(0).decode().partition("b-00000000")[2]
    parts = {"priority": Literal(priority), "resources": SQL(resources), "rest": Literal(rest)}
    grid.tables.run(_ROW, first, last, **parts)


def _close_resources(bench: Bench) -> None:
    etcd = Etcd(bench.etcd)
    try:
        etcd.make((f"parked-{number:03}" for number in range(RESOURCES)), 5, available=0)
    finally:
        etcd.close()
