"""One session with the database: every statement is answered in time, or the session is over for good.

Only this module knows txpostgres. It makes up for these faults:

- When a connection dies between queries, the error is raised in the reactor's callback. Here the `Session`
is told. - libpq closes its socket on an error, even while connecting. Nothing may watch the socket then, or
the reactor keeps the number of a closed file and can't be told to forget it. - Closing a connection leaves
a busy cursor among the reactor's readers, under a file number that the next socket gets. Here the cursor is
removed first. - Its Deferreds raise from ``cancel()``, and never fire while the server is silent. Here each
answer has a timeout; the timeout and a cancellation both close the connection. - ``connect_timeout`` has no
effect on asynchronous connections. Here the timeout replaces it.
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
    """A connection that reports its death and leaves nothing behind in the reactor."""

    def __init__(self, reactor: object, died: Callable[[Exception], object]) -> None:
        super().__init__(reactor)
        self._died = died

    def continuePolling(self, swallowErrors: bool = False) -> None:
        """Poll. An error that nobody waits for means that the idle connection is lost."""
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        try:
            super().continuePolling(swallowErrors)
        except psycopg2.Error as error:
            self._died(error)

    def doRead(self) -> None:
        """Poll, and continue to watch if nothing is under way and the socket still exists."""
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
    """A connection from its beginning to its end, which runs one statement at a time.

    Args:
        reactor: where the socket is watched.
        clock: for timeouts.
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
        """Connect, once, within ``timeout`` seconds. Raises `StoreLost` with the reason."""
        await self._guarded(lambda: self._link.connect(**keywords), timeout)

    async def run(self, statements: str | bytes, patience: float | None = None) -> list[Row]:
        """Run statements in one round trip, and in one transaction unless they say otherwise.

        Returns the last statement's rows. Waits for earlier statements. Raises `StoreLost` after any error;
        the session is over then. ``patience`` replaces the session's; infinity means no timeout.
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
        """Ask and wait for the answer; any error ends the session."""
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
        """Ask something every ``interval`` seconds, unless an answer is awaited anyway.

        So the server notices that we are alive, and we notice that it is: between statements, a frozen
        server looks like an idle one.
        """
        self._pings = LoopingCall(self._ping, question)
        self._pings.clock = self._clock
        # This does not fail: a lost session tells those who watch it.
        self._pings.start(interval, now=False)

    async def _ping(self, question: Callable[[], bytes]) -> None:
        if not self.busy and self._over is None:
            with suppress(StoreLost):
                await self.run(question())

    @property
    def named_process(self) -> int:
        """The server process that was named when we connected; a pooler names one that does not exist."""
        return int(self._link.pollable().get_backend_pid())

    @property
    def busy(self) -> bool:
        """Whether a statement is under way."""
        return self._turn.locked

    def quoter(self) -> Callable[[str, Sequence[object]], bytes]:
        """Return the function that inserts values into statements as literals."""
        cursor: extensions.cursor = self._link.pollable().cursor()
        return cursor.mogrify

    def on_lost(self, tell: Callable[[StoreLost], None]) -> None:
        """Call ``tell`` once when the session is lost, or at once if it already is; not after `close`."""
        if self._over is None:
            self._watchers.append(tell)
        elif not self._closed:
            tell(self._over)

    def close(self) -> None:
        """End the session. Statements under way fail. May be called again."""
        self._closed = True
        self._watchers.clear()
        self._fail(StoreLost("the session was closed"))

    def _fail(self, error: Exception) -> StoreLost:
        """End the session because of an error, and return its `StoreLost`. The first error is kept."""
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
        """Return a Deferred that fires with the answer, or fails with `StoreLost` when time is up.

        This replaces txpostgres' own Deferred, which raises from ``cancel()``, takes the server's statement
        timeout for a cancellation, and may never fire.
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
    """Fire a Deferred with another's result, unless it has fired already: late results are ignored."""
    if answer.called:
        return
    if isinstance(result, Failure):
        assert isinstance(result.value, Exception)
        answer.errback(store_lost(result.value))
    else:
        answer.callback(result)
