"""The store in a simulation: the fake one with delays and failures; and what simulated adapters share."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from tefmanager.core.model.dead_copies import CopyRow, DeadMessage, Stored
from tefmanager.core.model.endings import SuiteEnds
from tefmanager.core.model.values import (
    AttemptRow,
    Bodies,
    Changes,
    DeadRow,
    FinishedRow,
    Snapshot,
    Stretch,
    TaskRow,
)
from tefmanager.interfaces.store import ILeadership, IStore, StoreLost
from tefmanager.support.lease import Lease
from tests.fakes.store import FakeDatabase, FakeLeadership
from tests.simulation.observer import Observer
from tests.simulation.world import Fate, Process

LOCK = "test"

POLL = 0.5
"""Seconds between two attempts of a standby to get the lock."""

PING = 2.0
"""Seconds between two pings of an idle session."""

PATIENCE = 10.0
"""Seconds that the client waits for an answer."""

IDLE = 10.0
"""Seconds without a statement after which the database ends a session."""

LEASE = 7.0
"""Seconds that a manager may act after it has sent the last statement that was answered."""

GONE = (0.0, 2.0)
"""Least and most seconds until the database notices that a client has died."""

T = TypeVar("T")


def hand_over(result: object, answer: Deferred[Any]) -> None:
    """Pass a Deferred's result on to another, unless nobody waits for that any more."""
    if answer.called:
        return
    if isinstance(result, Failure):
        answer.errback(result)
    else:
        answer.callback(result)


@implementer(IStore)
class SimStore:
    """The connection of one process to the database."""

    def __init__(self, database: FakeDatabase, process: Process, lease: Lease, observer: Observer) -> None:
        self._database = database
        self._process = process
        self._lease = lease
        self._observer = observer

    async def leadership(self, on_wait: Callable[[str], None], room: int = 0) -> ILeadership:
        """See `IStore.leadership`."""
        told = None
        while True:
            await self._process.ask()
            answer: Deferred[SimLeadership | str] = Deferred()
            self._process.send(
                "database", self._way, self._process.world.reach, "database", self._try, answer
            )
            late = self._process.callLater(PATIENCE, hand_over, "no answer in time", answer)
            found = await answer
            if late.active():
                late.cancel()
            if isinstance(found, SimLeadership):
                found.begin()
                return found
            if found != told:
                on_wait(found)
            told = found
            await deferLater(self._process, POLL)

    @property
    def _way(self) -> tuple[float, float]:
        return self._process.world.way("database")

    def _try(self, answer: Deferred[SimLeadership | str]) -> None:
        """At the database: ask for the lock. It may be granted to a client that never hears of it."""
        if answer.called:
            return  # the client has hung up
        blocker = self._database.blocker(LOCK)
        found: SimLeadership | str
        if blocker is None:
            inner = self._database.crown(LOCK)
            self._observer.crowned(self._process.name)
            found = SimLeadership(inner, self._process, self._lease, self._observer)
        else:
            found = blocker
        self._process.hear("database", self._way, hand_over, found, answer)


@implementer(ILeadership)
class SimLeadership:
    """A session whose statements and answers take time, and may be lost together with it.

    What happens at the database happens even if the client is gone by then.
    """

    def __init__(self, inner: FakeLeadership, process: Process, lease: Lease, observer: Observer) -> None:
        self.epoch = inner.epoch
        self.life = inner.life
        self.reader = inner.reader
        self._inner = inner
        self._process = process
        self._world = process.world
        self._lease = lease
        self._observer = observer
        self._heard = self._world.time
        self._over: StoreLost | None = None
        self._watchers: list[Callable[[StoreLost], None]] = []
        self._answers: list[Deferred[Any]] = []
        self._pings = LoopingCall(self._ping)
        self._pings.clock = process
        inner.on_lost(self._ended)
        process.deaths.append(
            lambda: self._world.later(
                *GONE, self._world.reach, "database", inner.lose, "the client is gone"
            )
        )
        self._watch_idle()

    # --- at the database ---

    def _watch_idle(self) -> None:
        due = self._heard + IDLE
        if self._world.time >= due:
            self._inner.lose("idle for too long")
        elif self._inner.over is None:
            self._world.clock.callLater(
                due - self._world.time, self._world.reach, "database", self._watch_idle
            )

    def _ended(self, lost: StoreLost) -> None:
        """The lock is free at once; the client learns of that when it can hear, or its lease ends."""
        if self._over is None:
            self._observer.excuse(self._process.name, self._heard + LEASE)
        self._tell(self._fail, lost)

    def _tell(self, call: Callable[..., object], *args: object) -> None:
        self._process.hear("database", self._world.way("database"), call, *args)

    def _carry_out(
        self, request: Callable[[], Coroutine[Any, Any, T]], fate: Fate, answer: Deferred[T]
    ) -> None:
        self._heard = self._world.time
        if fate is Fate.UNHEARD:
            self._inner.lose(fate.value)
            return
        done = Deferred.fromCoroutine(request())
        if fate is Fate.UNANSWERED:
            done.addBoth(lambda _: self._inner.lose(fate.value))
        else:
            done.addCallbacks(
                lambda result: self._tell(hand_over, result, answer),
                lambda failure: self._tell(self._fail, failure.value),
            )

    # --- at the client ---

    def begin(self) -> None:
        """At the client: the lock is granted."""
        if self._over is None:
            self._pings.start(PING, now=False)

    def on_lost(self, tell: Callable[[StoreLost], None]) -> None:
        """See `ILeadership.on_lost`."""
        if self._over is None:
            self._watchers.append(tell)
        else:
            tell(self._over)

    async def _ping(self) -> None:
        if not self._answers and self._over is None:
            with suppress(StoreLost):  # observers are told
                await self._trip(self._nothing)

    async def _nothing(self) -> None:
        pass

    async def _trip(self, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        fate = await self._process.ask()
        if self._over is not None:
            raise self._over
        asked = self._world.time
        answer: Deferred[T] = Deferred()
        self._answers.append(answer)
        self._send(self._carry_out, request, fate, answer)
        late = self._process.callLater(PATIENCE, self._fail, StoreLost("no answer"))
        try:
            result = await answer
        finally:
            self._answers.remove(answer)
            if late.active():
                late.cancel()
        self._lease.renew(asked)
        return result

    def _fail(self, lost: Exception) -> None:
        if self._over is not None:
            return
        self._over = lost if isinstance(lost, StoreLost) else StoreLost(repr(lost))
        self._observer.excuse(self._process.name, self._world.time)
        self._lease.end()
        if self._pings.running:
            self._pings.stop()
        self._close()
        for answer in list(self._answers):
            if not answer.called:
                answer.errback(self._over)
        watchers, self._watchers = self._watchers, []
        for tell in watchers:
            tell(self._over)

    def _close(self) -> None:
        """The database notices the end of the session after it has executed earlier statements."""
        self._send(self._inner.lose, "the client left")

    def _send(self, call: Callable[..., object], *args: object) -> None:
        self._process.send(
            "database", self._world.way("database"), self._world.reach, "database", call, *args
        )

    async def load(self, at_most: int | None = None) -> Snapshot:
        """See `ILeadership.load`."""
        return await self._trip(lambda: self._inner.load(at_most))

    async def tasks(self, guids: Sequence[str]) -> Sequence[TaskRow]:
        """See `ILeadership.tasks`."""
        return await self._trip(lambda: self._inner.tasks(guids))

    async def heads(self, task_type: str, resources: Sequence[str], each: int) -> Sequence[TaskRow]:
        """See `ILeadership.heads`."""
        return await self._trip(lambda: self._inner.heads(task_type, resources, each))

    async def following(self, stretches: Sequence[Stretch]) -> Sequence[Sequence[TaskRow]]:
        """See `ILeadership.following`."""
        return await self._trip(lambda: self._inner.following(stretches))

    async def commit(self, changes: Changes) -> Bodies:
        """See `ILeadership.commit`."""
        return await self._trip(lambda: self._commit(changes))

    async def _commit(self, changes: Changes) -> Bodies:
        try:
            return await self._inner.commit(changes)
        finally:
            self._observer.committed()

    async def finished(self, guids: Sequence[str]) -> frozenset[str]:
        """See `ILeadership.finished`."""
        return await self._trip(lambda: self._inner.finished(guids))

    async def history(self, guids: Sequence[str]) -> Sequence[FinishedRow]:
        """See `ILeadership.history`."""
        return await self._trip(lambda: self._inner.history(guids))

    async def suite_ends(self, suites: Sequence[str]) -> SuiteEnds:
        """See `ILeadership.suite_ends`."""
        return await self._trip(lambda: self._inner.suite_ends(suites))

    async def attempts(self, task_id: int) -> Sequence[AttemptRow]:
        """See `ILeadership.attempts`."""
        return await self._trip(lambda: self._inner.attempts(task_id))

    async def dead(self, at_most: int) -> tuple[int, Sequence[DeadRow]]:
        """See `ILeadership.dead`."""
        return await self._trip(lambda: self._inner.dead(at_most))

    async def message(self, task_id: int) -> Stored | None:
        """See `ILeadership.message`."""
        return await self._trip(lambda: self._inner.message(task_id))

    async def dead_messages(self, guids: Sequence[str]) -> Sequence[DeadMessage]:
        """See `ILeadership.dead_messages`."""
        return await self._trip(lambda: self._inner.dead_messages(guids))

    async def copies(self, at_most: int) -> Sequence[CopyRow]:
        """See `ILeadership.copies`."""
        return await self._trip(lambda: self._inner.copies(at_most))

    async def settle(self, guids: Sequence[str]) -> Sequence[str]:
        """See `ILeadership.settle`."""
        return await self._trip(lambda: self._inner.settle(guids))

    async def forget(self, before: float, at_most: int) -> int:
        """See `ILeadership.forget`."""
        return await self._trip(lambda: self._inner.forget(before, at_most))

    async def end(self) -> None:
        """See `ILeadership.end`."""
        await self._process.ask()
        self._watchers.clear()
        self._fail(StoreLost("the session was closed"))
