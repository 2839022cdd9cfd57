"""Etcd comes back older, empty, or as another one: it is noticed, and everything goes on by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tefmanager.core.model.reservations import Granted, Reservation
from tefmanager.etcd.timeline import Replaced, Timeline
from tefmanager.interfaces.etcd import ReservationsLost
from tests.contract.etcds import CLOCK, FakeTwin, RealTwin, Twin
from tests.contract.own_etcd import OwnEtcd
from tests.contract.test_reservations import Managers, assert_at_rest
from tests.integration.etcd.test_etcd_faults import until
from tests.proxy import Proxy


class Past:
    """A twin, and ways to let it remember and to bring back what it was then (nothing, if it never was)."""

    def __init__(
        self, twin: Twin, remember: Callable[[], Awaitable[None]], bring_back: Callable[[], Awaitable[None]]
    ) -> None:
        self.twin = twin
        self.remember = remember
        self.bring_back = bring_back


@pytest.fixture(params=["fake", "v2", "v3"])
def past(request: pytest.FixtureRequest, unique: str, tmp_path: Path) -> Iterator[Past]:
    """An Etcd of the test's own."""
    if request.param == "fake":
        yield _fake()
        return
    etcd = OwnEtcd(tmp_path / "etcd")
    pytest_twisted.blockon(Deferred.fromCoroutine(etcd.start()))
    twin = RealTwin(request.param, etcd.endpoint, f"/tef/{unique}/resources")
    yield Past(twin, etcd.remember, etcd.bring_back)
    pytest_twisted.blockon(Deferred.fromCoroutine(etcd.kill()))


def _fake() -> Past:
    twin = FakeTwin()
    then: dict[str, str] = {}

    async def remember() -> None:
        then.update(twin.etcd.keys)

    async def bring_back() -> None:
        twin.etcd.restore(then)
        for reservations in twin.made:
            CLOCK.callLater(0, reservations.come_back)

    return Past(twin, remember, bring_back)


@pytest.fixture
def managers(past: Past) -> Iterator[Managers]:
    """What starts reservations."""
    made = Managers(past.twin)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))


@pytest_twisted.ensureDeferred
async def test_older(past: Past, managers: Managers) -> None:
    """What is there now counts, not what was known; nothing is tried in a circle."""
    await past.twin.foreign.set("r/ref_limit", "2")
    reservations, observer = await managers.start()
    assert await reservations.reserve([Reservation(1, ("r",))]) == [Granted(1, ("r",))]
    await past.remember()
    await until(lambda: observer.calls[-1] != "lost")
    assert await granted(reservations.reserve, Reservation(2, ("r",)))
    for limit in range(3, 9):
        await past.twin.foreign.set("r/ref_limit", str(limit))
    await past.bring_back()
    await until(lambda: observer.replaced)
    await until(lambda: observer.calls[-1] == "read")
    assert observer.calls[observer.calls.index("replaced") + 1] == "read"
    assert (observer.resources["r"].held, observer.resources["r"].limit) == (1, 2)
    assert observer.held == {1: frozenset("r")}
    assert await reservations.reserve([Reservation(2, ("r",))]) == [Granted(2, ("r",))]
    await reservations.release([Reservation(1, ("r",)), Reservation(2, ("r",))])
    await assert_at_rest(past.twin, "r", 0)
    assert len(observer.replaced) == 1
    assert getattr(past.twin, "conflicts", 0) < 5


@pytest_twisted.ensureDeferred
async def test_empty(past: Past, managers: Managers) -> None:
    """Nothing of what was known is left; resources that are made anew count."""
    for name in ("r", "s"):
        await past.twin.foreign.set(f"{name}/ref_limit", "1")
    reservations, observer = await managers.start()
    assert await reservations.reserve([Reservation(1, ("r",))]) == [Granted(1, ("r",))]
    await past.bring_back()
    await until(lambda: observer.replaced)
    await until(lambda: observer.calls[-1] == "read")
    assert (observer.resources, observer.held) == ({}, {})
    await past.twin.foreign.set("s/ref_limit", "1")
    await observer.until(lambda: "s" in observer.resources)
    assert await reservations.reserve([Reservation(2, ("r", "s"))]) == [Granted(2, ("s",))]
    await assert_at_rest(past.twin, "s", 1)


@pytest.mark.parametrize("api", ["v2", "v3"])
@pytest_twisted.ensureDeferred
async def test_older_and_written_to(api: str, unique: str, tmp_path: Path) -> None:
    """Others have written so much before anybody looks that it is no older any more: its keys tell."""
    etcd, base = OwnEtcd(tmp_path / "etcd"), f"/tef/{unique}/resources"
    await etcd.start()
    proxy = Proxy(etcd.endpoint)
    foreign = RealTwin(api, etcd.endpoint, base).foreign
    managers = Managers(RealTwin(api, proxy.endpoint, base))
    await foreign.set("r/ref_limit", "3")
    reservations, observer = await managers.start()
    assert await reservations.reserve([Reservation(1, ("r",))]) == [Granted(1, ("r",))]
    await etcd.remember()
    assert await granted(reservations.reserve, Reservation(2, ("r",)))
    await proxy.close()
    await etcd.bring_back()
    for number in range(40):
        await foreign.set("other/source", str(number))
    proxy.open()
    await until(lambda: observer.replaced)
    await until(lambda: observer.calls[-1] == "read")
    assert "r/ref_count has revision" in observer.replaced[0]
    assert observer.held == {1: frozenset("r")}
    await managers.stop()
    await proxy.close()
    await etcd.kill()


async def granted(reserve: Callable[..., Awaitable[object]], reservation: Reservation) -> bool:
    """Reserve as soon as Etcd is there again."""
    for _ in range(400):
        try:
            return await reserve([reservation]) == [Granted(reservation.attempt, reservation.resources)]
        except ReservationsLost:
            await deferLater(CLOCK, 0.05)
    return False


def test_answers_that_overtake_each_other() -> None:
    """Only what was known as a question was asked counts against its answer."""
    timeline = Timeline()
    timeline.answered(0, 10, "a")
    timeline.answered(10, 12, "a")
    timeline.answered(10, 11, "a")
    timeline.answered(12, 0, "")
    assert timeline.newest == 12
    assert timeline.replaced() is None
    with pytest.raises(Replaced, match="revision 11, before 12"):
        timeline.answered(12, 11, "a")
    assert timeline.newest == 11
    assert timeline.replaced() is not None
    assert timeline.replaced() is None


def test_another_cluster() -> None:
    """A cluster of another name is another one, however new it is."""
    timeline = Timeline()
    timeline.answered(0, 10, "a")
    with pytest.raises(Replaced, match="cluster b, before a"):
        timeline.answered(10, 99, "b")
    timeline.answered(99, 99, "b")
