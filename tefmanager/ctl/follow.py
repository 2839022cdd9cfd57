"""``tefctl events``: prints events as they happen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice

import click
from pika.exceptions import ChannelClosedByBroker

from tefmanager.ctl import show
from tefmanager.ctl.broker import Broker
from tefmanager.ctl.console import Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.tables import as_json, cell, safe
from tefmanager.protocol.catalogue import readable


@click.command()
@click.option(
    "--key", "keys", multiple=True, default=["#"], help="Only events with this routing key. Repeatable."
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Stop after N events.")
@click.pass_obj
def events(session: Session, keys: tuple[str, ...], count: int | None) -> None:
    """Print events as they happen, until Ctrl-C.

    \b
    Examples:
      tefctl events --key 'task.*' --key suite.finished
      tefctl --json events --key worker.missing --count 1
    """
    with session.broker() as broker:
        try:
            for body in islice(_listen(broker, keys), count):
                event = read(body)
                click.echo(as_json(event) if session.json else line(event))
        except KeyboardInterrupt:
            return


def _listen(broker: Broker, keys: tuple[str, ...]) -> Iterator[bytes]:
    """Bind a queue of our own to the events, and iterate over what arrives."""
    channel = broker.channel
    queue = channel.queue_declare("", exclusive=True).method.queue
    try:
        for key in keys:
            channel.queue_bind(queue, broker.config.events_exchange, key)
    except ChannelClosedByBroker as error:
        raise CtlError(Exit.MANAGER, f"no manager has ever run here: {error.reply_text}") from None
    for _method, _properties, body in channel.consume(queue, auto_ack=True):
        yield body


def read(body: bytes) -> dict[str, object]:
    """Return an event. Whoever may publish to the exchange can send anything instead."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        event = None
    return event if isinstance(event, dict) else {"not_an_event": readable(body)}


def line(event: dict[str, object]) -> str:
    """Return an event as a line for people: local time, name, and its other fields."""
    at = show.local(event.get("time"), "%H:%M:%S") or "--:--:--"
    more = " ".join(
        f"{safe(name)}={cell(value).plain}"
        for name, value in event.items()
        if name not in ("event", "time") and value is not None
    )
    return f"{at} {cell(event.get('event')).plain} {more}".rstrip()


COMMANDS = (events,)
