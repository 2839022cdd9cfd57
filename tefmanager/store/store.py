"""Grants leaderships: connects, waits for the lock, upgrades the schema, begins.

The lock is a session-level advisory lock, so the server itself releases it when the holder's session ends.
A standby polls for it: a blocked ``pg_advisory_lock`` would hold a snapshot for as long as it waits,
perhaps for weeks, and keep vacuum from removing dead rows of busy tables.
"""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Callable
from os import getpid, urandom
from socket import gethostname
from typing import Any

from msgspec.structs import replace
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from tefmanager.core.model.identity import Life
from tefmanager.interfaces.store import IStore, StoreLost
from tefmanager.store.failures import reason
from tefmanager.store.hostlist import Endpoint, Keywords, endpoints, resolved
from tefmanager.store.leadership import Leadership
from tefmanager.store.names import lock_key
from tefmanager.store.pooling import refuse_changing_sessions
from tefmanager.store.queries import load_queries
from tefmanager.store.reader import PATIENCE, Reader
from tefmanager.store.schema import bring_up_to_date, load_upgrades
from tefmanager.store.session import Session
from tefmanager.store.session_settings import configure
from tefmanager.store.silence import Silence
from tefmanager.support.backoff import Backoff
from tefmanager.support.lease import Lease
from tefmanager.support.outages import ANOTHER_IS_ACTIVE

DEFAULT_SILENCE = Silence()

CONNECT_TIMEOUT = 5.0
"""Seconds to connect if the configuration sets no timeout. As in libpq, 0 or less counts as not set."""

PROBE = 64 * 1024
"""Bytes for which a database must have room before a leadership begins."""

KEYWORDS: Keywords = {
    "fallback_application_name": f"tef-manager {gethostname()}[{getpid()}]"[:63],
    "target_session_attrs": "read-write",
}
"""Keywords for libpq that the configuration may override."""

ALWAYS: Keywords = {"client_encoding": "UTF8"}
"""Keywords for libpq that nothing overrides: no configuration, environment or role."""

ASK_WHO = 20
"""After how many attempts to get the lock a standby asks again who holds it."""

_WHO_HOLDS = """
select concat_ws(' ',
    application_name,
    'at ' || coalesce(host(client_addr), 'the machine of the database') ||
    ', since ' || to_char(backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC')
from pg_locks join pg_stat_activity using (pid)
where locktype = 'advisory' and granted and objsubid = 1
    and database = (select oid from pg_database where datname = current_database())
    and (classid::bigint << 32) | objid::bigint = {key} and backend_start is not null
"""
"""Asks who holds the lock. Sessions of other roles are not shown."""


_LOST = (
    "that this manager had are gone; restore them from a dump, or restart the manager to create new ones"
)


@implementer(IStore)
class Store:
    """Implements `IStore` on PostgreSQL.

    Args:
        reactor: where sockets are watched; its threads look names up.
        dsn: libpq's keywords; ``host`` and ``port`` may be lists.
        table_prefix: the prefix of all tables' names.
        lock_name: managers with the same one in the same database compete; see `lock_name_for`.
        clock: for timeouts and pauses; the reactor by default.
        lease: is renewed by each answer, and ends with a leadership.
        silence: how long we wait for a silent server, and the server for us.
        poll: seconds between two attempts of a standby to get the lock.
        backoff: shortest and longest pause between attempts to connect, in seconds.
        jitter: returns a random number from 0 to 1.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        dsn: Keywords,
        table_prefix: str,
        lock_name: str,
        clock: IReactorTime | None = None,
        *,
        lease: Lease | None = None,
        silence: Silence = DEFAULT_SILENCE,
        poll: float = 0.5,
        backoff: tuple[float, float] = (0.1, 10.0),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = reactor if clock is None else clock
        self._dsn = dict(dsn)
        timeout = float(self._dsn.pop("connect_timeout", 0))
        self._connect_timeout = timeout if timeout > 0 else CONNECT_TIMEOUT
        self._places = endpoints(self._dsn)
        self._prefix = table_prefix
        self._queries = load_queries(table_prefix)
        self._upgrades = load_upgrades(table_prefix)
        self._key = lock_key(lock_name)
        self._lease = Lease.unlimited() if lease is None else lease
        self._silence = silence
        self._poll = poll
        self._backoff = backoff
        self._jitter = jitter
        self._newest = 0
        self._identity: str | None = None

    async def leadership(self, on_wait: Callable[[str], None], room: int = 0) -> Leadership:
        """See `IStore.leadership`."""
        room = max(room, PROBE)
        tell = _Changes(on_wait)
        pauses = Backoff(self._clock, *self._backoff, self._jitter)
        while True:
            since = self._clock.seconds()
            for place in self._places:
                if leadership := await self._try_place(place, tell, room):
                    return leadership
            if self._clock.seconds() - since > self._backoff[1]:
                pauses.reset()  # the last leadership had worked for a while
            await pauses.pause()

    async def _try_place(self, place: Endpoint, tell: _Changes, room: int) -> Leadership | None:
        """Begin a leadership at one of a place's addresses; on failure tell why and return None."""
        try:
            found = await resolved(place, self._reactor, self._clock, self._connect_timeout)
        except OSError as error:
            tell(self._resource_fault(place, error), place)
            return None
        for endpoint in found:
            try:
                return await self._begin_at(endpoint, tell, room)
            except StoreLost as error:
                tell(self._resource_fault(endpoint, error), endpoint)
        return None

    def _resource_fault(self, place: Endpoint, error: Exception) -> str:
        return f"database {place}: {reason(error)}"

    async def _begin_at(self, endpoint: Endpoint, tell: Callable[[str], None], room: int) -> Leadership:
        session = await self._opened(endpoint)
        try:
            await refuse_changing_sessions(session, lambda: self._opened(endpoint))
            weak = tuple(await configure(session, self._silence.settings))
            await self._stand_by(session, tell)
            await self._refuse_ruins(session)
            for upgrade in await bring_up_to_date(session, self._prefix, self._upgrades):
                self._log.info(
                    "Schema upgrade {number} ({name}) applied", number=upgrade.number, name=upgrade.name
                )
            await session.run(";".join(query.prepare for query in self._queries.values()))
            await self._probe(session, room)
            database, place = await _whereabouts(session)
            epoch, turns, life = await self._begin(session)
            life = replace(life, place=place, database=f"{database} at {endpoint}")
            for text in weak:
                self._log.warn("PostgreSQL: {text}", text=text)
            reader = Reader(
                lambda: self._opened(endpoint, PATIENCE), self._silence.settings, self._queries, self._clock
            )
            begun = (session, self._queries, epoch, turns, life, self._key, self._lease)
            return Leadership(*begun, self._silence.ping, reader)
        except BaseException:
            session.close()
            raise

    async def _opened(self, endpoint: Endpoint, patience: float | None = None) -> Session:
        """Return a new session without any settings; ``patience``: seconds that an answer may take."""
        patience = self._silence.answer if patience is None else patience
        session = Session(self._reactor, self._clock, patience)
        keywords = {**KEYWORDS, **self._silence.keywords, **self._dsn, **endpoint.keywords, **ALWAYS}
        try:
            await session.open(keywords, self._connect_timeout)
        except BaseException:
            session.close()
            raise
        return session

    async def _stand_by(self, session: Session, tell: Callable[[str], None]) -> None:
        """Return when this session holds the lock."""
        asked = 0
        while (await session.run(f"select pg_try_advisory_lock({self._key})")) != [(True,)]:
            if asked % ASK_WHO == 0:
                found = [who for (who,) in await session.run(_WHO_HOLDS.format(key=self._key))]
                tell(": ".join([ANOTHER_IS_ACTIVE, *found]))
            asked += 1
            await deferLater(self._clock, self._poll)

    async def _probe(self, session: Session, room: int) -> None:
        """Write as a turn does, and roll back, to detect a database that is full or forbidden.

        Messages that it can't store would return to RabbitMQ, which counts returns and may drop them.
        """
        body = b64encode(urandom(room)).decode()  # random, so that it can't be compressed
        await session.run(
            b"begin;" + session.quoter()(self._queries["probe"].execute, (body,)) + b";rollback"
        )

    async def _refuse_ruins(self, session: Session) -> None:
        """Do not recreate tables that this process has used: they may still be restored from a dump."""
        there = f"select 1 from pg_tables where tablename = '{self._prefix}upgrades'"
        if self._newest and not await session.run(there):
            raise StoreLost(f"the tables {self._prefix}* {_LOST}")

    async def _begin(self, session: Session) -> tuple[int, int, Life]:
        """Begin a leadership; return its number, its row's turns, and the grid's identity."""
        quote = session.quoter()
        begin = quote(self._queries["begin_leadership"].execute, (self._newest,))
        found = await session.run(begin)
        if not found and self._newest:
            raise StoreLost(f"the rows of {self._prefix}manager {_LOST}")
        if not found:
            self._log.warn(
                "The table {table} had lost its row; it is created again", table=f"{self._prefix}manager"
            )
            make = quote(self._queries["make_row"].execute, (self._identity,))
            found = await session.run(make + b";" + begin)
        [(epoch, turns, identity, (token, *earlier))] = found
        self._newest, self._identity = int(epoch), str(identity)
        return int(epoch), int(turns), Life(identity, token, tuple(earlier))


async def _whereabouts(session: Session) -> tuple[str, str]:
    """Return the database's name, and what distinguishes it from all others, including its copies.

    The latter combines the server's identifier, which a replica shares, the timeline, which changes when a
    replica is promoted, and the database's number.
    """
    allowed = "select has_function_privilege('pg_control_system()', 'execute')"
    server = "select ''"  # that right was revoked; then copies of whole servers look alike
    if await session.run(allowed) == [(True,)]:
        server = "select system_identifier::text from pg_control_system()"
    [found] = await session.run(
        f"select datname, concat_ws('.', ({server}), left(pg_walfile_name(pg_current_wal_lsn()), 8), oid)"
        " from pg_database where datname = current_database()"
    )
    return str(found[0]), str(found[1])


class _Changes:
    """Passes a text on unless it is the last one for the same place."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._last: dict[Endpoint | None, str] = {}

    def __call__(self, text: str, place: Endpoint | None = None) -> None:
        """Pass on a problem of a place, or of none; a text without a place ends all earlier problems."""
        if self._last.get(place) == text:
            return
        if place is None:
            self._last.clear()
        else:
            self._last.pop(None, None)
        self._last[place] = text
        self._tell(text)
