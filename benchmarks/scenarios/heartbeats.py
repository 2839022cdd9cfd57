"""The cost of 2,000 workers that only send a heartbeat every 20 seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.case import Case
from benchmarks.grid.grid import Resources, open_grid
from benchmarks.results import Facts, Outcome
from benchmarks.scenarios.throughput import US
from benchmarks.services.bench import Bench, Options
from benchmarks.services.usage import memory

GROUP = "heartbeats"
WORKERS = 2000
INTERVAL = 20.0
SHARE = "% of a core"
PEAK = "MB, most"

_SECONDS = 2 * INTERVAL
_SETTLE = 5.0


def cases(options: Options) -> Iterator[Case]:
    """Iterate over the cases."""
    span = 5.0 if options.quick else _SECONDS
    facts: Facts = {"who": US, "workers": WORKERS}
    yield Case(GROUP, facts, 10 + span, SHARE, lambda bench: _measure(bench, span))


def _measure(bench: Bench, span: float) -> Outcome:
    with open_grid(bench, Resources()) as grid:
        grid.daemon.start()
        grid.daemon.wait_ready()
        spec = grid.spec(Resources(), workers=WORKERS, listen=False, heartbeat=INTERVAL)
        with grid.load(spec) as load:
            load.tell("workers")
            grid.tables.wait("workers", WORKERS)
            load.tell("beat")
            time.sleep(_SETTLE)
            began, meter = time.monotonic(), grid.meter(load)
            time.sleep(span)
            share = 100 * meter.used()["manager"] / (time.monotonic() - began)
            return Outcome({SHARE: share, PEAK: memory(grid.daemon.program.pid)[1]})
