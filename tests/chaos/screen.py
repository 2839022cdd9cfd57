"""The display while the grid is broken, and the verdict at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tests.chaos.judge import Count

SHOWN_CASES = 8
"""How many cases of something forbidden are named."""

_EVENTS = 8
_COLOURS = {"active": "green", "standby": "cyan", "frozen": "blue", "dead": "red", "well": "green"}


@dataclass
class View:
    """The grid at a moment.

    Attributes:
        elapsed: seconds since the start.
        phase: the present phase, for people.
        faults, wanted_faults: number of faults struck, and to be struck.
        sent, confirmed, ended, tasks: number of tasks in these states, and in total.
        managers: states by name.
        workers: how many are well, frozen or dead.
        services: what is being done to each; empty if nothing is.
        resources: references held and the limit, by name.
        events: the last lines of the active manager's log.
    """

    elapsed: float = 0.0
    phase: str = ""
    faults: int = 0
    wanted_faults: int = 0
    sent: int = 0
    confirmed: int = 0
    ended: int = 0
    tasks: int = 0
    managers: Mapping[str, str] = field(default_factory=dict)
    workers: Mapping[str, int] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    events: Sequence[str] = ()


class Screen:
    """Shows the grid, in place on a terminal, otherwise as an occasional line."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console = console
        self._live = live
        self._next = 0.0

    def show(self, view: View) -> None:
        """Show the grid as it is now."""
        if self._live is not None:
            self._live.update(picture(view, self._console.width), refresh=True)
        elif view.elapsed >= self._next:
            self._console.print(line(view), highlight=False, soft_wrap=True)
            self._next = view.elapsed + 5.0


@contextmanager
def open_screen(console: Console) -> Iterator[Screen]:
    """Return a display; at the end the terminal is as before."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, screen=True) as live:
            yield Screen(console, live)
    else:
        yield Screen(console, None)


def line(view: View) -> str:
    """Return the view as a line."""
    broken = ", ".join(f"{how} {name}" for name, how in view.services.items() if how)
    return (
        f"{view.elapsed:6.1f} s  {view.faults}/{view.wanted_faults} faults, "
        f"{view.confirmed}/{view.tasks} confirmed, {view.ended} ended; "
        f"{' '.join(view.managers.values())}; {view.phase}" + (f"; {broken}" if broken else "")
    )


def picture(view: View, width: int) -> RenderableType:
    """Return the view for a terminal of this width."""
    title = Table.grid(expand=True)
    title.add_column()
    title.add_column(justify="right")
    title.add_row(Text(f"chaos: {view.phase}", "bold cyan"), f"{view.elapsed:.0f} s")
    bars = Table.grid(padding=(0, 2))
    room = max(10, width - 40)
    for name, done, whole in (
        ("faults", view.faults, view.wanted_faults),
        ("confirmed", view.confirmed, view.tasks),
        ("ended", view.ended, view.tasks),
    ):
        bars.add_row(name, _bar(done, whole, room), f"{done} of {whole}")
    for name, (held, limit) in view.resources.items():
        bars.add_row(name, _bar(held, limit, room), f"{held} of {limit} held")
    states = Table.grid(padding=(0, 2))
    for name, state in view.managers.items():
        states.add_row(name, Text(state, _COLOURS.get(state, "")), view.services.get(name, ""))
    for name in ("rabbitmq", "postgresql", "etcd"):
        how = view.services.get(name, "")
        states.add_row(name, Text("broken" if how else "well", "red" if how else "green"), how)
    states.add_row("workers", ", ".join(f"{count} {state}" for state, count in view.workers.items()), "")
    events = Text("\n".join(each[: width - 1] for each in view.events[-_EVENTS:]), "dim")
    return Group(title, Text(), bars, Text(), states, Text(), events)


def _bar(done: int, whole: int, room: int) -> Text:
    filled = min(room, room * done // max(1, whole))
    return Text("█" * filled, "green") + Text("░" * (room - filled), "dim")


def verdict(counts: Sequence[Count], faults: Mapping[str, int]) -> RenderableType:
    """Return tables of the faults struck, and of the results."""
    struck = Table(box=box.SIMPLE_HEAD, show_edge=False)
    struck.add_column("fault")
    struck.add_column("times", justify="right")
    for name, times in sorted(faults.items(), key=lambda pair: -pair[1]):
        struck.add_row(name, str(times))
    struck.add_row("all", str(sum(faults.values())), style="bold")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("verdict")
    table.add_column("", justify="right")
    for count in counts:
        style = "bold red" if count.wrong else "green" if count.forbidden else ""
        table.add_row(count.what, str(len(count.cases)), style=style)
    wrong = [f"{count.what}: {case}" for count in counts if count.wrong for case in _few(count.cases)]
    return Group(struck, Text(), table, *(Text(each, "red") for each in wrong))


def _few(cases: Sequence[str]) -> list[str]:
    more = len(cases) - SHOWN_CASES
    return [*cases[:SHOWN_CASES], *([f"and {more} more"] if more > 0 else [])]
