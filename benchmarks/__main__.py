"""``python -m benchmarks``: measures, and stores the results. ``script/bench`` prepares all it needs."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).parents[1]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal asks the benchmark to end."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=os.environ.get("TEF_BENCH_NAME", "python -m benchmarks"),
        description="Measures tef-manager and other task queues on the same private RabbitMQ, PostgreSQL "
        "and Etcd, in rounds, keeps the results in benchmarks/results.json, and draws tables and plots of "
        "them. `report` only draws what is there; `estimate` tells how long it would take.",
    )
    add = parser.add_argument
    add("what", nargs="?", choices=("measure", "report", "estimate"), default="measure")
    add("--rounds", type=int, default=3, help="how often each case is measured (default: %(default)s)")
    add(
        "--only",
        default="",
        metavar="GROUP[,GROUP]",
        help="measure these groups, and keep the others' results",
    )
    add("--tasks", type=int, default=5000, help="tasks of a throughput measurement (default: %(default)s)")
    add("--quick", action="store_true", help="one round of everything with few tasks, to see that it works")
    add("--results", type=Path, help="file of the results (default: benchmarks/results.json)")
    add(
        "--output", type=Path, help="folder of performance.md (default: docs; with --quick all is in build)"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says, and return the exit status."""
    options = _parser().parse_args(arguments)
    quick = ROOT / "build" if options.quick else None
    options.results = options.results or (quick or ROOT / "benchmarks") / "results.json"
    options.output = options.output or quick or ROOT / "docs"
    if options.what == "report":
        from benchmarks.report.page import write

        write(options.results, options.output)
        return 0
    try:
        for number in _SIGNALS:
            signal.signal(number, _stop)
        return _measure(options)
    except Stopped:
        return _complain(["stopped; nothing is left running"])


def _measure(options: argparse.Namespace) -> int:
    from rich.console import Console

    from benchmarks.groups import GROUPS, cases_of
    from benchmarks.run import estimate, run
    from benchmarks.services.bench import Options

    chosen = options.only.split(",") if options.only else list(GROUPS)
    unknown = [name for name in chosen if name not in GROUPS]
    if unknown:
        return _complain([f"no group {name}: there are {', '.join(GROUPS)}" for name in unknown])
    tasks = min(options.tasks, 300) if options.quick else options.tasks
    rounds = 1 if options.quick else options.rounds
    wanted = Options(tasks, options.quick)
    cases = cases_of(chosen, wanted)
    console = Console()
    seconds = estimate(cases, rounds)
    console.print(f"{len(cases)} cases, {rounds} rounds: about {seconds / 60:.0f} minutes", highlight=False)
    if options.what == "estimate":
        return 0
    options.results.parent.mkdir(exist_ok=True)
    faults = run(cases, rounds, wanted, options.results, console)
    _draw(options.results, options.output)
    return _complain(faults)


def _draw(results: Path, output: Path) -> None:
    """Draw the page with the Python that has matplotlib."""
    from benchmarks.services.bench import PEERS

    command = [str(PEERS / "python"), "-m", "benchmarks", "report"]
    subprocess.run([*command, f"--results={results}", f"--output={output}"], check=True, cwd=ROOT)


def _stop(number: int, _frame: FrameType | None) -> None:
    for each in _SIGNALS:  # however impatient the user is, everything must be removed
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)


def _complain(lines: Iterable[str]) -> int:
    for line in (said := list(lines)):
        print(line, file=sys.stderr)  # noqa: T201
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
