"""``tefctl watch``: a live view, like top.

It asks again and again instead of following the events: events may be lost, so a view built from them would
be wrong sooner or later, and stay wrong. Four questions cost the manager a few milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from tefmanager.ctl import show
from tefmanager.ctl.broker import Broker
from tefmanager.ctl.console import Seconds, Session
from tefmanager.ctl.errors import CtlError
from tefmanager.ctl.tables import cell

_MOST = 15
"""The most rows of each table."""


def view(broker: Broker, console: Console) -> RenderableType:
    """Ask for everything and arrange it on one screen; rows without room are only counted."""
    status = show.status(broker.ask("get_status"))
    asked = {"tasks": "get_tasks", "workers": "get_worker_details", "resources": "get_resources"}
    answers = {name: broker.ask(question, {"limit": _MOST}) for name, question in asked.items()}
    room = len(asked) * _MOST
    if console.is_terminal:  # above each table are an empty line and its head, below it is a count
        room = console.height - len(console.render_lines(status)) - 3 * len(asked)
    rows = shared(room, [len(answer[name]) for name, answer in answers.items()])
    for (name, answer), count in zip(answers.items(), rows, strict=True):
        answer[name] = answer[name][:count]
    parts = (
        show.tasks(answers["tasks"]),
        show.workers(answers["workers"]),
        show.resources(answers["resources"], most=1),
    )
    return Group(status, *(each for part in parts for each in (Text(), part)))


def shared(room: int, wanted: Sequence[int]) -> list[int]:
    """Divide rows among tables that want so many: all get the same share, plus what others do not need."""
    given = [min(1, each) for each in wanted]
    left = room - sum(given)
    while left > 0 and given != list(wanted):
        for at, most in enumerate(wanted):
            if left > 0 and given[at] < most:
                given[at] += 1
                left -= 1
    return given


@click.command()
@click.option(
    "--interval",
    type=Seconds(0.5),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two updates.",
)
@click.pass_obj
def watch(session: Session, interval: float) -> None:
    """Show tasks, workers and resources live, until Ctrl-C.

    It shows the status, and as many rows as fit on the terminal. While the manager or RabbitMQ is
    unreachable, it says so; it goes on when they are back.

    \b
    Example:
      tefctl watch --interval 1
    """
    console = show.console()
    with Live(console=console, screen=console.is_terminal) as live:
        try:
            _show_for_ever(session, live, interval)
        except KeyboardInterrupt:
            return


def _show_for_ever(session: Session, live: Live, interval: float) -> None:
    shown = False
    while True:
        try:
            with session.broker() as broker:
                while True:
                    live.update(view(broker, live.console), refresh=True)
                    shown = True
                    time.sleep(interval)
        except CtlError as error:
            if not shown:
                raise  # the command line may be wrong
            live.update(cell(f"{show.clock(time.time())}  {error}"), refresh=True)
            time.sleep(interval)


COMMANDS = (watch,)
