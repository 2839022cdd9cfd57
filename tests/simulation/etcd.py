"""Etcd in a simulation: the fake one with delays and failures."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from tefmanager.core.model.identity import Life
from tefmanager.core.model.reservations import Impossible, Outcome, Reservation
from tefmanager.etcd.ownership import Owner
from tefmanager.interfaces.etcd import IReservations, IResourceObserver, ReservationsLost, Seen
from tefmanager.support.lease import Lease
from tests.fakes.reservations import FakeEtcd, FakeReservations
from tests.simulation.adapters import hand_over
from tests.simulation.observer import Observer
from tests.simulation.world import START, Fate, Process

PATIENCE = 4.0
"""Seconds that the client waits for an answer."""

LATE = 8.0
"""Seconds after which a request may still take effect although nobody waits for it any more."""

SIGN_OF_LIFE = 24
"""Seconds until a manager's sign of life expires."""

T = TypeVar("T")


@implementer(IReservations)
class SimReservations:
    """The connection of one process to Etcd: answers come late or never, even for requests with an effect.

    Attributes:
        up: False while Etcd can't be reached.
    """

    def __init__(
        self, etcd: FakeEtcd, process: Process, prefix: str, lease: Lease, observer: Observer
    ) -> None:
        self._etcd = etcd
        self._process = process
        self._world = process.world
        self._prefix = prefix
        self._lease = lease
        self._judge = observer
        self.up = True
        self._owner: Owner | None = None
        self._inner = self._make_inner()
        process.deaths.append(self._die)

    def _make_inner(self) -> FakeReservations:
        clock = self._world.clock
        times = (self._local_time, self._wall_time, clock)
        return FakeReservations(self._etcd, self._prefix, *times, self._owner)

    def anew(self, life: Life) -> SimReservations:
        """Forget everything, for another leadership."""
        if self._process.alive:
            self._owner = Owner(life, self._process.name, SIGN_OF_LIFE)
            self._inner = self._make_inner()
        return self

    def _local_time(self) -> datetime:
        return datetime.fromtimestamp(self._wall_time(), UTC).replace(tzinfo=None)

    def _wall_time(self) -> float:
        return START + self._world.time

    # --- faults ---

    def lose(self) -> None:
        """Take Etcd away; the next answer may be lost although the request took effect."""
        self.up = False
        if self._world.chance.random() < 0.5:
            self._inner.leave_unanswered(took_effect=self._world.chance.random() < 0.5)
            self._world.later(0.0, 5.0, self._lose_if_away)
        else:
            self._inner.lose("away")

    def _lose_if_away(self) -> None:
        if not self.up:
            self._inner.lose("away")

    def come_back(self) -> None:
        """Bring Etcd back; the adapter notices by itself."""
        self.up = True
        self._world.mended()

    # --- connecting ---

    def start(self, observer: IResourceObserver) -> None:
        """See `IReservations.start`."""
        if self._process.alive:
            self._start(self._inner, _InOrder(observer, self._process, self._search))

    def _start(self, inner: FakeReservations, observer: IResourceObserver) -> None:
        if inner is self._inner and self._process.alive:
            if self.up:
                inner.start(observer)
            else:
                self._process.later(0.1, 3.0, self._start, inner, observer)

    def _search(self) -> None:
        self._process.later(0.1, 3.0, self._found, self._inner)

    def _found(self, inner: FakeReservations) -> None:
        if self.up and inner is self._inner:
            inner.come_back()
        elif inner is self._inner:
            self._search()

    def _die(self) -> None:
        self._inner.lose("dead")

    # --- requests ---

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Outcome]:
        """See `IReservations.reserve`."""
        inner = self._inner
        return await self._write(
            inner, lambda: inner.reserve(reservations), lambda: inner.take_late(reservations)
        )

    async def release(self, reservations: Sequence[Reservation]) -> Sequence[Impossible]:
        """See `IReservations.release`."""
        inner = self._inner
        return await self._write(
            inner, lambda: inner.release(reservations), lambda: inner.give_late(reservations)
        )

    async def refresh(self) -> None:
        """See `IReservations.refresh`."""
        await self._process.ask()
        await self._answer_to(self._inner.refresh)

    async def stop(self) -> None:
        """See `IReservations.stop`."""
        await self._process.ask()
        await self._inner.stop()

    async def _write(
        self,
        inner: FakeReservations,
        request: Callable[[], Coroutine[Any, Any, T]],
        late: Callable[[], object],
    ) -> T:
        if not await self._lease.certain():
            raise ReservationsLost("this manager is not the active one any more")
        fate = await self._process.ask()
        self._judge.writes(self._process.name, "Etcd")
        if fate is Fate.UNHEARD and self._world.chance.random() < 0.5:
            self._world.later(0.0, LATE, late)
            inner.lose(fate.value)
        elif fate is not Fate.WELL:
            inner.leave_unanswered(took_effect=fate is Fate.UNANSWERED)
        return await self._answer_to(request)

    async def _answer_to(self, request: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Carry a request out even if the caller is gone by then, and return the answer."""
        answer: Deferred[T] = Deferred()
        self._process.send(request, self._world.way("Etcd"), self._carry_out, request, answer)
        late = self._process.callLater(PATIENCE, self._no_answer, self._inner, answer)
        try:
            return await answer
        finally:
            if late.active():
                late.cancel()

    def _carry_out(self, request: Callable[[], Coroutine[Any, Any, T]], answer: Deferred[T]) -> None:
        done = Deferred.fromCoroutine(request())
        done.addBoth(
            lambda result: self._process.hear("Etcd", self._world.way("Etcd"), hand_over, result, answer)
        )

    def _no_answer(self, inner: FakeReservations, answer: Deferred[Any]) -> None:
        inner.lose("no answer in time")
        if not answer.called:
            answer.errback(ReservationsLost("no answer in time"))


@implementer(IResourceObserver)
class _InOrder:
    """Tells the observer through the process, in the order in which things happened."""

    def __init__(self, observer: IResourceObserver, process: Process, search: Callable[[], None]) -> None:
        self._observer = observer
        self._process = process
        self._search = search

    def _tell(self, call: Callable[..., object], *args: object) -> None:
        self._process.hear("Etcd", (0.0, 0.0004), call, *args)

    def resources_seen(self, seen: Seen) -> None:
        self._tell(self._observer.resources_seen, seen)

    def resources_read(self, seen: Seen, held: Any) -> None:
        self._tell(self._observer.resources_read, seen, held)

    def resources_replaced(self, reason: str) -> None:
        self._tell(self._observer.resources_replaced, reason)

    def resources_lost(self, reason: str) -> None:
        self._tell(self._observer.resources_lost, reason)
        self._search()
