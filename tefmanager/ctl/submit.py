"""``tefctl submit``: sends tasks, and waits for them if requested."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import click

from tefmanager.ctl.broker import Broker
from tefmanager.ctl.console import Seconds, Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.finishing import AT_ONCE, UNFINISHED, Ended, Interrupted, look_up, wait_for
from tefmanager.ctl.junit import report
from tefmanager.ctl.tables import safe
from tefmanager.protocol.messages import Invalid, TaskMessage, parse

_INTERRUPTED = 130
"""The exit status of a program that Ctrl-C has ended, as shells have it."""


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
    "--wait",
    is_flag=True,
    help="Wait until all tasks are finished. Exit status 1 if a task failed or was not completed.",
)
@click.option("--wait-limit", type=Seconds(), metavar="SECONDS", help="Wait no longer than this.")
@click.option(
    "--junit",
    type=click.Path(dir_okay=False, writable=True),
    metavar="FILE",
    help="Wait, and write a JUnit report of the tasks to FILE.",
)
@click.pass_obj
def submit(
    session: Session, files: Sequence[BinaryIO], wait: bool, wait_limit: float | None, junit: str | None
) -> None:
    """Submit the tasks in FILES (- is standard input).

    A file has one JSON object, a list of objects, or one object on each line. Tasks that can't run at the
    moment (no worker of their type, or a closed resource) are accepted, with a warning.

    \b
    Examples:
      tefctl submit suite.json --wait
      tefctl submit suite.json --wait-limit 3600 --junit report.xml
      generate-tasks | tefctl submit -
    """
    limit = session.config().message_limit
    tasks = [task for file in files for task in read_tasks(file.name, file.read(), limit)]
    with session.broker() as broker:
        taken, refused = send_tasks(broker, tasks)
    waits = wait or wait_limit is not None or junit is not None
    ended, interrupted = _await(session, taken, wait_limit) if waits else ([], False)
    if junit is not None:
        _write(junit, ended)
    _report(session, len(tasks), refused, ended)
    if interrupted:
        raise SystemExit(_INTERRUPTED)
    if refused or any(task.bad for task in ended):
        raise SystemExit(int(Exit.NO))


def _await(session: Session, taken: Sequence[str], limit: float | None) -> tuple[list[Ended], bool]:
    """Wait for tasks; return how each ended, and whether somebody pressed Ctrl-C."""
    try:
        return look_up(session, wait_for(session, taken, limit)), False
    except Interrupted as interrupted:
        finished = interrupted.finished
        click.echo(
            f"interrupted: {len(finished)} of {len(taken)} tasks are finished, the others go on;"
            " `tefctl task GUID` shows one of them, and `tefctl stop-suite SUITE` removes those of a suite"
            " that still wait",
            err=True,
        )
        return look_up(session, {guid: finished.get(guid, UNFINISHED) for guid in taken}), True


def _write(file: str, ended: Sequence[Ended]) -> None:
    try:
        report(ended).write(file, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise CtlError(Exit.NO, f"--junit {file}: {error.strerror}") from None


def send_tasks(
    broker: Broker, tasks: Sequence[tuple[str, bytes]]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Send tasks; return the guids of those accepted, and those of the others with the reasons.

    A guid that occurs twice may be in both. Warnings go to standard error.
    """
    taken: list[str] = []
    refused: list[tuple[str, str]] = []
    warned: Counter[str] = Counter()
    for begin in range(0, len(tasks), AT_ONCE):
        batch = tasks[begin : begin + AT_ONCE]
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


def _report(
    session: Session, sent: int, refused: Sequence[tuple[str, str]], ended: Sequence[Ended]
) -> None:
    if session.json:
        click.echo(json.dumps({"taken": sent - len(refused), "refused": dict(refused), **_told(ended)}))
        return
    for task in ended:
        if task.bad:
            click.echo(f"{task.word}: {safe(task.guid)}{_why(task)}")
    click.echo(f"{sent - len(refused)} of {sent} tasks accepted")
    if ended:
        counts = Counter(task.word for task in ended)
        click.echo(", ".join(f"{count} {word}" for word, count in sorted(counts.items())))


def _told(ended: Sequence[Ended]) -> dict[str, dict[str, str | None]]:
    return {
        "outcomes": {task.guid: task.state for task in ended},
        "results": {task.guid: task.result for task in ended},
        "messages": {task.guid: task.message for task in ended if task.message is not None},
    }


def _why(task: Ended) -> str:
    """Return the message of a task that is not well, and who had it."""
    message = "" if task.message is None else f": {safe(task.message)}"
    return message if task.worker is None else f"{message} ({safe(task.worker)})"


COMMANDS = (submit,)
