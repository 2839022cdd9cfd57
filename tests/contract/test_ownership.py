"""The contract of `IReservations` with an owner: who may use the lock keys of a name prefix."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import pytest_twisted
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tefmanager.core.model.identity import Life
from tefmanager.core.model.reservations import Reservation
from tefmanager.etcd.owner import Rival
from tefmanager.etcd.ownership import Owner, forget
from tefmanager.interfaces.etcd import IReservations, ReservationsLost
from tefmanager.protocol.catalogue import LoggedEvent
from tests.contract.etcds import CLOCK, FakeTwin, Observer, RealTwin, Twin

PREFIX = "tef.dev"
LONG, SHORT = 60, 2
"""Seconds for which a sign of life stays; the short one is the least that Etcd takes by default."""

OURS = Life("grid", "life 1", (), "place", "tef at db1")
NEXT = Life("grid", "life 2", ("life 1",), "place", "tef at db1")
STRANGER = Life("another grid", "life x", (), "elsewhere", "old at db2")
COPY = replace(NEXT, token="life 3", place="a copy")
LATE_COPY = replace(NEXT, token="life 4", earlier=("life 0",))


@pytest.fixture(params=["fake", "v2", "v3"])
def twin(request: pytest.FixtureRequest, unique: str) -> Twin:
    """An Etcd with one resource."""
    found: Twin = FakeTwin()
    if request.param != "fake":
        endpoint = request.getfixturevalue("services").etcd
        found = RealTwin(request.param, endpoint, f"/tef/{unique}/resources")
    pytest_twisted.blockon(Deferred.fromCoroutine(found.foreign.set("r/ref_limit", "1")))
    return found


class Managers:
    """Starts reservations of several managers with the same name prefix, and stops them."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._started: list[IReservations] = []
        self.taken: list[LoggedEvent] = []

    def start(self, life: Life, prefix: str = PREFIX, ttl: int = LONG) -> tuple[IReservations, Observer]:
        """Start the reservations of a manager."""
        owner = Owner(life, "alpha", ttl, self.taken.append)
        reservations, observer = self._twin.reservations(prefix, owner), Observer()
        self._started.append(reservations)
        reservations.start(observer)
        return reservations, observer

    async def started(
        self, life: Life, prefix: str = PREFIX, ttl: int = LONG
    ) -> tuple[IReservations, Observer]:
        """The same, and wait until everything was read."""
        reservations, observer = self.start(life, prefix, ttl)
        await observer.until(lambda: "read" in observer.calls)
        return reservations, observer

    async def stop(self) -> None:
        for reservations in self._started:
            await reservations.stop()


@pytest.fixture
def managers(twin: Twin) -> Iterator[Managers]:
    """What starts reservations."""
    started = Managers(twin)
    yield started
    pytest_twisted.blockon(Deferred.fromCoroutine(started.stop()))


async def until_it_runs_out(twin: Twin) -> None:
    """Wait until there is no sign of life."""
    while (await twin.owner_keys(PREFIX).read()).alive is not None:
        await deferLater(CLOCK, 0.2)


@pytest.mark.parametrize("life", [STRANGER, COPY, LATE_COPY])
@pytest_twisted.ensureDeferred
async def test_a_living_manager_is_left_alone(twin: Twin, managers: Managers, life: Life) -> None:
    """Of another grid, or of a copy of this one: nothing is read as ours, reserved or given back."""
    first, _ = await managers.started(OURS)
    await first.reserve([Reservation(1, ("r",))])
    before = await twin.foreign.dump()
    second, observer = managers.start(life)
    await observer.until(lambda: observer.lost)
    assert "read" not in observer.calls
    for reservation, call in ((2, second.reserve), (1, second.release)):
        with pytest.raises(ReservationsLost, match="tef at db1 on alpha"):
            await call([Reservation(reservation, ("r",))])
    with pytest.raises(ReservationsLost, match="tef at db1 on alpha"):
        await second.refresh()
    assert await twin.foreign.dump() == before
    await first.refresh()
    await first.release([Reservation(1, ("r",))])
    rival = Rival.ALIVE if life is STRANGER else Rival.COPY
    [line] = managers.taken
    folder, *values = line.values
    assert str(folder).endswith(f"/managers/{PREFIX}")
    assert values == [rival, "database tef at db1 on alpha", f"database {life.database} on alpha"]


@pytest_twisted.ensureDeferred
async def test_a_takeover_waits_for_nothing(twin: Twin, managers: Managers) -> None:
    """The sign of a predecessor on the same database is replaced while it still lasts."""
    first, _ = await managers.started(OURS)
    await first.reserve([Reservation(1, ("r",))])
    _, observer = managers.start(NEXT)
    await observer.until(lambda: "read" in observer.calls, LONG / 2)
    assert observer.held == {1: frozenset("r")}
    assert observer.lost == [] and managers.taken == []


@pytest_twisted.ensureDeferred
async def test_a_predecessor_that_lives_on_writes_nothing(twin: Twin, managers: Managers) -> None:
    """It finds the sign of its successor when it renews its own."""
    first, observer = await managers.started(OURS)
    await managers.started(NEXT)
    with pytest.raises(ReservationsLost):
        await first.refresh()
    with pytest.raises(ReservationsLost):
        await first.reserve([Reservation(1, ("r",))])
    assert observer.lost
    assert "r/ref_count" not in await twin.foreign.dump()


@pytest.mark.parametrize("life", [COPY, LATE_COPY])
@pytest_twisted.ensureDeferred
async def test_a_copy_waits_until_the_other_is_dead(twin: Twin, managers: Managers, life: Life) -> None:
    """When the sign of life has run out, the grid goes on with the other database."""
    await twin.foreign.set(f"r/locks/{PREFIX}:1~1700000000~1", "1")
    await managers.started(OURS, ttl=SHORT)
    _, observer = await managers.started(life)
    assert observer.calls[0] == "lost"
    assert observer.held == {1: frozenset("r")}


@pytest_twisted.ensureDeferred
async def test_a_manager_that_stops_takes_its_sign_along(twin: Twin, managers: Managers) -> None:
    """So a grid that moves to another database goes on at once."""
    first, _ = await managers.started(OURS)
    await first.stop()
    _, observer = await managers.started(COPY)
    assert observer.lost == [] and managers.taken == []


@pytest_twisted.ensureDeferred
async def test_a_dead_grid_keeps_its_place(twin: Twin, managers: Managers) -> None:
    """Its references are nobody else's; when it is forgotten on purpose, another one goes on."""
    first, _ = await managers.started(OURS)
    await first.stop()
    _, observer = managers.start(STRANGER)
    await observer.until(lambda: observer.lost)
    assert [line.values[1] for line in managers.taken] == [Rival.KNOWN]
    assert await forget(twin.owner_keys(PREFIX)) is None
    await observer.until(lambda: "read" in observer.calls)


@pytest_twisted.ensureDeferred
async def test_a_living_grid_is_not_forgotten(twin: Twin, managers: Managers) -> None:
    """Whoever wants its place has to end it first."""
    await managers.started(OURS)
    found = await forget(twin.owner_keys(PREFIX))
    assert found is not None and found.where == "database tef at db1 on alpha"
    _, observer = managers.start(STRANGER)
    await observer.until(lambda: observer.lost)


@pytest_twisted.ensureDeferred
async def test_a_sign_that_ran_out_is_written_again(twin: Twin, managers: Managers) -> None:
    """A manager that was frozen for too long writes nothing before that."""
    first, observer = await managers.started(OURS, ttl=SHORT)
    await until_it_runs_out(twin)
    with pytest.raises(ReservationsLost, match="not been renewed"):
        await first.reserve([Reservation(1, ("r",))])
    await observer.until(lambda: observer.calls[-1] == "read")
    assert managers.taken == []


@pytest_twisted.ensureDeferred
async def test_a_deleted_sign_is_written_again(twin: Twin, managers: Managers) -> None:
    """At the next renewal, and nothing else comes of it."""
    first, observer = await managers.started(OURS)
    before = await twin.owner_keys(PREFIX).read()
    await twin.lose_owner(PREFIX)
    await first.refresh()
    after = await twin.owner_keys(PREFIX).read()
    assert after.grid is not None and before.grid is not None and after.grid.value == before.grid.value
    assert after.alive is not None and before.alive is not None and after.alive.value == before.alive.value
    assert managers.taken == [] and observer.lost == []


@pytest_twisted.ensureDeferred
async def test_lock_keys_without_a_sign_are_adopted(twin: Twin, managers: Managers) -> None:
    """As after an upgrade, or where Etcd has lost the keys."""
    await twin.foreign.set("r/ref_count", "1")
    await twin.foreign.set(f"r/locks/{PREFIX}:7~1700000000~1", "1")
    _, observer = await managers.started(OURS)
    assert observer.held == {7: frozenset("r")}
    assert observer.lost == []


@pytest.mark.parametrize("prefix", ["a/b", "..", "", "ä %", "x\n\x00", "_"])
@pytest_twisted.ensureDeferred
async def test_prefixes_do_not_meet(twin: Twin, managers: Managers, prefix: str) -> None:
    """Whatever stands in a prefix, it has keys of its own, and they are no resource."""
    await managers.started(OURS, prefix)
    _, observer = await managers.started(STRANGER, f"{prefix}.")
    assert set(observer.resources) == {"r"}
    assert managers.taken == []
    _, observer = managers.start(STRANGER, prefix)
    await observer.until(lambda: managers.taken and observer.lost)
