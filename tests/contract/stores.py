"""The stores for the contract of the store: the real one and the fake, with the same handle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Protocol, cast

import psycopg2

from tefmanager.core.model.endings import Outcome
from tefmanager.interfaces.store import ILeadership, IStore
from tefmanager.store import Store
from tefmanager.store.leadership import Leadership
from tests.fakes.store import FakeDatabase, FakeLeadership, FakeStore, Rows


@dataclass(frozen=True, slots=True)
class Past:
    """What history contains about a task."""

    guid: str
    attempts: int
    outcome: Outcome
    finished_at: float
    body: bytes


class Twin(Protocol):
    """One database, seen by several managers and from outside."""

    def store(self, lock_name: str = "one") -> IStore:
        """Return another manager's store."""

    def history(self) -> Mapping[int, Past]:
        """Return the contents of history, by task id."""

    def attempt_ids(self) -> list[int]:
        """Return the ids of all attempts in the database."""

    def kill(self, leadership: ILeadership) -> None:
        """Kill a leadership's session from outside."""

    def depose(self) -> None:
        """Begin another leadership as if there were no lock."""

    def dump(self) -> object:
        """Return all rows."""

    def restore(self, dump: object) -> None:
        """Restore dumped rows, whoever is active now."""


class FakeTwin:
    """The fake."""

    def __init__(self) -> None:
        self._database = FakeDatabase()

    def store(self, lock_name: str = "one") -> IStore:
        return FakeStore(self._database, lock_name)

    def history(self) -> Mapping[int, Past]:
        return {
            id: Past(task.row.spec.guid, task.row.attempts, task.outcome, task.finished_at, task.body)
            for id, task in self._database.rows.history.items()
        }

    def attempt_ids(self) -> list[int]:
        return sorted(self._database.rows.attempts)

    def kill(self, leadership: ILeadership) -> None:
        cast(FakeLeadership, leadership).lose("the session was killed")

    def depose(self) -> None:
        self._database.rows.epoch += 1

    def dump(self) -> object:
        return self._database.rows.copy()

    def restore(self, dump: object) -> None:
        self._database.rows = cast(Rows, dump).copy()


TABLES = (
    "upgrades",
    "manager",
    "tasks",
    "attempts",
    "history",
    "workers",
    "paused_suites",
    "stopped_suites",
    "suite_ends",
)
"""The real store's tables, without the prefix."""


class RealTwin:
    """PostgreSQL, seen through a synchronous client."""

    def __init__(self, database: Mapping[str, str | int], table_prefix: str) -> None:
        self._dsn = dict(database)
        self._prefix = table_prefix
        self._outside = psycopg2.connect(**self._dsn)  # type: ignore[call-overload]
        self._outside.autocommit = True

    def ask(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """Execute a statement from outside; ``{t}`` is the table prefix."""
        with self._outside.cursor() as cursor:
            cursor.execute(sql.replace("{t}", self._prefix), values)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Remove the tables and disconnect."""
        self.ask(f"drop table if exists {', '.join('{t}' + table for table in TABLES)} cascade")
        self.ask("drop function if exists {t}expect")
        self._outside.close()

    def store(self, lock_name: str = "one") -> IStore:
        from twisted.internet import reactor

        return Store(reactor, self._dsn, self._prefix, f"{self._prefix}/{lock_name}", poll=0.05)

    def history(self) -> Mapping[int, Past]:
        rows = self.ask(
            "select id, guid, attempts, outcome, extract(epoch from finished_at)::float8, body"
            " from {t}history"
        )
        return {
            cast(int, id): Past(
                str(guid),
                cast(int, attempts),
                Outcome(str(outcome)),
                cast(float, at),
                bytes(cast(memoryview, body)),
            )
            for id, guid, attempts, outcome, at, body in rows
        }

    def attempt_ids(self) -> list[int]:
        return [cast(int, id) for (id,) in self.ask("select id from {t}attempts order by id")]

    def backend(self, leadership: ILeadership) -> int:
        """Return the process id of a leadership's server process."""
        return cast(int, cast(Leadership, leadership)._session._link.get_backend_pid())

    def kill(self, leadership: ILeadership) -> None:
        self.ask("select pg_terminate_backend(%s, 5000)", self.backend(leadership))

    def depose(self) -> None:
        self.ask("update {t}manager set epoch = epoch + 1")

    def dump(self) -> object:
        return {table: self._copied(f"copy {self._prefix}{table} to stdout") for table in TABLES}

    def restore(self, dump: object) -> None:
        rows = cast(Mapping[str, bytes], dump)
        self._outside.autocommit = False
        with self._outside, self._outside.cursor() as cursor:
            cursor.execute("truncate " + ", ".join(self._prefix + table for table in rows))
            for table, text in rows.items():
                cursor.copy_expert(f"copy {self._prefix}{table} from stdin", BytesIO(text))
        self._outside.autocommit = True

    def _copied(self, statement: str) -> bytes:
        found = BytesIO()
        with self._outside.cursor() as cursor:
            cursor.copy_expert(statement, found)
        return found.getvalue()
