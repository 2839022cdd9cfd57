"""The tables, as Markdown: medians over the rounds, with the least and the most in brackets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.report.names import (
    BARS,
    BUSY,
    CELERY,
    CELERY_CONFIRMED,
    COMMIT,
    DASK_PROCESSES_RESOURCES,
    DASK_RESOURCES,
    IDLE,
    IDLE_OTHERS,
    OTHERS,
    PROCRASTINATE,
    ROUND_TRIP,
    TRANSACTION,
    Row,
)
from benchmarks.results import Measurement, Results

RATE = "tasks/s"
MEDIAN = "ms, median"
P99 = "ms, 99 %"

NONE = "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; all columns but the first are numbers."""
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)], *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def plain_table(texts: Mapping[str, str]) -> str:
    """Return a table of texts by name."""
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in texts.items())])


def number(value: float) -> str:
    """Return a number with three significant digits, or all digits before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """Return median, least and most."""
    if not values:
        return NONE
    middle = number(statistics.median(values))
    return f"{middle} ({number(min(values))}–{number(max(values))})" if len(values) > 1 else middle


def ratio(value: float | None, base: float | None) -> str:
    """Return how many times the base a value is."""
    return NONE if value is None or not base else f"{value / base:.2f}"


def throughput(results: Results) -> str:
    """Return all rates, each also as a multiple of Celery's."""
    celery = results.median(RATE, "throughput", how="end to end", **CELERY.facts)
    rows = []
    for row in BARS:
        values = results.values(RATE, "throughput", how="end to end", **row.facts)
        if values:
            draining = results.values(RATE, "throughput", how="draining", **row.facts)
            rows.append(
                (row.name, spread(values), ratio(statistics.median(values), celery), spread(draining))
            )
    return table(("", "end to end, tasks/s", "× Celery", "draining, tasks/s"), rows)


def compared(results: Results) -> str:
    """Return our rates compared with those of each comparable task queue."""
    pairs = [
        *((_ours(100), other) for other in OTHERS if not other.facts["resources"]),
        *((_ours(20), other) for other in (CELERY, CELERY_CONFIRMED, PROCRASTINATE)),
        *((_ours(100, 3), other) for other in (CELERY, CELERY_CONFIRMED, DASK_RESOURCES)),
        *((_ours(8, 3), other) for other in (DASK_RESOURCES, DASK_PROCESSES_RESOURCES)),
    ]
    rows = []
    for pair in pairs:
        cells = [_ratio_of(results, pair, how) for how in ("end to end", "draining")]
        if cells != [NONE, NONE]:
            rows.append((f"{pair[0].name} : {pair[1].name}", *cells))
    return table(("", "end to end", "draining"), rows)


def _ratio_of(results: Results, pair: tuple[Row, Row], how: str) -> str:
    return ratio(*(results.median(RATE, "throughput", how=how, **row.facts) for row in pair))


def _ours(workers: int, resources: int = 0) -> Row:
    facts: dict[str, str | int] = {
        "who": "tef-manager",
        "workers": workers,
        "resources": resources,
        "api": "v3",
    }
    return next(row for row in BARS if row.facts == facts)


def cpu(results: Results) -> str:
    """Return the CPU milliseconds per task of each program, and the highest rates that they allow."""
    names = ("manager", "rabbitmq", "postgresql", "etcd", "load")
    cores = int(results.machine["cores"])
    rows = []
    for row in BARS:
        found = results.find("throughput", how="end to end", **row.facts)
        if row.ours and found:
            medians = [statistics.median(each.values[f"cpu_ms {name}"] for each in found) for name in names]
            limits = (1000 * cores / cost for cost in (sum(medians), sum(medians[1:])))
            rows.append((row.name, *(f"{value:.2f}" for value in medians), *map(number, limits)))
    head = ("manager", "RabbitMQ", "PostgreSQL", "Etcd", "workers and client")
    return table(("", *head, "tasks/s at most", "tasks/s without the manager's CPU time"), rows)


def latency(results: Results) -> str:
    """Return medians and 99th percentiles, also as multiples of a round trip and a commit."""
    trip = results.median(MEDIAN, "latency", **ROUND_TRIP.facts)
    commit = results.median(MEDIAN, "latency", **COMMIT.facts)
    base = None if trip is None or commit is None else trip + commit
    rows = []
    for row in (ROUND_TRIP, COMMIT, TRANSACTION, *IDLE, *BUSY, *IDLE_OTHERS):
        medians = results.values(MEDIAN, "latency", **row.facts)
        highs = results.values(P99, "latency", **row.facts)
        if medians:
            ratios = (ratio(statistics.median(each), base) for each in (medians, highs))
            rows.append((row.name, spread(medians), spread(highs), *ratios))
    return table(("", "median, ms", "99 %, ms", "median, × base", "99 %, × base"), rows)


def loaded(results: Results) -> str:
    """Return the 99th percentile under load, as a multiple of the idle median."""
    rows = []
    for idle, busy in zip(IDLE, BUSY, strict=True):
        high = results.median(P99, "latency", **busy.facts)
        if high is not None:
            rows.append((busy.name, ratio(high, results.median(MEDIAN, "latency", **idle.facts))))
    return table(("", "99 % : median when idle"), rows)


def backlog(results: Results) -> str:
    """Return rates, start and memory for each length of the queue."""
    empty = results.median(RATE, "backlog", waiting=0)
    rows = []
    for size in _each(results.find("backlog"), "waiting"):
        values = results.values(RATE, "backlog", waiting=size)
        start, most, after = (
            spread(results.values(name, "backlog", waiting=size))
            for name in ("s to first dispatch", "MB, most", "MB, after")
        )
        rows.append(
            (f"{size:,}", spread(values), ratio(statistics.median(values), empty), start, most, after)
        )
    head = (
        "waiting tasks",
        "tasks/s",
        "× empty",
        "start to first dispatch, s",
        "memory at most, MB",
        "memory afterwards, MB",
    )
    return table(head, rows)


def workers(results: Results) -> str:
    """Return rates for each number of workers."""
    facts = {"how": "end to end", "api": "v3"}
    found = [*results.find("workers", **facts), *results.find("throughput", **facts)]
    rows = []
    for count in _each(found, "workers"):
        cells = [
            [
                one.values[RATE]
                for one in found
                if (one.facts["workers"], one.facts["resources"]) == (count, each)
            ]
            for each in (0, 3)
        ]
        rows.append((str(count), *map(spread, cells)))
    return table(("workers", "no resources, tasks/s", "3 resources, tasks/s"), rows)


def resources(results: Results) -> str:
    """Return rates for each number of resources."""
    found = results.find("resources")
    pairs = sorted({(int(each.facts["of"]), int(each.facts["resources"])) for each in found})
    rows = [
        (f"{each} of {of:,}", spread(results.values(RATE, "resources", of=of, resources=each)))
        for of, each in pairs
    ]
    return table(("resources of a task", "tasks/s"), rows)


def fairness(results: Results) -> str:
    """Return how long a task with three resources waits at most, for each patience."""
    rows = []
    for one in results.find("fairness", what="patience"):
        patience = int(one.facts["patience"])
        bound = number(one.values["s, patience and longest task"]) if patience < 1000 else NONE
        name = f"{patience} s" if patience < 1000 else "none"
        used = f"{one.values['% of other resource in use']:.0f} %"
        rows.append((name, number(one.values["s first in line, most"]), bound, used))
    head = ("patience", "first in line at most, s", "patience + longest task, s", "other resource in use")
    return table(head, rows)


def intake(results: Results) -> str:
    """Return what happened while many tasks arrived."""
    names = {
        "tasks/s published alone": "published without a manager, tasks/s",
        "tasks/s published": "published with the manager running, tasks/s",
        "tasks/s taken in": "accepted by the manager, tasks/s",
        "taken in / published alone": "accepted : published without a manager",
        "MB, most": "memory of the manager at most, MB",
        "ms a turn": "mean length of a turn, ms",
        "ms behind its tasks, median": "answer after the tasks before it, median, ms",
        "ms behind its tasks, most": "answer after the tasks before it, at most, ms",
        "s in the queue, most": "answer after its question, at most, s",
    }
    rows = [(text, spread(results.values(name, "intake"))) for name, text in names.items()]
    return table(("", "median (lowest–highest)"), rows)


def heartbeats(results: Results) -> str:
    """Return the cost of workers that only send heartbeats."""
    rows = [
        (name, spread(results.values(key, "heartbeats")))
        for name, key in (("CPU, % of a core", "% of a core"), ("memory at most, MB", "MB, most"))
    ]
    return table(("", "median (lowest–highest)"), rows)


def _each(found: Iterable[Measurement], fact: str) -> list[int]:
    return sorted({int(one.facts[fact]) for one in found})


TABLES: dict[str, Callable[[Results], str]] = {
    each.__name__: each
    for each in (
        throughput,
        compared,
        cpu,
        latency,
        loaded,
        backlog,
        workers,
        heartbeats,
        resources,
        fairness,
        intake,
    )
}
"""The function that makes each table, by its name in ``page.md``."""
