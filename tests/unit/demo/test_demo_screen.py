"""The demo's display: it fits any terminal, never wraps, and tells the same without colours."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tefmanager.demo.observation import View, WorkerView
from tefmanager.demo.report import print_report
from tefmanager.demo.screen import PlainScreen, picture
from tefmanager.demo.shared_resources import Use
from tefmanager.demo.suite import LIMITS, make_suite
from tefmanager.demo.verdict import judge

USES = (Use("database", 3, 2, 2), Use("licence", 1, 1, 1), Use("server", 2, 0, 0))


def view(workers: int = 6, done: int = 12, elapsed: float = 7.25) -> View:
    """Return a grid at work."""
    found = [WorkerView(f"report-{n}", "working", f"demo-{n}", 1.25) for n in range(workers - 1)]
    found += [WorkerView("shell-1", "idle", "", 0.0)] * (workers > 0)
    events = [(float(n), f"RESOURCE_WAIT|shell|demo-{n}|" + "database" * 20) for n in range(50)]
    return View(elapsed, 36, done, len(found) - 1, found, USES, {"licence": 9}, events)


def shown(seen: View, width: int, height: int) -> list[str]:
    """Return the lines of the live display."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    console.print(picture(seen, width, height))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 35), (200, 60), (60, 16), (40, 12)])
@pytest.mark.parametrize("workers", [0, 1, 6, 40])
def test_fits(width: int, height: int, workers: int) -> None:
    """No line is too long and there are not more of them than the terminal has."""
    lines = shown(view(workers), width, height)
    assert max(len(line) for line in lines) <= width
    assert len(lines) <= height


def test_says_everything() -> None:
    """On 80 columns and 24 lines every worker, resource and number is there, and the newest event."""
    text = "\n".join(shown(view(), 80, 24))
    assert "12 done   5 working   19 waiting   of 36 tasks" in text
    assert re.search(r"report-4 +● working +demo-4 +1.2 s", text)
    assert re.search(r"shell-1 +○ idle", text)
    assert re.search(r"database +███ ███ ░░░ +2/3", text)
    assert re.search(r"licence +███ +1/1 +9 wait", text)
    assert "49.0 s  RESOURCE_WAIT|shell|demo-49|" in text


def test_bar_has_three_parts() -> None:
    """The bar tells done, working and waiting apart by its characters too."""
    bar = shown(view(), 72, 24)[2]
    assert (bar.count("█"), bar.count("▒"), bar.count("░")) == (24, 10, 38)


def test_plain_lines_are_few() -> None:
    """In plain mode there is at most one line a second, none without news, and the last one always."""
    output = io.StringIO()
    screen = PlainScreen(Console(file=output, width=80))
    for moment, done in ((0.0, 0), (0.2, 1), (1.1, 1), (2.2, 1), (2.4, 36)):
        screen.show(view(done=done, elapsed=moment))
    assert [line[:5].strip() for line in output.getvalue().splitlines()] == ["0.0", "1.1", "2.4"]


def test_table_fits() -> None:
    """The table has a line for each task, at most 80 characters long."""
    output = io.StringIO()
    tasks = make_suite(36, 1)
    result = {"worker": "report-3", "started": 110.0, "seconds": 1.5, "exit_status": 0, "output": "x" * 50}
    results = {
        task.guid: [{**task.message(), "task_data": {"command": task.command, "result": result}}]
        for task in tasks
    }
    uses = [Use(name, limit, 0, 0) for name, limit in LIMITS.items()]
    verdict = judge(tasks, 99.0, results, uses, {})
    print_report(Console(file=output, width=80), verdict, 12.0)
    lines = output.getvalue().splitlines()
    table = [line for line in lines if line.startswith("demo-") and "report-3" in line]
    assert len(table) == 36
    assert max(len(line.rstrip()) for line in table) <= 80
    assert all("11.00 s  1.50 s" in line for line in table)
