"""Both APIs after a crash between any two requests: counts and lock keys agree, and nothing leaks.

A crash is an adapter that sends nothing more after so many requests; the last one was carried out, or its
answer was never read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList, gatherResults

from tefmanager.core.model.reservations import Granted, Reservation
from tefmanager.etcd.adapter import EtcdReservations
from tefmanager.etcd.http import Answer, HttpClient, Request
from tefmanager.etcd.v2 import EtcdV2Reservations
from tefmanager.interfaces.etcd import ReservationsLost
from tests.contract.etcds import CLOCK, Observer, RealTwin
from tests.services import Services


def points(v2: Iterable[int], v3: Iterable[int] = (0, 1, 2)) -> pytest.MarkDecorator:
    """Parametrize a test by API and number of requests; v3 needs but one for most of what it does."""
    both = [*(("v2", number) for number in v2), *(("v3", number) for number in v3)]
    return pytest.mark.parametrize(("api", "requests"), both)


class DeadLettering(HttpClient):
    """A client of which nothing is heard any more after ``left`` requests that write."""

    left = 0

    async def ask(self, request: Request) -> Answer:
        if request.method == "GET" or request.path == "/v3/kv/range":
            return await super().ask(request)
        if self.left == 0:
            await self._silence()
        self.left -= 1
        answer = await super().ask(request)
        if self.left == 0:
            await self._silence()
        return answer

    async def _silence(self) -> None:
        await self._tracked(_never())


async def _never() -> None:
    silence: Deferred[None] = Deferred()
    await silence


async def started(reservations: EtcdReservations) -> Observer:
    """Start, and wait for the first read."""
    if isinstance(reservations, EtcdV2Reservations):
        reservations.settle_pause = 0.03
    observer = Observer()
    reservations.start(observer)
    await observer.until(lambda: "read" in observer.calls)
    return observer


async def die_after(reservations: EtcdReservations, requests: int, work: Iterable[Any]) -> bool:
    """Let work go on until it has sent so many requests, then kill; tell whether it was done before."""
    dead_lettering: Any = reservations._http
    dead_lettering.__class__ = DeadLettering
    dead_lettering.left = requests
    calls = DeferredList([Deferred.fromCoroutine(one) for one in work], consumeErrors=True)
    await _until(lambda: dead_lettering.left == 0 or calls.called)
    done = bool(calls.called)
    await reservations.stop()
    return done


async def _until(predicate: Any) -> None:
    waited = 0.0
    while not predicate():
        assert waited < 60
        await Deferred.fromCoroutine(_tick())
        waited += 0.005


async def _tick() -> None:
    tick: Deferred[None] = Deferred()
    CLOCK.callLater(0.005, tick.callback, None)
    await tick


def counts(keys: dict[str, str]) -> dict[str, int]:
    """Return all counts that are not 0."""
    found = {path: int(value) for path, value in keys.items() if path.endswith("/ref_count")}
    return {path.removesuffix("/ref_count"): count for path, count in found.items() if count}


def locks(keys: dict[str, str]) -> dict[str, int]:
    """Return how many lock keys there are of each resource that has any."""
    found: dict[str, int] = {}
    for path in keys:
        if "/locks/" in path:
            name = path.split("/locks/")[0]
            found[name] = found.get(name, 0) + 1
    return found


async def release_what_is_held(twin: RealTwin, prefix: str) -> dict[int, frozenset[str]]:
    """Start anew, as after a crash, and give back all that is held; return what was."""
    reservations = twin.reservations(prefix)
    observer = await started(reservations)
    held = observer.held
    await reservations.release([Reservation(attempt, tuple(names)) for attempt, names in held.items()])
    await reservations.stop()
    return held


RESERVATIONS = [Reservation(1, ("a", "b")), Reservation(2, ("b",)), Reservation(3, ("a", "b", "c"))]


async def prepared(api: str, services: Services, unique: str) -> RealTwin:
    """Return an Etcd with three resources, one of which others hold, too."""
    twin = RealTwin(api, services.etcd, f"/tef/{unique}/resources")
    for name in ("a", "b", "c"):
        await twin.foreign.set(f"{name}/ref_limit", "9")
    await twin.foreign.set("b/ref_count", "1")
    await twin.foreign.set("b/locks/other program~1~1", "1")
    return twin


@points(range(24))
@pytest_twisted.ensureDeferred
async def test_crash_while_reserving(api: str, services: Services, unique: str, requests: int) -> None:
    """Whatever was written: what is told as held is counted, and all can be given back."""
    twin = await prepared(api, services, unique)
    victim = twin.reservations("tef.dev")
    await started(victim)
    await die_after(victim, requests, [victim.reserve(RESERVATIONS)])
    held = await release_what_is_held(twin, "tef.dev")
    assert set(held) <= {1, 2, 3}
    keys = await twin.foreign.dump()
    assert (counts(keys), locks(keys)) == ({"b": 1}, {"b": 1})


@points(range(20))
@pytest_twisted.ensureDeferred
async def test_crash_while_releasing(api: str, services: Services, unique: str, requests: int) -> None:
    """What was given back is not given back again, and what was not is held still."""
    twin = await prepared(api, services, unique)
    victim = twin.reservations("tef.dev")
    await started(victim)
    assert all(isinstance(outcome, Granted) for outcome in await victim.reserve(RESERVATIONS))
    done = await die_after(victim, requests, [victim.release(RESERVATIONS[1:])])
    held = await release_what_is_held(twin, "tef.dev")
    assert held[1] == frozenset("ab")
    assert not done or set(held) == {1}
    keys = await twin.foreign.dump()
    assert (counts(keys), locks(keys)) == ({"b": 1}, {"b": 1})


ROUNDS = 20
"""Full reads until all must be settled."""


@points(range(0, 12, 2), [0, 1])
@pytest.mark.parametrize("second", [1, 4, 7, 10])
@pytest_twisted.ensureDeferred
async def test_both_managers_crash(
    api: str, services: Services, unique: str, requests: int, second: int
) -> None:
    """Two managers die in the middle of the same resources; each then settles its own part."""
    twin = await prepared(api, services, unique)
    victims = [twin.reservations(prefix) for prefix in ("one", "two")]
    for victim in victims:
        await started(victim)
        await victim.reserve([Reservation(9, ("a", "b"))])
    await gatherResults(
        [
            Deferred.fromCoroutine(
                die_after(
                    victim,
                    number,
                    [victim.reserve(RESERVATIONS), victim.release([Reservation(9, ("a", "b"))])],
                )
            )
            for victim, number in zip(victims, (requests, second), strict=True)
        ]
    )
    for _ in range(ROUNDS):  # what the dead had under way may still arrive after the first
        for prefix in ("two", "one"):
            await release_what_is_held(twin, prefix)
        keys = await twin.foreign.dump()
        if (counts(keys), locks(keys)) == ({"b": 1}, {"b": 1}):
            break
    assert (counts(keys), locks(keys)) == ({"b": 1}, {"b": 1})


@points(range(1, 12), [0, 1])
@pytest_twisted.ensureDeferred
async def test_answers_that_do_not_come(api: str, services: Services, unique: str, requests: int) -> None:
    """The same process goes on: it loses Etcd, reads anew, and settles what it did not hear of."""
    twin = await prepared(api, services, unique)
    reservations = twin.reservations("tef.dev")
    reservations._http._timeout = 0.3
    observer = await started(reservations)
    dead_lettering: Any = reservations._http
    dead_lettering.__class__ = Deaf
    dead_lettering.left = requests
    with pytest.raises(ReservationsLost):
        await reservations.reserve(RESERVATIONS)
    dead_lettering.__class__ = HttpClient
    assert len(observer.lost) == 1
    await observer.until(lambda: observer.calls[-1] == "read")
    await reservations.release(RESERVATIONS)
    keys = await twin.foreign.dump()
    assert (counts(keys), locks(keys)) == ({"b": 1}, {"b": 1})
    assert await reservations.reserve(RESERVATIONS[:1]) == [Granted(1, ("a", "b"))]
    await reservations.release(RESERVATIONS[:1])
    await reservations.stop()


class Deaf(HttpClient):
    """A client that carries out request number ``left``, and hears of none from there on."""

    left = 0

    async def ask(self, request: Request) -> Answer:
        if request.method == "GET" or request.path == "/v3/kv/range":
            return await super().ask(request)
        self.left -= 1
        if self.left >= 0:
            answer = await super().ask(request)
        if self.left <= 0:
            raise ReservationsLost("no answer")
        return answer
