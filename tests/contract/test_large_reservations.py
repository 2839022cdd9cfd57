"""Reservations of any size, alone or beside others, on resources with any number of windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from tefmanager.core.model.reservations import Granted, Refused, Reservation
from tefmanager.etcd.capacity import FIRST, Cost, RequestLimits, TransactionCapacity
from tefmanager.etcd.jobs import Job, Kind
from tests.contract.etcds import CLOCK, PATIENCE, FakeTwin, RealTwin, Twin
from tests.contract.test_reservations import Managers, lock_keys


@pytest.fixture(params=["fake", "v2", "v3"])
def twin(request: pytest.FixtureRequest, unique: str) -> Twin:
    """An Etcd with no resources."""
    if request.param == "fake":
        return FakeTwin()
    return RealTwin(request.param, request.getfixturevalue("services").etcd, f"/tef/{unique}/resources")


@pytest.fixture
def managers(twin: Twin) -> Iterator[Managers]:
    """What starts reservations."""
    made = Managers(twin)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))


async def make(twin: Twin, *names: str) -> None:
    """Make resources of which there is one each."""
    for name in names:
        await twin.foreign.set(f"{name}/ref_limit", "1")


async def window(twin: Twin, at: str, day: int, start: str = "22:00", end: str = "6:00") -> None:
    """Make a window in which the limit is 2."""
    for field, value in (
        ("start_time", start),
        ("end_time", end),
        ("day_of_week", str(day)),
        ("limit", "2"),
    ):
        await twin.foreign.set(f"{at}/{field}", value)


@pytest.mark.parametrize("count", [33, 60, 200])
@pytest_twisted.ensureDeferred
async def test_beside_others(twin: Twin, managers: Managers, count: int) -> None:
    """A reservation of many resources, others, and a release at the same time: all are done."""
    names = tuple(f"r{index:03}" for index in range(count))
    await make(twin, *names, "small", "given")
    reservations, observer = await managers.start()
    await reservations.reserve([Reservation(9, ("given",))])
    calls: list[Deferred[Any]] = [
        Deferred.fromCoroutine(reservations.reserve([Reservation(1, ("small",)), Reservation(2, names)])),
        Deferred.fromCoroutine(reservations.release([Reservation(9, ("given",))])),
        Deferred.fromCoroutine(reservations.reserve([Reservation(3, (*names, "small"))])),
    ]
    answers: list[Any] = await gatherResults(calls)
    first, released, last = answers
    assert first == [Granted(1, ("small",)), Granted(2, names)]
    assert released == []
    assert [type(each) for each in last] == [Refused]
    await reservations.release([Reservation(1, ("small",)), Reservation(2, names)])
    assert lock_keys(await twin.foreign.dump()) == {}
    assert observer.lost == []


@pytest_twisted.ensureDeferred
async def test_all_or_none_of_many(twin: Twin, managers: Managers) -> None:
    """If the last resource of a large reservation is short, nothing is held and no count is left raised."""
    names = tuple(f"r{index:03}" for index in range(70))
    await make(twin, *names, "small")
    reservations, observer = await managers.start()
    await twin.foreign.set("r069/ref_count", "1")
    found = await reservations.reserve([Reservation(1, names), Reservation(2, ("small",))])
    assert found == [Refused(1, "r069"), Granted(2, ("small",))]
    keys = await twin.foreign.dump()
    assert [path.partition("/")[0] for path in lock_keys(keys)] == ["small"]
    assert observer.lost == []


@pytest_twisted.ensureDeferred
async def test_a_window_for_each_weekday(twin: Twin, managers: Managers) -> None:
    """Five resources that have seven windows each, and one other reservation."""
    names = tuple(f"w{index}" for index in range(5))
    await make(twin, *names, "small")
    for name in names:
        for day in range(7):
            await window(twin, f"{name}/windows/d{day}", day)
    reservations, observer = await managers.start()
    found = await reservations.reserve([Reservation(1, names), Reservation(2, ("small",))])
    assert found == [Granted(1, names), Granted(2, ("small",))]
    assert observer.lost == []


@pytest.mark.parametrize("inside", [False, True])
@pytest_twisted.ensureDeferred
async def test_300_windows(twin: Twin, managers: Managers, inside: bool) -> None:
    """One resource with more windows than a transaction has operations, whether they count now or not."""
    await make(twin, "r", "small")
    times = ("0:00", "24:00") if inside else ("22:00", "6:00")
    for number in range(300):
        await twin.foreign.set(f"r/windows/{number}/start_time", times[0])
        await twin.foreign.set(f"r/windows/{number}/end_time", times[1])
    reservations, observer = await managers.start()
    found = await reservations.reserve([Reservation(1, ("r",)), Reservation(2, ("small", "r"))])
    assert [type(each) for each in found] in ([Granted, Refused], [Granted, Granted])
    await reservations.release([Reservation(1, ("r",)), Reservation(2, ("small", "r"))])
    assert lock_keys(await twin.foreign.dump()) == {}
    assert observer.lost == []


@pytest_twisted.ensureDeferred
async def test_a_window_that_just_went(twin: Twin, managers: Managers) -> None:
    """A window that counts now and is deleted at the same moment opens nothing any more."""
    await make(twin, "r")
    await window(twin, "r/windows/w", -1, "0:00", "24:00")
    reservations, _ = await managers.start()
    assert await reservations.reserve([Reservation(1, ("r",))]) == [Granted(1, ("r",))]
    for field in ("start_time", "end_time", "day_of_week", "limit"):
        await twin.foreign.delete(f"r/windows/w/{field}")
    assert await reservations.reserve([Reservation(2, ("r",))]) == [Refused(2, "r")]


def test_what_fits_into_a_transaction() -> None:
    """Comparisons, writes and bytes have limits; a resource that several take counts once."""
    capacity = TransactionCapacity(
        RequestLimits(operations=12, size=1000), lambda _: Cost(4, 50), lambda _: 10
    )
    take = [Job(Kind.TAKE, number, (name,)) for number, name in enumerate("aabbbcc")]
    assert [capacity.admits(job) for job in take] == [True, True, True, True, True, True, True]
    assert not capacity.admits(Job(Kind.TAKE, 9, ("d",))), "comparisons"
    assert [capacity.admits(Job(Kind.TAKE, 10 + number, ("a",))) for number in range(3)] == [
        True,
        True,
        False,
    ]
    narrow = TransactionCapacity(RequestLimits(size=100), lambda _: Cost(FIRST, 50), lambda _: 10)
    assert [narrow.admits(Job(Kind.TAKE, 1, (name,))) for name in "ab"] == [True, False]


@pytest.mark.parametrize("junk", ["r/windows/7/colour", "r/windows/7/source", "r/windows/note"])
@pytest_twisted.ensureDeferred
async def test_keys_that_mean_nothing(twin: Twin, managers: Managers, junk: str) -> None:
    """What stands among the windows and is none keeps nobody from the resource, old or new."""
    await make(twin, "r")
    await window(twin, "r/windows/7", -1)
    await twin.foreign.set(junk, "x")
    reservations, observer = await managers.start()
    assert await reservations.reserve([Reservation(1, ("r",))]) == [Granted(1, ("r",))]
    await reservations.release([Reservation(1, ("r",))])
    await twin.foreign.set(junk, "y")
    taking = Deferred.fromCoroutine(reservations.reserve([Reservation(2, ("r",))]))
    assert await taking.addTimeout(PATIENCE, CLOCK) == [Granted(2, ("r",))]
    assert observer.lost == []
