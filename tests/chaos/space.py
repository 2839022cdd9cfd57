"""Makes PostgreSQL refuse writes while it still answers.

A small file system for a tablespace needs privileges to be mounted, which tests do not have everywhere. A
limit on file sizes, as used for the managers' logs, would first affect the write-ahead log, and PostgreSQL
ends when it can't write that; killing it has the same effect. So triggers raise the error that PostgreSQL
raises when a table's file can't grow: the transaction fails in the middle, with the same code. Hosted
servers instead make their databases read-only when the disk is full; that can be done directly.

All methods block, so they are called in a thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg2

from tefmanager.sandbox.postgresql_server import Database

TABLES = ("tasks", "history", "attempts", "workers", "manager", "suite_ends")
WRITES = tuple(f"{how} {table}" for table in TABLES for how in ("insert", "update"))
READ_ONLY = "read-only"

_PREPARE = """
create table chaos_full (writes text[] not null);
create function chaos_room() returns trigger language plpgsql as $$
begin
    if exists (select from chaos_full where lower(tg_op) || ' ' || tg_argv[0] = any (writes)) then
        raise exception 'could not extend file "base/chaos": No space left on device'
            using errcode = '53100', hint = 'Check free disk space.';
    end if;
    return new;
end $$;
"""
_WATCH = """
create trigger chaos_room before insert or update on {table}
for each row execute function chaos_room('{name}');
"""
_END_SESSIONS = """
select pg_terminate_backend(pid) from pg_stat_activity
where pid <> pg_backend_pid() and application_name like 'tef-manager%'
"""


class Space:
    """The disk space of a database.

    Args:
        database: how to connect, as the superuser.
        table: returns the full name of one of the manager's tables.
    """

    def __init__(self, database: Database, table: Callable[[str], str]) -> None:
        self._database = database
        self._table = table

    def prepare(self) -> None:
        """Install the triggers. The manager's tables must exist."""
        watches = (_WATCH.format(table=f'"{self._table(name)}"', name=name) for name in TABLES)
        self._run(_PREPARE + "".join(watches))

    def fill(self, rng: random.Random) -> None:
        """Make some writes fail for want of space, or all."""
        few = rng.sample(WRITES, rng.randint(1, 3))
        self.refuse(rng.choice(([READ_ONLY], WRITES, few, few)))

    def refuse(self, writes: Sequence[str]) -> None:
        """Refuse these of `WRITES`, or everything with `READ_ONLY`."""
        if READ_ONLY in writes:
            self._set_read_only("on")
        else:
            self._run("insert into chaos_full values (%s)", list(writes))

    def free(self) -> None:
        """Allow all writes again."""
        self._set_read_only("off")
        self._run("delete from chaos_full")

    def _set_read_only(self, how: str) -> None:
        """Change the setting for future sessions, and for all present sessions of managers."""
        self._run(f"alter database {self._database['dbname']} set default_transaction_read_only = {how}")
        if how == "on":
            self._run(_END_SESSIONS)

    def _run(self, statements: str, *values: Any) -> None:
        with self._cursor() as cursor:
            cursor.execute("set default_transaction_read_only = off")
            cursor.execute(statements, values or None)

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        connection = psycopg2.connect(**self._database)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()
