"""When people are told who else uses the lock keys, and what is made of keys that nobody of ours wrote."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tefmanager.core.model.identity import Life
from tefmanager.etcd.owner import Found, Keys, Rival, folder, signs, taken
from tefmanager.etcd.ownership import Owner, Ownership
from tefmanager.etcd.refusals import NotLetIn, RequestRefused
from tefmanager.interfaces.etcd import ReservationsLost
from tefmanager.protocol.catalogue import LoggedEvent
from tests.fakes.reservations import FakeOwnerKeys

OURS = Life("grid", "two", ("one",), "here", "tef at db1")


def found(life: Life) -> Keys:
    """Return both keys as a manager writes them."""
    grid, alive = signs(life, "alpha")
    return Keys(Found(grid, 1), Found(alive, 1))


def failure_of(ownership: Ownership) -> str:
    """Try to write the sign of life; return what was raised, or nothing."""
    results: list[object] = []
    Deferred.fromCoroutine(ownership.hold()).addBoth(results.append)
    [result] = results
    if isinstance(result, Failure):
        assert isinstance(result.value, ReservationsLost)
        return str(result.value)
    return ""


def test_it_is_told_every_thirty_seconds() -> None:
    """In one line with both databases and machines, and anew when it comes again."""
    clock, told = Clock(), list[LoggedEvent]()
    keys = FakeOwnerKeys("/managers/tef", clock)
    owner = Owner(OURS, "beta", 24, told.append)
    ownership = Ownership(owner, keys, clock.seconds, 1.0)
    keys.keys = Keys(Found('{"identity":"x","database":"old at db2","machine":"gamma"}', 1))
    for _ in range(100):
        assert failure_of(ownership)
        clock.advance(1.0)
    theirs, ours = "database old at db2 on gamma", "database tef at db1 on beta"
    assert [line.text for line in told] == [f"ETCD_TAKEN|/managers/tef|{Rival.KNOWN}|{theirs}|{ours}"] * 4
    keys.keys = Keys()
    assert not failure_of(ownership)
    keys.keys = Keys(Found('{"identity":"x"}', 9))
    assert failure_of(ownership)
    assert len(told) == 5


class Unreadable(FakeOwnerKeys):
    """Keys that this manager has no right to at all."""

    async def read(self) -> Keys:
        raise NotLetIn("etcd e: not let in")


class Unwritable(FakeOwnerKeys):
    """Keys that this manager may only read."""

    async def write(self, found: Keys, grid: str, alive: str, ttl: int) -> Keys | None:
        raise RequestRefused("etcd e: not let in", "not let in")


@pytest.mark.parametrize("closed", [Unreadable, Unwritable])
def test_a_missing_right_is_told_and_stops_nothing(closed: type[FakeOwnerKeys]) -> None:
    """The sign of life is a precaution: it is told every thirty seconds, however often it is tried."""
    clock, told = Clock(), list[LoggedEvent]()
    ownership = Ownership(
        Owner(OURS, "beta", 24, told.append), closed("/managers/tef", clock), clock.seconds, 1.0
    )
    for _ in range(31):
        assert not failure_of(ownership)
        assert ownership.holds
        clock.advance(1.0)
    assert [line.text for line in told] == ["ETCD_UNGUARDED|/managers/tef|etcd e: not let in"] * 2


def test_signs() -> None:
    """Who may use the lock keys, by what stands there."""
    here, copied = "here", "another place"
    for life, place, rival in [
        ("two", here, None),
        ("one", here, None),
        ("one", copied, Rival.COPY),
        ("three", here, Rival.COPY),
        ("", "", Rival.COPY),
    ]:
        there = taken(OURS, found(Life("grid", life, (), place)))
        assert (there and there.rival) == rival
    for keys, rival in [
        (Keys(), None),
        (found(Life("x", "two", (), here)), Rival.ALIVE),
        (Keys(found(OURS).grid), None),
        (Keys(found(Life("x", "y")).grid), Rival.KNOWN),
        (Keys(None, found(Life("x", "y")).alive), Rival.ALIVE),
    ]:
        there = taken(OURS, keys)
        assert (there and there.rival) == rival


@pytest.mark.parametrize("value", ["", "{}", "nonsense", "\ud800", "[1]", '{"identity": 5}', "x" * 10_000])
def test_what_nobody_can_read_is_another_s(value: str) -> None:
    """It is shown, cut."""
    there = taken(OURS, Keys(Found(value, 1)))
    assert there is not None and there.rival is Rival.KNOWN
    assert len(there.sign.where) < 300


def test_folders() -> None:
    """They lie beside the resources, and no prefix leads elsewhere."""
    base = "/tef/dev/resources"
    assert folder(base, "tef.dev") == "/tef/dev/managers/tef.dev"
    assert folder(base, "a/b") == "/tef/dev/managers/a%2Fb"
    assert [folder(base, prefix).rpartition("/")[2] for prefix in ("", ".", "..")] == ["%", "%2E", "%2E%2E"]
