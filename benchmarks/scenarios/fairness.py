"""Who goes first: a simulation of the manager's core with its own clock, without servers.

*Suites*: 10 workers; a suite of many tasks, two that come later, and one of higher priority. *Patience*:
resources that are always in use by tasks that need one of them, with one more waiting for each; and one
task that needs three at once. Once it is first in line and lacks only resources, it must not wait longer
than the patience plus the longest running task. A fourth resource, which it does not need, must stay in
use.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator
from functools import partial

from benchmarks.case import Case
from benchmarks.results import Facts, Outcome
from benchmarks.scenarios.throughput import US
from benchmarks.services.bench import Bench, Options
from benchmarks.simulated import NEVER, Job, Simulated

GROUP = "fairness"
SHARE = "least share / fair share"
MOST = "s first in line, most"
BOUND = "s, patience and longest task"
USED = "% of other resource in use"
WAITS = "s first in line"

SUITES = {
    "first": (0.0, 400, 1),
    "second": (60.0, 120, 1),
    "third": (120.0, 120, 1),
    "urgent": (260.0, 30, 5),
}
"""For each suite: when it comes, its number of tasks, and their priority."""

TOGETHER = (120.0, 250.0)
"""Seconds during which the first three suites share the workers."""

PATIENCES = (10, 30, 60, 3600)
"""Seconds; the last one is longer than a simulation, so it is the same as none."""

SHORTEST, LONGEST = 5.0, 20.0

_WIDE = ("a", "b", "c")
_ALL = (*_WIDE, "d")
_LIMIT = 2
_COMES = 100.0
_ENDS = 400.0
_STORIES = 25


def cases(options: Options) -> Iterator[Case]:
    """Iterate over the cases."""
    yield Case(GROUP, {"who": US, "what": "suites"}, 1, SHARE, _suites, once=True)
    stories = 5 if options.quick else _STORIES
    for patience in PATIENCES:
        yield _patience_case(patience, stories)


def _patience_case(patience: int, stories: int) -> Case:
    facts: Facts = {"who": US, "what": "patience", "patience": patience, "stories": stories}

    def measure(bench: Bench) -> Outcome:
        told = [Stream(seed, patience).tell() for seed in range(stories)]
        waits, used = zip(*told, strict=True)
        values = {MOST: max(waits), BOUND: patience + LONGEST, USED: 100 * statistics.mean(used)}
        return Outcome(values, {WAITS: sorted(waits)})

    return Case(GROUP, facts, 1 + stories / 3, MOST, measure, once=True)


# --- suites ---


def _suites(bench: Bench) -> Outcome:
    chance = random.Random(1)
    grid = Simulated(10, NEVER, {})
    for suite, (time, count, priority) in SUITES.items():
        jobs = [
            Job(f"{suite}-{number}", chance.uniform(5, 10), {"suite": suite, "priority": float(priority)})
            for number in range(count)
        ]
        for job in jobs:
            grid.at(time, partial(grid.submit, job))
    grid.run(700.0)
    starts = {suite: sorted(_starts(grid, suite)) for suite in SUITES}
    since, until = TOGETHER
    shares = [
        sum(since <= time < until for time in starts[suite]) for suite in ("first", "second", "third")
    ]
    return Outcome({SHARE: min(shares) / statistics.mean(shares)}, starts)


def _starts(grid: Simulated, suite: str) -> Iterator[float]:
    return (time for guid, time in grid.began.items() if guid.startswith(f"{suite}-"))


# --- patience ---


class Stream:
    """A simulation: one task always waits for each resource, and one task comes that needs three.

    Args:
        seed: decides how long each task takes.
        patience: the manager's patience.
    """

    def __init__(self, seed: int, patience: float) -> None:
        self._chance = random.Random(seed)
        self._grid = Simulated(4 * _LIMIT + 4, patience, dict.fromkeys(_ALL, _LIMIT))
        self._grid.on_begin = self._follow
        self._count = 0

    def tell(self) -> tuple[float, float]:
        """Return how long the task was first in line, and the share of the other resource in use."""
        for name in _ALL:
            for _ in range(_LIMIT + 1):
                self._come(name)
        self._grid.at(_COMES, lambda: self._grid.submit(Job("wide", LONGEST, {"resources": _WIDE})))
        self._grid.run(_ENDS)
        began = self._grid.began.get("wide", _ENDS)
        return began - self._grid.waited.get("wide", began), self._used("d", _COMES, began)

    def _come(self, name: str) -> None:
        self._count += 1
        seconds = self._chance.uniform(SHORTEST, LONGEST)
        self._grid.submit(Job(f"{name}-{self._count}", seconds, {"resources": (name,)}))

    def _follow(self, guid: str) -> None:
        name = guid.partition("-")[0]
        if name in _ALL:
            self._grid.at(self._grid.now, partial(self._come, name))

    def _used(self, name: str, since: float, until: float) -> float:
        spans = [
            min(until, self._grid.ended.get(guid, until)) - max(since, time)
            for guid, time in self._grid.began.items()
            if guid.startswith(f"{name}-")
        ]
        return sum(max(0.0, span) for span in spans) / (_LIMIT * (until - since))
