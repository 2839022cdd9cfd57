"""One session with the database: it answers in time, or it is over for good.

This is all that knows txpostgres. What it makes up for:

- a connection that dies between queries raises out of the reactor's callback: here `Session` is told;
- libpq closes its socket at an error, while a connection is made too: nothing may be watched then, or the
  reactor keeps the number of a file that is gone, and can't be told to forget it;
- closing a connection leaves a busy cursor in the reactor's list of readers, under a file number that
  the next socket gets: here it is removed first;
- a Deferred of its own raises out of ``cancel()``, and never fires while the server is silent: here
  each answer has a time limit, and both its end and a cancellation close the connection;
- ``connect_timeout`` does nothing for asynchronous connections: the same limit stands in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, cast

import psycopg2
from psycopg2 import extensions
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from txpostgres.txpostgres import Connection

from tefmanager.interfaces.store import StoreLost
from tefmanager.store.failures import store_lost
from tefmanager.store.hostlist import Keywords
from tefmanager.support.lease import Lease

Row: TypeAlias = tuple[Any, ...]


class _Link(Connection):  # type: ignore[misc]  # txpostgres has no types
    """A connection that tells of its death, and leaves nothing in the reactor."""

    def __init__(self, reactor: object, died: Callable[[Exception], object]) -> None:
        super().__init__(reactor)
        self._died = died

    def continuePolling(self, swallowErrors: bool = False) -> None:
        """Poll; an error that nobody waits for means that the idle connection is gone."""
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        try:
            super().continuePolling(swallowErrors)
        except psycopg2.Error as error:
            self._died(error)

    def doRead(self) -> None:
        """Poll, and watch on if nothing is under way and there is still a socket."""
        if not self.pollable().closed:
            self.continuePolling()
        if self._pollingD is None and self.fileno() >= 0:
            self.reactor.addReader(self)

    def close(self) -> None:
        """Leave the reactor, then disconnect. May be called in any state."""
        if self._connection is None:
            return
        for cursor in tuple(self._cursors):
            self.reactor.removeReader(cursor)
            self.reactor.removeWriter(cursor)
        super().close()


class Session:
    """A connection from its beginning to its end, used for one statement at a time.

    Args:
        reactor: where the socket is watched.
        clock: for time limits.
        patience: seconds in which any statement must be answered.

    Attributes:
        lease: is renewed by each answer, and ends with the session.
    """

    def __init__(self, reactor: object, clock: IReactorTime, patience: float) -> None:
        self._clock = clock
        self._patience = patience
        self.lease = Lease.unlimited()
        self._pings: LoopingCall | None = None
        self._link = _Link(reactor, self._fail)
        self._turn = DeferredLock()
        self._over: StoreLost | None = None
        self._closed = False
        self._watchers: list[Callable[[StoreLost], None]] = []

    async def open(self, keywords: Keywords, timeout: float) -> None:
        """Connect, once, within so many seconds. Raises `StoreLost` with the reason."""
        await self._guarded(lambda: self._link.connect(**keywords), timeout)

    async def run(self, statements: str | bytes, patience: float | None = None) -> list[Row]:
        """Run statements in one round trip, and in one transaction unless they say otherwise.

        Returns the rows of the last one. Waits for its turn. Raises `StoreLost` after any error; the
        session is over then. ``patience`` stands in for the session's; infinity waits for ever.
        """
        await self._turn.acquire()
        try:
            asked = self.lease.now
            cursor = await self._guarded(
                lambda: self._link.cursor().execute(statements),
                self._patience if patience is None else patience,
            )
            self.lease.renew(asked)
            return cast("list[Row]", cursor.fetchall()) if cursor.description else []
        finally:
            self._turn.release()

    async def _guarded(self, ask: Callable[[], Deferred[Any]], patience: float) -> Any:
        """Ask and wait for the answer; whatever goes wrong ends the session."""
        if self._over is not None:
            raise self._over
        try:
            return await self._answer(ask(), patience)
        except CancelledError:
            self.close()
            raise
        except Exception as error:
            lost = self._fail(error)
            raise lost from (None if lost is error else error)

    def keep_alive(self, interval: float, question: Callable[[], bytes]) -> None:
        """Ask something every so many seconds, unless an answer is being waited for anyway.

        The server learns that we are here, and we that it is: between statements a server that is frozen
        can't be told from an idle one.
        """
        self._pings = LoopingCall(self._ping, question)
        self._pings.clock = self._clock
        # It does not fail: a session that is lost tells those who watch it.
        self._pings.start(interval, now=False)

    async def _ping(self, question: Callable[[], bytes]) -> None:
        if not self.busy and self._over is None:
            with suppress(StoreLost):
                await self.run(question())

    @property
    def named_process(self) -> int:
        """The server's process, as it was named when we connected; a pooler names one that is not there."""
        return int(self._link.pollable().get_backend_pid())

    @property
    def busy(self) -> bool:
        """Whether a statement is under way."""
        return self._turn.locked

    def quoter(self) -> Callable[[str, Sequence[object]], bytes]:
        """Return the function that puts values into statements as literals."""
        cursor: extensions.cursor = self._link.pollable().cursor()
        return cursor.mogrify

    def watch(self, tell: Callable[[StoreLost], None]) -> None:
        """Call a function once, when the session is lost, or at once if it is; not after `close`."""
        if self._over is None:
            self._watchers.append(tell)
        elif not self._closed:
            tell(self._over)

    def close(self) -> None:
        """End the session. Statements under way fail; may be called again."""
        self._closed = True
        self._watchers.clear()
        self._fail(StoreLost("the session was closed"))

    def _fail(self, error: Exception) -> StoreLost:
        """End the session for a reason; the first reason stands. Returns what this error amounts to."""
        lost = store_lost(error)
        if self._over is None:
            self._over = lost
            self.lease.end()
            if self._pings is not None:
                self._pings.stop()
            self._link.close()
            watchers, self._watchers = self._watchers, []
            for tell in watchers:
                tell(lost)
        return lost

    def _answer(self, asked: Deferred[Any], patience: float) -> Deferred[Any]:
        """Return a Deferred that fires with the answer, or in time with `StoreLost`.

        It is another one than txpostgres', which raises out of ``cancel()``, takes the server's
        statement timeout for a cancellation, and waits for ever.
        """
        answer: Deferred[Any] = Deferred()
        timer: IDelayedCall | None = None
        if patience != float("inf"):
            late = StoreLost(f"no answer within {patience:g} s")
            timer = self._clock.callLater(patience, answer.errback, late)

        def settled(result: object) -> object:
            if timer is not None and timer.active():
                timer.cancel()
            return result

        asked.addBoth(_hand_over, answer)
        return answer.addBoth(settled)


def _hand_over(result: object, answer: Deferred[object]) -> None:
    """Fire a Deferred with another's result, unless it has fired: what comes late is of no use."""
    if answer.called:
        return
    if isinstance(result, Failure):
        assert isinstance(result.value, Exception)
        answer.errback(store_lost(result.value))
    else:
        answer.callback(result)
