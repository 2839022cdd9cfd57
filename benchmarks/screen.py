"""The display during a run: results so far, the running case, the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from benchmarks.case import Case
from benchmarks.results import Outcome

_LATER = 1.0
"""Seconds by which a bar that would be full too early stays short of its end."""

_REFRESH = 2
"""How often the bars are drawn per second: drawing takes time from what is measured."""


class Screen:
    """Shows the progress, with a bar for the run and one for the running case."""

    def __init__(self, console: Console, progress: Progress, all_bar: TaskID, case_bar: TaskID) -> None:
        self._console = console
        self._progress = progress
        self._all = all_bar
        self._case = case_bar

    def begin(self, case: Case, round_number: int) -> None:
        """Show that a case begins."""
        title = f"round {round_number}, {case.title}"
        self._progress.reset(self._case, total=None, description=title)
        if not self._console.is_terminal:
            self._console.print(title, end=" … ", highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        """Show what happens in a case."""
        self._progress.update(self._case, description=text)

    def end(self, case: Case, outcome: Outcome, round_number: int) -> None:
        """Show the result of a case."""
        number = outcome.values[case.headline]
        text = Text.assemble(
            (f"{number:>10,.4g} ", "bold green"), f"{case.headline:<22}", (case.title, "dim")
        )
        self._done(case, text, f"{number:,.4g} {case.headline}")

    def fail(self, case: Case, error: Exception) -> None:
        """Show that a case could not be measured."""
        self._done(case, Text(f"{case.title}: {error}", "red"), f"failed: {error}")

    def _done(self, case: Case, text: Text, short: str) -> None:
        self._progress.advance(self._all, case.seconds)
        if self._console.is_terminal:
            self._progress.console.print(text, highlight=False, soft_wrap=True)
        else:
            self._console.print(short, highlight=False, soft_wrap=True)


@contextmanager
def open_screen(console: Console, seconds: float) -> Iterator[Screen]:
    """Show bars for a run of about so many seconds."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    off = not console.is_terminal
    with Progress(*columns, console=console, disable=off, refresh_per_second=_REFRESH) as progress:
        all_bar = progress.add_task(f"all, about {seconds / 60:.0f} min", total=seconds + _LATER)
        case_bar = progress.add_task("starting the servers", total=None)
        yield Screen(console, progress, all_bar, case_bar)
