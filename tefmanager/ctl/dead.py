"""``tefctl dead``: tasks that were given back too often, in the queue of the dead."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click
import pika

from tefmanager.ctl import show
from tefmanager.ctl.broker import Broker
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.session import Session


@dataclass(frozen=True)
class Dead:
    """A dead task: its delivery, its headers, and its message as it came."""

    tag: int
    headers: dict[str, Any]
    body: bytes

    @property
    def guid(self) -> str:
        """Its guid, as the manager says."""
        return str(self.headers.get("x-tef-guid", ""))

    def told(self) -> dict[str, Any]:
        """Return what is known of it, ready for JSON."""
        return {
            "guid": self.guid,
            "reason": self.headers.get("x-tef-reason"),
            "attempts": self.headers.get("x-tef-attempts", []),
            "message": json.loads(self.body),
        }


def each_dead(broker: Broker, queue: str) -> Iterator[Dead]:
    """Go through the queue, each message once; what is not acknowledged goes back when we disconnect."""
    for _ in range(broker.look(queue).message_count):
        method, properties, body = broker.channel.basic_get(queue)
        if method is None:
            return
        yield Dead(method.delivery_tag, dict(properties.headers or {}), body)


@click.group()
def dead() -> None:
    """List, show, retry or drop tasks that are out of attempts."""


@dead.command("list")
@click.pass_obj
def list_dead(session: Session) -> None:
    """List the dead tasks."""
    with session.broker() as broker:
        found = [each.told() for each in each_dead(broker, broker.config.dead_queue)]
    made = show.table("task", "type", "suite", "#attempts", "last worker", "last end", "when")
    for each in found:
        last = each["attempts"][-1] if each["attempts"] else {}
        message = each["message"]
        ends = (last.get("worker"), last.get("end"), show.clock(last.get("ended")))
        what = (each["guid"], message.get("task_type"), message.get("suite_guid"), len(each["attempts"]))
        show.row(made, *what, *ends)
    show.show(session, found, made if found else "no dead tasks")


@dead.command("show")
@click.argument("guid")
@click.pass_obj
def show_dead(session: Session, guid: str) -> None:
    """Show a dead task: its attempts, and its message."""
    with session.broker() as broker:
        told = _find(broker, broker.config.dead_queue, guid)[0].told()
    made = show.table("#attempt", "worker", "dispatched", "ended", "end")
    for each in told["attempts"]:
        times = (show.clock(each.get("dispatched")), show.clock(each.get("ended")))
        show.row(made, each.get("number"), each.get("worker"), *times, each.get("end"))
    show.show(session, told, made)
    if not session.json:
        click.echo(f"\n{told['reason']}\n{json.dumps(told['message'], ensure_ascii=False, indent=2)}")


def _find(broker: Broker, queue: str, guid: str) -> list[Dead]:
    found = [each for each in each_dead(broker, queue) if each.guid == guid]
    if not found:
        raise CtlError(Exit.NO, f"there is no dead task {guid}")
    return found


def _chosen(guids: tuple[str, ...], every: bool) -> Callable[[Dead], bool]:
    if bool(guids) == every:
        raise click.UsageError("give guids, or --all")
    return lambda each: every or each.guid in guids


@dead.command()
@click.argument("guids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.pass_obj
def retry(session: Session, guids: tuple[str, ...], every: bool) -> None:
    """Submit dead tasks again, as they came; they begin with no attempts.

    \b
    Examples:
      tefctl dead retry task_123456
      tefctl dead retry --all
    """

    def again(broker: Broker, each: Dead) -> None:
        properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
        broker.channel.basic_publish("", broker.config.in_queue, each.body, properties, mandatory=True)

    _for_each(session, _chosen(guids, every), set(guids), again, "submitted again")


@dead.command()
@click.argument("guids", nargs=-1)
@click.option("--all", "every", is_flag=True, help="All of them.")
@click.pass_obj
def drop(session: Session, guids: tuple[str, ...], every: bool) -> None:
    """Remove dead tasks from the queue; history still has them for a while."""
    _for_each(session, _chosen(guids, every), set(guids), lambda broker, each: None, "dropped")


def _for_each(
    session: Session,
    wanted: Callable[[Dead], bool],
    guids: set[str],
    act: Callable[[Broker, Dead], None],
    done: str,
) -> None:
    """Do something with dead tasks, each safe elsewhere before it is removed from the queue."""
    with session.broker() as broker:
        broker.channel.confirm_delivery()
        found = []
        for each in each_dead(broker, broker.config.dead_queue):
            if wanted(each):
                act(broker, each)
                broker.channel.basic_ack(each.tag)
                found.append(each.guid)
    for guid in sorted(guids.difference(found)):
        click.echo(f"there is no dead task {guid}", err=True)
    click.echo(json.dumps(found) if session.json else f"{len(found)} tasks {done}")
    if guids.difference(found):
        raise SystemExit(int(Exit.NO))


COMMANDS = (dead,)
