"""Commands that change something: the manager's state, and suites."""

from __future__ import annotations

import click

from tefmanager.ctl.console import Session
from tefmanager.protocol.messages import ManagerState


@click.command("set-state")
@click.argument("state", type=click.Choice([state.value for state in ManagerState]))
@click.pass_obj
def set_state(session: Session, state: str) -> None:
    """Set the manager's state.

    The manager sends tasks to workers only in the state running.

    \b
    Example:
      tefctl set-state paused
    """
    _tell(session, "set_state", state, f"the manager is {state}")


def _suite_command(name: str, type: str, done: str, text: str) -> click.Command:
    @click.command(name, help=f"{text}\n\n\b\nExample:\n  tefctl {name} task_suite_7")
    @click.argument("suite")
    @click.pass_obj
    def tell(session: Session, suite: str) -> None:
        _tell(session, type, suite, f"suite {suite} {done}")

    return tell


def _tell(session: Session, type: str, data: str, done: str) -> None:
    with session.broker() as broker:
        response = broker.ask(type, data)
    click.echo("true" if session.json and response is True else done)


COMMANDS = (
    set_state,
    _suite_command(
        "pause-suite",
        "pause_suite",
        "is paused",
        "Pause a suite: its waiting tasks are not sent to workers.",
    ),
    _suite_command("resume-suite", "ready_suite", "is resumed", "Resume a paused suite."),
    _suite_command(
        "stop-suite", "stop_suite", "was stopped", "Remove a suite's waiting tasks. Running ones go on."
    ),
)
