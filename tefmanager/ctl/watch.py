"""``tefctl watch``: a live view, like top.

It asks again and again, and does not follow the events: these are told at best effort, so a picture made of
them would be wrong sooner or later, and stay so. Four questions cost the manager some milliseconds.
"""

from __future__ import annotations

import time

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from tefmanager.ctl import show
from tefmanager.ctl.broker import Broker
from tefmanager.ctl.errors import CtlError
from tefmanager.ctl.session import Session

_ROWS = 15
"""Rows of each table."""


def view(broker: Broker) -> RenderableType:
    """Ask for everything, and put it on one screen."""
    return Group(
        show.status(broker.ask("get_status")),
        Text(),
        show.tasks(broker.ask("get_tasks", {"limit": _ROWS})),
        Text(),
        show.workers(broker.ask("get_worker_details", {"limit": _ROWS})),
        Text(),
        show.resources(broker.ask("get_resources", {"limit": _ROWS})),
    )


@click.command()
@click.option(
    "--interval",
    type=click.FloatRange(min=0.5),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Look so often.",
)
@click.pass_obj
def watch(session: Session, interval: float) -> None:
    """Show status, tasks, workers and resources, live, until Ctrl-C.

    While the manager or RabbitMQ is away it says so, and goes on when they are back.
    """
    with Live(console=show.console(), screen=show.console().is_terminal) as live:
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
                    live.update(view(broker), refresh=True)
                    shown = True
                    time.sleep(interval)
        except CtlError as error:
            if not shown:
                raise  # something may be wrong with the command line
            live.update(show.cell(f"{show.clock(time.time())}  {error}"), refresh=True)
            time.sleep(interval)


COMMANDS = (watch,)
