"""The store on a real PostgreSQL: what goes wrong on the way to a leadership, and in the middle of one."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from typing import cast

import psycopg2
import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from tefmanager.core.model.endings import Finish, Outcome
from tefmanager.core.model.values import Changes
from tefmanager.interfaces.store import SchemaTooNew, StoreConflict, StoreLost
from tefmanager.sandbox import Sandbox
from tefmanager.store import Store
from tefmanager.store import leadership as leadership_module
from tefmanager.store.leadership import PORTION, Leadership
from tefmanager.store.names import lock_key
from tefmanager.store.schema import Upgrade
from tefmanager.store.silence import Silence
from tests.contract.stores import RealTwin
from tests.integration.store.support import DEADLINE, silent, soon, store, task, told_first, until
from tests.paths import ROOT
from tests.services import Services

SCHEMA = ROOT / "tests/contract/schema.txt"


@pytest.fixture
def leadership(services: Services, prefix: str, twin: RealTwin) -> Iterator[Leadership]:
    """A leadership over them."""
    begun = pytest_twisted.blockon(soon(store(services.database, prefix).leadership(silent)))
    yield begun
    pytest_twisted.blockon(soon(begun.end()))


def sessions(twin: RealTwin, name: str) -> int:
    """Return how many sessions of an application the server has."""
    [(count,)] = twin.ask("select count(*) from pg_stat_activity where application_name = %s", name)
    return cast(int, count)


# On the way to a leadership --------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_wrong_password(services: Services, prefix: str) -> None:
    """It says where, who and why, once, and does not say the password."""
    wrong = {**services.database, "password": "hunter2hunter2"}
    [text] = await told_first(store(wrong, prefix))
    assert text == f'database 127.0.0.1:{wrong["port"]}: password authentication failed for user "tef"'


@pytest_twisted.ensureDeferred
async def test_an_unknown_database(services: Services, prefix: str) -> None:
    """The server's own words."""
    [text] = await told_first(store({**services.database, "dbname": "nowhere"}, prefix))
    assert text.endswith(': database "nowhere" does not exist')


@pytest_twisted.ensureDeferred
async def test_no_server(services: Services, prefix: str) -> None:
    """A port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        [text] = await told_first(store({**services.database, "port": port}, prefix))
    assert text == f"database 127.0.0.1:{port}: Connection refused"


@pytest_twisted.ensureDeferred
async def test_an_unknown_host(services: Services, prefix: str) -> None:
    """A name that has no address; the reactor was not held up."""
    [text] = await told_first(store({**services.database, "host": "nowhere.invalid"}, prefix))
    assert text.startswith(f"database nowhere.invalid:{services.database['port']}: ")
    assert "Errno" not in text


@pytest_twisted.ensureDeferred
async def test_missing_rights(services: Services, twin: RealTwin, unique: str) -> None:
    """Told, retried, and over as soon as the right is given."""
    role = f"role_{unique}"
    twin.ask(f"create role {role} login password 'pw'")
    told: list[str] = []
    limited = {**services.database, "user": role, "password": "pw"}
    waiting = soon(store(limited, f"u_{unique}_").leadership(told.append))
    await until(lambda: bool(told))
    assert told[0].endswith("permission denied for schema public")
    twin.ask(f"grant create on schema public to {role}")
    begun = await waiting
    await begun.end()
    twin.ask(f"drop owned by {role}")
    twin.ask(f"drop role {role}")


@pytest_twisted.ensureDeferred
async def test_a_silent_host_is_passed_over(services: Services, prefix: str, twin: RealTwin) -> None:
    """One that takes connections and never answers; the next in the list is tried in time."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        places = {"host": "127.0.0.1,localhost", "port": f"{port},{services.database['port']}"}
        told: list[str] = []
        begun = await soon(
            store({**services.database, **places, "connect_timeout": 1}, prefix).leadership(told.append)
        )
    assert told == [f"database 127.0.0.1:{port}: no answer within 1 s"]
    await begun.end()


@pytest_twisted.ensureDeferred
async def test_cancelling_leaves_no_connection(
    services: Services, prefix: str, leadership: Leadership, twin: RealTwin
) -> None:
    """Neither while it connects nor while it stands by."""
    name = f"app-{prefix}"
    named = {**services.database, "application_name": name}
    connecting = Deferred.fromCoroutine(store(named, prefix).leadership(silent))
    connecting.cancel()
    told: list[str] = []
    standing_by = Deferred.fromCoroutine(store(named, prefix).leadership(told.append))
    await until(lambda: bool(told) and sessions(twin, name) == 1)
    standing_by.cancel()
    for cancelled in (connecting, standing_by):
        with pytest.raises(CancelledError):
            await cancelled
    await until(lambda: sessions(twin, name) == 0)


@pytest_twisted.ensureDeferred
async def test_attempts_to_connect_become_rarer(services: Services, prefix: str) -> None:
    """The pause doubles up to its limit."""
    clock = Clock()
    pauses: list[float] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        nobody = {**services.database, "port": taken.getsockname()[1]}
        subject = Store(reactor, nobody, prefix, prefix, clock, backoff=(0.1, 0.5), jitter=lambda: 1.0)
        waiting = Deferred.fromCoroutine(subject.leadership(silent))
        for _ in range(5):
            await until(
                lambda: [call.getTime() - clock.seconds() < 1 for call in clock.getDelayedCalls()] == [True]
            )
            pauses.append(round(clock.getDelayedCalls()[0].getTime() - clock.seconds(), 3))
            clock.advance(pauses[-1])
        waiting.cancel()
        with pytest.raises(CancelledError):
            await waiting
    assert pauses == [0.1, 0.2, 0.4, 0.5, 0.5]


# The lock ---------------------------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_lock_has_the_documented_key(twin: RealTwin, prefix: str, leadership: Leadership) -> None:
    """A session-wide advisory lock, held by the leadership's own session."""
    held = twin.ask(
        "select (classid::bigint << 32) | objid::bigint from pg_locks"
        " where locktype = 'advisory' and objsubid = 1 and pid = %s",
        twin.backend(leadership),
    )
    assert held == [(lock_key(prefix),)]


@pytest_twisted.ensureDeferred
async def test_a_standby_keeps_no_old_rows_alive(
    services: Services, prefix: str, leadership: Leadership, twin: RealTwin
) -> None:
    """It polls: a session blocked in pg_advisory_lock would hold vacuum back for weeks."""
    name = f"app-{prefix}"
    told: list[str] = []
    waiting = Deferred.fromCoroutine(
        store({**services.database, "application_name": name}, prefix, poll=5).leadership(told.append)
    )
    await until(lambda: bool(told))
    activity = "select state, backend_xmin, backend_xid from pg_stat_activity where application_name = %s"
    assert twin.ask(activity, name) == [("idle", None, None)]
    waiting.cancel()
    with pytest.raises(CancelledError):
        await waiting


@pytest_twisted.ensureDeferred
async def test_a_standby_says_who_is_active(
    services: Services, prefix: str, leadership: Leadership
) -> None:
    """Program, host and process, address, and since when; a stranger's session does not show itself."""
    [text] = await told_first(store(services.database, prefix))
    who = re.escape(f"tef-manager {socket.gethostname()}[{os.getpid()}]")
    since = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"
    assert re.fullmatch(f"another manager is active: {who} at 127.0.0.1, since {since}", text)


# The schema -------------------------------------------------------------------------------------

COLUMNS = """
    select table_name, column_name, data_type, is_nullable, coalesce(column_default, '-')
    from information_schema.columns where starts_with(table_name, %s) order by table_name, ordinal_position
"""
CONSTRAINTS = """
    select c.conname, pg_get_constraintdef(c.oid) from pg_constraint as c
    where starts_with(c.conname, %s) order by 1
"""
INDEXES = "select indexname, indexdef from pg_indexes where starts_with(tablename, %s) order by 1"
FUNCTIONS = """
    select proname, pg_get_function_identity_arguments(oid) from pg_proc
    where starts_with(proname, %s) order by 1
"""


@pytest_twisted.ensureDeferred
async def test_the_schema_is_the_sum_of_its_upgrades(
    twin: RealTwin, prefix: str, leadership: Leadership
) -> None:
    """A change of it has to be made in a new file, and in the snapshot that people can read."""
    lines = [
        " | ".join(" ".join(str(value).replace(prefix, "").split()) for value in row)
        for query in (COLUMNS, CONSTRAINTS, INDEXES, FUNCTIONS)
        for row in twin.ask(query, prefix)
    ]
    assert lines == SCHEMA.read_text("utf-8").splitlines()


@pytest_twisted.ensureDeferred
async def test_upgrades_are_on_record(twin: RealTwin, leadership: Leadership) -> None:
    """With the program's version."""
    assert twin.ask(
        "select number, name, program from {t}upgrades where applied_at <= now() order by 1"
    ) == [(1, "first", "0.1.0")]


@pytest_twisted.ensureDeferred
async def test_a_newer_schema_is_refused(
    services: Services, twin: RealTwin, prefix: str, leadership: Leadership
) -> None:
    """The message says what was found, what is known, and what to do; nothing is touched."""
    await leadership.end()
    twin.ask("insert into {t}upgrades (number, name, program) values (7, 'later', '9.1')")
    with pytest.raises(SchemaTooNew) as refused:
        await soon(store(services.database, prefix).leadership(silent))
    text = str(refused.value)
    assert "0007_later" in text
    assert "0001_first" in text
    assert "Install tef-manager 9.1 or newer" in text
    assert twin.ask("select epoch from {t}manager") == [(1,)]


@pytest.mark.parametrize("same", [True, False], ids=["same tables", "other tables"])
@pytest_twisted.ensureDeferred
async def test_two_begin_at_once_on_an_empty_database(
    services: Services, twin: RealTwin, prefix: str, same: bool
) -> None:
    """Even if no common lock keeps them apart: both come through, the schema is made once for each."""
    prefixes = [prefix, prefix if same else f"{prefix}b_"]
    told: list[str] = []
    both = [
        soon(store(services.database, own, f"{prefix}{index}").leadership(told.append))
        for index, own in enumerate(prefixes)
    ]
    begun = [await one for one in both]
    assert told == []
    assert sorted(one.epoch for one in begun) == ([1, 2] if same else [1, 1])
    assert twin.ask("select count(*) from {t}upgrades") == [(1,)]
    for one in begun:
        await one.end()
    if not same:
        RealTwin(services.database, prefixes[1]).close()


@pytest_twisted.ensureDeferred
async def test_an_upgrade_that_fails_leaves_nothing(
    services: Services, twin: RealTwin, prefix: str
) -> None:
    """It is told and tried again; when the blocker is gone, it succeeds."""
    own = store(services.database, prefix)
    own._upgrades.append(
        Upgrade(2, "later", f"create table {prefix}later (); alter table {prefix}none rename to x")
    )
    told: list[str] = []
    waiting = soon(own.leadership(told.append))
    await until(lambda: bool(told))
    assert told[0].endswith(f'relation "{prefix}none" does not exist')
    assert twin.ask("select to_regclass('{t}later'), number from {t}upgrades") == [(None, 1)]
    twin.ask("create table {t}none ()")
    await (await waiting).end()
    twin.ask("drop table {t}later, x")


@pytest_twisted.ensureDeferred
async def test_what_others_have_named_like_ours(services: Services, twin: RealTwin, prefix: str) -> None:
    """Whatever it is, it is named, nothing is made, and the manager goes on when it is gone."""
    twin.ask("create table {t}history (in_the_way integer)")
    twin.ask("create function {t}expect() returns void return null")
    told: list[str] = []
    waiting = soon(store(services.database, prefix).leadership(told.append))
    await until(lambda: bool(told))
    assert (
        f": {prefix}expect, {prefix}history: found in the database, but not made by tef-manager;" in told[0]
    )
    assert twin.ask("select to_regclass('{t}tasks')") == [(None,)]
    twin.ask("drop table {t}history")
    twin.ask("drop function {t}expect()")
    await (await waiting).end()


@pytest_twisted.ensureDeferred
async def test_an_upgrade_of_another_s_tables(
    services: Services, twin: RealTwin, leadership: Leadership, prefix: str, unique: str
) -> None:
    """Who does not own them says what is missing."""
    await leadership.end()
    role = f"role_{unique}"
    twin.ask(f"create role {role} login password 'pw'")
    twin.ask("grant select on {t}upgrades to " + role)
    own = store({**services.database, "user": role, "password": "pw"}, prefix)
    own._upgrades.append(Upgrade(2, "later", f"alter table {prefix}tasks add column later text"))
    told: list[str] = []
    waiting = soon(own.leadership(told.append))
    try:
        await until(lambda: bool(told))
        assert told[0].endswith(f": must be owner of table {prefix}tasks")
    finally:
        waiting.cancel()
        with pytest.raises(CancelledError):
            await waiting
        twin.ask(f"drop owned by {role}")
        twin.ask(f"drop role {role}")


@pytest_twisted.ensureDeferred
async def test_a_lost_row_is_made_anew(
    twin: RealTwin, services: Services, prefix: str, leadership: Leadership
) -> None:
    """And its numbers begin above what is in the tables, its calendar at the last end in history."""
    await leadership.commit(Changes(accepted=[(task(41), b"")]))
    await leadership.commit(Changes(finished={41: Finish(Outcome.STOPPED, 1234.5)}))
    twin.ask("delete from {t}manager")
    with pytest.raises(StoreLost, match="not as this manager left it"):
        await leadership.commit(Changes())
    second = await soon(store(services.database, prefix).leadership(silent))
    assert twin.ask("select task_ids from {t}manager") == [(42,)]
    assert (await second.load()).manager.calendar == 1234.5
    await second.end()


@pytest.mark.parametrize(
    "gone", ["drop table {t}upgrades", "delete from {t}manager"], ids=["tables", "row"]
)
@pytest_twisted.ensureDeferred
async def test_what_a_restore_brings_back(
    twin: RealTwin, services: Services, prefix: str, gone: str
) -> None:
    """Who had tables makes no new ones in the midst of a restore; whoever is started anew does."""
    own = store(services.database, prefix)
    first = await soon(own.leadership(silent))
    await first.end()
    twin.ask("create table {t}copy as select * from {t}manager")
    twin.ask("create table {t}names as select * from {t}upgrades")
    twin.ask(gone)
    told: list[str] = []
    waiting = soon(own.leadership(told.append))
    await until(lambda: bool(told))
    assert "that this manager had are gone; restore them from a dump" in told[0]
    if "drop" in gone:
        twin.ask("create table {t}upgrades as select * from {t}names")
    else:
        twin.ask("insert into {t}manager select * from {t}copy")
    await (await waiting).end()
    twin.ask("drop table {t}copy, {t}names")


@pytest_twisted.ensureDeferred
async def test_restored_while_nothing_happens(twin: RealTwin, services: Services, prefix: str) -> None:
    """Rows that were put back are noticed by the next ping."""
    begun = await soon(store(services.database, prefix, silence=Silence(1.2)).leadership(silent))
    dump = twin.dump()
    await begun.commit(Changes(accepted=[(task(1), b"")]))
    lost: list[StoreLost] = []
    begun.on_lost(lost.append)
    twin.restore(dump)
    await until(lambda: bool(lost))
    assert "the database was restored" in str(lost[0])
    await begun.end()


@pytest_twisted.ensureDeferred
async def test_the_number_of_a_leadership_only_grows(
    twin: RealTwin, services: Services, prefix: str
) -> None:
    """Also where the row was restored from before: RabbitMQ ranks consumers by it."""
    own = store(services.database, prefix)
    first = await soon(own.leadership(silent))
    await first.end()
    twin.ask("update {t}manager set epoch = 0")
    second = await soon(own.leadership(silent))
    assert second.epoch == first.epoch + 1
    await second.end()


# In the middle of a leadership -----------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_session_killed_while_a_commit_waits(
    services: Services, twin: RealTwin, prefix: str, leadership: Leadership
) -> None:
    """The commit fails at once, and nothing of it is written."""
    other = psycopg2.connect(**services.database)
    with other, other.cursor() as cursor:
        cursor.execute(f"lock table {prefix}tasks")
        commit = soon(leadership.commit(Changes(accepted=[(task(1), b"")])))
        await until(
            lambda: (
                twin.ask("select 1 from pg_locks where not granted and pid = %s", twin.backend(leadership))
                != []
            )
        )
        twin.kill(leadership)
        with pytest.raises(StoreLost, match="terminating connection"):
            await commit
    other.close()
    assert twin.ask("select count(*) from {t}tasks") == [(0,)]


@pytest_twisted.ensureDeferred
async def test_a_statement_that_takes_too_long(services: Services, twin: RealTwin, prefix: str) -> None:
    """The server gives it up first, and the session is over."""
    begun = await soon(store(services.database, prefix, silence=Silence(0.3)).leadership(silent))
    other = psycopg2.connect(**services.database)
    with other, other.cursor() as cursor:
        cursor.execute(f"lock table {prefix}tasks")
        with pytest.raises(StoreLost, match="took too long"):
            await soon(begun.commit(Changes(accepted=[(task(1), b"")])))
    other.close()
    with pytest.raises(StoreLost):
        await begun.commit(Changes())


@pytest_twisted.ensureDeferred
async def test_a_cancelled_commit(
    services: Services, twin: RealTwin, prefix: str, leadership: Leadership
) -> None:
    """Cancelling ends the session; the server drops what was under way."""
    other = psycopg2.connect(**services.database)
    with other, other.cursor() as cursor:
        cursor.execute(f"lock table {prefix}tasks")
        commit = Deferred.fromCoroutine(leadership.commit(Changes(accepted=[(task(1), b"")])))
        await until(
            lambda: (
                twin.ask("select 1 from pg_locks where not granted and pid = %s", twin.backend(leadership))
                != []
            )
        )
        commit.cancel()
        with pytest.raises(CancelledError):
            await commit
    other.close()
    with pytest.raises(StoreLost):
        await leadership.load()


@pytest_twisted.ensureDeferred
async def test_more_tasks_than_one_portion(twin: RealTwin, leadership: Leadership) -> None:
    """All of them are loaded, by age."""
    count = 2 * PORTION + 1
    columns = "id, guid, task_type, priority, resources, received, state, attempts, avoid, body"
    twin.ask(
        f"insert into {{t}}tasks ({columns})"
        " select n, 'g' || n, 't', 1, '{}', now(), 'waiting', 0, '{}', '' from generate_series(1, %s) as n",
        count,
    )
    found = (await leadership.load()).tasks
    assert [row.spec.id for row in found] == list(range(1, count + 1))


@pytest.mark.parametrize("fits", [True, False], ids=["fits", "does not fit"])
@pytest_twisted.ensureDeferred
async def test_a_turn_of_very_many_bytes(
    twin: RealTwin, leadership: Leadership, monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    """It goes to the server in several strings and is one transaction all the same."""
    monkeypatch.setattr(leadership_module, "BATCH_BYTES", 2000)
    monkeypatch.setattr(leadership_module, "PACK_BYTES", 5000)
    accepted = [(task(id), bytes([id]) * (500 * (id % 7))) for id in range(1, 60)]
    last = 59 if fits else 60
    changes = Changes(accepted=accepted, finished={last: Finish(Outcome.STOPPED, 1.0)}, bodies=[1, 59])
    if fits:
        assert await leadership.commit(changes) == {1: b"\1" * 500, 59: bytes([59]) * 1500}
    else:
        with pytest.raises(StoreConflict):
            await leadership.commit(changes)
    [(count, turns)] = twin.ask("select (select count(*) from {t}tasks), turns from {t}manager")
    assert (count, turns) == ((58, 1) if fits else (0, 0))


@pytest_twisted.ensureDeferred
async def test_very_many_bytes_to_read(leadership: Leadership, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read in portions, each of which is answered in time; none is left out."""
    bodies = {id: bytes([id]) * (700 * (id % 4)) for id in range(1, 40)}
    await leadership.commit(Changes(accepted=[(task(id), body) for id, body in bodies.items()]))
    monkeypatch.setattr(leadership_module, "BATCH_BYTES", 2000)
    finished = {id: Finish(Outcome.STOPPED, 1.0) for id in range(1, 10)}
    assert await leadership.commit(Changes(finished=finished, bodies=list(bodies))) == bodies


@pytest_twisted.ensureDeferred
async def test_every_commit_counts_a_turn(twin: RealTwin, leadership: Leadership) -> None:
    """In the manager's row, beside the epoch."""
    await leadership.commit(Changes())
    await leadership.commit(Changes(paused=["s"]))
    assert twin.ask("select epoch, turns from {t}manager") == [(leadership.epoch, 2)]


# A server of its own, to break ------------------------------------------------------------------


@pytest.fixture(scope="module")
def own() -> Iterator[Sandbox]:
    """Servers that may be broken."""
    sandbox = Sandbox(reactor, fast=True)
    try:
        pytest_twisted.blockon(Deferred.fromCoroutine(sandbox.start()))
        yield sandbox
    finally:
        pytest_twisted.blockon(Deferred.fromCoroutine(sandbox.stop()))


@pytest.mark.parametrize("how", ["stop", "kill"])
@pytest_twisted.ensureDeferred
async def test_a_server_that_ends_and_comes_back(own: Sandbox, prefix: str, how: str) -> None:
    """The idle leadership hears of it; the next one begins when the server is back, with all rows."""
    server = own.postgresql
    subject = store(server.database, prefix)
    begun = await soon(subject.leadership(silent))
    await begun.commit(Changes(accepted=[(task(1), b"")]))
    lost: Deferred[StoreLost] = Deferred()
    begun.on_lost(lost.callback)
    await getattr(server, how)()
    await lost.addTimeout(DEADLINE, reactor)
    told: list[str] = []
    waiting = soon(subject.leadership(told.append))
    await until(lambda: bool(told))
    await server.start()
    after = await waiting
    assert (await after.load()).tasks == (task(1),)
    assert told[0] == f"database 127.0.0.1:{server.database['port']}: Connection refused"
    await after.end()


@pytest_twisted.ensureDeferred
async def test_a_frozen_server(own: Sandbox, prefix: str) -> None:
    """It answers nothing and closes nothing: the commit fails in time, `end` does not hang."""
    server = own.postgresql
    begun = await soon(store(server.database, prefix, silence=Silence(0.6)).leadership(silent))
    server.freeze()
    try:
        with pytest.raises(StoreLost, match=r"no answer within 0\.5 s"):
            await soon(begun.commit(Changes(accepted=[(task(1), b"x" * 2**22)])))
        await soon(begun.end())
    finally:
        server.thaw()
    after = await soon(store(server.database, prefix).leadership(silent))
    await after.load()
    await after.end()
