"""``tefctl watch``: a live view, like top."""

from __future__ import annotations

import time

import click
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from tefmanager.ctl import show
from tefmanager.ctl.broker import Broker
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
    """Show status, tasks, workers and resources, live, until Ctrl-C."""
    with (
        session.broker() as broker,
        Live(console=show.console(), screen=show.console().is_terminal) as live,
    ):
        try:
            while True:
                live.update(view(broker), refresh=True)
                time.sleep(interval)
        except KeyboardInterrupt:
            return


COMMANDS = (watch,)
