"""The demo's report: a table of all tasks, and a summary."""

from __future__ import annotations

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from tefmanager.demo.suite import LIMITS
from tefmanager.demo.verdict import Row, Verdict

_COLUMNS = ("task", "resources", "worker", "waited", "ran", "result")
_GAP = 2


def print_report(console: Console, verdict: Verdict, seconds: float) -> None:
    """Print what became of every task, then a summary.

    Args:
        console: where to print.
        verdict: what became of the tasks.
        seconds: time from submitting the first task to the end of the last.
    """
    console.print(table(verdict, console.width))
    console.print()
    for fault in verdict.faults:
        console.print(Text(fault, "red"), soft_wrap=True)
    console.print(Text(peaks(verdict)), soft_wrap=True)
    style = "bold red" if verdict.faults else "bold green"
    console.print(Text(summary(verdict, seconds), style), soft_wrap=True)


def table(verdict: Verdict, width: int) -> Table:
    """Return the table of all tasks for a terminal of this width: long results are cut."""
    rows = [_cells(row) for row in verdict.rows]
    found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0))
    room = width
    for index, name in enumerate(_COLUMNS[:-1]):
        widest = max(len(cells[index]) for cells in [_COLUMNS, *rows])
        justify: JustifyMethod = "right" if name in ("waited", "ran") else "left"
        found.add_column(name, no_wrap=True, justify=justify, width=widest)
        room -= widest + _GAP
    found.add_column(
        _COLUMNS[-1], no_wrap=True, overflow="ellipsis", max_width=max(room, len(_COLUMNS[-1]))
    )
    for cells, row in zip(rows, verdict.rows, strict=True):
        found.add_row(*cells, style="red" if row.fault else "")
    return found


def _cells(row: Row) -> list[str]:
    resources = " ".join(row.task.resources) or "-"
    times = [_seconds(row.waited), _seconds(row.ran)]
    result = f"{row.result} ({row.fault})" if row.fault and row.result else row.result or row.fault
    return [row.task.guid, resources, row.worker or "-", *times, result]


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def peaks(verdict: Verdict) -> str:
    """Return the highest number of references of each resource that were held at once."""
    parts = [f"{name} {verdict.peaks[name]} of {limit}" for name, limit in LIMITS.items()]
    return f"Held at once, at most: {', '.join(parts)}"


def summary(verdict: Verdict, seconds: float) -> str:
    """Return the last line."""
    kept = all(verdict.peaks[name] <= limit for name, limit in LIMITS.items())
    done = f"{verdict.done} of {len(verdict.rows)} tasks done"
    return (
        f"{done}, {verdict.work:.1f} s of work in {seconds:.1f} s; "
        f"limits {'kept' if kept else 'PASSED'}; {verdict.left} references left"
    )
