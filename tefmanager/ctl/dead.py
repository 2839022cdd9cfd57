"""``tefctl dead``: tasks that are out of attempts, and other messages in the dead queue."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import click

from tefmanager.ctl import show
from tefmanager.ctl.broker import Broker
from tefmanager.ctl.console import Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.tables import Rows, as_json, cell, safe
from tefmanager.inquiry.questions import MOST


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """Return a dead task ready for JSON; its message is decoded unless it is cut off."""
    return {
        "guid": found["task"]["guid"],
        "reason": found["reason"],
        "attempts": found["attempts"],
        "message": _read(found["message"]),
        "size": found["size"],
    }


def _read(message: str) -> object:
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return message


@click.group()
def dead() -> None:
    """List, show, retry or drop tasks that have no attempts left."""


@dead.command("list")
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="Maximum number of rows."
)
@click.pass_obj
def list_dead(session: Session, limit: int) -> None:
    """List the dead tasks that nobody has retried or dropped.

    Below, it lists messages at the beginning of the dead queue that belong to no dead task.

    \b
    Example:
      tefctl dead list --limit 20
    """
    with session.broker() as broker:
        answer = broker.ask("get_dead", {"limit": limit})
        others = broker.ask("get_dead_messages", {"limit": MOST})
    show.show(session, {**answer, "others": others["messages"]}, show.dead(answer))
    if others["messages"] and not session.json:
        show.show(session, others, show.dead_messages(others))
    _warn(others)


def _warn(others: dict[str, Any]) -> None:
    if others["trouble"] is not None:
        text = f"can't read all messages of the dead queue: {others['trouble']}"
        click.echo(safe(text), err=True)


@dead.command("show")
@click.argument("guid")
@click.pass_obj
def show_dead(session: Session, guid: str) -> None:
    """Show the attempts and the message of a dead task.

    \b
    Example:
      tefctl dead show task_123456
    """
    with session.broker() as broker:
        found = broker.ask("get_dead_task", guid)
    if found is None:
        raise CtlError(Exit.NO, f"there is no dead task {guid}; see tefctl task {guid}")
    told = _told(found)
    made = Rows("#attempt", "*worker", "dispatched", "ended", "end")
    for each in told["attempts"]:
        times = show.clocks(each["dispatched"], each["ended"])
        made.add(each["number"], each["worker"], *times, each["end"])
    show.show(session, told, made)
    if not session.json:
        click.echo(f"\n{cell(told['reason']).plain}\n{as_json(told['message'], indent=2)}")


def _check(guids: tuple[str, ...], every: bool) -> None:
    if bool(guids) == every:
        raise click.UsageError("give guids, or --all")


def _portions(broker: Broker, guids: tuple[str, ...], act: Callable[[list[str]], list[str]]) -> list[str]:
    """Do something with dead tasks, some at a time; without guids, with all that are listed.

    Each task is treated once: one that has died again meanwhile stays.
    """
    done: dict[str, None] = {}
    for portion in _split(guids) if guids else _listed(broker):
        fresh = [guid for guid in portion if guid not in done]
        came = act(fresh) if fresh else []
        done.update(dict.fromkeys(came))
        if not came and not guids:
            break
    return list(done)


def _split(guids: tuple[str, ...]) -> Iterator[list[str]]:
    left = list(dict.fromkeys(guids))
    for begin in range(0, len(left), MOST):
        yield left[begin : begin + MOST]


def _listed(broker: Broker) -> Iterator[list[str]]:
    while tasks := broker.ask("get_dead", {"limit": MOST})["tasks"]:
        yield [task["guid"] for task in tasks]


@dead.command()
@click.argument("guids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Retry all dead tasks.")
@click.pass_obj
def retry(session: Session, guids: tuple[str, ...], every: bool) -> None:
    """Submit dead tasks again, with their original messages.

    Their attempts are counted from zero. The messages come from the manager's database, so this works
    even if the dead queue is empty.

    \b
    Examples:
      tefctl dead retry task_123456
      tefctl dead retry --all
    """
    _check(guids, every)
    with session.broker() as broker:

        def again(portion: list[str]) -> list[str]:
            done: list[str] = []
            while portion:
                answer = broker.ask("retry_dead", {"guids": portion})
                done += answer["retried"]
                portion = answer["left"] if answer["retried"] else []
            return done

        done = _portions(broker, guids, again)
    _report(session, guids, done, "submitted again")


@dead.command()
@click.argument("guids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Drop all dead tasks, and empty the dead queue.")
@click.pass_obj
def drop(session: Session, guids: tuple[str, ...], every: bool) -> None:
    """Remove dead tasks from the list and the dead queue.

    They stay in history for some days. To remove another message from the dead queue, use the name that
    tefctl dead list shows.

    \b
    Examples:
      tefctl dead drop task_123456
      tefctl dead drop --all
    """
    _check(guids, every)
    others: dict[str, Any] = {"messages": [], "trouble": None}
    with session.broker() as broker:
        done = _portions(broker, guids, lambda portion: broker.ask("settle_dead", {"guids": portion}))
        missing = tuple(sorted(set(guids).difference(done)))
        if every:
            others = broker.ask("drop_dead_messages", {"every": True})
        for portion in _split(missing):
            others = broker.ask("drop_dead_messages", {"guids": portion})
            done += _names(others, portion)
    _warn(others)
    _report(session, guids, done, "dropped", len(others["messages"]) if every else 0)


def _names(others: dict[str, Any], wanted: list[str]) -> list[str]:
    """Return which of the names or guids belonged to messages."""
    found = {each[key] for each in others["messages"] for key in ("name", "guid")}
    return [name for name in wanted if name in found]


def _report(
    session: Session, wanted: Iterable[str], found: Sequence[str], what: str, others: int = 0
) -> None:
    """Print what was done, and what was not found; ``others``: messages that were no task's copy."""
    missing = sorted(set(wanted).difference(found))
    for guid in missing:
        click.echo(f"there is no dead task {safe(guid)}", err=True)
    more = f", and {others} other messages" if others else ""
    click.echo(json.dumps(list(found)) if session.json else f"{len(found)} tasks {what}{more}")
    if missing:
        raise SystemExit(int(Exit.NO))


COMMANDS = (dead,)
