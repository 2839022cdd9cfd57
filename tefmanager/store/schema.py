"""The schema: the numbered files in ``upgrades``, applied in order by the daemon itself.

Each file is applied in a transaction of its own, together with its row in the table ``upgrades``. A
transaction-level advisory lock keeps two programs from upgrading the same tables at once, even if they
compete for different leaderships.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import tefmanager
from tefmanager.interfaces.store import SchemaTooNew, StoreLost
from tefmanager.store.names import checked_prefix, lock_key
from tefmanager.store.session import Session

_MADE = re.compile(r"^create (?:table|index|unique index|function) (\w+)", re.MULTILINE)

_FILE_NAME = re.compile(r"(?P<number>\d{4})_(?P<name>\w+)\.sql")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """One step of the schema. ``number`` counts from 1 without gaps."""

    number: int
    name: str
    sql: str


def load_upgrades(table_prefix: str) -> list[Upgrade]:
    """Read the program's upgrades, in order. Raises `ValueError` for a gap."""
    found = []
    for file in (resources.files(__package__) / "upgrades").iterdir():
        if match := _FILE_NAME.fullmatch(file.name):
            sql = file.read_text("utf-8").replace("{t}", checked_prefix(table_prefix))
            found.append(Upgrade(int(match["number"]), match["name"], sql))
    found.sort(key=lambda upgrade: upgrade.number)
    if [upgrade.number for upgrade in found] != list(range(1, len(found) + 1)):
        raise ValueError("upgrades must be numbered from 1 without gaps")
    return found


async def bring_up_to_date(
    session: Session, table_prefix: str, upgrades: Sequence[Upgrade]
) -> list[Upgrade]:
    """Apply the upgrades that the database lacks, and return them.

    Raises `SchemaTooNew`. Raises `StoreLost` if an upgrade fails; that one has then changed nothing.
    """
    lacking = upgrades[await _found(session, table_prefix, upgrades) :]
    return [upgrade for upgrade in lacking if await _apply(session, table_prefix, upgrade, upgrades)]


async def _apply(session: Session, table_prefix: str, upgrade: Upgrade, known: Sequence[Upgrade]) -> bool:
    """Apply an upgrade, unless another program has done so meanwhile; return whether we did."""
    key = lock_key(f"upgrade/{table_prefix}")
    await session.run(
        f"begin; set local statement_timeout = 0; select pg_advisory_xact_lock({key})", _FOR_EVER
    )
    found = await _found(session, table_prefix, known)
    needed = found < upgrade.number
    if needed:
        if not found:
            await _refuse_strangers(session, table_prefix, known)
        await session.run(upgrade.sql, _FOR_EVER)
        await session.run(_record(session, table_prefix, upgrade))
    await session.run("commit", _FOR_EVER)
    return needed


async def _refuse_strangers(session: Session, table_prefix: str, upgrades: Sequence[Upgrade]) -> None:
    """Raise `StoreLost` if our tables are in another schema, or something else uses a name that we need."""
    elsewhere = "select schemaname, current_schema() from pg_tables where tablename = "
    for found, here in await session.run(f"{elsewhere}'{table_prefix}upgrades'"):
        raise StoreLost(
            f"the tables are in the schema {found}, but search_path leads to {here}; expected them there: "
            "set schema_search_path in the database's yml file, or the role's search_path"
        )
    names = {name for upgrade in upgrades for name in _MADE.findall(upgrade.sql)}
    wanted = session.quoter()("select unnest(%s)", [sorted(names)]).decode()
    there = (
        f"select relname from pg_class where relname in ({wanted}) and pg_table_is_visible(oid) union"
        f" select proname from pg_proc where proname in ({wanted}) and pg_function_is_visible(oid)"
        " order by 1"
    )
    if strangers := [name for (name,) in await session.run(there)]:
        raise StoreLost(
            f"{', '.join(strangers)}: found in the database, but not made by tef-manager; "
            "expected the name to be free: rename it, or choose another name prefix or schema (search_path)"
        )


_FOR_EVER = float("inf")
"""An upgrade may rewrite a large table, so it has no timeout. TCP still detects a dead connection."""


def _record(session: Session, table_prefix: str, upgrade: Upgrade) -> bytes:
    return session.quoter()(
        f"insert into {table_prefix}upgrades (number, name, program) values (%s, %s, %s)",
        (upgrade.number, upgrade.name, tefmanager.__version__),
    )


async def _found(session: Session, table_prefix: str, known: Sequence[Upgrade]) -> int:
    """Return the number of the last upgrade that the database has; 0 if it has none."""
    # Not to_regclass: in a transaction it may cache that the table did not exist.
    table = f"select 1 from pg_class where relname = '{table_prefix}upgrades' and pg_table_is_visible(oid)"
    if not await session.run(table):
        return 0
    newest = f"select number, name, program from {table_prefix}upgrades order by number desc limit 1"
    for number, name, program in await session.run(newest):
        if number > len(known):
            raise SchemaTooNew(_too_new(table_prefix, f"{number:04}_{name}", program, known))
        return int(number)
    return 0


def _too_new(table_prefix: str, found: str, program: str, known: Sequence[Upgrade]) -> str:
    newest = f"{known[-1].number:04}_{known[-1].name}" if known else "none"
    return (
        f"the tables {table_prefix}* have upgrade {found}, applied by tef-manager {program}; "
        f"the newest that this program ({tefmanager.__version__}) knows is {newest}. "
        f"Install tef-manager {program} or newer, or restore the database from before the upgrade."
    )
