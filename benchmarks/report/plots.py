"""The plots, one function each, which returns whether there was anything to draw."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.report.names import BARS, LATENCIES, Row
from benchmarks.report.style import GREY, OTHERS, OTHERS_LIGHT, OURS, OURS_LIGHT, SEVERAL, figure, thousands
from benchmarks.results import PERCENT_STEPS, Measurement, Results

RATE = "tasks/s"


# --- throughput ------------------------------------------------------------------------------------


def throughput(results: Results, folder: Path) -> bool:
    """Bars: tasks per second, end to end and draining."""
    rows = [row for row in BARS if results.values(RATE, "throughput", how="end to end", **row.facts)]
    if not rows:
        return False
    with figure(folder, "throughput", 9, 1.2 + 0.4 * len(rows)) as axes:
        for place, row in enumerate(reversed(rows)):
            _bar(axes, results, row, place)
        axes.set_yticks(range(len(rows)), [row.name for row in reversed(rows)])
        axes.set_xlabel("tasks/s, median of the rounds; line: least to most")
        axes.set_title("Throughput: end to end (dark), draining (light)")
        axes.grid(False, axis="y")
        axes.margins(x=0.1, y=0.02)
        thousands(axes.xaxis)
    return True


def _bar(axes: Any, results: Results, row: Row, place: int) -> None:
    colours = (OURS, OURS_LIGHT) if row.ours else (OTHERS, OTHERS_LIGHT)
    for how, colour, shift in (("end to end", colours[0], 0.2), ("draining", colours[1], -0.2)):
        values = results.values(RATE, "throughput", how=how, **row.facts)
        if not values:
            continue
        median = statistics.median(values)
        span = [[median - min(values)], [max(values) - median]]
        axes.barh(place + shift, median, 0.38, color=colour, xerr=span, error_kw={"ecolor": GREY, "lw": 1})
        axes.annotate(
            f"{median:,.0f}",
            (max(values), place + shift),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )


# --- latency ---------------------------------------------------------------------------------------


def latency(results: Results, folder: Path) -> bool:
    """Distributions: the share of tasks that have begun after so many milliseconds."""
    lines = [(row, quantiles) for row in LATENCIES if (quantiles := _quantiles(results, row.facts))]
    if not lines:
        return False
    with figure(folder, "latency", 9, 5) as axes:
        shares = [100 * step / PERCENT_STEPS for step in range(PERCENT_STEPS + 1)]
        for number, (row, quantiles) in enumerate(lines):
            style = {"lw": 2.2} if row.ours else {"lw": 1.4, "ls": "--"}
            axes.plot(quantiles, shares, color=_COLOURS[number % len(_COLOURS)], label=row.name, **style)
        axes.set_xscale("log")
        axes.set_xlabel("ms from publishing to the worker (logarithmic)")
        axes.set_ylabel("% of the tasks")
        axes.set_title("Latency: ours (lines), and what it is compared with (dashed)")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=9)
        thousands(axes.xaxis)
    return True


_COLOURS = (
    "#1f5fa8",
    "#123a66",
    "#5aa0e0",
    "#27a3a3",
    "#777777",
    "#d1742f",
    "#8d4fa8",
    "#3c8d40",
    "#b5a12c",
)


def _quantiles(results: Results, facts: Mapping[str, str | int]) -> list[float]:
    """Return the median of each quantile over the rounds."""
    found = [each.series["ms"] for each in results.find("latency", **facts)]
    return [statistics.median(step) for step in zip(*found, strict=True)]


# --- lines against a number ------------------------------------------------------------------------


def backlog(results: Results, folder: Path) -> bool:
    """Lines: rate, start and memory by the number of waiting tasks."""
    found = results.find("backlog")
    if not found:
        return False
    wanted = ((RATE, "tasks/s"), ("s to first dispatch", "s from start to first dispatch"))
    with figure(folder, "backlog", 10.5, 3.6, 3) as axes:
        for one, (name, title) in zip(axes, (*wanted, ("MB, most", "MB of memory, most")), strict=True):
            _line(one, found, "waiting", name, OURS)
            one.set_xscale("symlog", linthresh=100, linscale=0.6)
            one.set_xticks([0, 100, 10_000, 1_000_000], ["0", "100", "10 k", "1 M"])
            one.set_xlabel("waiting tasks, 90 % of them parked")
            one.set_title(title)
            _from_zero(one)
    return True


def workers(results: Results, folder: Path) -> bool:
    """Lines: rate by the number of workers."""
    facts = {"how": "end to end", "api": "v3"}
    found = [*results.find("workers", **facts), *results.find("throughput", **facts)]
    if not found:
        return False
    with figure(folder, "workers", 7.5, 4) as axes:
        for each, colour in ((0, OURS), (3, SEVERAL[1])):
            some = [one for one in found if one.facts["resources"] == each]
            _line(axes, some, "workers", RATE, colour, f"{each or 'no'} resources a task")
        axes.set_xscale("log")
        counts = sorted({int(one.facts["workers"]) for one in found})
        axes.set_xticks(counts, [f"{count}" for count in counts])
        axes.minorticks_off()
        axes.set_xlabel("workers (logarithmic)")
        axes.set_ylabel("tasks/s")
        axes.set_title("Throughput against the number of workers")
        _from_zero(axes)
        axes.legend(loc="best")
    return True


def resources(results: Results, folder: Path) -> bool:
    """Lines: rate by the number of resources of each task, and by the number of all resources."""
    found = results.find("resources")
    if not found:
        return False
    with figure(folder, "resources", 9, 3.6, 2) as (left, right):
        _line(left, [each for each in found if each.facts["of"] == 20], "resources", RATE, OURS)
        left.set_xlabel("resources each task needs, of 20")
        left.set_ylabel("tasks/s")
        left.set_title("100 workers")
        _line(right, [each for each in found if each.facts["resources"] == 3], "of", RATE, OURS)
        right.set_xscale("log")
        right.set_xticks([20, 100, 500, 2000], ["20", "100", "500", "2,000"])
        right.minorticks_off()
        right.set_xlabel("resources there are, 3 needed (logarithmic)")
        right.set_title("100 workers")
        for axes in (left, right):
            _from_zero(axes)
    return True


def _from_zero(axes: Any) -> None:
    axes.margins(x=0.06, y=0.1)
    axes.autoscale_view()
    axes.set_ylim(bottom=0)
    thousands(axes.yaxis)


def _line(
    axes: Any, found: list[Measurement], fact: str, name: str, colour: str, label: str | None = None
) -> None:
    """Draw medians, with a shaded area from the least to the most."""
    at = sorted({int(each.facts[fact]) for each in found})
    values = [[each.values[name] for each in found if each.facts[fact] == place] for place in at]
    axes.plot(at, [statistics.median(each) for each in values], "o-", color=colour, label=label)
    axes.fill_between(at, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.2, lw=0)


# --- fairness and intake ---------------------------------------------------------------------------


def fairness(results: Results, folder: Path) -> bool:
    """Lines: tasks begun of each suite over time; waiting times of a task that needs three resources."""
    suites = results.find("fairness", what="suites")
    patience = results.find("fairness", what="patience")
    if not (suites and patience):
        return False
    with figure(folder, "fairness", 10.5, 4.2, 2) as (left, right):
        for (name, starts), colour in zip(suites[0].series.items(), SEVERAL, strict=False):
            left.step(starts, range(1, len(starts) + 1), where="post", color=colour, label=name, lw=1.8)
        left.set_xlabel("s (simulated)")
        left.set_ylabel("tasks begun")
        left.set_title("Suites share; what is urgent goes first")
        left.legend(title="suite", loc="upper left")
        for one, colour in zip(patience, SEVERAL, strict=False):
            _waits(right, one, colour)
        right.set_xlabel("s first in line (simulated); dotted: patience + longest task")
        right.set_ylabel("% of stories in which it has begun")
        right.set_title("A task of three resources behind a stream")
        right.legend(title="patience", loc="center", bbox_to_anchor=(0.75, 0.45))
        right.set_ylim(0, 103)
    return True


def _waits(axes: Any, one: Measurement, colour: str) -> None:
    waits = one.series["s first in line"]
    shares = [100 * (number + 1) / len(waits) for number in range(len(waits))]
    patience = int(one.facts["patience"])
    none = patience > max(waits) and patience > 1000
    axes.step(
        [0, *waits], [0, *shares], where="post", color=colour, label="none" if none else f"{patience} s"
    )
    if not none:
        axes.axvline(one.values["s, patience and longest task"], color=colour, ls=":", lw=1.2)


def intake(results: Results, folder: Path) -> bool:
    """Line: the daemon's memory while many tasks arrive."""
    found = results.find("intake")
    if not found:
        return False
    with figure(folder, "intake", 7.5, 3.6) as axes:
        for one, colour in zip(found, SEVERAL, strict=False):
            axes.plot(one.series["s"], one.series["MB"], color=colour, label=f"round {one.round}")
        axes.set_xlabel("s from the first task published")
        axes.set_ylabel("MB of memory")
        axes.set_title(f"{int(found[0].facts['tasks']):,} tasks published at full speed")
        _from_zero(axes)
        axes.legend(loc="lower right")
    return True


PLOTS: dict[str, Callable[[Results, Path], bool]] = {
    "throughput": throughput,
    "latency": latency,
    "backlog": backlog,
    "workers": workers,
    "resources": resources,
    "fairness": fairness,
    "intake": intake,
}
"""The function that draws each plot, by the name of its file."""
