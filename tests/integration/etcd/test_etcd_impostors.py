"""Hosts that are no Etcd, or do not answer as one: they are passed over, and not believed."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any, cast

import pytest
import pytest_twisted
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tefmanager.core.model.reservations import Granted, Reservation
from tefmanager.etcd import bodies, jsonlines, v2wire, v3wire
from tefmanager.etcd.auto import AutoReservations
from tefmanager.etcd.bodies import Bounded
from tefmanager.etcd.http import HttpClient, Request
from tefmanager.etcd.jsonlines import Lines
from tefmanager.etcd.v3watch import watch
from tefmanager.interfaces.etcd import ReservationsLost
from tests.contract.etcds import CLOCK, MONDAY_NOON, Observer, RealTwin
from tests.integration.etcd.test_etcd_faults import KINDS
from tests.proxy import NETWORK
from tests.services import Services


class Impostor(Resource):
    """Answers everything alike.

    Attributes:
        status, body, headers: the answer; the body never ends where ``endless``.
    """

    isLeaf = True

    def __init__(self) -> None:
        cast(Any, super()).__init__()
        self.status, self.body, self.endless = 200, b"{}", False
        self.headers: dict[bytes, bytes] = {}
        self.asked = 0

    def render(self, request: Any) -> Any:
        self.asked += 1
        request.setResponseCode(self.status)
        for name, value in self.headers.items():
            request.setHeader(name, value)
        if not self.endless:
            return self.body
        request.write(self.body)
        return NOT_DONE_YET


@pytest.fixture
def impostor() -> Iterator[tuple[Impostor, tuple[str, int]]]:
    """A web server that is no Etcd, and where it is."""
    made = Impostor()
    site = cast(Any, Site)(made)
    site.noisy = False
    listening: Any = NETWORK.listenTCP(0, site, interface="127.0.0.1")
    yield made, ("127.0.0.1", listening.getHost().port)
    pytest_twisted.blockon(listening.stopListening())


@pytest_twisted.ensureDeferred
async def test_an_ipv6_address() -> None:
    """A host may be one, with either API's paths."""
    site = cast(Any, Site)(Impostor())
    site.noisy = False
    listening: Any = NETWORK.listenTCP(0, site, interface="::1")
    http = HttpClient(CLOCK, [("::1", listening.getHost().port)])
    try:
        for path in ("/v3/kv/range", "/v2/keys/tef/dev/resources/a%20b%3F?recursive=true"):
            answer = await http.ask(Request("GET", path))
            assert (answer.status, answer.body) == (200, b"{}")
    finally:
        await http.close()
        await listening.stopListening()


ANSWERS = [
    (200, b"{}"),
    (200, b'{"header":{}}'),
    (200, b"[]"),
    (200, b"<html>it works</html>"),
    (404, b"404 page not found\n"),
    (403, b"forbidden"),
]


@pytest.mark.parametrize(("status", "body"), ANSWERS)
@pytest.mark.parametrize("api", ["v2", "v3", "auto"])
@pytest_twisted.ensureDeferred
async def test_the_next_host_is_tried(
    services: Services,
    unique: str,
    impostor: tuple[Impostor, tuple[str, int]],
    api: str,
    status: int,
    body: bytes,
) -> None:
    """What is no answer of an Etcd is no answer; it is told, and a good second host serves."""
    (server, place), base = impostor, f"/tef/{unique}/resources"
    server.status, server.body = status, body
    twin = RealTwin("v2" if api == "v2" else "v3", services.etcd, base)
    await twin.foreign.set("r/ref_limit", "1")
    kind: Any = KINDS[api]
    reservations = kind(CLOCK, [place, services.etcd], base, "p", lambda: MONDAY_NOON, lambda: 1.0)
    observer = Observer()
    reservations.start(observer)
    await observer.until(lambda: "read" in observer.calls)
    assert list(observer.resources) == ["r"]
    assert await reservations.reserve([Reservation(1, ("r",))]) == [Granted(1, ("r",))]
    assert server.asked < 5
    await reservations.stop()


@pytest_twisted.ensureDeferred
async def test_a_missing_gateway_is_named(impostor: tuple[Impostor, tuple[str, int]]) -> None:
    """An Etcd that was started from a file has no gateway unless the file says so."""
    server, place = impostor
    server.status, server.body = 404, b"404 page not found\n"
    arguments: Any = (CLOCK, [place], "/tef/x", "p", lambda: MONDAY_NOON, lambda: 1.0)
    reservations, observer = AutoReservations(*arguments), Observer()
    reservations.start(observer)
    await observer.until(lambda: observer.lost)
    assert "enable-grpc-gateway" in observer.lost[0]
    await reservations.stop()


ODD = [b"\xb2", "²".encode(), b"9" * 5000, b"-1", b"", b"1 2"]


@pytest.mark.parametrize("value", ODD)
@pytest_twisted.ensureDeferred
async def test_odd_headers(impostor: tuple[Impostor, tuple[str, int]], value: bytes) -> None:
    """What an index or a cluster can't be says nothing, and is nobody's fault."""
    server, place = impostor
    server.headers = {b"x-etcd-index": value, b"x-etcd-cluster-id": value}
    server.body = b'{"action":"get","node":{"key":"/","dir":true}}'
    http = HttpClient(CLOCK, [place])
    result, index = await v2wire.ask(http, v2wire.request("GET", "/"))
    assert (result.action, index) == ("get", 0)
    await http.close()


@pytest_twisted.ensureDeferred
async def test_headers_without_an_end(impostor: tuple[Impostor, tuple[str, int]]) -> None:
    """They are bounded, too."""
    server, place = impostor
    server.headers = {b"x-%d" % number: b"y" * 1000 for number in range(2 * bodies.LARGEST_HEAD // 1000)}
    http = HttpClient(CLOCK, [place])
    for _ in range(2):
        with pytest.raises(ReservationsLost, match=r"127\.0\.0\.1.*headers of more than 262,144 bytes"):
            await v3wire.ask(http, "kv/range", v3wire.Range(b"x"), v3wire.RangeAnswer)
    server.headers = {b"x-%d" % number: b"y" * 1000 for number in range(100)}
    for _ in range(4):  # on one connection
        await http.ask(v2wire.request("GET", "/"))
    await http.close()


@pytest_twisted.ensureDeferred
async def test_a_bomb(impostor: tuple[Impostor, tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """However small it is on the wire, an answer that gets too large is given up."""
    server, place = impostor
    monkeypatch.setattr(bodies, "LARGEST_BODY", 1_000_000)
    server.body = gzip.compress(b'{"header":{"revision":"1"},"kvs":[' + b" " * 3_000_000 + b"]}")
    server.headers = {b"content-encoding": b"gzip"}
    http = HttpClient(CLOCK, [place])
    for status in (200, 503):
        server.status = status
        with pytest.raises(ReservationsLost, match="more than 1,000,000 bytes"):
            await v3wire.ask(http, "kv/range", v3wire.Range(b"x"), v3wire.RangeAnswer)
    await http.close()


@pytest_twisted.ensureDeferred
async def test_a_line_without_end(
    impostor: tuple[Impostor, tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch whose line does not end is given up, too."""
    server, place = impostor
    monkeypatch.setattr(jsonlines, "LONGEST_LINE", 100_000)
    server.body, server.endless = b"x" * 200_000, True
    http = HttpClient(CLOCK, [place])
    with pytest.raises(ReservationsLost, match="more than 100,000 bytes"):
        await watch(http, b"/tef/", 1, lambda events: None)
    await http.close()


def test_what_is_counted() -> None:
    """Each line has the limit for itself, whatever came before it."""
    found: list[bytes] = []
    cut = Lines(found.append)
    for piece in (b"a", b"bc\nd", b"e\n\nf\ng", b""):
        cut.received(piece)
    cut.ended()
    assert found == [b"abc", b"de", b"f", b"g"]
    few = Bounded("x", 3)
    for _ in range(5):
        few.append(b"abc")
        assert few.whole() == b"abc"
    few.append(b"ab")
    with pytest.raises(ReservationsLost, match="x: an answer of more than 3 bytes"):
        few.append(b"cd")
