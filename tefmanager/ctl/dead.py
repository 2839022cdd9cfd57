"""``tefctl dead``: tasks that were given back too often, in the queue of the dead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click
import pika

from tefmanager.ctl import show
from tefmanager.ctl.broker import Broker
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.rows import Rows, as_json, cell, safe
from tefmanager.ctl.session import Session
from tefmanager.messages import guid_of
from tefmanager.questions import MOST


@dataclass(frozen=True)
class Dead:
    """A dead task as it lies in the queue: its headers, and its message as it came."""

    headers: dict[str, Any]
    body: bytes

    @property
    def guid(self) -> str:
        """Its guid; headers that were too long for the broker's frames are not there."""
        return str(self.headers.get("x-tef-guid") or guid_of(self.body) or "")

    def told(self) -> dict[str, Any]:
        """Return what is known of it, ready for JSON."""
        attempts = self.headers.get("x-tef-attempts")
        return {
            "guid": self.guid,
            "reason": self.headers.get("x-tef-reason"),
            "attempts": [each for each in attempts if isinstance(each, dict)]
            if isinstance(attempts, list)
            else [],
            "message": _read(self.body),
        }


def _read(body: bytes) -> object:
    """Return a message as JSON, or as text where somebody has put something else into the queue."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "backslashreplace")


def sift(broker: Broker, take: Callable[[Dead], bool]) -> None:
    """Go through the dead queue, each message once; those for which ``take`` returns True are removed.

    The others go to its end, as a new message that is there before the old one is acknowledged. To give
    them back would be simpler; but a quorum queue counts that, and drops what was given back too often. Of
    times in headers, pika reads whole seconds.
    """
    queue = broker.config.dead_queue
    count = broker.count(queue)
    if count is None:
        click.echo(f"somebody has deleted the dead queue {queue}, with all messages in it", err=True)
    channel = broker.channel
    channel.confirm_delivery()
    for _ in range(count or 0):
        method, properties, body = channel.basic_get(queue)
        if method is None:
            return
        if not take(Dead(dict(properties.headers or {}), body)):
            channel.basic_publish("", queue, body, properties, mandatory=True)
        channel.basic_ack(method.delivery_tag)


@click.group()
def dead() -> None:
    """List, show, retry or drop tasks that are out of attempts."""


@dead.command("list")
@click.option(
    "--limit", type=click.IntRange(1, MOST), default=100, show_default=True, help="List at most so many."
)
@click.pass_obj
def list_dead(session: Session, limit: int) -> None:
    """List the dead tasks that nobody has sent again or dropped.

    \b
    Example:
      tefctl dead list --limit 20
    """
    with session.broker() as broker:
        answer = broker.ask("get_dead", {"limit": limit})
    show.show(session, answer, show.dead(answer))


@dead.command("show")
@click.argument("guid")
@click.pass_obj
def show_dead(session: Session, guid: str) -> None:
    """Show a dead task: its attempts and its message.

    \b
    Example:
      tefctl dead show task_123456
    """
    found: list[Dead] = []

    def look(each: Dead) -> bool:
        found.extend([each] if each.guid == guid else [])
        return False

    with session.broker() as broker:
        sift(broker, look)
    if not found:
        raise CtlError(Exit.NO, f"there is no task {guid} in the dead queue; see tefctl task {guid}")
    told = found[0].told()
    made = Rows("#attempt", "*worker", "dispatched", "ended", "end")
    for each in told["attempts"]:
        times = show.clocks(each.get("dispatched"), each.get("ended"))
        made.add(each.get("number"), each.get("worker"), *times, each.get("end"))
    show.show(session, told, made)
    if not session.json:
        click.echo(f"\n{cell(told['reason']).plain}\n{as_json(told['message'], indent=2)}")


def _check(guids: tuple[str, ...], every: bool) -> None:
    if bool(guids) == every:
        raise click.UsageError("give guids, or --all")


@dead.command()
@click.argument("guids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.pass_obj
def retry(session: Session, guids: tuple[str, ...], every: bool) -> None:
    """Submit dead tasks again, as they came.

    They begin with no attempts.

    \b
    Examples:
      tefctl dead retry task_123456
      tefctl dead retry --all
    """
    _check(guids, every)
    done: dict[str, None] = {}
    with session.broker() as broker:

        def again(each: Dead) -> bool:
            if not every and each.guid not in guids:
                return False
            if each.guid not in done:  # it may be there twice, if somebody was killed while moving it
                properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
                broker.channel.basic_publish(
                    "", broker.config.in_queue, each.body, properties, mandatory=True
                )
            done[each.guid] = None
            return True

        listed = _listed(broker, guids)
        sift(broker, again)
    gone = [guid for guid in listed if guid not in done]
    _report(session, guids, done, "submitted again", gone)


@dead.command()
@click.argument("guids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.pass_obj
def drop(session: Session, guids: tuple[str, ...], every: bool) -> None:
    """Remove dead tasks from the queue and the list.

    History still has them for a while.

    \b
    Examples:
      tefctl dead drop task_123456
      tefctl dead drop --all
    """
    _check(guids, every)
    done: dict[str, None] = {}

    def remove(each: Dead) -> bool:
        wanted = every or each.guid in guids
        done.update({each.guid: None} if wanted else {})
        return wanted

    with session.broker() as broker:
        sift(broker, remove)
        listed = guids or [task["guid"] for task in broker.ask("get_dead", {"limit": MOST})["tasks"]]
        done.update(dict.fromkeys(_settle(broker, [*done, *listed])))
    _report(session, guids, done, "dropped")


def _settle(broker: Broker, guids: Iterable[str]) -> list[str]:
    """Let the manager list tasks no more; return those that it did."""
    left, settled = [guid for guid in dict.fromkeys(guids) if guid], []
    while left:
        batch, left = left[:MOST], left[MOST:]
        settled += broker.ask("settle_dead", {"guids": batch})
    return settled


def _listed(broker: Broker, wanted: Sequence[str]) -> list[str]:
    """Return which are dead of those wanted, or all that are listed; nothing while no manager is there."""
    try:
        if wanted:
            tasks = broker.ask("get_tasks", {"guids": list(dict.fromkeys(wanted))[:MOST]})["tasks"]
            return [task["guid"] for task in tasks if task["state"] == "dead"]
        return [task["guid"] for task in broker.ask("get_dead", {"limit": MOST})["tasks"]]
    except CtlError:
        if not broker.channel.is_open:
            raise
        return []


def _report(
    session: Session, wanted: Iterable[str], done: Iterable[str], what: str, gone: Sequence[str] = ()
) -> None:
    """Tell what was done, and which were not there; ``gone`` are dead, but not in the queue."""
    found = list(done)
    for guid in gone:
        text = f"the message of dead task {guid} is not in the dead queue, so it can't be submitted again"
        click.echo(f"{safe(text)}; tefctl dead drop {safe(guid)} takes it off the list", err=True)
    missing = sorted(set(wanted).difference(found, gone))
    for guid in missing:
        click.echo(f"there is no dead task {safe(guid)}", err=True)
    click.echo(json.dumps(found) if session.json else f"{len(found)} tasks {what}")
    if missing or gone:
        raise SystemExit(int(Exit.NO))


COMMANDS = (dead,)
