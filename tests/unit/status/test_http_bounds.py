"""HTTP under attack: who may ask, how much of it is read, how many there are, and what goes first."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.error import ConnectionAborted
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from tefmanager.core.model.limits import Limits
from tefmanager.protocol.catalogue import LoggedEvent
from tefmanager.status import stream as streams
from tefmanager.status.api import LONGEST_BODY
from tefmanager.status.gate import DELAY, LOG_INTERVAL, Gate
from tefmanager.status.hosts import Hosts
from tefmanager.status.journal import Journal
from tefmanager.status.meter import Meter
from tefmanager.status.pacer import BUDGET, Pacer
from tefmanager.status.site import IDLE, LINGER, BoundedSite
from tefmanager.status.stream import Stream
from tefmanager.status.view import View
from tefmanager.status.web import Root
from tests.unit.grid import Grid
from tests.unit.status.support import Source
from tests.unit.support.outages import Told

TOKEN = b"0123456789abcdef"


_Transport: Any = StringTransport


class Transport(_Transport):  # type: ignore[misc]
    """A connection in memory that can be dropped."""

    protocol: Any = None
    disconnecting = False

    def abortConnection(self) -> None:
        """End it, as a socket would."""
        if not self.disconnecting:
            self.disconnecting = True
            self.protocol.connectionLost(Failure(ConnectionAborted()))  # type: ignore[no-untyped-call]


class Page:
    """The manager's HTTP without a socket."""

    def __init__(self, most: int = 10, listeners: int = 3) -> None:
        self.clock = Clock()
        self.source = Source(Grid(Limits()).core)
        self.lines: list[LoggedEvent] = []
        meter, told = Meter(), Told(100.0)
        journal = Journal(meter)
        view = View(self.source, told.now, meter, journal, told.outages, stuck=24.0, actions=True)
        self.stream = Stream(self.clock, lambda: b"{}", listeners)
        gate, pacer = Gate(self.clock, TOKEN, self.lines.append), Pacer(self.clock, self.clock.seconds)
        root = Root(self.clock, view, self.stream, gate, pacer)
        self.site = BoundedSite(root, Hosts(["grid.example.org"]), most)
        self.site.reactor = self.clock

    def connect(self) -> Transport:
        """Open a connection."""
        transport = Transport()
        transport.protocol = self.site.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        return transport

    def ask(self, request: bytes, transport: Transport | None = None) -> bytes:
        """Send bytes, let happen what happens at once, and return what came back."""
        transport = transport or self.connect()
        transport.clear()
        if not transport.disconnecting:
            transport.protocol.dataReceived(request)
        self.clock.pump([0.0] * 5 + [0.01] * 5)
        answer: bytes = transport.value()
        return answer

    def status(self, request: bytes) -> int:
        """Send a request on a connection of its own; return the status of the answer, or 0."""
        found = self.ask(request)
        return int(found.split()[1]) if found else 0


@pytest.fixture
def page() -> Page:
    """A page with few places."""
    return Page()


def get(path: str = "/api/status", host: str = "localhost:8090", *headers: str) -> bytes:
    """Return a request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def post(path: str, body: bytes, *headers: str, host: str = "localhost:8090") -> bytes:
    """Return a request that has the token."""
    head = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Authorization: Bearer {TOKEN.decode()}"]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body


# --- who may ask ---


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:8090", "localhost.", "127.0.0.1:8090", "127.8.8.8", "[::1]:8090"),
        *("10.0.0.1", "grid.example.org", "Grid.Example.Org:443"),
    ],
)
def test_our_names(page: Page, host: str) -> None:
    """The loopback's names, the address at which the request came, and what is configured."""
    assert page.status(get("/api/status", host)) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8090", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("10.0.0.2", "0.0.0.0", "[::]", "[", "]", "", "user@evil.example", "localhost@evil.example"),
        *(
            "evil.example#localhost",
            "evil.example/localhost",
            "x" * 10_000,
            "2130706433",
            "grid.example.org.evil",
        ),
    ],
)
@pytest.mark.parametrize("path", ["/", "/health", "/metrics", "/api/stream"])
def test_other_names(page: Page, host: str, path: str) -> None:
    """A name that somebody else lets lead to us is refused, whatever it asks for."""
    answer = page.ask(get(path, host))
    assert answer.startswith(b"HTTP/1.1 403")
    assert b"frame-ancestors 'none'" in answer


def test_two_hosts(page: Page) -> None:
    """A request for two hosts is for none."""
    assert page.status(get("/", "localhost", "Host: localhost")) == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:8090", 202),
        ("https://grid.example.org", 202),
        ("http://localhost:9999", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_origins(page: Page, origin: str, status: int) -> None:
    """Only the page itself may do something, besides programs, which name no origin."""
    assert page.status(post("/api/state", b'{"state":"paused"}', f"Origin: {origin}")) == status
    assert page.status(post("/api/state", b'{"state":"paused"}')) == 202


# --- how much is read ---


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_long_bodies(page: Page, kind: str) -> None:
    """They are refused by their length alone, before anything of them has come."""
    for method in ("POST", "GET", "PUT", "HEAD"):
        transport = page.connect()
        head = f"{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nExpect: 100-continue\r\n"
        answer = page.ask(f"{head}Content-Length: {LONGEST_BODY + 1}\r\n\r\n".encode(), transport)
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"connection: close" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
        for _ in range(100):
            assert page.ask(b"a=" * 10_000, transport) == b"", "nobody reads it, and nobody answers it"
        page.clock.advance(LINGER)
        assert transport.disconnecting


def test_long_bodies_in_chunks(page: Page) -> None:
    """One that does not tell its length is refused as soon as it is too long."""
    transport = page.connect()
    head = post("/api/state", b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    assert page.ask(head + chunk, transport) == b""
    assert page.ask(chunk, transport).startswith(b"HTTP/1.1 413")
    assert page.ask(b"0\r\n\r\n", transport) == b""
    assert not page.source.commands


def test_a_body_of_the_greatest_length(page: Page) -> None:
    """It is read, and never taken for a form."""
    body = b'{"state":"paused"}'.ljust(LONGEST_BODY)
    kind = "Content-Type: application/x-www-form-urlencoded"
    assert page.status(post("/api/state", body, kind)) == 202


# --- how many there are ---


def test_idle_connections_make_room(page: Page) -> None:
    """Where all places are taken, who has been idle for longest goes, and new ones are always served."""
    silent = [page.connect() for _ in range(50)]
    assert len(page.site.crowd) == 10
    assert page.status(get("/health")) == 200
    assert all(transport.disconnecting for transport in silent[:41])
    begun = [page.connect() for _ in range(50)]
    for transport in begun:
        page.ask(b"GET / HT", transport)  # slowly
    assert page.status(get("/ready")) in (200, 503)


def test_nobody_is_idle(page: Page) -> None:
    """Where all wait for an answer, the one that has waited for longest goes."""
    waiting = [page.connect() for _ in range(15)]
    for transport in waiting:
        page.ask(get("/api/tasks/nobody"), transport)  # nobody answers the question
    assert len(page.site.crowd) == 10
    assert page.status(get("/health")) == 200


def test_places_become_free(page: Page) -> None:
    """Connections that end, or say nothing for a minute, are counted no more."""
    first = page.connect()
    page.connect()
    first.abortConnection()
    assert len(page.site.crowd) == 1
    page.clock.advance(IDLE + 1)
    assert len(page.site.crowd) == 0


def test_unread_streams(page: Page) -> None:
    """A listener whose connection takes nothing for some events is dropped."""
    transport = page.connect()
    page.ask(get("/api/stream"), transport)
    assert len(page.stream) == 1
    transport.protocol.pauseProducing()
    page.clock.pump([1.0] * (streams.UNREAD + 1))
    assert (len(page.stream), transport.disconnecting) == (0, True)


def test_streams_give_way(page: Page) -> None:
    """Where all places are taken, who has listened for longest goes, once it had its turn."""
    old = [page.connect() for _ in range(3)]
    for transport in old:
        page.ask(get("/api/stream"), transport)
    assert page.status(get("/api/stream")) == 503
    page.clock.pump([1.0] * streams.TURN)
    assert page.status(get("/api/stream")) == 200
    assert [transport.disconnecting for transport in old] == [True, False, False]


# --- what goes first ---


def test_pauses() -> None:
    """As long as answers took, all else has its turn after them."""
    clock, done, spent = Clock(), [], 0.0
    pacer = Pacer(clock, lambda: clock.seconds() + spent)

    def answer(number: int) -> None:
        nonlocal spent
        spent += BUDGET / 2
        done.append(number)

    for number in range(10):
        pacer.add(lambda number=number: answer(number))  # type: ignore[misc]
    clock.advance(0)
    assert done == [0, 1]
    clock.advance(BUDGET / 2)
    assert done == [0, 1], "the pause is as long as the work"
    while clock.getDelayedCalls():
        clock.advance(BUDGET)
    assert done == list(range(10))


def test_an_answer_that_fails(expected_errors: Any) -> None:
    """It is logged, and the others are given."""
    clock, done = Clock(), []
    pacer = Pacer(clock, clock.seconds)
    pacer.add(lambda: 1 // 0)  # type: ignore[arg-type]
    pacer.add(lambda: done.append(1))
    clock.advance(0)
    assert done == [1]
    expected_errors(ZeroDivisionError)


def test_health_is_answered_at_once(page: Page) -> None:
    """It waits for no other request."""
    others = [page.connect() for _ in range(9)]
    for transport in others:
        transport.protocol.dataReceived(get("/api/status"))
    transport = page.connect()
    transport.protocol.dataReceived(get("/health"))
    assert transport.value().startswith(b"HTTP/1.1 200")
    assert not any(other.value() for other in others)


def test_who_is_gone_gets_no_answer(page: Page) -> None:
    """And nothing is made for it."""
    transport = page.connect()
    transport.protocol.dataReceived(get("/api/status"))
    transport.abortConnection()
    page.clock.advance(1)
    assert transport.value() == b""


# --- the token ---


def test_wrong_tokens(page: Page) -> None:
    """They are refused late, and logged in few lines."""
    for number in range(200):
        wrong = post("/api/state", b"{}").replace(TOKEN, b"wrong%d" % number)
        assert page.ask(wrong) == b"", "not yet"
    assert [line.values for line in page.lines] == [("192.168.1.1", 1)]
    last = page.connect()
    last.protocol.dataReceived(post("/api/state", b"{}").replace(TOKEN, b"x"))
    page.clock.pump([0.01] * 5)
    assert last.value() == b""
    page.clock.advance(DELAY)
    assert last.value().startswith(b"HTTP/1.1 401")
    page.clock.pump([1.0] * int(LOG_INTERVAL))
    assert [line.values for line in page.lines] == [("192.168.1.1", 1), ("192.168.1.1", 200)]
    assert page.status(post("/api/state", b'{"state":"paused"}')) == 202
    assert len(page.source.commands) == 1
