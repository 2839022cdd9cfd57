"""Tasks per second by the number of workers, of resources per task, and of all resources.

Each resource's limit is chosen so that 100 workers just fit. More than 100 workers, then, can't all have a
task that needs three.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from benchmarks.case import Case
from benchmarks.grid.grid import Resources
from benchmarks.scenarios.throughput import grid_case
from benchmarks.services.bench import Options

WORKERS = "workers"
RESOURCES = "resources"

COUNTS = (2, 50, 200, 800)
"""Numbers of workers in addition to those of the throughput group."""

EACH = (0, 1, 2, 3, 4, 5)
OF = (100, 500, 2000)

_BUSY = 100


def worker_cases(options: Options) -> Iterator[Case]:
    """Iterate over the cases for the number of workers."""
    tasks = options.scaled(2500)
    for each in (0, 3):
        for workers in COUNTS:
            yield grid_case(WORKERS, tasks, workers, Resources(each=each))


def resource_cases(options: Options) -> Iterator[Case]:
    """Iterate over the cases for the number of resources."""
    tasks = options.scaled(2500)
    for each in EACH:
        yield grid_case(RESOURCES, tasks, _BUSY, fitting(20, each))
    for count in OF:
        yield grid_case(RESOURCES, tasks, _BUSY, fitting(count, 3))


def fitting(count: int, each: int) -> Resources:
    """Return so many resources, with limits that 100 workers just fit."""
    return Resources(count, math.ceil(_BUSY * each / count), each)
