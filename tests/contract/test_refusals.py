"""What Etcd refuses for one reservation concerns that one alone: rights, limits, and keys of no use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from tefmanager.config.endpoints import EtcdAccess
from tefmanager.core.model.reservations import Granted, Impossible, Outcome, Reservation
from tests.contract.etcds import FakeTwin, RealTwin, Twin
from tests.contract.own_etcd import ROOT_V2, USER, OwnEtcd
from tests.contract.test_reservations import Managers, assert_at_rest, lock_keys

Right = Callable[[str], Awaitable[None]]
"""Gives or takes the right to write all keys that begin so."""


def started(folder: Path, *options: str) -> Iterator[OwnEtcd]:
    """Start an Etcd, and end it when the module is over."""
    etcd = OwnEtcd(folder, *options)
    pytest_twisted.blockon(Deferred.fromCoroutine(etcd.start()))
    yield etcd
    pytest_twisted.blockon(Deferred.fromCoroutine(etcd.kill()))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEtcd]:
    """An Etcd in which the manager's user may read everything and write nothing."""
    for etcd in started(tmp_path_factory.mktemp("guarded")):
        pytest_twisted.blockon(Deferred.fromCoroutine(etcd.users.let_nobody_in()))
        yield etcd


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEtcd]:
    """An Etcd that takes small transactions only."""
    options = ("--max-txn-ops=14", "--max-request-bytes=3000")
    yield from started(tmp_path_factory.mktemp("small"), *options)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEtcd]:
    """An Etcd that takes no transaction that is of any use, for want of operations."""
    yield from started(tmp_path_factory.mktemp("tiny"), "--max-txn-ops=3")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEtcd]:
    """The same, for want of bytes."""
    yield from started(tmp_path_factory.mktemp("short"), "--max-request-bytes=150")


class Guarded:
    """A twin whose manager has just the rights that a test gives it."""

    def __init__(self, twin: Twin, permit: Right, forbid: Right) -> None:
        self.twin = twin
        self.permit = permit
        self.forbid = forbid


@pytest.fixture(params=["fake", "v2", "v3"])
def rights(request: pytest.FixtureRequest, unique: str) -> Guarded:
    """An Etcd in which the manager may write nothing yet."""
    if request.param == "fake":
        return _fake()
    api, etcd, base = request.param, request.getfixturevalue("guarded"), f"/tef/{unique}/resources"
    token = ROOT_V2 if api == "v2" else pytest_twisted.blockon(Deferred.fromCoroutine(etcd.users.token()))
    twin = RealTwin(api, etcd.endpoint, base, EtcdAccess(user=USER, password=USER), token)
    return Guarded(
        twin,
        lambda begin: etcd.users.permit(api, f"{base}/{begin}"),
        lambda begin: etcd.users.forbid(api, f"{base}/{begin}"),
    )


def _fake() -> Guarded:
    twin = FakeTwin()
    may: set[str] = set()
    twin.etcd.writable = may

    async def permit(begin: str) -> None:
        may.add(begin)

    async def forbid(begin: str) -> None:
        may.discard(begin)

    return Guarded(twin, permit, forbid)


@pytest.fixture
def managers(request: pytest.FixtureRequest) -> Iterator[Managers]:
    """What starts reservations, in the Etcd that the test asks for."""
    names = [
        name for name in ("rights", "small_twin", "tiny_twin", "short_twin") if name in request.fixturenames
    ]
    found = request.getfixturevalue(names[0])
    made = Managers(found.twin if isinstance(found, Guarded) else found)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.stop()))


@pytest.fixture(params=["fake", "v3"])
def small_twin(request: pytest.FixtureRequest, unique: str) -> Twin:
    """An Etcd with low limits."""
    if request.param == "v3":
        return RealTwin("v3", request.getfixturevalue("small").endpoint, f"/tef/{unique}/resources")
    return _limited(14, 3000)


@pytest.fixture(params=["fake", "v3"])
def tiny_twin(request: pytest.FixtureRequest, unique: str) -> Twin:
    """An Etcd that takes three operations."""
    if request.param == "v3":
        return RealTwin("v3", request.getfixturevalue("tiny").endpoint, f"/tef/{unique}/resources")
    return _limited(3, 1_500_000)


@pytest.fixture(params=["fake", "v3"])
def short_twin(request: pytest.FixtureRequest, unique: str) -> Twin:
    """An Etcd that takes 150 bytes: enough to write one key."""
    if request.param == "v3":
        return RealTwin("v3", request.getfixturevalue("short").endpoint, f"/tef/{unique}/resources")
    return _limited(128, 150)


def _limited(operations: int, size: int) -> FakeTwin:
    fake = FakeTwin()
    fake.etcd.operations, fake.etcd.size = operations, size
    return fake


def told(outcome: Outcome) -> str:
    """Return the reason of what is impossible."""
    assert isinstance(outcome, Impossible), outcome
    return outcome.reason


@pytest.mark.parametrize("may", [(), ("bad/ref_count",), ("bad/locks/",)])
@pytest_twisted.ensureDeferred
async def test_a_missing_right(rights: Guarded, managers: Managers, may: tuple[str, ...]) -> None:
    """Who may not write all keys of a resource gets nothing of a reservation; others get theirs."""
    for name in ("bad", "good", "other"):
        await rights.twin.foreign.set(f"{name}/ref_limit", "9")
    for begin in ("good/", "other/", *may):
        await rights.permit(begin)
    reservations, observer = await managers.start()
    wanted = [
        Reservation(1, ("good",)),
        Reservation(2, ("bad", "good")),
        Reservation(3, ("bad",)),
        Reservation(4, ("other",)),
    ]
    found = await reservations.reserve(wanted)
    assert [found[0], found[3]] == [Granted(1, ("good",)), Granted(4, ("other",))]
    for outcome in found[1:3]:
        assert "bad" in told(outcome)
        assert "good" not in told(outcome) or isinstance(rights.twin, RealTwin)
    assert observer.lost == []
    assert await reservations.release(wanted) == [] or may
    await assert_at_rest(rights.twin, "good", 0)
    await rights.permit("bad/")
    assert await reservations.release(wanted) == []
    await assert_at_rest(rights.twin, "bad", 0)
    assert await reservations.reserve([Reservation(5, ("bad",))]) == [Granted(5, ("bad",))]


@pytest_twisted.ensureDeferred
async def test_a_release_that_is_refused(rights: Guarded, managers: Managers) -> None:
    """What may not be given back stays held and is told; all else is given back, and later this as well."""
    for name in ("bad", "good"):
        await rights.twin.foreign.set(f"{name}/ref_limit", "9")
        await rights.permit(f"{name}/")
    reservations, observer = await managers.start()
    wanted = [Reservation(1, ("good",)), Reservation(2, ("bad", "good")), Reservation(3, ("good",))]
    assert all(isinstance(each, Granted) for each in await reservations.reserve(wanted))
    await rights.forbid("bad/")
    [kept] = await reservations.release(wanted)
    assert kept.attempt == 2
    assert "bad" in told(kept)
    await assert_at_rest(rights.twin, "good", 0)
    assert observer.lost == []
    await rights.permit("bad/")
    assert await reservations.release([wanted[1]]) == []
    await assert_at_rest(rights.twin, "bad", 0)


@pytest.mark.parametrize("count", [33, 60, 200])
@pytest_twisted.ensureDeferred
async def test_low_limits_of_a_server(small_twin: Twin, managers: Managers, count: int) -> None:
    """They are learnt: reservations of any size are taken in several transactions, beside others."""
    names = tuple(f"r{index:03}" for index in range(count))
    for name in (*names, "small"):
        await small_twin.foreign.set(f"{name}/ref_limit", "1")
    reservations, observer = await managers.start()
    found = await reservations.reserve(
        [Reservation(1, names), Reservation(2, ("small",)), Reservation(3, names[:1])]
    )
    assert found[:2] == [Granted(1, names), Granted(2, ("small",))]
    assert await reservations.release([Reservation(1, names), Reservation(2, ("small",))]) == []
    assert lock_keys(await small_twin.foreign.dump()) == {}
    assert observer.lost == []


@pytest_twisted.ensureDeferred
async def test_a_limit_below_use(tiny_twin: Twin, managers: Managers) -> None:
    """Where not even one reference can be taken this is said, and Etcd is not lost."""
    await tiny_twin.foreign.set("r/ref_limit", "1")
    reservations, observer = await managers.start()
    found = await reservations.reserve([Reservation(1, ("r",)), Reservation(2, ("unknown",))])
    assert "too many operations" in told(found[0])
    assert found[1] == Granted(2, ())
    assert await reservations.release([Reservation(1, ("r",))]) == []
    assert observer.lost == []


@pytest_twisted.ensureDeferred
async def test_a_size_below_use(short_twin: Twin, managers: Managers) -> None:
    """The same of bytes: what can't be taken is held back, and no other reservation with it."""
    await short_twin.foreign.set("r/ref_limit", "1")
    reservations, observer = await managers.start()
    found = await reservations.reserve([Reservation(1, ("r",)), Reservation(2, ("unknown",))])
    assert "request is too large" in told(found[0])
    assert found[1] == Granted(2, ())
    assert await reservations.release([Reservation(1, ("r",))]) == []
    assert lock_keys(await short_twin.foreign.dump()) == {}
    assert observer.lost == []


@pytest.mark.parametrize("spoilt", ["bad/locks", "bad/ref_count/x"])
@pytest_twisted.ensureDeferred
async def test_keys_of_no_use(services_twin: RealTwin, spoilt: str) -> None:
    """A folder where a value should be, or a value instead of a folder, concerns that resource alone."""
    for path in ("bad/ref_limit", spoilt, "good/ref_limit"):
        await services_twin.foreign.set(path, "9")
    managers = Managers(services_twin)
    reservations, observer = await managers.start()
    found = await reservations.reserve([Reservation(1, ("bad", "good")), Reservation(2, ("good",))])
    assert found[1] == Granted(2, ("good",))
    assert "bad" in told(found[0])
    assert observer.lost == []
    assert await reservations.release([Reservation(1, ("bad", "good"))]) == []
    await assert_at_rest(services_twin, "good", 1)
    await managers.stop()


@pytest.fixture
def services_twin(request: pytest.FixtureRequest, unique: str) -> RealTwin:
    """The v2 API of an Etcd without limits."""
    return RealTwin("v2", request.getfixturevalue("guardless").endpoint, f"/tef/{unique}/resources")


@pytest.fixture(scope="module")
def guardless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnEtcd]:
    """An Etcd as it comes."""
    yield from started(tmp_path_factory.mktemp("guardless"))
