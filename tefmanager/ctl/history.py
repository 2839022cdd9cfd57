"""The command ``tefctl history``: finished tasks, newest first."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Group, RenderableType

from tefmanager.core.model.endings import Outcome
from tefmanager.ctl import show
from tefmanager.ctl.broker import Broker
from tefmanager.ctl.console import Session
from tefmanager.ctl.tables import Rows, cell
from tefmanager.inquiry.questions import LAST_TIME, MOST
from tefmanager.protocol.verdicts import Result

MOST_SHOWN = 100_000
"""The largest limit: so many tasks fit into memory."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class When(click.ParamType):  # type: ignore[type-arg]  # older versions of click take no arguments
    """A time on the command line: a local date, with or without the time of day, or how long ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the unix time, or fail with a usage error."""
        if ago := re.fullmatch(r"([0-9]{1,9})([smhd])", str(value)):
            return max(0.0, time.time() - int(ago[1]) * _UNITS[ago[2]])
        try:
            found = datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError, OSError):
            found = -1.0
        if not 0 <= found <= LAST_TIME:
            self.fail(f"{value!r} is no time such as 2026-11-28, '2026-11-28 22:00' or 12h", param, ctx)
        return found


@click.command()
@click.option("--suite", "suite_guid", metavar="GUID", help="Only tasks of this suite.")
@click.option("--type", "task_type", metavar="TYPE", help="Only tasks of this type.")
@click.option("--worker", metavar="NAME", help="Only tasks that this worker completed, or had last.")
@click.option(
    "--outcome",
    type=click.Choice([each.value for each in Outcome]),
    help="Only tasks that ended in this way.",
)
@click.option(
    "--result",
    type=click.Choice([each.value for each in Result]),
    help="Only tasks that were completed with this result.",
)
@click.option("--guid", metavar="TEXT", help="Only tasks whose guid begins with this text.")
@click.option(
    "--since", type=When(), metavar="TIME", help="Only tasks that ended at this time or later: see below."
)
@click.option("--until", type=When(), metavar="TIME", help="Only tasks that ended before this time.")
@click.option(
    "--limit",
    type=click.IntRange(1, MOST_SHOWN),
    default=100,
    show_default=True,
    help="Maximum number of tasks.",
)
@click.option("--after", metavar="PLACE", help="Go on where a list ended that was cut: it says where.")
@click.pass_obj
def history(session: Session, /, limit: int, **wanted: Any) -> None:
    """List finished tasks, newest first.

    A time is a local date (2026-11-28), a date with a time ('2026-11-28 22:00'), or how long ago (12h;
    units are s, m, h and d). In the list, SECS are the seconds from the worker's start to the task's end.

    \b
    Examples:
      tefctl history --result failed --since 12h
      tefctl history --suite task_suite_7 --outcome dead
      tefctl --json history --worker worker_foo --limit 1000 | jq -r .items[].result | sort | uniq -c
    """
    given = {name: value for name, value in wanted.items() if value is not None}
    with session.broker() as broker:
        answer = _read(broker, given, limit)
    show.show(session, answer, shown(answer))


def _read(broker: Broker, wanted: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Ask for pages until there are enough tasks; return all of them as one page."""
    page: dict[str, Any] = broker.ask("get_history", {**wanted, "limit": min(limit, MOST)})
    items = list(page["items"])
    while page["next"] is not None and len(items) < limit:
        left = min(limit - len(items), MOST)
        page = broker.ask("get_history", {**wanted, "limit": left, "after": page["next"]})
        items += page["items"]
    whole = page["next"] is None and "after" not in wanted
    return {"items": items, "total": len(items) if whole else None, "next": page["next"]}


def shown(answer: Mapping[str, Any]) -> RenderableType:
    """Show a page of history; below each task what its worker said."""
    items: Sequence[Mapping[str, Any]] = answer["items"]
    made = Rows("ended", "end", "~worker", "~type", "#secs", "*task")
    for each in items:
        at = show.local(each["finished"], "%m-%d %H:%M")
        mine = (at, _end(each), each["worker"], each["task_type"], _seconds(each), each["guid"])
        made.add(*mine, note=each["message"])
    listed = made if items else cell("no finished tasks")
    if answer["next"] is None:
        return listed
    return Group(listed, cell(f"there may be more: --after {answer['next']}"))


def _end(task: Mapping[str, Any]) -> str:
    """Return the result of a task if its worker gave one, otherwise its outcome."""
    return str(task["state"] if task["result"] in (None, Result.UNKNOWN) else task["result"])


def _seconds(task: Mapping[str, Any]) -> str:
    """Return how long a task ran, from its worker's start to its end."""
    began = task["dispatched"] if task["started"] is None else task["started"]
    return "" if began is None else f"{max(0.0, task['finished'] - began):.1f}"


COMMANDS = (history,)
