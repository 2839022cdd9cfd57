"""Runs all cases once a round, so that a temporary disturbance of the machine affects all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks.case import Case
from benchmarks.results import Measurement, Outcome, Results
from benchmarks.screen import Screen, open_screen
from benchmarks.services import machine
from benchmarks.services.bench import Bench, Options, open_bench

START = 15.0
"""About how many seconds the servers need to start and stop."""


@dataclass
class Run:
    """A run in progress.

    Attributes:
        bench: the servers.
        screen: shows the progress.
        results: the results so far.
        path: the file to which they are written after each case.
        faults: what could not be measured, for people.
    """

    bench: Bench
    screen: Screen
    results: Results
    path: Path
    faults: list[str]

    def measure(self, case: Case, number: int) -> None:
        """Measure a case in a round; if that fails, the others are measured nevertheless."""
        self.screen.begin(case, number)
        try:
            outcome = case.measure(self.bench)
        except Exception as error:
            self.faults.append(f"{case.title}: {error}")
            self.screen.fail(case, error)
        else:
            self._keep(case, number, outcome)
            self.screen.end(case, outcome, number)

    def _keep(self, case: Case, number: int, outcome: Outcome) -> None:
        self.results.measurements.append(
            Measurement(case.group, case.facts, number, outcome.values, outcome.series)
        )
        self.results.save(self.path)


def estimate(cases: Sequence[Case], rounds: int) -> float:
    """Return about how many seconds a run takes."""
    return START + sum(case.seconds * (1 if case.once else rounds) for case in cases)


def run(cases: Sequence[Case], rounds: int, options: Options, path: Path, console: Console) -> list[str]:
    """Measure all cases in rounds, and write the results; return what could not be measured.

    During the run, ``path`` with ``.part`` added contains the results so far. At the end, the new results
    replace the old ones in ``path``, for the groups that were measured.
    """
    part = path.with_suffix(".part.json")
    results = Results()
    faults: list[str] = []
    with open_screen(console, estimate(cases, rounds)) as screen, open_bench(options, screen.say) as bench:
        results.machine = machine.describe(bench)
        current = Run(replace(bench, say=screen.say), screen, results, part, faults)
        for number in range(1, rounds + 1):
            for case in cases:
                if number == 1 or not case.once:
                    current.measure(case, number)
    everything = Results.load(path)
    everything.replace(results)
    everything.save(path)
    part.unlink(missing_ok=True)
    return faults
