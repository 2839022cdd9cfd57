"""Conflicts in Etcd are counted: who changes the same counts at the same time costs time."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tefmanager.core.model.reservations import Reservation
from tefmanager.interfaces.etcd import IReservations
from tests.contract.etcds import Observer, RealTwin
from tests.services import Services


async def started(twin: RealTwin, prefix: str) -> IReservations:
    """Return reservations that have read everything."""
    reservations, observer = twin.reservations(prefix), Observer()
    reservations.start(observer)
    await observer.until(lambda: "read" in observer.calls)
    return reservations


@pytest.mark.parametrize("api", ["v2", "v3"])
@pytest_twisted.ensureDeferred
async def test_conflicts_are_counted(services: Services, unique: str, api: str) -> None:
    """Alone there are none; two who take references of one resource at once get into each other's way."""
    twin = RealTwin(api, services.etcd, f"/tef/{unique}/resources")
    await twin.foreign.set("r/ref_limit", "100")
    one, two = await started(twin, "one"), await started(twin, "two")
    for attempt in range(5):
        await one.reserve([Reservation(attempt, ("r",))])
    await one.release([Reservation(attempt, ("r",)) for attempt in range(5)])
    assert twin.conflicts == 0
    await two.refresh()
    for attempt in range(10, 20):
        await gatherResults(
            [Deferred.fromCoroutine(each.reserve([Reservation(attempt, ("r",))])) for each in (one, two)]
        )
    assert twin.conflicts > 0
    for each in (one, two):
        await each.stop()
