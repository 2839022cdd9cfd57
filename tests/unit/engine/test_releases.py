"""References that Etcd refuses to take back are told and offered again; nothing else waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest
from twisted.internet.task import Clock

from tefmanager.core.model import events
from tefmanager.core.model.reservations import Impossible, Reservation
from tefmanager.engine import releases
from tefmanager.engine.releases import KEPT, Releases
from tefmanager.interfaces.etcd import IReservations, ReservationsLost
from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import LoggedEvent
from tefmanager.support.taskgroup import TaskGroup

DENIED = "resource bad: Etcd refuses: permission denied"


class Etcd:
    """Takes everything back but what needs ``bad``, as long as it refuses that; or is away."""

    def __init__(self) -> None:
        self.refuses, self.away = True, False
        self.asked: list[list[int]] = []

    async def release(self, reservations: Sequence[Reservation]) -> Sequence[Impossible]:
        self.asked.append([reservation.attempt for reservation in reservations])
        if self.away:
            raise ReservationsLost("away")
        bad = [
            reservation for reservation in reservations if self.refuses and "bad" in reservation.resources
        ]
        return [Impossible(reservation.attempt, DENIED) for reservation in bad]


class Rig:
    """Releases, and what came of them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.clock, self.etcd = Clock(), Etcd()
        self.told: list[str] = []
        self.free: list[int] = []
        self.failures: list[object] = []
        task_group = TaskGroup(self.failures.append)
        patch.setattr(releases, "emit", self._emit)
        self.releases = Releases(self.clock, cast(IReservations, self.etcd), self._post, task_group.run)

    def _emit(self, *lines: LoggedEvent) -> None:
        self.told += [line.text for line in lines]

    def _post(self, event: events.Event) -> None:
        assert isinstance(event, events.ReservationReleased)
        self.free.append(event.attempt)

    def give(self, **references: int) -> None:
        """Give back references of attempts, by resource."""
        for name, attempt in references.items():
            self.releases.add(Reservation(attempt, (name,)))
        self.releases.begin()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """One whose Etcd refuses ``bad``."""
    return Rig(monkeypatch)


def test_others_go_on(rig: Rig) -> None:
    """The others of the batch, and later ones, are given back; the reason is told once."""
    rig.give(good=1, bad=2)
    rig.give(other=3)
    assert rig.free == [1, 3]
    assert rig.told == [catalogue.RESERVATION_KEPT(2, "bad", DENIED).text]
    rig.clock.advance(KEPT[0])
    assert rig.etcd.asked == [[1, 2], [3], [2]]
    assert len(rig.told) == 1
    rig.etcd.refuses = False
    rig.clock.advance(2 * KEPT[0])
    assert rig.free == [1, 3, 2]
    rig.clock.advance(10 * KEPT[1])
    assert len(rig.etcd.asked) == 4


def test_more_and_more_slowly(rig: Rig) -> None:
    """Offered again at growing intervals, and at least once a minute."""
    rig.give(bad=1)
    rig.clock.pump([1.0] * 600)
    assert 600 / KEPT[1] <= len(rig.etcd.asked) <= 600 / KEPT[1] * 2 + 5


def test_an_etcd_that_is_back_is_asked_at_once(rig: Rig) -> None:
    """It may be a mended one, and what failed with the old one is tried as well."""
    rig.give(bad=1)
    rig.etcd.away = True
    rig.give(good=2)
    rig.etcd.away = rig.etcd.refuses = False
    rig.releases.etcd_is_back()
    assert sorted(rig.free) == [1, 2]
    assert [call for call in rig.clock.getDelayedCalls() if call.active()] == []


def test_nothing_is_left_when_it_is_over(rig: Rig) -> None:
    """No call is waiting after the end."""
    rig.give(bad=1)
    rig.releases.abandon()
    assert rig.clock.getDelayedCalls() == []
    assert rig.failures == []
