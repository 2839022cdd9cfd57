"""Tasks per second: the manager with different numbers of workers and resources, and the other task queues.

*End to end* is from the first task submitted to the last one completed, with workers running. *Draining*:
all tasks are submitted before the workers come; from their coming to the last completion. For us, a task is
completed when the manager has committed it to history: the rows there are counted once all workers have
said their last *task_complete*.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.case import Case
from benchmarks.grid.grid import Grid, Resources, open_grid
from benchmarks.results import Facts, Outcome
from benchmarks.services.bench import Bench, Options
from benchmarks.services.programs import BenchmarkError, Helper

GROUP = "throughput"
US = "tef-manager"
WORKERS = (8, 20, 100, 400)
RATE = "tasks/s"
END_TO_END = "end to end"
DRAINING = "draining"

SPEED = 1000
"""About how many tasks per second, to estimate how long a case takes."""

SPEEDS = {"v3": 500, "v2": 150}
"""The same with resources, by Etcd's API."""

_PATIENCE = 300.0


def cases(options: Options) -> Iterator[Case]:
    """Iterate over the cases."""
    for each in (0, 3):
        for workers in WORKERS:
            yield grid_case(GROUP, options.tasks, workers, Resources(each=each))
    for workers in (8, 100):
        yield grid_case(GROUP, options.scaled(2000), workers, Resources(each=3, api="v2"))
    for each in (0, 3):
        for workers in (8, 100):
            yield grid_case(GROUP, options.tasks, workers, Resources(each=each), DRAINING)


def grid_case(group: str, tasks: int, workers: int, resources: Resources, how: str = END_TO_END) -> Case:
    """Return a case with the manager."""
    facts: Facts = {
        "who": US,
        "how": how,
        "workers": workers,
        "resources": resources.each,
        "of": resources.count,
        "api": resources.api,
    }
    measure = _end_to_end if how == END_TO_END else _draining
    seconds = 4 + workers / 100 + tasks / (SPEED if not resources.each else SPEEDS[resources.api])
    return Case(group, facts, seconds, RATE, lambda bench: measure(bench, tasks, workers, resources))


def _end_to_end(bench: Bench, tasks: int, workers: int, resources: Resources) -> Outcome:
    with open_grid(bench, resources) as grid:
        grid.daemon.start()
        grid.daemon.wait_ready()
        with grid.load(grid.spec(resources, workers=workers, tasks=tasks)) as load:
            load.tell("workers")
            grid.tables.wait("workers", workers)
            meter = grid.meter(load)
            load.tell("submit")
            submitted = load.wait("submitted", _PATIENCE)
            ended = completed(grid, load, tasks)
            values = {
                RATE: tasks / (ended - submitted["first"]),
                "submits/s": tasks / (submitted["last"] - submitted["first"]),
                **meter.each(tasks),
            }
            return Outcome(values)


def _draining(bench: Bench, tasks: int, workers: int, resources: Resources) -> Outcome:
    with open_grid(bench, resources) as grid:
        grid.daemon.start()
        grid.daemon.wait_ready()
        with grid.load(grid.spec(resources, workers=workers, tasks=tasks)) as load:
            load.tell("submit")
            load.wait("submitted", _PATIENCE)
            grid.tables.wait("tasks", tasks, _PATIENCE)
            meter = grid.meter(load)
            load.tell("workers")
            began = load.wait("workers")["at"]
            ended = completed(grid, load, tasks)
            return Outcome({RATE: tasks / (ended - began), **meter.each(tasks)})


def completed(grid: Grid, load: Helper, tasks: int) -> float:
    """Wait until all tasks are in history, and return the time. Raises `BenchmarkError`."""
    load.wait("worked", _PATIENCE)
    ended = grid.tables.wait("history", tasks)
    load.tell("samples")
    twice = load.wait("samples")["twice"]
    if twice:
        raise BenchmarkError(f"{twice} tasks were sent twice")
    return ended
