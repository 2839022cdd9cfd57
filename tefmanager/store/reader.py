"""Reads for people who look, over a session of its own that can't write: no turn waits for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from twisted.internet.defer import DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from tefmanager.core.model.past import NOW, PastFilter, PastPage, Place
from tefmanager.interfaces.store import CantRead, IReader, StoreLost
from tefmanager.store import rows
from tefmanager.store.queries import Query
from tefmanager.store.session import Row, Session
from tefmanager.store.session_settings import configure

LOOKED_AT = 5000
"""How many tasks one page of history looks at, at most. A page that finds few of them ends there."""

MOST_WAITING = 20
"""How many questions may wait for the session."""

IDLE = 60.0
"""Seconds after which an unused session is closed."""

STATEMENT = 4.0
"""Seconds that the server may work on a statement."""

PATIENCE = 5.0
"""Seconds that an answer may take, for instance if a connection pooler has no session left."""

_HIGHEST = "\U0010ffff"

_QUERIES = ("past", "count_past_guids", "load_past")


@implementer(IReader)
class Reader:
    """Implements `IReader` on a session that begins with the first question.

    Args:
        connect: returns a new session with the database of the leadership, without any settings.
        settings: the server's settings for this session, beside those of all sessions.
        queries: by name.
        clock: for the time after which the session is closed.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Session]],
        settings: Mapping[str, str],
        queries: Mapping[str, Query],
        clock: IReactorTime,
    ) -> None:
        self._connect = connect
        self._settings = {
            **settings,
            "statement_timeout": f"{STATEMENT * 1000:.0f}",
            "idle_session_timeout": f"{2 * IDLE * 1000:.0f}",
            "default_transaction_read_only": "on",
        }
        self._queries = {name: queries[name] for name in _QUERIES}
        self._clock = clock
        self._turn = DeferredLock()
        self._session: Session | None = None
        self._idle: IDelayedCall | None = None
        self._closed = False

    async def past(self, wanted: PastFilter, at_most: int, before: Place = NOW) -> PastPage:
        """See `IReader.past`."""
        if len(self._turn.waiting) >= MOST_WAITING:
            raise CantRead(f"{MOST_WAITING} other questions wait for the database: ask later")
        await self._turn.acquire()
        try:
            self._stay()
            return await self._past(wanted, at_most, min(before, Place(wanted.until, 0)))
        except StoreLost as lost:
            raise CantRead(f"the database can't be read: {lost}") from lost
        finally:
            self._turn.release()
            self._leave_later()

    async def _past(self, wanted: PastFilter, at_most: int, before: Place) -> PastPage:
        found = await self._run(
            "past",
            *filtered(wanted),
            wanted.since,
            *before,
            LOOKED_AT,
            at_most,
            await self._index_for(wanted),
        )
        ids = [id for id, _, fits, _ in found if fits]
        tasks = await self._run("load_past", ids) if ids else []
        following = None
        if found:
            id, at, _, last = found[-1]
            following = Place(at, id) if last or len(found) == at_most else None
        return PastPage(tuple(map(rows.finished_row, tasks)), following)

    async def _index_for(self, wanted: PastFilter) -> str:
        """Return which index leads to the wanted tasks past the fewest others."""
        if wanted.guid is not None:
            [(count,)] = await self._run("count_past_guids", *span(wanted.guid), LOOKED_AT)
            if count < LOOKED_AT:
                return "guid"
        if wanted.suite is not None:
            return "suite"
        return "time" if wanted.worker is None else "worker"

    # --- the session ---

    async def _run(self, name: str, *values: object) -> list[Row]:
        session = self._session or await self._begun()
        try:
            return await session.run(session.quoter()(self._queries[name].execute, values))
        except BaseException:
            self._leave()
            raise

    async def _begun(self) -> Session:
        session = await self._connect()
        try:
            if self._closed:
                raise StoreLost("the leadership has ended")
            await configure(session, self._settings)
            await session.run(";".join(query.prepare for query in self._queries.values()))
        except BaseException:
            session.close()
            raise
        self._session = session
        session.on_lost(lambda lost: self._lost(session))
        return session

    def _stay(self) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()

    def _leave_later(self) -> None:
        if self._session is not None and not self._turn.locked:
            self._idle = self._clock.callLater(IDLE, self._leave)

    def _lost(self, session: Session) -> None:
        """Leave a session that was lost, unless another one has begun since."""
        if self._session is session:
            self._leave()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def close(self) -> None:
        """End the session, if there is one. Questions fail from now on."""
        self._closed = True
        self._stay()
        self._leave()


def filtered(wanted: PastFilter) -> tuple[object, ...]:
    """Return the values by which the query ``past`` filters."""
    names = (wanted.suite, wanted.task_type, wanted.worker, wanted.outcome, wanted.result)
    return (*names, *((None, None) if wanted.guid is None else span(wanted.guid)))


def span(beginning: str) -> tuple[str, str]:
    """Return the range of the texts that begin with a text: the first one, and the first one after them."""
    kept = beginning.rstrip(_HIGHEST)
    if not kept:
        return beginning, _HIGHEST * 64  # guids have at most 255 bytes
    last = ord(kept[-1])
    following = 0xE000 if last == 0xD7FF else last + 1  # no surrogates
    return beginning, kept[:-1] + chr(following)
