"""The groups of cases, in the order in which they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from benchmarks.case import Case
from benchmarks.scenarios import backlog, fairness, heartbeats, intake, latency, others, sweeps, throughput
from benchmarks.services.bench import Options


def _throughput(options: Options) -> Iterator[Case]:
    yield from throughput.cases(options)
    yield from others.cases(options)


GROUPS: dict[str, Callable[[Options], Iterator[Case]]] = {
    "throughput": _throughput,
    "latency": latency.cases,
    "backlog": backlog.cases,
    "heartbeats": heartbeats.cases,
    "intake": intake.cases,
    "workers": sweeps.worker_cases,
    "resources": sweeps.resource_cases,
    "fairness": fairness.cases,
}
"""The function that makes the cases of each group."""


def cases_of(names: Iterable[str], options: Options) -> list[Case]:
    """Return the cases of some groups."""
    return [case for name in names for case in GROUPS[name](options)]
