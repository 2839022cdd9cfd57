"""``tefctl submit``: sends tasks, and waits for them if requested."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from tefmanager.ctl.broker import Broker
from tefmanager.ctl.console import Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.tables import cell, safe
from tefmanager.protocol.messages import Invalid, TaskMessage, parse

_AT_ONCE = 500
"""How many tasks are sent before waiting for answers, or are asked for together."""

_PAUSE = 1.0
"""Seconds between two checks of tasks that are waited for."""

_FINISHED = ("completed", "stopped", "dead")


def read_tasks(name: str, text: bytes, limit: int) -> list[tuple[str, bytes]]:
    """Return guids and messages of a file's tasks: one object, a list, or one object a line.

    ``limit`` is the size of the largest allowed message, in bytes. Raises `CtlError`.
    """
    found = [_checked(name, number, each, limit) for number, each in enumerate(_objects(name, text), 1)]
    if not found:
        raise CtlError(Exit.NO, f"{name}: it contains no task")
    return found


def _objects(name: str, text: bytes) -> Iterator[object]:
    try:
        whole = json.loads(text)
    except ValueError as error:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise CtlError(Exit.NO, f"{name}: not valid JSON: {error}") from None
        yield from (_line(name, number, line) for number, line in enumerate(lines, 1))
    else:
        yield from whole if isinstance(whole, list) else [whole]


def _line(name: str, number: int, line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise CtlError(Exit.NO, f"{name}: line {number} is not valid JSON: {error}") from None


def _checked(name: str, number: int, task: object, limit: int) -> tuple[str, bytes]:
    """Return a task's guid and message, as the manager will read it; in files ``type`` may be missing."""
    if isinstance(task, dict):
        task = {"type": "task", **task}
    body = json.dumps(task, ensure_ascii=False).encode("utf-8", "backslashreplace")
    parsed = parse(body, limit)
    if isinstance(parsed, TaskMessage):
        return parsed.guid, body
    reason = parsed.rejected if isinstance(parsed, Invalid) else None
    raise CtlError(Exit.NO, f"{name}: task {number} can't be used: {reason or 'it is not a task'}")


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.File("rb"))
@click.option(
    "--wait", is_flag=True, help="Wait until all are finished. Exit status 1 if not all completed."
)
@click.pass_obj
def submit(session: Session, files: Sequence[BinaryIO], wait: bool) -> None:
    """Submit the tasks in FILES (- is standard input).

    A file has one JSON object, a list of objects, or one object on each line. Tasks that can't run at the
    moment (no worker of their type, or a closed resource) are accepted, with a warning.

    \b
    Examples:
      tefctl submit suite.json --wait
      generate-tasks | tefctl submit -
    """
    limit = session.config().message_limit
    tasks = [task for file in files for task in read_tasks(file.name, file.read(), limit)]
    with session.broker() as broker:
        taken, refused = send_tasks(broker, tasks)
    outcomes = _wait(session, taken) if wait else {}
    _report(session, len(tasks), refused, outcomes)
    if refused or any(outcome != "completed" for outcome in outcomes.values()):
        raise SystemExit(int(Exit.NO))


def send_tasks(
    broker: Broker, tasks: Sequence[tuple[str, bytes]]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Send tasks; return the guids of those accepted, and those of the others with the reasons.

    A guid that occurs twice may be in both. Warnings go to standard error.
    """
    taken: list[str] = []
    refused: list[tuple[str, str]] = []
    warned: Counter[str] = Counter()
    for begin in range(0, len(tasks), _AT_ONCE):
        batch = tasks[begin : begin + _AT_ONCE]
        for (guid, _), answer in zip(batch, broker.send([body for _, body in batch]), strict=True):
            warned.update(answer.get("warnings", ()))
            if answer["response"] is True:
                taken.append(guid)
            else:
                refused.append((guid, str(answer["response"])))
    for text, count in warned.items():
        click.echo(f"warning: {count} of the tasks can't run at the moment: {safe(text)}", err=True)
    for guid, text in refused:
        click.echo(f"not accepted: {safe(guid)}: {safe(str(text))}", err=True)
    return taken, refused


def _wait(session: Session, wanted: Sequence[str]) -> dict[str, str]:
    """Wait until all accepted tasks are finished; return their outcomes by guid.

    If the manager or RabbitMQ goes away meanwhile, say so and wait for it: the tasks are safe.
    """
    outcomes: dict[str, str] = {}
    told = ""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("tasks", total=len(wanted))
        while len(outcomes) < len(wanted):
            try:
                with session.broker() as broker:
                    for found in _looks(broker, wanted, outcomes):
                        outcomes.update(found)
                        progress.update(bar, completed=len(outcomes))
            except CtlError as error:
                if error.status not in (Exit.BROKER, Exit.MANAGER):
                    raise
                if str(error) != told:
                    console.print(cell(told := str(error)), soft_wrap=True)
                time.sleep(_PAUSE)
    return outcomes


def _looks(broker: Broker, wanted: Sequence[str], outcomes: dict[str, str]) -> Iterator[dict[str, str]]:
    """Query the tasks that have no outcome yet, again and again, until all have one."""
    while left := [guid for guid in wanted if guid not in outcomes]:
        yield _finished(broker, left)
        if len(outcomes) < len(wanted):
            time.sleep(_PAUSE)


def _finished(broker: Broker, guids: Sequence[str]) -> dict[str, str]:
    """Return the outcomes of finished tasks; for one that has left history, ``unknown``."""
    found: dict[str, str] = {}
    for begin in range(0, len(guids), _AT_ONCE):
        batch = guids[begin : begin + _AT_ONCE]
        states = {
            task["guid"]: task["state"] for task in broker.ask("get_tasks", {"guids": batch})["tasks"]
        }
        for guid in batch:
            state = states.get(guid, "unknown")
            if state in (*_FINISHED, "unknown"):
                found[guid] = state
    return found


def _report(
    session: Session, sent: int, refused: Sequence[tuple[str, str]], outcomes: dict[str, str]
) -> None:
    if session.json:
        told = {"taken": sent - len(refused), "refused": dict(refused), "outcomes": outcomes}
        click.echo(json.dumps(told))
        return
    click.echo(f"{sent - len(refused)} of {sent} tasks accepted")
    if outcomes:
        counts = Counter(outcomes.values())
        click.echo(", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items())))


COMMANDS = (submit,)
