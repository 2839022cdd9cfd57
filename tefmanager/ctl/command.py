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

    Only in running are tasks dispatched.

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
    _suite_command("pause-suite", "pause_suite", "is paused", "Hold back a suite's waiting tasks."),
    _suite_command("resume-suite", "ready_suite", "goes on", "Let a paused suite go on."),
    _suite_command(
        "stop-suite", "stop_suite", "was stopped", "Remove a suite's waiting tasks. Those at work go on."
    ),
)
