"""``tefctl import-original`` and ``hand-back``: move tasks from the Ruby manager to this one, and back."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from tefmanager.config.config import Config, ConfigError
from tefmanager.config.database_yml import read_database
from tefmanager.config.secrets import KNOWN
from tefmanager.ctl.broker import Broker
from tefmanager.ctl.console import Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.handback import hand_back_waiting
from tefmanager.ctl.original import Original, OriginalTask, connected
from tefmanager.ctl.submit import send_tasks
from tefmanager.ctl.tables import safe

_WAITING = ("ready", "paused")


@click.command("import-original")
@click.option("--submit", is_flag=True, help="Submit them. Without this option they are only counted.")
@click.option(
    "--in-progress",
    "lost",
    is_flag=True,
    help="Also submit tasks that workers had, and tasks without a status.",
)
@click.option(
    "--database",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The Ruby manager's database_<env>.yml, if it is not this manager's.",
)
@click.pass_obj
def import_original(session: Session, submit: bool, lost: bool, file: Path | None) -> None:
    """Take over the waiting tasks of the Ruby manager.

    First stop the Ruby manager and start this one. The Ruby manager's rows are kept, but get another
    status, so you can repeat the command and no task is submitted twice. Suites with paused tasks are
    paused in this manager, too.

    \b
    Examples:
      tefctl import-original
      tefctl import-original --submit
    """
    config = session.config(database=file is None)
    database = _database(file, config)
    wanted = (*_WAITING, "in progress", "unknown") if lost else _WAITING
    counts: Counter[str] = Counter()
    with connected(database, config.env, config.message_limit) as original:
        for tasks in _in_portions(original):
            counts.update(task.state for task in tasks)
            for task in tasks:
                if task.fault and task.state in wanted:
                    click.echo(f"can't be taken: {safe(task.guid)}: {safe(task.fault)}", err=True)
                    counts["faulty"] += 1
            chosen = [task for task in tasks if task.state in wanted and not task.fault]
            counts["chosen"] += len(chosen)
            if submit and chosen:
                counts.update(_take_over(session, original, chosen))
    _report(session, counts, submit, lost)
    if counts["refused"] or counts["faulty"]:
        raise SystemExit(int(Exit.NO))


def _database(file: Path | None, config: Config) -> dict[str, str]:
    if file is None:
        return dict(config.database)
    try:
        found = read_database(file, config.env)
    except ConfigError as error:
        raise CtlError(Exit.CONFIG, str(error)) from None
    KNOWN.learn(found.get(key, "") for key in ("password", "sslpassword"))
    return found


def _in_portions(original: Original) -> Iterator[Sequence[OriginalTask]]:
    """Iterate over all tasks, and show the progress."""
    with _progress(original.count()) as advance:
        for tasks in original.tasks():
            yield tasks
            advance(len(tasks))


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("tasks", total=total)
        yield lambda count: progress.advance(bar, count)


def _take_over(session: Session, original: Original, tasks: Sequence[OriginalTask]) -> Counter[str]:
    """Submit tasks that the manager does not know yet, then mark the rows of all that it has."""
    with session.broker() as broker:
        _need_one_consumer(broker)
        for suite in sorted({task.suite for task in tasks if task.state == "paused" and task.suite}):
            broker.ask("pause_suite", suite)
        answer = broker.ask("get_tasks", {"guids": [task.guid for task in tasks]})
        known = {found["guid"] for found in answer["tasks"]}
        new = {task.guid: task.body for task in tasks if task.guid not in known}
        _, refused = send_tasks(broker, list(new.items()))
    left = {guid for guid, _ in refused}
    original.mark([task.id for task in tasks if task.guid not in left])
    return Counter(taken=len(new) - len(left), known=len(tasks) - len(new), refused=len(left))


def _need_one_consumer(broker: Broker) -> None:
    """Refuse to continue if another program consumes the messages."""
    queue = broker.channel.queue_declare(broker.config.in_queue, passive=True)
    if queue.method.consumer_count > 1:
        text = f"{queue.method.consumer_count} programs consume from {broker.config.in_queue}, expected one"
        raise CtlError(Exit.NO, f"{text}: stop the Ruby manager")


def _report(session: Session, counts: Counter[str], submit: bool, lost: bool) -> None:
    names = ("ready", "paused", "in progress", "unknown", "moved", "faulty", "taken", "known", "refused")
    if session.json:
        click.echo(json.dumps({name: counts[name] for name in names}))
        return
    click.echo(f"waiting: {counts['ready']} ready, {counts['paused']} paused")
    if (others := counts["in progress"] + counts["unknown"]) and not lost:
        click.echo(f"with workers, or lost there: {others}; --in-progress takes them as well")
    if counts["moved"]:
        click.echo(f"taken over before: {counts['moved']}")
    if submit:
        click.echo(f"{counts['taken']} taken over, {counts['known']} known already")
    else:
        click.echo(f"{counts['chosen']} would be taken over; --submit does it")


@click.command("hand-back")
@click.option("--submit", is_flag=True, help="Hand them back. Without this option they are only counted.")
@click.pass_obj
def hand_back(session: Session, submit: bool) -> None:
    """Put waiting tasks back into the manager's queue.

    From there the Ruby manager can take them. First stop all managers. In history, these tasks are marked
    as stopped. Tasks that workers have are not touched.

    \b
    Examples:
      tefctl hand-back
      tefctl hand-back --submit
    """
    config = session.config(database=True)
    if not submit:
        waiting, others = hand_back_waiting(config, None)
        click.echo(f"{waiting} would be handed back, {others} are not waiting; --submit does it")
        return
    with session.broker() as broker:
        waiting, others = hand_back_waiting(config, broker)
    click.echo(f"{waiting} handed back, {others} are not waiting")


COMMANDS = (import_original, hand_back)
