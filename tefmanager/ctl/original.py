"""The Ruby manager's tables: its tasks, and the messages that they came from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg2
import yaml
from psycopg2.extras import RealDictCursor
from psycopg2.sql import SQL, Composed, Identifier

from tefmanager.config.secrets import KNOWN
from tefmanager.ctl.errors import CtlError, Exit
from tefmanager.protocol.messages import Invalid, TaskMessage, parse

MOVED = "moved to tef-manager"
"""The status of a row whose task the manager has taken. Since ``dispatched`` is set too, the Ruby manager
never sends it, not even after its ``ready_suite``, which changes the status of all rows of a suite."""

AT_ONCE = 500
"""How many rows are read, submitted and marked together."""


@dataclass(frozen=True, slots=True)
class OriginalTask:
    """A row of the Ruby manager.

    Attributes:
        id: the row's id.
        guid: the task's guid.
        suite: the guid of its suite, or None.
        state: ``ready``, ``paused``, ``in progress`` (sent to a worker, or taken back and then forgotten),
            ``moved``, or ``unknown``.
        body: the message, as the Ruby manager would send it; empty if ``fault`` says why there is none.
        fault: why the task can't be submitted.
    """

    id: int
    guid: str
    suite: str | None
    state: str
    body: bytes = b""
    fault: str = ""


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # one of the two is there
    """Reads what Ruby wrote for former JSON: symbols become text, and nothing becomes a date."""


_KINDS = (":null", ":bool", ":int", ":float")
_Loader.yaml_implicit_resolvers = {
    first: kept
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    if (kept := [pair for pair in resolvers if pair[0].endswith(_KINDS)])
}
_Loader.add_implicit_resolver("!ruby/symbol", re.compile(r"^:.+", re.DOTALL), [":"])


def _symbol(loader: Any, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node)).removeprefix(":")
    quoted = re.fullmatch(r"([\"'])(.*)\1", text, re.DOTALL)
    return str(yaml.safe_load(text)) if quoted else text


_Loader.add_constructor("!ruby/symbol", _symbol)
_Loader.add_constructor("!ruby/sym", _symbol)


def message_of(row: Mapping[str, Any], limit: int) -> OriginalTask:
    """Return what a row says; ``limit`` is the size of the largest allowed message, in bytes."""
    guid, suite = str(row["guid"]), row.get("suite_guid") or None
    about = (int(row["id"]), guid, suite, _state(row))
    try:
        task_data = yaml.load(row.get("task_data") or "", Loader=_Loader)
        body = json.dumps(_message(row, suite, task_data), ensure_ascii=False, allow_nan=False).encode()
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        return OriginalTask(*about, fault=f"its task_data can't be read: {type(error).__name__}")
    parsed = parse(body, limit)
    if isinstance(parsed, TaskMessage):
        return OriginalTask(*about, body=body)
    return OriginalTask(
        *about, fault=(parsed.rejected if isinstance(parsed, Invalid) else None) or "no task"
    )


def _message(row: Mapping[str, Any], suite: str | None, task_data: object) -> dict[str, object]:
    return {
        "type": "task",
        "task_type": row["task_type"],
        "guid": row["guid"],
        "priority": row["priority"],
        "task_data": task_data,
        "suite_guid": suite,
        "time_limit": row.get("time_limit"),
        "resources": row["resources"],
    }


def _state(row: Mapping[str, Any]) -> str:
    status = row.get("status")
    if status == MOVED:
        return "moved"
    if row["dispatched"] is not None or status == "in progress":
        return "in progress"
    return status if status in ("ready", "paused") else "unknown"


class Original:
    """The Ruby manager's tables. All errors are `CtlError`.

    Args:
        connection: to its database.
        env: its environment, which is part of the tables' names.
        limit: the size of the largest allowed message, in bytes.
    """

    def __init__(self, connection: Any, env: str, limit: int) -> None:
        self._connection = connection
        self._tables = (Identifier(f"tef_{env}_tasks"), Identifier(f"tef_{env}_task_resources"))
        self._limit = limit

    def tasks(self) -> Iterator[Sequence[OriginalTask]]:
        """Iterate over all tasks, the oldest first, some at a time."""
        last = -1
        while rows := self._run(_READ, last, AT_ONCE):
            yield [message_of(row, self._limit) for row in rows]
            last = rows[-1]["id"]

    def mark(self, ids: Sequence[int]) -> None:
        """Mark rows so that the Ruby manager ignores them from now on."""
        self._run(_MARK, MOVED, list(ids))

    def count(self) -> int:
        """Return how many tasks there are."""
        return int(self._run(_COUNT)[0]["count"])

    def _run(self, statement: str, *values: object) -> list[dict[str, Any]]:
        text: Composed = SQL(statement).format(tasks=self._tables[0], resources=self._tables[1])
        with self._connection, self._connection.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(text, values)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []


_READ = """
select t.*, coalesce((
    select string_agg(r.resource_name, '|' order by r.id) from {resources} as r where r.task_id = t.id
), '') as resources
from {tasks} as t where t.id > %s order by t.id limit %s
"""
_COUNT = "select count(*) from {tasks}"
_MARK = "update {tasks} set status = %s, dispatched = coalesce(dispatched, now()) where id = any (%s)"


@contextmanager
def connected(database: Mapping[str, str], env: str, limit: int) -> Iterator[Original]:
    """Connect to the Ruby manager's database."""
    where = f"PostgreSQL, database {database.get('dbname', '')}"
    try:
        keywords: dict[str, Any] = {**database, "client_encoding": "UTF8"}
        connection = psycopg2.connect(**keywords)
        try:
            yield Original(connection, env, limit)
        finally:
            connection.close()
    except psycopg2.errors.UndefinedTable:
        text = f"{where}: there is no table tef_{env}_tasks, expected the database of the Ruby manager"
        raise CtlError(Exit.NO, text) from None
    except psycopg2.Error as error:
        raise CtlError(Exit.DATABASE, KNOWN.hide(f"{where}: {' '.join(str(error).split())}")) from None
