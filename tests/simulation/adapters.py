"""The store and Etcd of a simulation: the fakes, further away and less reliable."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tefmanager.core.values import AttemptRow, Bodies, Changes, Snapshot
from tefmanager.interfaces import (
    Claim,
    Granted,
    IReign,
    IReservations,
    IResourceObserver,
    IStore,
    Refused,
    Seen,
    StoreLost,
)
from tests.fakes.reservations import FakeEtcd, FakeReservations
from tests.fakes.store import FakeDatabase, FakeReign, FakeStore
from tests.simulation.world import START, Process

NEAR = (0.0005, 0.004)
"""Seconds that a request, or its answer, is under way."""

FOUND_DEAD = (0.0, 2.0)
"""Seconds after which the database notices that a client is gone."""

T = TypeVar("T")


@implementer(IStore)
class SimStore:
    """One process' way to the database."""

    def __init__(self, database: FakeDatabase, process: Process) -> None:
        self._store = FakeStore(database)
        self._process = process

    async def reign(self, on_wait: Callable[[str], None]) -> IReign:
        """See `IStore.reign`."""
        await self._process.pause(*NEAR)
        inner = await self._store.reign(on_wait)
        if not self._process.alive:
            inner.lose("the client is gone")
            await Deferred()
        reign = SimReign(inner, self._process)
        await self._process.pause(*NEAR)
        return reign


@implementer(IReign)
class SimReign:
    """A session whose requests and answers take time, and may be lost with it."""

    def __init__(self, inner: FakeReign, process: Process) -> None:
        self._inner = inner
        self._process = process
        self.epoch = inner.epoch
        process.deaths.append(self._orphaned)

    def _orphaned(self) -> None:
        self._process.world.later(*FOUND_DEAD, self._inner.lose, "the client is gone")

    def watch(self, tell: Callable[[StoreLost], None]) -> None:
        """See `IReign.watch`."""
        self._inner.watch(lambda lost: self._process.later(*NEAR, tell, lost))

    async def _trip(self, request: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> T:
        await self._process.pause(*NEAR)
        try:
            result = await request()
        except StoreLost:
            await self._process.pause(*NEAR)
            raise
        await self._process.pause(*NEAR)
        return result

    async def load(self) -> Snapshot:
        """See `IReign.load`."""
        return await self._trip(self._inner.load)

    async def commit(self, changes: Changes) -> Bodies:
        """See `IReign.commit`."""
        return await self._trip(lambda: self._inner.commit(changes))

    async def finished(self, guids: Sequence[str]) -> frozenset[str]:
        """See `IReign.finished`."""
        return await self._trip(lambda: self._inner.finished(guids))

    async def attempts(self, task_id: int) -> Sequence[AttemptRow]:
        """See `IReign.attempts`."""
        return await self._trip(lambda: self._inner.attempts(task_id))

    async def forget(self, before: float, at_most: int) -> int:
        """See `IReign.forget`."""
        return await self._trip(lambda: self._inner.forget(before, at_most))

    async def end(self) -> None:
        """See `IReign.end`."""
        await self._inner.end()


@implementer(IReservations)
class SimReservations:
    """One process' way to Etcd: answers come late, or never, whether they took effect or not."""

    def __init__(self, etcd: FakeEtcd, process: Process, prefix: str) -> None:
        self._etcd = etcd
        self._process = process
        self._prefix = prefix
        self.up = True
        self._inner = self._make_inner()
        self._delay = NEAR
        process.deaths.append(self._die)

    def _make_inner(self) -> FakeReservations:
        return FakeReservations(self._etcd, self._prefix, self._local_time, self._wall_time, self._process)

    def anew(self) -> SimReservations:
        """Forget everything, for another reign."""
        self._inner = self._make_inner()
        return self

    def _local_time(self) -> datetime:
        return datetime.fromtimestamp(self._wall_time(), UTC).replace(tzinfo=None)

    def _wall_time(self) -> float:
        return START + self._process.world.time

    def start(self, observer: IResourceObserver) -> None:
        """See `IReservations.start`."""
        if self.up:
            self._inner.start(_InOrder(observer, self._process, self._search))
        else:
            self._process.later(0.1, 3.0, self._start_again, self._inner, observer)

    def _start_again(self, inner: FakeReservations, observer: IResourceObserver) -> None:
        if self._process.alive and inner is self._inner:
            self.start(observer)

    def lose(self) -> None:
        """Etcd goes away; the next answer of each kind may be lost though the request took effect."""
        self.up = False
        if self._process.world.chance.random() < 0.5:
            took_effect = self._process.world.chance.random() < 0.5
            self._inner.leave_unanswered(took_effect=took_effect)
            self._process.later(0.0, 5.0, self._lose_if_away)
        else:
            self._inner.lose("away")

    def _lose_if_away(self) -> None:
        if not self.up:
            self._inner.lose("away")

    def come_back(self) -> None:
        """Etcd is there again; the adapter finds out by itself."""
        self.up = True

    def _search(self) -> None:
        self._process.later(0.1, 3.0, self._found)

    def _found(self) -> None:
        if not self._process.alive:
            return
        if self.up:
            self._inner.come_back()
        else:
            self._search()

    def _die(self) -> None:
        self._inner.lose("dead")

    async def reserve(self, claims: Sequence[Claim]) -> Sequence[Granted | Refused]:
        """See `IReservations.reserve`."""
        await self._process.pause(*NEAR)
        outcomes = await self._inner.reserve(claims)
        await self._process.pause(*NEAR)
        return outcomes

    async def release(self, claims: Sequence[Claim]) -> None:
        """See `IReservations.release`."""
        await self._process.pause(*NEAR)
        await self._inner.release(claims)
        await self._process.pause(*NEAR)

    async def refresh(self) -> None:
        """See `IReservations.refresh`."""
        await self._process.pause(*NEAR)
        await self._inner.refresh()

    async def stop(self) -> None:
        """See `IReservations.stop`."""
        await self._inner.stop()


@implementer(IResourceObserver)
class _InOrder:
    """Tells the observer through the process, in the order in which things happened."""

    def __init__(self, observer: IResourceObserver, process: Process, search: Callable[[], None]) -> None:
        self._observer = observer
        self._process = process
        self._search = search

    def resources_seen(self, seen: Seen) -> None:
        self._process.in_order(self, 0.0, 0.0004, self._observer.resources_seen, seen)

    def resources_read(self, seen: Seen, held: Any) -> None:
        self._process.in_order(self, 0.0, 0.0004, self._observer.resources_read, seen, held)

    def resources_lost(self, reason: str) -> None:
        self._process.in_order(self, 0.0, 0.0004, self._observer.resources_lost, reason)
        self._search()
