"""Runs cProfile on the daemon while a simulated grid keeps it busy.

Prints the functions in which most time was spent, without and with what they call::

    python -m benchmarks.profile [--tasks 5000] [--workers 100] [--resources 3] [--lines 30] [--keep FILE]

The profiler slows the program down several times, and functions that are called often the most: a profile
shows where to look, not what is gained.
"""

from __future__ import annotations

import argparse
import pstats
import sys
from pathlib import Path

from benchmarks.grid.grid import Resources, open_grid
from benchmarks.scenarios.throughput import completed
from benchmarks.services.bench import Bench, Options, open_bench

ORDERS = ("tottime", "cumtime")


def profile(bench: Bench, options: argparse.Namespace, path: Path) -> None:
    """Run the daemon with its profiler on, and write the profile."""
    resources = Resources(each=options.resources, api=options.etcd_api)
    profiler = (f"--profile={path}", "--profiler=cprofile", "--savestats")
    with open_grid(bench, resources, twistd=profiler) as grid:
        grid.daemon.start()
        grid.daemon.wait_ready()
        with grid.load(grid.spec(resources, workers=options.workers, tasks=options.tasks)) as load:
            load.tell("workers")
            grid.tables.wait("workers", options.workers)
            load.tell("submit")
            completed(grid, load, options.tasks)


def show(path: Path, lines: int) -> None:
    """Print a profile."""
    stats = pstats.Stats(str(path)).strip_dirs()
    for order in ORDERS:
        stats.sort_stats(order).print_stats(lines)


def main() -> int:
    """Profile, print, and return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--tasks", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--resources", type=int, default=3, help="that each task needs")
    parser.add_argument("--etcd-api", choices=("v2", "v3"), default="v3")
    parser.add_argument("--lines", type=int, default=30, help="functions to print")
    parser.add_argument("--keep", type=Path, help="file to keep the profile in, for snakeviz and the like")
    options = parser.parse_args()
    with open_bench(Options(options.tasks), lambda text: None) as bench:
        path = options.keep.absolute() if options.keep else bench.folder / "profile"
        profile(bench, options, path)
        show(path, options.lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
