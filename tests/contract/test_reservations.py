"""The contract of `IReservations`, kept by both of Etcd's APIs and by the fake."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from tefmanager.core.model.reservations import Granted, Outcome, Refused, Reservation
from tefmanager.interfaces.etcd import IReservations, ReservationsLost
from tests.contract.etcds import WALL_TIME, FakeTwin, Observer, RealTwin, Twin

DEADLINE = 30.0


@pytest.fixture(params=["fake", "v2", "v3"])
def twin(request: pytest.FixtureRequest, unique: str) -> Twin:
    """An Etcd with no resources."""
    if request.param == "fake":
        return FakeTwin()
    return RealTwin(request.param, request.getfixturevalue("services").etcd, f"/tef/{unique}/resources")


class Managers:
    """Starts reservations, and stops them when the test is over."""

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._started: list[IReservations] = []

    async def start(self, prefix: str = "tef.dev") -> tuple[IReservations, Observer]:
        """Return new reservations, when they have read everything, and what they found has settled."""
        reservations, observer = self._twin.reservations(prefix), Observer()
        self._started.append(reservations)
        reservations.start(observer)
        await observer.until(lambda: "read" in observer.calls and observer.settled)
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


def lock_keys(keys: dict[str, str]) -> dict[str, str]:
    """Return the lock keys of a dump."""
    return {path: value for path, value in keys.items() if "/locks/" in path}


async def assert_at_rest(twin: Twin, name: str, count: int) -> None:
    """Check that a resource's count and its lock keys agree."""
    keys = await twin.foreign.dump()
    assert keys.get(f"{name}/ref_count", "0") == str(count)
    assert len([path for path in lock_keys(keys) if path.startswith(f"{name}/locks/")]) == count


def granted(outcomes: Sequence[Outcome]) -> list[int]:
    """Return the attempts that got what they wanted."""
    return [outcome.attempt for outcome in outcomes if isinstance(outcome, Granted)]


def test_interface(twin: Twin) -> None:
    """All methods are there, with the right arguments."""
    assert verifyObject(IReservations, twin.reservations("tef.dev"))


@pytest_twisted.ensureDeferred
async def test_layout(twin: Twin, managers: Managers) -> None:
    """A reference is a count raised by one, and a lock key named after its holder."""
    await twin.foreign.set("db/main/ref_limit", "3")
    await twin.foreign.set("db/main/ref_count", "1")
    reservations, observer = await managers.start("tef.dev")
    assert await reservations.reserve([Reservation(12, ("db/main",))]) == [Granted(12, ("db/main",))]
    assert observer.resources["db/main"].held == 2
    assert await twin.foreign.dump() == {
        "db/main/ref_limit": "3",
        "db/main/ref_count": "2",
        f"db/main/locks/tef.dev:12~{WALL_TIME}~2": "2",
    }
    await reservations.release([Reservation(12, ("db/main",))])
    assert observer.resources["db/main"].held == 1
    assert await twin.foreign.dump() == {"db/main/ref_limit": "3", "db/main/ref_count": "1"}


@pytest.mark.parametrize("prefix", ["_tef/dev %~:ä", "a:1", "..", "", "?a=b&c#d", "tef\n\x00"])
@pytest_twisted.ensureDeferred
async def test_odd_prefix(twin: Twin, managers: Managers, prefix: str) -> None:
    """Any name prefix can hold a reference, and finds it again after a restart."""
    await twin.foreign.set("r/ref_limit", "3")
    reservations, _ = await managers.start(prefix)
    await reservations.reserve([Reservation(7, ("r",))])
    await assert_at_rest(twin, "r", 1)
    again, observer = await managers.start(prefix)
    assert observer.held == {7: frozenset({"r"})}
    _, stranger = await managers.start(prefix + "x")
    assert stranger.held == {}
    await again.release([Reservation(7, ("r",))])
    await assert_at_rest(twin, "r", 0)


@pytest.mark.parametrize("name", ["a b", "a/b", "ä%2F?x=1&y#z", "locks", "x/locks/y", "windows/1", "+;~:"])
@pytest_twisted.ensureDeferred
async def test_odd_name(twin: Twin, managers: Managers, name: str) -> None:
    """Any name of a resource works."""
    await twin.foreign.set(f"{name}/ref_limit", "1")
    reservations, observer = await managers.start()
    assert set(observer.resources) == {name}
    assert granted(await reservations.reserve([Reservation(1, (name,)), Reservation(2, (name,))])) == [1]
    await assert_at_rest(twin, name, 1)
    await reservations.release([Reservation(1, (name,))])
    await assert_at_rest(twin, name, 0)


@pytest.mark.parametrize(
    "name", ["nope", "..", "../x", ".", "/", "a/", "r/locks", "r/../r", "r\x00", "ref_limit"]
)
@pytest_twisted.ensureDeferred
async def test_unknown_name(twin: Twin, managers: Managers, name: str) -> None:
    """A name without an entry limits nothing, is not among the reserved, and leaves no trace."""
    await twin.foreign.set("r/ref_limit", "1")
    reservations, _ = await managers.start()
    assert await reservations.reserve([Reservation(1, (name, "r"))]) == [Granted(1, ("r",))]
    assert await reservations.reserve([Reservation(2, (name,))]) == [Granted(2, ())]
    await reservations.release([Reservation(2, (name,)), Reservation(1, (name, "r"))])
    assert await twin.foreign.dump() == {"r/ref_limit": "1", "r/ref_count": "0"}


@pytest_twisted.ensureDeferred
async def test_foreign_count_is_respected(twin: Twin, managers: Managers) -> None:
    """References of others count, and when they give one back this is seen within a second."""
    await twin.foreign.set("r/ref_limit", "2")
    await twin.foreign.set("r/ref_count", "2")
    reservations, observer = await managers.start()
    assert await reservations.reserve([Reservation(1, ("r",))]) == [Refused(1, "r")]
    await twin.foreign.set("r/ref_count", "1")
    await observer.until(lambda: observer.resources["r"].held == 1)
    assert await reservations.reserve([Reservation(1, ("r",)), Reservation(2, ("r",))]) == [
        Granted(1, ("r",)),
        Refused(2, "r"),
    ]
    await reservations.release([Reservation(1, ("r",))])
    assert (await twin.foreign.dump())["r/ref_count"] == "1"


@pytest_twisted.ensureDeferred
async def test_foreign_change_of_a_moment_ago(twin: Twin, managers: Managers) -> None:
    """A count that was changed just before, too late to be told, is not overwritten."""
    await twin.foreign.set("r/ref_limit", "2")
    reservations, _ = await managers.start()
    for attempt in range(5):
        await twin.foreign.set("r/ref_count", "1")
        outcomes = await reservations.reserve(
            [Reservation(2 * attempt, ("r",)), Reservation(2 * attempt + 1, ("r",))]
        )
        assert granted(outcomes) == [2 * attempt]
        await twin.foreign.set("r/ref_count", "1")  # it took one away that is not its own
        await reservations.release([Reservation(2 * attempt, ("r",))])
        assert await twin.foreign.dump() == {"r/ref_limit": "2", "r/ref_count": "0"}


@pytest_twisted.ensureDeferred
async def test_unlimited(twin: Twin, managers: Managers) -> None:
    """A limit of -1 is none."""
    await twin.foreign.set("r/ref_limit", "-1")
    reservations, _ = await managers.start()
    wanted = [Reservation(attempt, ("r",)) for attempt in range(40)]
    assert granted(await reservations.reserve(wanted)) == list(range(40))
    keys = lock_keys(await twin.foreign.dump())
    assert sorted(map(int, keys.values())) == list(range(1, 41))
    assert all(path.endswith(f"~{value}") for path, value in keys.items())
    await reservations.release(wanted)
    await assert_at_rest(twin, "r", 0)


@pytest_twisted.ensureDeferred
async def test_missing_and_malformed(twin: Twin, managers: Managers) -> None:
    """What is missing has its default, what can't be read opens nothing and is told."""
    values = {
        "no_limit/source": "x",
        "word/ref_limit": "four",
        "below/ref_limit": "-2",
        "count/ref_limit": "3",
        "count/ref_count": "many",
        "minus/ref_limit": "3",
        "minus/ref_count": "-1",
        "switch/ref_limit": "3",
        "switch/available": "maybe",
        "closed/ref_limit": "3",
        "closed/available": "0",
        "open/ref_limit": "3",
        "open/available": "1",
    }
    for path, value in values.items():
        await twin.foreign.set(path, value)
    reservations, observer = await managers.start()
    names = ["no_limit", "word", "below", "count", "minus", "switch", "closed", "open"]
    outcomes = await reservations.reserve([Reservation(index, (name,)) for index, name in enumerate(names)])
    assert granted(outcomes) == [names.index("open")]
    faulty = {name for name, resource in observer.resources.items() if resource.faults}
    assert faulty == {"word", "below", "count", "minus", "switch"}
    await reservations.release([Reservation(index, (name,)) for index, name in enumerate(names)])
    assert await twin.foreign.dump() == {**values, "open/ref_count": "0"}


@pytest_twisted.ensureDeferred
async def test_windows(twin: Twin, managers: Managers) -> None:
    """While local time is in a window, its limit and ``available`` hold."""
    values = {
        "r/ref_limit": "1",
        "r/windows/noon/start_time": "11:00",
        "r/windows/noon/end_time": "13:00",
        "r/windows/noon/day_of_week": "1",
        "r/windows/noon/limit": "2",
        "bad/ref_limit": "1",
        "bad/windows/w/start_time": "23:00",
        "bad/windows/w/limit": "0",
        "r/windows/shut/start_time": "23:00",
        "r/windows/shut/end_time": "1:00",
        "r/windows/shut/available": "0",
    }
    for path, value in values.items():
        await twin.foreign.set(path, value)
    reservations, observer = await managers.start()
    wanted = [Reservation(attempt, ("r",)) for attempt in range(3)]
    assert granted(await reservations.reserve(wanted)) == [0, 1]
    assert len(observer.resources["bad"].faults) == 1
    assert granted(await reservations.reserve([Reservation(4, ("bad",))])) == []
    await reservations.release(wanted)
    twin.now = twin.now.replace(hour=13)
    assert granted(await reservations.reserve(wanted)) == [0]
    await reservations.release(wanted)
    twin.now = twin.now.replace(day=2, hour=0, minute=59)
    assert granted(await reservations.reserve(wanted)) == []
    await assert_at_rest(twin, "r", 0)


@pytest_twisted.ensureDeferred
async def test_window_of_a_moment_ago(twin: Twin, managers: Managers) -> None:
    """A window that appeared, changed or went just before, counts."""
    await twin.foreign.set("r/ref_limit", "1")
    reservations, observer = await managers.start()
    await twin.foreign.set("r/windows/w/start_time", "0:00")
    await twin.foreign.set("r/windows/w/end_time", "24:00")
    await twin.foreign.set("r/windows/w/available", "0")
    await observer.until(lambda: observer.resources["r"].limit_at(twin.now) == 0)
    assert granted(await reservations.reserve([Reservation(1, ("r",))])) == []
    await twin.foreign.delete("r/windows/w/available")
    await observer.until(lambda: observer.resources["r"].limit_at(twin.now) == 1)
    assert granted(await reservations.reserve([Reservation(1, ("r",))])) == [1]


@pytest_twisted.ensureDeferred
async def test_a_window_that_is_being_written(twin: Twin, managers: Managers) -> None:
    """No default that is written first opens a resource; what was meant counts soon after."""
    await twin.foreign.set("r/ref_limit", "1")
    reservations, observer = await managers.start()
    window = {"start_time": "0:00", "end_time": "23:59:59", "day_of_week": "-1", "available": "1"}
    outcomes: list[Any] = []
    for number, (key, value) in enumerate({**window, "limit": "-1"}.items()):
        await twin.foreign.set(f"r/windows/1/{key}", value)
        outcomes += await reservations.reserve([Reservation(number, ("r",))])
    assert len(granted(outcomes)) <= 1
    await twin.foreign.set("r/windows/1/limit", "2")
    await observer.until(lambda: observer.resources["r"].limit_at(twin.now) == 2)
    outcomes += await reservations.reserve([Reservation(10 + attempt, ("r",)) for attempt in range(3)])
    assert len(granted(outcomes)) == 2


@pytest_twisted.ensureDeferred
async def test_duplicates_count_once(twin: Twin, managers: Managers) -> None:
    """The same name twice in a reservation is one reference."""
    await twin.foreign.set("r/ref_limit", "1")
    reservations, _ = await managers.start()
    assert await reservations.reserve([Reservation(1, ("r", "r"))]) == [Granted(1, ("r",))]
    await reservations.release([Reservation(1, ("r", "r"))])
    await assert_at_rest(twin, "r", 0)


@pytest_twisted.ensureDeferred
async def test_reserving_again_takes_nothing_more(twin: Twin, managers: Managers) -> None:
    """An attempt that holds some of a reservation gets the rest, and no reference twice."""
    await twin.foreign.set("a/ref_limit", "1")
    await twin.foreign.set("b/ref_limit", "1")
    reservations, _ = await managers.start()
    assert await reservations.reserve([Reservation(1, ("a",))]) == [Granted(1, ("a",))]
    assert await reservations.reserve([Reservation(1, ("b", "a"))]) == [Granted(1, ("a", "b"))]
    await assert_at_rest(twin, "a", 1)
    await assert_at_rest(twin, "b", 1)


@pytest_twisted.ensureDeferred
async def test_all_or_none(twin: Twin, managers: Managers) -> None:
    """A reservation that lacks one resource takes none, and the next reservation can have the others."""
    for name in ("a", "b", "c"):
        await twin.foreign.set(f"{name}/ref_limit", "1")
    await twin.foreign.set("b/ref_count", "1")
    reservations, _ = await managers.start()
    outcomes = await reservations.reserve([Reservation(1, ("a", "b", "c")), Reservation(2, ("a", "c"))])
    assert outcomes == [Refused(1, "b"), Granted(2, ("a", "c"))]
    keys = await twin.foreign.dump()
    assert sorted(lock_keys(keys)) == [f"{name}/locks/tef.dev:2~{WALL_TIME}~1" for name in "ac"]
    assert {name: keys[f"{name}/ref_count"] for name in "abc"} == {"a": "1", "b": "1", "c": "1"}


@pytest_twisted.ensureDeferred
async def test_stale_knowledge_leaves_nothing_half_taken(twin: Twin, managers: Managers) -> None:
    """All or none also where the shortage shows only when it is tried."""
    for name in ("a", "b", "c"):
        await twin.foreign.set(f"{name}/ref_limit", "1")
    reservations, _ = await managers.start()
    await twin.foreign.set("b/ref_count", "1")
    assert await reservations.reserve([Reservation(1, ("a", "b", "c"))]) == [Refused(1, "b")]
    keys = await twin.foreign.dump()
    assert lock_keys(keys) == {}
    assert keys.get("a/ref_count", "0") == keys.get("c/ref_count", "0") == "0"


@pytest_twisted.ensureDeferred
async def test_release_is_idempotent(twin: Twin, managers: Managers) -> None:
    """Given back twice, at once or one after the other, or never held: the count is lowered once."""
    await twin.foreign.set("r/ref_limit", "9")
    await twin.foreign.set("r/ref_count", "3")
    reservations, _ = await managers.start()
    await reservations.reserve([Reservation(1, ("r",))])
    reservation = [Reservation(1, ("r",))]
    together = [Deferred.fromCoroutine(reservations.release(reservation)) for _ in range(3)]
    await gatherResults(together)
    await reservations.release([*reservation, *reservation])
    await reservations.release([Reservation(77, ("r",))])
    assert await twin.foreign.dump() == {"r/ref_limit": "9", "r/ref_count": "3"}


@pytest_twisted.ensureDeferred
async def test_one_follows_the_other(twin: Twin, managers: Managers) -> None:
    """A reference given back and taken again at once: the count stays, the lock key is another."""
    await twin.foreign.set("r/ref_limit", "1")
    reservations, _ = await managers.start()
    await reservations.reserve([Reservation(1, ("r",))])
    released = Deferred.fromCoroutine(reservations.release([Reservation(1, ("r",))]))
    assert await reservations.reserve([Reservation(2, ("r",))]) == [Granted(2, ("r",))]
    await released
    keys = await twin.foreign.dump()
    assert keys["r/ref_count"] == "1"
    assert lock_keys(keys) == {f"r/locks/tef.dev:2~{WALL_TIME}~1": "1"}
    await reservations.release([Reservation(2, ("r",))])
    assert await twin.foreign.dump() == {"r/ref_limit": "1", "r/ref_count": "0"}


@pytest_twisted.ensureDeferred
async def test_removed_lock_key_lowers_nothing(twin: Twin, managers: Managers) -> None:
    """A reference whose lock key somebody removed is no longer ours to give back."""
    await twin.foreign.set("r/ref_limit", "9")
    reservations, _ = await managers.start()
    await reservations.reserve([Reservation(1, ("r",)), Reservation(2, ("r",))])
    await twin.foreign.delete(f"r/locks/tef.dev:1~{WALL_TIME}~1")
    await twin.foreign.set("r/ref_count", "1")
    await reservations.release([Reservation(1, ("r",))])
    await assert_at_rest(twin, "r", 1)
    await reservations.release([Reservation(2, ("r",))])
    await assert_at_rest(twin, "r", 0)


@pytest_twisted.ensureDeferred
async def test_count_never_below_zero(twin: Twin, managers: Managers) -> None:
    """A count that somebody set to 0 or deleted stays, and the lock key goes."""
    await twin.foreign.set("r/ref_limit", "9")
    reservations, observer = await managers.start()
    await reservations.reserve([Reservation(1, ("r",)), Reservation(2, ("r",))])
    await twin.foreign.set("r/ref_count", "0")
    await reservations.release([Reservation(1, ("r",))])
    await twin.foreign.delete("r/ref_count")
    await reservations.release([Reservation(2, ("r",))])
    assert await twin.foreign.dump() == {"r/ref_limit": "9"}
    await observer.until(lambda: observer.resources["r"].held == 0)


@pytest_twisted.ensureDeferred
async def test_our_own_references_always_count(twin: Twin, managers: Managers) -> None:
    """Where somebody sets the count to 0 the limit is not passed, and nobody's count is corrected."""
    await twin.foreign.set("r/ref_limit", "2")
    reservations, observer = await managers.start()
    await reservations.reserve([Reservation(1, ("r",))])
    await twin.foreign.set("r/ref_count", "0")
    outcomes = await reservations.reserve([Reservation(2, ("r",)), Reservation(3, ("r",))])
    assert outcomes == [Granted(2, ("r",)), Refused(3, "r")]
    assert (await twin.foreign.dump())["r/ref_count"] == "1"
    assert observer.resources["r"].used == 2
    await reservations.release([Reservation(1, ("r",))])
    assert (await twin.foreign.dump())["r/ref_count"] == "1"  # the second one is held still
    assert granted(await reservations.reserve([Reservation(4, ("r",)), Reservation(5, ("r",))])) == [4]
    await reservations.release([Reservation(2, ("r",)), Reservation(4, ("r",))])
    await assert_at_rest(twin, "r", 0)
    assert observer.resources["r"].used == 0


@pytest_twisted.ensureDeferred
async def test_a_count_that_stays_is_told(twin: Twin, managers: Managers) -> None:
    """A reference that the count leaves out is given back, and there is room again."""
    await twin.foreign.set("r/ref_limit", "1")
    reservations, observer = await managers.start()
    await reservations.reserve([Reservation(1, ("r",))])
    await twin.foreign.set("r/ref_count", "0")
    await observer.until(lambda: observer.resources["r"].held == 0)
    assert observer.resources["r"].free_at(twin.now) == 0
    await reservations.release([Reservation(1, ("r",))])
    await observer.until(lambda: observer.resources["r"].free_at(twin.now) == 1)


@pytest_twisted.ensureDeferred
async def test_a_resource_made_anew_while_held(twin: Twin, managers: Managers) -> None:
    """Who holds it counts at once, in what is told and in what is granted."""
    await twin.foreign.set("r/ref_limit", "1")
    reservations, observer = await managers.start()
    await reservations.reserve([Reservation(1, ("r",))])
    await twin.foreign.delete("r/ref_limit")
    await twin.foreign.delete("r/ref_count")
    await observer.until(lambda: "r" not in observer.resources)
    await twin.foreign.set("r/ref_limit", "1")
    assert await reservations.reserve([Reservation(2, ("r",))]) in ([Refused(2, "r")], [Granted(2, ())])
    await observer.until(lambda: "r" in observer.resources)
    assert observer.resources["r"].free_at(twin.now) == 0
    assert await reservations.reserve([Reservation(3, ("r",))]) == [Refused(3, "r")]
    await reservations.release([Reservation(1, ("r",)), Reservation(2, ("r",))])
    assert granted(await reservations.reserve([Reservation(4, ("r",))])) == [4]


@pytest_twisted.ensureDeferred
async def test_resources_come_and_go(twin: Twin, managers: Managers) -> None:
    """A resource that is made or deleted while running counts, or no longer counts, within a second."""
    reservations, observer = await managers.start()
    assert observer.resources == {}
    await twin.foreign.set("new/ref_limit", "1")
    await observer.until(lambda: "new" in observer.resources)
    assert granted(await reservations.reserve([Reservation(1, ("new",)), Reservation(2, ("new",))])) == [1]
    await reservations.release([Reservation(1, ("new",))])
    await twin.foreign.delete("new/ref_limit")
    await twin.foreign.delete("new/ref_count")
    await observer.until(lambda: "new" not in observer.resources)
    assert await reservations.reserve([Reservation(3, ("new",))]) == [Granted(3, ())]
    assert await twin.foreign.dump() == {}


@pytest_twisted.ensureDeferred
async def test_release_after_the_resource_went(twin: Twin, managers: Managers) -> None:
    """Of a resource that was deleted while held only our lock key is removed."""
    await twin.foreign.set("r/ref_limit", "1")
    reservations, observer = await managers.start()
    await reservations.reserve([Reservation(1, ("r",))])
    await twin.foreign.delete("r/ref_limit")
    await twin.foreign.delete("r/ref_count")
    await observer.until(lambda: "r" not in observer.resources)
    await reservations.release([Reservation(1, ("r",))])
    assert await twin.foreign.dump() == {}


@pytest_twisted.ensureDeferred
async def test_restart(twin: Twin, managers: Managers) -> None:
    """After a restart all that we hold is told by attempt, and can be given back."""
    for name in ("a", "b"):
        await twin.foreign.set(f"{name}/ref_limit", "5")
    first, _ = await managers.start()
    await first.reserve([Reservation(1, ("a", "b")), Reservation(2, ("b",))])
    other, _ = await managers.start("other")
    await other.reserve([Reservation(1, ("a",))])
    await first.stop()
    second, observer = await managers.start()
    assert observer.held == {1: frozenset("ab"), 2: frozenset("b")}
    await second.release([Reservation(1, ("a", "b")), Reservation(2, ("b",))])
    await assert_at_rest(twin, "a", 1)
    await assert_at_rest(twin, "b", 0)


@pytest_twisted.ensureDeferred
async def test_refresh(twin: Twin, managers: Managers) -> None:
    """A refresh tells everything anew: all resources, and what is held."""
    await twin.foreign.set("r/ref_limit", "5")
    reservations, observer = await managers.start()
    await reservations.reserve([Reservation(1, ("r",))])
    reads = observer.calls.count("read")
    await reservations.refresh()
    assert observer.calls.count("read") == reads + 1
    assert observer.resources["r"].held == 1
    assert observer.held == {1: frozenset("r")}


@pytest_twisted.ensureDeferred
async def test_no_news_without_a_change(twin: Twin, managers: Managers) -> None:
    """What is told as changed differs from what was told before."""
    await twin.foreign.set("r/ref_limit", "5")
    reservations, observer = await managers.start()
    await reservations.reserve([Reservation(1, ("r",))])
    await reservations.release([Reservation(1, ("r",))])
    await twin.foreign.set("last/ref_limit", "1")
    await observer.until(lambda: "last" in observer.resources)
    told = [seen["r"] for seen in observer.seen if seen.get("r") is not None]
    assert [one for one, next in pairwise(told) if one == next] == []
    assert [used for used, _ in groupby(one.used for one in told if one)] == [1, 0]


@pytest_twisted.ensureDeferred
async def test_two_managers_never_pass_a_limit(twin: Twin, managers: Managers) -> None:
    """Of 50 reservations of two managers at once exactly as many are granted as there is room for."""
    await twin.foreign.set("r/ref_limit", "20")
    await twin.foreign.set("s/ref_limit", "100")
    one, _ = await managers.start("one")
    two, _ = await managers.start("two")
    calls = [
        Deferred.fromCoroutine(manager.reserve([Reservation(attempt, ("s", "r"))]))
        for attempt in range(25)
        for manager in (one, two)
    ]
    outcomes: Any = await gatherResults(calls).addTimeout(DEADLINE, _clock())
    assert sum(isinstance(outcome, Granted) for [outcome] in outcomes) == 20
    await assert_at_rest(twin, "r", 20)
    await assert_at_rest(twin, "s", 20)
    wanted = [Reservation(attempt, ("s", "r")) for attempt in range(25)]
    await gatherResults([Deferred.fromCoroutine(manager.release(wanted)) for manager in (one, two)])
    await assert_at_rest(twin, "r", 0)
    await assert_at_rest(twin, "s", 0)


@pytest.mark.parametrize("seed", range(3))
@pytest_twisted.ensureDeferred
async def test_any_sequence(twin: Twin, managers: Managers, seed: int) -> None:
    """Whatever two managers do at once: at rest, counts and lock keys agree and no limit is passed."""
    chance = random.Random(seed)
    limits = {"a": 1, "b/c": 2, "d": 5}
    for name, limit in limits.items():
        await twin.foreign.set(f"{name}/ref_limit", str(limit))
    both = [(await managers.start(prefix))[0] for prefix in ("one", "two")]
    each_has: list[list[Reservation]] = [[], []]
    for step in range(12):
        calls = [
            _random_step(chance, manager, mine, 100 * step)
            for manager, mine in zip(both, each_has, strict=True)
        ]
        await gatherResults([Deferred.fromCoroutine(call) for call in calls]).addTimeout(DEADLINE, _clock())
        for name, limit in limits.items():
            held = sum(name in one.resources for mine in each_has for one in mine)
            assert held <= limit
            await assert_at_rest(twin, name, held)


async def _random_step(
    chance: random.Random, manager: IReservations, mine: list[Reservation], first: int
) -> None:
    """Give back some of the reservations and make new ones, in two or three calls at once."""
    given = [one for one in mine if chance.random() < 0.4]
    names = ["a", "b/c", "d", "nope"]
    wanted = [
        Reservation(first + index, tuple(chance.sample(names, chance.randint(1, 3))))
        for index in range(chance.randint(0, 6))
    ]
    half = len(wanted) // 2
    calls = [manager.reserve(wanted[:half]), manager.reserve(wanted[half:])]
    taking = [Deferred.fromCoroutine(call) for call in calls]
    await manager.release(given)
    outcomes: Any = await gatherResults(taking)
    kept = set(granted([*outcomes[0], *outcomes[1]]))
    mine[:] = [one for one in mine if one not in given]
    mine += [one for one in wanted if one.attempt in kept]


@pytest_twisted.ensureDeferred
async def test_many_resources_in_a_claim(twin: Twin, managers: Managers) -> None:
    """A reservation with more resources than a transaction can change is still all or none."""
    names = tuple(f"r{index:03}" for index in range(90))
    for name in names:
        await twin.foreign.set(f"{name}/ref_limit", "1")
    reservations, _ = await managers.start()
    assert await reservations.reserve([Reservation(1, names)]) == [Granted(1, names)]
    assert len(lock_keys(await twin.foreign.dump())) == 90
    await reservations.release([Reservation(1, names)])
    await twin.foreign.set("r088/ref_count", "1")
    assert await reservations.reserve([Reservation(2, names)]) == [Refused(2, "r088")]
    keys = await twin.foreign.dump()
    assert lock_keys(keys) == {}
    assert {path for path, value in keys.items() if path.endswith("ref_count") and value != "0"} == {
        "r088/ref_count"
    }


@pytest_twisted.ensureDeferred
async def test_not_started_or_stopped(twin: Twin, managers: Managers) -> None:
    """Before the first read and after the end nothing can be reserved, nor released, nor refreshed."""
    await twin.foreign.set("r/ref_limit", "1")
    early = twin.reservations("tef.dev")
    late, observer = await managers.start()
    await late.stop()
    told = len(observer.calls)
    for reservations in (early, late):
        with pytest.raises(ReservationsLost):
            await reservations.reserve([Reservation(1, ("r",))])
        with pytest.raises(ReservationsLost):
            await reservations.release([Reservation(1, ("r",))])
        with pytest.raises(ReservationsLost):
            await reservations.refresh()
        await reservations.stop()
    assert len(observer.calls) == told
    assert await twin.foreign.dump() == {"r/ref_limit": "1"}


def _clock() -> Any:
    from twisted.internet import reactor

    return reactor
