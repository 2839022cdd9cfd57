"""``tefctl resources``: lists come from the manager, changes are written to Etcd."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping

import click

from tefmanager.ctl import resource_keys, show
from tefmanager.ctl.ask import ask
from tefmanager.ctl.console import Seconds, Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.ctl.foreign import Foreign, find
from tefmanager.ctl.leaked import leaked
from tefmanager.ctl.tables import Rows
from tefmanager.ctl.takeover import take_over
from tefmanager.etcd import tree
from tefmanager.etcd.daytime import minute_of
from tefmanager.etcd.http import HttpClient
from tefmanager.inquiry.questions import MOST


@click.group()
def resources() -> None:
    """List resources, and change them in Etcd.

    Changes are written by the API that the manager uses, v2 or v3.
    """


@resources.command("list")
@click.pass_obj
def list_resources(session: Session) -> None:
    """List the resources, with their holders.

    The column "others" counts references that other programs hold. A lane is all waiting tasks of the
    same type, resources and suite; the column "lanes" counts the lanes that wait for the resource.

    \b
    Example:
      tefctl resources list
    """
    answer = ask(session, "get_resources", {"limit": MOST})
    show.show(session, answer, show.resources(answer))


def _name(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Reject what can't be a resource's name in Etcd."""
    key = tree.resource_key(f"{value}/{tree.REF_COUNT}")
    if key != tree.ResourceKey(value, tree.REF_COUNT) or "" in value.split("/"):
        raise click.BadParameter(f"{value!r} can't be a resource's name")
    return value


@resources.command("set-limit", context_settings={"ignore_unknown_options": True})  # -1: no limit
@click.argument("name", callback=_name)
@click.argument("limit", type=click.IntRange(min=-1))
@click.pass_obj
def set_limit(session: Session, name: str, limit: int) -> None:
    """Set how many tasks may hold a resource.

    The limit -1 means no limit. Creates the resource if it does not exist.

    \b
    Examples:
      tefctl resources set-limit licence 3
      tefctl resources set-limit licence -1
    """
    _write(session, {f"{name}/{tree.REF_LIMIT}": str(limit)}, f"{name}: the limit is {limit}")


@resources.command()
@click.argument("name", callback=_name)
@click.pass_obj
def disable(session: Session, name: str) -> None:
    """Close a resource: nobody gets it until it is enabled again.

    Tasks that already hold it keep it.

    \b
    Example:
      tefctl resources disable licence
    """
    _write(session, {f"{name}/{tree.AVAILABLE}": "0"}, f"{name} is closed", known=name)


@resources.command()
@click.argument("name", callback=_name)
@click.pass_obj
def enable(session: Session, name: str) -> None:
    """Open a resource again.

    \b
    Example:
      tefctl resources enable licence
    """
    _write(session, {f"{name}/{tree.AVAILABLE}": "1"}, f"{name} is open", known=name)


@resources.group()
def window() -> None:
    """Set times of day at which a resource has another limit."""


def _time(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Reject what is no time of day."""
    if minute_of(value) is None:
        raise click.BadParameter(f"{value!r} is not a time of day, expected for example 22:00")
    return value


@window.command("add")
@click.argument("name", callback=_name)
@click.argument("window_id", metavar="ID")
@click.option("--from", "start", required=True, metavar="H:M", callback=_time, help="Begin, in local time.")
@click.option(
    "--to",
    "end",
    required=True,
    metavar="H:M",
    callback=_time,
    help="End, in local time. If it is before --from, the window ends on the next day.",
)
@click.option(
    "--day",
    type=click.IntRange(-1, 6),
    default=-1,
    help="Weekday on which it begins; 0 is Sunday, -1 every day.",
)
@click.option("--limit", type=click.IntRange(min=-1), help="Limit during the window; -1: no limit.")
@click.option("--closed", is_flag=True, help="Nobody gets the resource during the window.")
@click.pass_obj
def add_window(
    session: Session,
    name: str,
    window_id: str,
    start: str,
    end: str,
    day: int,
    limit: int | None,
    closed: bool,
) -> None:
    """Add a window to a resource, or change the window with this ID.

    \b
    Examples:
      tefctl resources window add licence night --from 22:00 --to 6:00 --limit 10
      tefctl resources window add server backup --from 3:00 --to 4:00 --day 0 --closed
    """
    if (limit is None) != closed:
        raise click.UsageError("give --limit, or --closed")
    if not re.fullmatch(r"[^/\s]+", window_id):
        raise click.UsageError(f"{window_id!r} can't be a window's id")
    values = {
        "start_time": start,
        "end_time": end,
        "day_of_week": str(day),
        tree.AVAILABLE: "01"[not closed],
    }
    if limit is not None:
        values["limit"] = str(limit)
    paths = {f"{name}/{tree.WINDOWS}/{window_id}/{field}": value for field, value in values.items()}
    _write(session, paths, f"{name} has the window {window_id}", known=name)


def _write(session: Session, values: Mapping[str, str], done: str, known: str | None = None) -> None:
    """Write keys; if ``known`` names a resource, only if it exists."""
    config = session.config()

    async def work(http: HttpClient) -> bool:
        keys = await resource_keys.chosen(http, config)
        if known is not None and known not in _names(await keys.read()):
            return False
        await keys.put(values)
        return True

    if not resource_keys.run(config, session.patience, work):
        raise CtlError(Exit.NO, f"there is no resource {known}")
    click.echo(json.dumps(dict(values)) if session.json else done)


def _names(paths: Mapping[str, object]) -> set[str]:
    return {at.name for path in paths if (at := tree.resource_key(path)) is not None}


# --- references that nobody gives back ---


@resources.command("release-stale")
@click.option(
    "--older-than",
    type=Seconds(zero=True),
    required=True,
    metavar="SECONDS",
    help="Minimum time for which they are held.",
)
@click.option("--client", metavar="PREFIX", help="Only clients whose id begins with PREFIX.")
@click.option("--yes", is_flag=True, help="Release them. Without this option they are only listed.")
@click.pass_obj
def release_stale(session: Session, older_than: float, client: str | None, yes: bool) -> None:
    """Release old references of other programs.

    First make sure that these programs are gone. This command never releases the manager's own
    references: the manager itself releases those that belong to no task.

    \b
    Example:
      tefctl resources release-stale --older-than 86400 --client res_man
    """
    before = time.time() - older_than

    def stale(each: Foreign) -> bool:
        return each.since < before and each.client.startswith(client or "")

    found = find(session, stale, release=yes)
    made = Rows("*resource", "~client", "#held for", "since")
    for each in found:
        made.add(each.resource, each.client, show.ago(each.since), show.clock(each.since))
    told = [{"resource": each.resource, "client": each.client, "since": each.since} for each in found]
    show.show(session, told, made if found else "no references found")
    if found and not session.json:
        click.echo(f"{len(found)} released" if yes else f"{len(found)} found; --yes releases them")


# --- from v2 to v3 ---


@resources.command()
@click.pass_obj
def migrate(session: Session) -> None:
    """Copy resources from Etcd's v2 API to its v3 API.

    This is possible only while no resource is held. Keys that already exist in v3 are not changed, and
    nothing is removed from v2. First stop the manager and all other programs that use the resources.
    Afterwards set the manager's --etcd-api to v3.

    \b
    Example:
      tefctl resources migrate
    """
    config = session.config()

    async def work(http: HttpClient) -> int:
        v2, v3 = resource_keys.both(http, config)
        old, new = await v2.read(), await v3.read()
        held = sorted(
            {at.name for path in old if (at := tree.resource_key(path)) is not None and at.is_lock}
        )
        if held:
            raise CtlError(
                Exit.NO, f"references are held: {', '.join(held)}; stop the programs that hold them"
            )
        values = {
            path: entry.value for path, entry in old.items() if tree.resource_key(path) and path not in new
        }
        await v3.put(values)
        return len(values)

    copied = resource_keys.run(config, session.patience, work)
    click.echo(json.dumps({"copied": copied}) if session.json else f"{copied} keys copied")


resources.add_command(take_over)
resources.add_command(leaked)

COMMANDS = (resources,)
