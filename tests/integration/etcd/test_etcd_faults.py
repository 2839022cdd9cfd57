"""Etcd that goes away, comes back, goes silent; several endpoints; which API; nothing left at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import Site

from tefmanager.core.model.reservations import Granted, Refused, Reservation
from tefmanager.etcd import auto, v3wire
from tefmanager.etcd.adapter import EtcdReservations
from tefmanager.etcd.auto import AutoReservations
from tefmanager.etcd.http import HttpClient, Request
from tefmanager.etcd.v2 import EtcdV2Reservations
from tefmanager.etcd.v3 import EtcdV3Reservations
from tefmanager.etcd.v3watch import watch
from tefmanager.interfaces.etcd import IReservations, ReservationsLost
from tefmanager.support.lease import Lease
from tests.contract.etcds import CLOCK, MONDAY_NOON, Observer, RealTwin, http
from tests.proxy import NETWORK, Proxy
from tests.services import Services

KINDS = {"v2": EtcdV2Reservations, "v3": EtcdV3Reservations, "auto": AutoReservations}


async def until(predicate: Callable[[], object], seconds: float = 45.0) -> None:
    """Wait for something that tells nobody."""
    end = CLOCK.seconds() + seconds
    while not predicate():
        assert CLOCK.seconds() < end
        await deferLater(CLOCK, 0.01)


class House:
    """An Etcd with a resource, ways to it, and reservations that are stopped in the end."""

    def __init__(self, api: str, services: Services, unique: str) -> None:
        self.twin = RealTwin(api, services.etcd, f"/tef/{unique}/resources")
        self.foreign = self.twin.foreign
        self.proxies = [Proxy(services.etcd)]
        self._api = api
        self._started: list[IReservations] = []

    @property
    def proxy(self) -> Proxy:
        """Return the first way."""
        return self.proxies[0]

    def build(self, kind: type[Any], *endpoints: tuple[str, int], timeout: float = 5.0) -> Any:
        """Return reservations, to be stopped in the end."""
        places = list(endpoints) or [self.proxy.endpoint]
        built = kind(CLOCK, places, self.twin.base, "tef.dev", lambda: MONDAY_NOON, lambda: 1.0, timeout)
        self._started.append(built)
        return built

    async def start(
        self, *endpoints: tuple[str, int], timeout: float = 5.0
    ) -> tuple[EtcdReservations, Observer]:
        """Return reservations that have read everything and watch."""
        await self.foreign.set("r/ref_limit", "5")
        reservations, observer = self.build(KINDS[self._api], *endpoints, timeout=timeout), Observer()
        reservations.start(observer)
        await observer.until(lambda: "read" in observer.calls)
        await self.foreign.set("seen/ref_limit", "1")
        await observer.until(lambda: "seen" in observer.resources)
        return reservations, observer

    async def end(self) -> None:
        """Stop everything."""
        for reservations in self._started:
            await reservations.stop()
        for proxy in self.proxies:
            await proxy.close()


@pytest.fixture(params=["v2", "v3"])
def house(request: pytest.FixtureRequest, services: Services, unique: str) -> Iterator[House]:
    """An Etcd behind a proxy."""
    built = House(request.param, services, unique)
    yield built
    pytest_twisted.blockon(Deferred.fromCoroutine(built.end()))


@pytest_twisted.ensureDeferred
async def test_lost_and_found(house: House) -> None:
    """The loss is told once, with the place; nothing can be reserved; a full read follows the return."""
    reservations, observer = await house.start()
    await reservations.reserve([Reservation(1, ("r",))])
    await house.proxy.close()
    await observer.until(lambda: observer.lost)
    with pytest.raises(ReservationsLost):
        await reservations.reserve([Reservation(2, ("r",))])
    await house.foreign.set("r/ref_limit", "6")
    await deferLater(CLOCK, 0.5)
    assert len(observer.lost) == 1
    assert f"127.0.0.1:{house.proxy.endpoint[1]}" in observer.lost[0]
    house.proxy.open()
    await observer.until(lambda: observer.calls[-1] == "read")
    assert observer.resources["r"].limit == 6
    assert observer.held == {1: frozenset("r")}
    await reservations.release([Reservation(1, ("r",))])


@pytest_twisted.ensureDeferred
async def test_not_there_at_the_start(house: House) -> None:
    """It is found when it comes, and its absence is told."""
    await house.foreign.set("r/ref_limit", "5")
    await house.proxy.close()
    reservations, observer = house.build(KINDS[house._api]), Observer()
    reservations.start(observer)
    await observer.until(lambda: observer.lost)
    house.proxy.open()
    await observer.until(lambda: "read" in observer.calls)
    assert "r" in observer.resources


@pytest_twisted.ensureDeferred
async def test_a_cut_connection_misses_nothing(house: House) -> None:
    """What changed while the watch was broken is told soon after."""
    _, observer = await house.start()
    house.proxy.cut()
    await house.foreign.set("r/ref_limit", "7")
    await observer.until(lambda: observer.resources["r"].limit == 7)
    await house.foreign.set("r/ref_limit", "8")
    await observer.until(lambda: observer.resources["r"].limit == 8)


@pytest_twisted.ensureDeferred
async def test_a_dead_watch_is_found_out(house: House) -> None:
    """A refresh brings what a silent watch did not tell, and the next one begins a new watch."""
    reservations, observer = await house.start()
    reservations.watch_patience = 0.05
    house.proxy.silence(only_watches=True)
    await house.foreign.set("r/ref_limit", "7")
    await reservations.refresh()
    assert observer.resources["r"].limit == 7
    await deferLater(CLOCK, 0.06)
    await reservations.refresh()
    await until(lambda: any(one.watches and not one.silent for one in house.proxy.links))
    await house.foreign.set("r/ref_limit", "8")
    await observer.until(lambda: observer.resources["r"].limit == 8)
    assert observer.lost == []


@pytest_twisted.ensureDeferred
async def test_refreshing_leaves_a_living_watch_alone(house: House) -> None:
    """Refreshes in the middle of changes do not take the watch for dead."""
    reservations, observer = await house.start()
    watches = [one for one in house.proxy.links if one.watches]
    for limit in range(10, 20):
        await house.foreign.set("r/ref_limit", str(limit))
        await reservations.refresh()
        await reservations.reserve([Reservation(limit, ("r",))])
        await reservations.release([Reservation(limit, ("r",))])
        await reservations.refresh()
    assert [one for one in house.proxy.links if one.watches] == watches
    assert observer.lost == []


@pytest_twisted.ensureDeferred
async def test_no_answer_in_time(house: House) -> None:
    """A request without an answer is lost, is said to be, and leaks nothing."""
    reservations, observer = await house.start(timeout=0.4)
    house.proxy.silence()
    with pytest.raises(ReservationsLost, match=f"127.0.0.1:{house.proxy.endpoint[1]}: no answer in 0.4 s"):
        await reservations.reserve([Reservation(1, ("r",))])
    house.proxy.speak()
    await observer.until(lambda: observer.calls[-1] == "read")
    assert len(observer.lost) == 1
    await reservations.release([Reservation(1, ("r",))])
    keys = await house.foreign.dump()
    assert keys.get("r/ref_count", "0") == "0"
    assert not [path for path in keys if "/locks/" in path]


@pytest_twisted.ensureDeferred
async def test_several_endpoints(house: House, services: Services) -> None:
    """One that is down is passed over; when the present one fails the other is taken, and kept."""
    dead, first, second = (Proxy(services.etcd) for _ in range(3))
    house.proxies += [dead, first, second]
    await dead.close()
    reservations, observer = await house.start(dead.endpoint, first.endpoint, second.endpoint)
    assert observer.lost == []
    assert first.links
    assert not second.links
    await first.close()
    await until(lambda: any(one.watches for one in second.links))
    assert await reservations.reserve([Reservation(1, ("r",))]) == [Granted(1, ("r",))]
    first.open()
    await reservations.release([Reservation(1, ("r",))])
    assert not first.links


@pytest_twisted.ensureDeferred
async def test_nothing_is_left_after_the_end(house: House) -> None:
    """No connection, no delayed call, and what was under way fails."""
    before = {id(call) for call in CLOCK.getDelayedCalls()}
    reservations, _ = await house.start()
    wanted = [[Reservation(number, ("r",))] for number in range(4)]
    under_way = DeferredList(
        [Deferred.fromCoroutine(reservations.reserve(reservation)) for reservation in wanted],
        consumeErrors=True,
    )
    refreshing = Deferred.fromCoroutine(reservations.refresh())
    await reservations.stop()
    outcomes: Any = await under_way
    assert all(succeeded or failure.check(ReservationsLost) for succeeded, failure in outcomes)
    with pytest.raises(ReservationsLost):
        await refreshing
    await until(lambda: not house.proxy.links)
    await until(lambda: not {id(call) for call in CLOCK.getDelayedCalls()} - before)


@pytest_twisted.ensureDeferred
async def test_stop_while_reconnecting(house: House) -> None:
    """Also the pause between two tries ends."""
    reservations, observer = await house.start()
    await house.proxy.close()
    await observer.until(lambda: observer.lost)
    await reservations.stop()
    house.proxy.open()
    told = len(observer.calls)
    await deferLater(CLOCK, 0.5)
    assert len(observer.calls) == told
    assert not house.proxy.links


@pytest_twisted.ensureDeferred
async def test_auto(house: House) -> None:
    """Where the base exists in v2 that is used, otherwise v3; and only when there is an answer."""
    await house.foreign.set("r/ref_limit", "5")
    await house.proxy.close()
    reservations, observer = house.build(AutoReservations), Observer()
    reservations.start(observer)
    await observer.until(lambda: observer.lost)
    with pytest.raises(ReservationsLost):
        await reservations.reserve([Reservation(1, ("r",))])
    house.proxy.open()
    await observer.until(lambda: "read" in observer.calls)
    assert reservations.api == house._api
    assert len(observer.lost) == 1
    assert await reservations.reserve([Reservation(1, ("r",))]) == [Granted(1, ("r",))]
    await reservations.refresh()
    await reservations.release([Reservation(1, ("r",))])
    assert (await house.foreign.dump())["r/ref_count"] == "0"


@pytest_twisted.ensureDeferred
async def test_auto_changes_its_mind(services: Services, unique: str) -> None:
    """As long as there is nothing in v3, a base made in v2 later is where the resources are."""
    base = f"/tef/{unique}"
    reservations = AutoReservations(CLOCK, [services.etcd], base, "p", lambda: MONDAY_NOON, lambda: 1.0)
    observer = Observer()
    reservations.start(observer)
    await observer.until(lambda: "read" in observer.calls)
    assert reservations.api == "v3"
    await RealTwin("v2", services.etcd, base).foreign.set("r/ref_limit", "1")
    both = [Deferred.fromCoroutine(reservations.reserve([Reservation(n, ("r",))])) for n in (1, 2)]
    answers: Any = await gatherResults(both)
    assert sorted(type(answer).__name__ for [answer] in answers) == ["Granted", "Refused"]
    assert reservations.api == "v2"
    assert observer.calls.count("lost") == 1, "one change-over, until which nobody asks for anything"
    assert observer.calls.index("lost") < observer.calls.index("read", observer.calls.index("lost"))
    assert "r" in observer.resources
    await reservations.stop()


@pytest_twisted.ensureDeferred
async def test_auto_follows_a_move(services: Services, unique: str) -> None:
    """Resources that move from v2 to v3, and back, count in either place."""
    base = f"/tef/{unique}"
    reservations = AutoReservations(CLOCK, [services.etcd], base, "p", lambda: MONDAY_NOON, lambda: 1.0)
    observer = Observer()
    foreign = {api: RealTwin(api, services.etcd, base).foreign for api in ("v2", "v3")}
    await foreign["v2"].set("r/ref_limit", "1")
    reservations.start(observer)
    for attempt, (here, there) in enumerate([("v2", "v3"), ("v3", "v2"), ("v2", "v3")]):
        await observer.until(lambda: "r" in observer.resources)
        assert await reservations.reserve([Reservation(2 * attempt, ("r",))]) == [
            Granted(2 * attempt, ("r",))
        ]
        [refused] = await reservations.reserve([Reservation(2 * attempt + 1, ("r",))])
        assert isinstance(refused, Refused)
        assert reservations.api == here
        await reservations.release([Reservation(2 * attempt, ("r",))])
        if here == "v2":
            url = "http://{}:{}/v2/keys{}?recursive=true".format(*services.etcd, base)
            await deferToThread(http, "DELETE", url)
        else:
            for key in await foreign[here].dump():
                await foreign[here].delete(key)
        await observer.until(lambda: "r" not in observer.resources)
        await foreign[there].set("r/ref_limit", "1")
        await reservations.refresh()
    await reservations.stop()


@pytest_twisted.ensureDeferred
async def test_auto_stays_with_v3(services: Services, unique: str) -> None:
    """Where resources are in v3, a base made in v2 later changes nothing while the manager runs."""
    base = f"/tef/{unique}"
    await RealTwin("v3", services.etcd, base).foreign.set("r/ref_limit", "1")
    reservations = AutoReservations(CLOCK, [services.etcd], base, "p", lambda: MONDAY_NOON, lambda: 1.0)
    observer = Observer()
    reservations.start(observer)
    await observer.until(lambda: "r" in observer.resources)
    await RealTwin("v2", services.etcd, base).foreign.set("other/ref_limit", "1")
    await reservations.refresh()
    assert reservations.api == "v3"
    await reservations.stop()


@pytest.mark.parametrize(("used", "ignored"), [("v2", "v3"), ("v3", "v2")])
@pytest_twisted.ensureDeferred
async def test_auto_warns_of_both(
    services: Services, unique: str, used: str, ignored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resources in the API that is not used are told of, once as long as they are there."""
    lines: list[str] = []
    monkeypatch.setattr(auto, "emit", lambda line: lines.append(line.text))
    base = f"/tef/{unique}"
    reservations = AutoReservations(CLOCK, [services.etcd], base, "p", lambda: MONDAY_NOON, lambda: 1.0)
    foreign = {api: RealTwin(api, services.etcd, base).foreign for api in ("v2", "v3")}
    await foreign[used].set("r/ref_limit", "1")
    observer = Observer()
    reservations.start(observer)
    await observer.until(lambda: "r" in observer.resources)
    await reservations.refresh()
    assert lines == []
    await foreign[ignored].set("r/ref_limit", "1")
    for _ in range(2):
        await reservations.refresh()
        assert lines == [f"RESOURCES_IN_BOTH_APIS|{base}|{used}|{ignored}"]
    await reservations.stop()


class WithoutV2(Resource):
    """An Etcd whose v2 API is off answers with a page; the rest goes wrong here."""

    def getChild(self, path: bytes, request: Any) -> Any:
        if path == b"v2":
            return notFound()
        request.setResponseCode(503)
        return self

    isLeaf = False

    def render_POST(self, request: Any) -> bytes:
        return b'{"error":"etcdserver: no leader"}'


@pytest_twisted.ensureDeferred
async def test_auto_without_v2() -> None:
    """Where v2 is switched off it is v3; an error of Etcd's own is a loss that names the place."""
    site = cast(Any, Site)(cast(Any, WithoutV2)())
    site.noisy = False
    listening: Any = NETWORK.listenTCP(0, site, interface="127.0.0.1")
    port = listening.getHost().port
    reservations = AutoReservations(
        CLOCK, [("127.0.0.1", port)], "/tef/x/resources", "p", lambda: MONDAY_NOON, lambda: 1.0
    )
    observer = Observer()
    reservations.start(observer)
    await observer.until(lambda: observer.lost)
    assert reservations.api == "v3"
    assert observer.lost[0].startswith(f"etcd 127.0.0.1:{port}: HTTP 503: ")
    assert "no leader" in observer.lost[0]
    await reservations.stop()
    await listening.stopListening()


@pytest_twisted.ensureDeferred
async def test_a_cancelled_watch(services: Services, unique: str) -> None:
    """A watch from a revision that was compacted away ends with the reason."""
    twin = RealTwin("v3", services.etcd, f"/tef/{unique}")
    client = HttpClient(CLOCK, [services.etcd])
    for value in ("1", "2", "3"):
        await twin.foreign.set("x", value)
    answer = await client.ask(Request("POST", "/v3/kv/range", b'{"key":"eA=="}'))
    revision = v3wire.decode(answer.body, v3wire.RangeAnswer, "").header.revision
    compact = Request("POST", "/v3/kv/compaction", f'{{"revision": {revision}}}'.encode())
    assert (await client.ask(compact)).status == 200
    with pytest.raises(ReservationsLost, match="compacted"):
        await watch(client, f"{twin.base}/".encode(), revision - 2, lambda events: None)
    await client.close()


@pytest_twisted.ensureDeferred
async def test_a_body_that_may_not_be_sent_any_more(services: Services, unique: str) -> None:
    """A write is lost, and not made, if the right to it ends when its headers have left already."""
    readings = chain([0.0, 0.0], repeat(5.0))  # when renewed, before the headers, before the body
    lease = Lease(1.0, lambda: next(readings))
    lease.renew(0.0)
    late, http = HttpClient(CLOCK, [services.etcd], lease=lease), HttpClient(CLOCK, [services.etcd])
    key = unique.encode()
    with pytest.raises(ReservationsLost, match="another manager may be the active one by now"):
        await late.ask(v3wire.request("kv/txn", v3wire.Transaction([], [v3wire.put(key, "x")], [])))
    assert next(readings) == 5.0
    found = await v3wire.ask(http, "kv/range", v3wire.Range(key), v3wire.RangeAnswer)
    assert found.kvs == []
    await late.close()
    await http.close()
