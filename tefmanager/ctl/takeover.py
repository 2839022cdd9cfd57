"""``tefctl resources take-over``: gives the lock keys of a grid that is gone to this one."""

from __future__ import annotations

import json

import click

from tefmanager.ctl import resource_keys
from tefmanager.ctl.console import Session
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.etcd.http import HttpClient
from tefmanager.etcd.owner import Sign, folder, sign
from tefmanager.etcd.ownership import OwnerKeys, forget
from tefmanager.etcd.v2owner import V2OwnerKeys
from tefmanager.etcd.v3owner import V3OwnerKeys


@click.command("take-over")
@click.option(
    "--yes", is_flag=True, help="Take over. Without this option, only show which grid uses the lock keys."
)
@click.pass_obj
def take_over(session: Session, yes: bool) -> None:
    """Let this grid use the lock keys of another grid that is gone.

    Use it for a manager whose log says ETCD_TAKEN: another database was in use with the same name prefix.
    The waiting manager goes on within seconds, and releases all references of the other grid, even if
    workers of that grid still use them. While the other grid's manager is alive, tefctl refuses to do
    this: stop that manager first.

    \b
    Example:
      tefctl resources take-over --yes
    """
    config = session.config()

    async def work(http: HttpClient) -> Sign | None:
        place = folder(config.etcd_base, config.name_prefix)
        v2 = await resource_keys.uses_v2(http, config)
        keys: OwnerKeys = V2OwnerKeys(http, place) if v2 else V3OwnerKeys(http, place)
        found = await keys.read()
        living = sign(found.alive) if found.alive else (await forget(keys) if yes else None)
        if living is not None:
            raise CtlError(Exit.NO, f"the manager of {living.where} is alive: stop it first")
        return None if found.grid is None else sign(found.grid)

    known = resource_keys.run(config, session.patience, work)
    if session.json:
        click.echo(json.dumps({"known": None if known is None else known.where, "forgotten": yes}))
    elif known is None:
        click.echo("no grid uses the lock keys: the next manager that starts takes them")
    else:
        click.echo(f"released from {known.where}" if yes else f"used by {known.where}; --yes takes over")
