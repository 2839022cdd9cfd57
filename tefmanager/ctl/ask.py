"""Commands that query the manager: status, workers, tasks, task, explain, suites."""

from __future__ import annotations

from typing import Any

import click

from tefmanager.core.model.values import WorkerStatus
from tefmanager.ctl import show
from tefmanager.ctl.console import Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.foreign import name_others
from tefmanager.ctl.tables import safe
from tefmanager.inquiry.questions import MOST

_limit = click.option(
    "--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="Maximum number of rows."
)


def ask(session: Session, type: str, data: object = None) -> Any:
    """Ask the manager one question."""
    with session.broker() as broker:
        return broker.ask(type, data)


def _given(**data: object) -> dict[str, object]:
    return {name: value for name, value in data.items() if value is not None}


@click.command()
@click.pass_obj
def status(session: Session) -> None:
    """Show the manager's state, waiting tasks and workers.

    \b
    Example:
      tefctl --json status | jq .waiting.total
    """
    answer = ask(session, "get_status")
    show.show(session, answer, show.status(answer))


@click.command()
@click.option("--type", "worker_type", metavar="TYPE", help="Only workers of this type.")
@click.option(
    "--status",
    type=click.Choice([each.value for each in WorkerStatus]),
    help="Only workers in this status.",
)
@_limit
@click.pass_obj
def workers(session: Session, worker_type: str | None, status: str | None, limit: int) -> None:
    """List the workers, with their tasks.

    \b
    Example:
      tefctl workers --status missing
    """
    answer = ask(session, "get_worker_details", _given(worker_type=worker_type, status=status, limit=limit))
    show.show(session, answer, show.workers(answer))


@click.command()
@click.option("--suite", metavar="GUID", help="Only tasks of this suite.")
@click.option("--type", "task_type", metavar="TYPE", help="Only tasks of this type.")
@click.option(
    "--state",
    type=click.Choice(["waiting", "reserving", "dispatched", "working", "dead_lettering"]),
    help="Only tasks in this state.",
)
@_limit
@click.pass_obj
def tasks(
    session: Session, suite: str | None, task_type: str | None, state: str | None, limit: int
) -> None:
    """List tasks that are not finished.

    Tasks that workers have come first, then waiting tasks in the order in which they are likely to run.

    \b
    Example:
      tefctl tasks --suite task_suite_7 --state waiting
    """
    data = _given(suite_guid=suite, task_type=task_type, state=state, limit=limit)
    answer = ask(session, "get_tasks", data)
    show.show(session, answer, show.tasks(answer))


@click.command()
@click.argument("guid")
@click.pass_obj
def task(session: Session, guid: str) -> None:
    """Show a task and its attempts, even if it is finished.

    \b
    Example:
      tefctl task task_123456
    """
    answer = ask(session, "get_task", guid)
    if answer is None:
        raise CtlError(Exit.NO, f"there is no task {guid}, and none in history")
    show.show(session, answer, show.task(answer))


@click.command()
@click.argument("guid")
@click.pass_obj
def explain(session: Session, guid: str) -> None:
    """Explain why a task is not running.

    If other programs hold a resource that the task needs, tefctl reads their names from Etcd.

    \b
    Example:
      tefctl explain task_123456
    """
    answer = ask(session, "explain_task", guid)
    if answer is None:
        raise CtlError(Exit.NO, f"there is no task {guid}, and none in history")
    try:
        name_others(session, answer)
    except CtlError as error:
        click.echo(
            f"can't read from Etcd which other programs hold its resources: {safe(str(error))}", err=True
        )
    show.show(session, answer, show.explanation(answer))


@click.command()
@_limit
@click.pass_obj
def suites(session: Session, limit: int) -> None:
    """List unfinished and paused suites.

    \b
    Example:
      tefctl suites --limit 10
    """
    answer = ask(session, "get_suites", {"limit": limit})
    show.show(session, answer, show.suites(answer))


COMMANDS = (status, workers, tasks, task, explain, suites)
