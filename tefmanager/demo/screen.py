"""The demo's display while it runs: live on terminals, lines of text elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tefmanager.demo.observation import View
from tefmanager.demo.shared_resources import Use

COLOURS = {"idle": "dim", "dispatched": "yellow", "working": "green", "stalled": "red", "missing": "red"}
"""The style of each worker status."""

_MARKS = {"idle": "○", "dispatched": "◐", "working": "●", "stalled": "✗", "missing": "✗"}
_LINES_BESIDES = 8
_BLOCK = 3


class Screen(Protocol):
    """Shows the grid."""

    def show(self, view: View) -> None:
        """Show the grid as it is now."""


class LiveScreen:
    """Redraws the whole terminal in place."""

    def __init__(self, console: Console, live: Live) -> None:
        self._console = console
        self._live = live

    def show(self, view: View) -> None:
        """Show the grid as it is now."""
        self._live.update(picture(view, self._console.width, self._console.height), refresh=True)


class PlainScreen:
    """Prints a line when something has changed, at most once a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""
        self._next = 0.0

    def show(self, view: View) -> None:
        """Show the grid if anything has changed."""
        text = line(view)
        ended = view.done == view.total
        if text != self._last and (view.elapsed >= self._next or ended):
            self._console.print(f"{view.elapsed:5.1f} s  {text}", highlight=False, soft_wrap=True)
            self._last = text
            self._next = view.elapsed + 1.0


@contextmanager
def open_screen(console: Console, plain: bool) -> Iterator[Screen]:
    """Return a display, live unless ``plain``; at the end the terminal is as before."""
    if plain:
        yield PlainScreen(console)
    else:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            yield LiveScreen(console, live)


def line(view: View) -> str:
    """Return the view as a line."""
    uses = ", ".join(f"{use.name} {use.held}/{use.limit}" for use in view.uses)
    return f"{view.done} done, {view.working} working, {view.waiting} waiting; {uses}"


def picture(view: View, width: int, height: int) -> RenderableType:
    """Return the view, for a terminal of this width and height."""
    room = max(1, height - _LINES_BESIDES)
    shown = min(len(view.workers), max(1, room - 3))
    rows = max(shown + (shown < len(view.workers)), len(view.uses))
    middle = Table.grid(padding=(0, 3, 0, 0))
    middle.add_row(_heading("Workers"), _heading("Resources"))
    middle.add_row(_workers(view, shown), _resources(view))
    return Group(
        _title(view),
        Text(),
        _bar(view, width),
        _counts(view),
        Text(),
        middle,
        Text(),
        _heading("Events in the manager's log"),
        _events(view, room - rows),
    )


def _heading(text: str) -> Text:
    return Text(text, style="bold")


def _title(view: View) -> Table:
    table = Table.grid(expand=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_row(Text("tef-manager demo", style="bold cyan"), f"{view.elapsed:.1f} s")
    return table


def _bar(view: View, width: int) -> Text:
    """Return all tasks as one bar with three parts, which can be told apart without colours too."""
    done = width * view.done // view.total
    working = width * (view.done + view.working) // view.total - done
    bar = Text(no_wrap=True)
    bar.append("█" * done, "green")
    bar.append("▒" * working, "yellow")
    bar.append("░" * (width - done - working), "dim")
    return bar


def _counts(view: View) -> Text:
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{view.done} done", "green").append("   ")
    text.append(f"{view.working} working", "yellow").append("   ")
    return text.append(f"{view.waiting} waiting").append(f"   of {view.total} tasks", "dim")


def _workers(view: View, shown: int) -> Group:
    """Return the first workers, in columns that keep their places."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(4):
        table.add_column(no_wrap=True)
    guid = len(f"demo-{view.total:02}")
    for worker in view.workers[:shown]:
        colour = COLOURS.get(worker.status, "")
        seconds = f"{worker.seconds:.1f} s" if worker.task else ""
        status = f"{_MARKS.get(worker.status, '?')} {worker.status:10}"
        table.add_row(worker.name, Text(status, colour), f"{worker.task:{guid}}", f"{seconds:>5}")
    rest = len(view.workers) - shown
    return Group(table, Text(f"and {rest} more")) if rest else Group(table)


def _resources(view: View) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(4):
        table.add_column(no_wrap=True)
    for use in view.uses:
        wanted = view.wanted.get(use.name, 0)
        waiting = Text(f"{wanted} wait" if wanted else "", "dim")
        table.add_row(use.name, _use(use), f"{use.held}/{use.limit}", waiting)
    return table


def _use(use: Use) -> Text:
    """Return a bar with a block for each possible reference."""
    held = min(use.held, use.limit)
    bar = Text(no_wrap=True)
    bar.append(("█" * _BLOCK + " ") * held, "red" if held == use.limit else "yellow")
    bar.append(("░" * _BLOCK + " ") * (use.limit - held), "dim")
    return bar


def _events(view: View, count: int) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, justify="right", style="dim", min_width=6)
    table.add_column(no_wrap=True, overflow="ellipsis")
    for seconds, event in list(view.events)[-count:] if count > 0 else []:
        table.add_row(f"{seconds:.1f} s", _event(event))
    return table


def _event(event: str) -> Text:
    name, _, fields = event.partition("|")
    style = {"DISPATCH": "yellow", "TASK_COMPLETED": "green", "RESOURCE_WAIT": "magenta"}.get(name, "")
    return Text().append(name, style).append(f"|{fields}" if fields else "")
