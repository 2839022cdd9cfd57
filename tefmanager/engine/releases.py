"""Gives references back to Etcd, trying again until each is given back."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tefmanager.core.model import events
from tefmanager.core.model.reservations import Reservation
from tefmanager.interfaces.etcd import IReservations, ReservationsLost
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.support.backoff import Backoff
from tefmanager.support.crashpoints import CrashPoint, reach

log = Logger()

KEPT = (10.0, 60.0)
"""Seconds until the manager tries again to give back references that Etcd refuses to take: the first pause,
and the longest."""


@dataclass(slots=True)
class _Kept:
    """References that Etcd refuses to take back, with its reason and the next attempt's timer."""

    reservation: Reservation
    reason: str
    pauses: Backoff
    again: IDelayedCall | None = None

    def cancel(self) -> None:
        """Cancel the next attempt."""
        if self.again is not None and self.again.active():
            self.again.cancel()


class Releases:
    """Gives references back, one batch at a time, while the next batch gathers.

    If Etcd refuses to take references back, that is logged once for each reason, and the manager tries
    again later. Nothing else waits for them.

    Args:
        post: takes an event for each attempt that holds nothing any more.
        run: runs a coroutine that nobody waits for.
    """

    def __init__(
        self,
        clock: IReactorTime,
        reservations: IReservations,
        post: Callable[[events.Event], None],
        run: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._clock = clock
        self._reservations = reservations
        self._post = post
        self._run = run
        self._waiting: dict[int, Reservation] = {}
        self._kept: dict[int, _Kept] = {}
        self._giving = False
        self._patience = Backoff(clock)

    def add(self, reservation: Reservation) -> None:
        """Add references to the next batch."""
        self._waiting[reservation.attempt] = reservation

    def begin(self) -> None:
        """Give back what has been added, unless a batch is under way."""
        if self._waiting and not self._giving:
            self._giving = True
            self._run(self._give())

    def etcd_is_back(self) -> None:
        """Try again, at once, to give back everything that could not be given back."""
        for attempt, kept in self._kept.items():
            kept.cancel()
            self._waiting.setdefault(attempt, kept.reservation)
        self.begin()
        self._patience.hurry()

    def abandon(self) -> None:
        """Try nothing again."""
        for kept in self._kept.values():
            kept.cancel()

    async def _give(self) -> None:
        while self._waiting:
            reservations, self._waiting = self._waiting, {}
            reach(CrashPoint.RELEASING)
            try:
                refused = await self._reservations.release(list(reservations.values()))
            except ReservationsLost as lost:
                log.debug("releases: {reason}", reason=str(lost))
                self._waiting = {**reservations, **self._waiting}
                await self._patience.pause()
            else:
                reach(CrashPoint.RELEASED)
                self._patience.reset()
                self._given(reservations, {each.attempt: each.reason for each in refused})
        self._giving = False

    def _given(self, reservations: dict[int, Reservation], refused: dict[int, str]) -> None:
        for attempt, reservation in reservations.items():
            if attempt in refused:
                self._keep(reservation, refused[attempt])
            else:
                self._kept.pop(attempt, None)
                self._post(events.ReservationReleased(attempt))

    def _keep(self, reservation: Reservation, reason: str) -> None:
        kept = self._kept.get(reservation.attempt)
        if kept is None:
            kept = self._kept[reservation.attempt] = _Kept(reservation, "", Backoff(self._clock, *KEPT))
        if kept.reason != reason:
            kept.reason = reason
            emit(catalogue.RESERVATION_KEPT(reservation.attempt, " ".join(reservation.resources), reason))
        kept.cancel()
        kept.again = self._clock.callLater(kept.pauses.next(), self._offer, reservation)

    def _offer(self, reservation: Reservation) -> None:
        self._waiting.setdefault(reservation.attempt, reservation)
        self.begin()
