"""The store's sessions: behind PgBouncer, and with roles whose defaults are hostile."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import psycopg2
import pytest
import pytest_twisted
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from tefmanager.core.model.values import Changes
from tefmanager.sandbox.machine import free_ports
from tefmanager.store.pooling import REFUSED
from tests.contract.stores import RealTwin
from tests.integration.store.support import silent, soon, store, task, told_first
from tests.services import Services

HOST = "127.0.0.1"
PASSED_ON = ["application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"]
"""Settings that PgBouncer itself takes along from client to client."""


@contextmanager
def pooled(database: Mapping[str, Any], folder: Path, mode: str, size: int) -> Iterator[dict[str, Any]]:
    """Run a PgBouncer before the database, and return how to reach it."""
    port = free_ports(1)[0]
    target = " ".join(f"{key}={database[key]}" for key in ("host", "port", "dbname", "user", "password"))
    settings = {
        "listen_addr": HOST,
        "listen_port": port,
        "unix_socket_dir": "",
        "auth_type": "any",
        "pool_mode": mode,
        "default_pool_size": size,
    }
    lines = [f"{name} = {value}" for name, value in settings.items()]
    file = folder / "pgbouncer.ini"
    file.write_text("\n".join(["[databases]", f"pooled = {target}", "[pgbouncer]", *lines]) + "\n")
    for each in (folder, *folder.parents[:2]):
        each.chmod(0o755)
    process = subprocess.Popen(
        ["/usr/sbin/pgbouncer", "-q", "-u", "postgres", str(file)], stderr=subprocess.DEVNULL
    )
    try:
        with_pool = {"host": HOST, "port": port, "dbname": "pooled", "user": "tef", "password": "x"}
        reachable(with_pool)
        yield with_pool
    finally:
        process.terminate()
        process.wait(45)


def reachable(database: Mapping[str, Any]) -> None:
    """Wait until somebody listens."""
    for _ in range(200):
        with socket.socket() as looking:
            looking.settimeout(1)
            if looking.connect_ex((database["host"], database["port"])) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("PgBouncer does not listen")


@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("mode", ["transaction", "statement"])
@pytest_twisted.ensureDeferred
async def test_a_pooler_of_transactions(
    services: Services, prefix: str, tmp_path: Path, mode: str, size: int
) -> None:
    """It is refused in one line; what its other users get is as it was, and nothing is made."""
    with pooled(services.database, tmp_path, mode, size) as database:
        [text] = await told_first(store(database, prefix))
        assert text == f"database {HOST}:{database['port']}: {REFUSED}"
        neighbour = psycopg2.connect(**database)
        neighbour.autocommit = True
        with neighbour.cursor() as cursor:
            cursor.execute(
                "select name from pg_settings where source = 'session' and name <> all (%s)", [PASSED_ON]
            )
            assert cursor.fetchall() == []
            cursor.execute("select count(*) from pg_tables where starts_with(tablename, %s)", [prefix])
            assert cursor.fetchall() == [(0,)]
        neighbour.close()


@pytest.mark.parametrize("size", [1, 5])
@pytest_twisted.ensureDeferred
async def test_a_pooler_of_sessions(
    services: Services, prefix: str, twin: RealTwin, tmp_path: Path, size: int
) -> None:
    """It is as good as the server itself, also where no second session is to be had."""
    with pooled(services.database, tmp_path, "session", size) as database:
        begun = await soon(store(database, prefix).leadership(silent))
        await begun.commit(Changes(accepted=[(task(1), b"body")]))
        assert [row.spec.id for row in (await begun.load()).tasks] == [1]
        await begun.end()


OF_PREFIX = "select tablename from pg_tables where starts_with(tablename, "

HOSTILE = {
    "client_encoding": "LATIN1",
    "default_transaction_read_only": "on",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "TimeZone": "Asia/Kathmandu",
    "bytea_output": "escape",
    "extra_float_digits": "-15",
    "standard_conforming_strings": "off",
    "statement_timeout": "20",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "idle_session_timeout": "1000",
    "synchronous_commit": "off",
    "enable_indexscan": "off",
    "transform_null_equals": "on",
    "array_nulls": "off",
}


@pytest.fixture
def role(twin: RealTwin, unique: str) -> Iterator[Callable[[Mapping[str, str]], dict[str, str]]]:
    """Make a role with defaults, which may make tables; return how to log in as it."""
    name = f"role_{unique}"

    def make(defaults: Mapping[str, str]) -> dict[str, str]:
        twin.ask(f"create role {name} login password 'pw'")
        twin.ask(f"grant create on schema public to {name}")
        twin.ask(f"create schema {name} authorization {name}")
        for key, value in defaults.items():
            twin.ask(f"alter role {name} set {key} = {value}")
        return {"user": name, "password": "pw"}

    yield make
    twin.ask(f"drop owned by {name} cascade")
    twin.ask(f"drop role {name}")


@pytest_twisted.ensureDeferred
async def test_hostile_defaults(
    services: Services,
    twin: RealTwin,
    prefix: str,
    role: Callable[[Mapping[str, str]], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is written is read back the same, whatever role and environment say of sessions."""
    monkeypatch.setenv("PGCLIENTENCODING", "SQL_ASCII")
    quoted = {name: f"'{value}'" for name, value in HOSTILE.items()}
    login = role({**quoted, "search_path": "public"})
    database = {**services.database, **login, "client_encoding": "LATIN1", "target_session_attrs": "any"}
    said = logged()
    begun = await soon(store(database, prefix).leadership(silent))
    assert "synchronous_commit is off for this role or database; this session sets it to on" in said()
    written = task(1)
    spec = {"guid": "\u20ac\\'\U0001f600", "suite": "\u00fc\\", "received": 1234567890.123456}
    row = type(written)(type(written.spec)(**{**struct(written.spec), **spec}))
    body = bytes(range(256)) * 3
    await begun.commit(Changes(accepted=[(row, body)]))
    assert (await begun.load()).tasks == (row,)
    assert dict(await begun.commit(Changes(bodies=[1]))) == {1: body}
    assert twin.ask("select guid from {t}tasks") == [(spec["guid"],)]
    await begun.end()


def logged() -> Callable[[], list[object]]:
    """Take in what is logged from now on; return the texts once they are asked for."""
    events: list[LogEvent] = []

    @implementer(ILogObserver)
    def observer(event: LogEvent) -> None:
        events.append(event)

    def texts() -> list[object]:
        globalLogPublisher.removeObserver(observer)
        return [event.get("text") for event in events]

    globalLogPublisher.addObserver(observer)
    return texts


def struct(value: Any) -> dict[str, Any]:
    """Return the fields of a struct."""
    return {name: getattr(value, name) for name in value.__struct_fields__}


@pytest.mark.parametrize("path", ["nowhere", "pg_temp, public", "pg_toast"])
@pytest_twisted.ensureDeferred
async def test_a_search_path_that_leads_nowhere(
    services: Services, prefix: str, role: Callable[[Mapping[str, str]], dict[str, str]], path: str
) -> None:
    """It is named, with what is expected; what goes with the session is no place for tables."""
    database = {**services.database, **role({"search_path": path})}
    [text] = await told_first(store(database, prefix))
    assert (
        f": search_path is {path}, which leads to no schema that is there and may be used; expected" in text
    )


WRITES = re.compile(r"(insert) into \{t\}(\w+)|(update) \{t\}(\w+)|(delete) from \{t\}(\w+)")


def written() -> set[tuple[str, str]]:
    """Return which rights to which tables a turn may need, by the statements themselves."""
    found: set[tuple[str, str]] = set()
    for file in (resources.files("tefmanager.store") / "sql").iterdir():
        for statement in file.read_text("utf-8").split("-- name: "):
            if statement.startswith(("make_row", "probe")):
                continue  # the one is for a row that was lost, the other is what is tried here
            hits = [tuple(filter(None, hit)) for hit in WRITES.findall(statement)]
            found |= {(right, table) for right, table in hits}
            if "do update" in statement:
                found |= {("update", table) for right, table in hits if right == "insert"}
    return found


@pytest_twisted.ensureDeferred
async def test_a_role_that_may_not_write_all(
    services: Services, twin: RealTwin, prefix: str, role: Callable[[Mapping[str, str]], dict[str, str]]
) -> None:
    """Whatever right is missing: no leadership begins that would only give its messages back."""
    first = await soon(store(services.database, prefix).leadership(silent))
    await first.end()
    login = role({"search_path": "public"})
    database = {**services.database, **login}
    tables = ", ".join(str(name) for (name,) in twin.ask(f"{OF_PREFIX}'{prefix}')"))
    twin.ask(f"grant select, insert, update, delete on {tables} to {login['user']}")
    rights = written()
    assert {table for _, table in rights} >= {"tasks", "history", "attempts", "workers", "paused_suites"}
    for right, table in sorted(rights):
        twin.ask(f"revoke {right} on {{t}}{table} from {login['user']}")
        [text] = await told_first(store(database, prefix))
        assert text.endswith(f"permission denied for table {prefix}{table}"), right
        twin.ask(f"grant {right} on {{t}}{table} to {login['user']}")
    begun = await soon(store(database, prefix).leadership(silent))
    await begun.end()


@pytest_twisted.ensureDeferred
async def test_tables_in_another_schema(
    services: Services, twin: RealTwin, prefix: str, role: Callable[[Mapping[str, str]], dict[str, str]]
) -> None:
    """A search path that changed makes no second set of tables."""
    first = await soon(store(services.database, prefix).leadership(silent))
    await first.end()
    login = role({"search_path": '"$user", public'})
    [text] = await told_first(store({**services.database, **login}, prefix))
    assert (
        f": the tables are in the schema public, but search_path leads to {login['user']}; expected" in text
    )


@pytest_twisted.ensureDeferred
async def test_functions_of_others(
    services: Services, twin: RealTwin, prefix: str, role: Callable[[Mapping[str, str]], dict[str, str]]
) -> None:
    """A schema that goes before the system's has no part in what the manager asks."""
    login = role({"search_path": "public, pg_catalog"})
    trap = "public.to_timestamp(double precision)"
    twin.ask(f"create function {trap} returns timestamptz language sql return now() - interval '99 years'")
    try:
        begun = await soon(store({**services.database, **login}, prefix).leadership(silent))
        await begun.commit(Changes(accepted=[(task(1), b"")]))
        assert (await begun.load()).tasks == (task(1),)
        await begun.end()
    finally:
        twin.ask(f"drop function {trap}")


@pytest_twisted.ensureDeferred
async def test_the_environment_beats_no_file(
    services: Services, twin: RealTwin, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PGHOSTADDR does not lead elsewhere than the host that is named."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.9")
    begun = await soon(store(services.database, prefix).leadership(silent))
    await begun.end()
