"""The channel for events: nobody waits for it, and it costs next to nothing where nobody listens."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from tefmanager.amqp import frames
from tefmanager.amqp.announcer import PAUSE, Announcer
from tefmanager.support.backoff import OPTIONAL, Backoff
from tefmanager.support.lease import Lease
from tests.unit.amqp.wire import Wire, content, method


class Rig:
    """An announcer over a transport in memory.

    Attributes:
        wire: the connection.
        announcer: the announcer.
        made: how many bodies were asked for.
    """

    def __init__(self) -> None:
        self.wire = Wire()
        self.wire.log_in()
        self.lease = Lease.unlimited()
        clock = self.wire.clock
        pauses = Backoff(clock, *OPTIONAL, draw=lambda: 1.0)
        self.missing: list[str | None] = []
        self.announcer = Announcer(
            3, "events", self.lease, clock.seconds, pauses, lambda _, why: self.missing.append(why)
        )
        self.made = 0
        self.wire.sent()

    def open(self) -> Rig:
        """Open the channel."""
        Deferred.fromCoroutine(self.announcer.open(self.wire.protocol))
        return self.answer_open()

    def answer_open(self) -> Rig:
        """Answer to the channel's being opened."""
        self.wire.receive(method(3, "channel.open-ok", ""))
        self.wire.receive(method(3, "exchange.declare-ok"))
        self.wire.sent()
        return self

    def announce(self, key: str = "a.b") -> list[tuple[bytes, bytes, bytes]]:
        """Announce something; return the methods, headers and bodies that were written."""
        self.announcer.announce(key, self._body)
        sent = [payload for _, _, payload in self.wire.sent()]
        return [(sent[n], sent[n + 1], sent[n + 2]) for n in range(0, len(sent), 3)]

    def _body(self) -> bytes:
        self.made += 1
        return b"{}"

    def close(self, code: int, reason: str) -> None:
        """Let the broker close the channel."""
        self.wire.receive(method(3, "channel.close", code, reason, 60, 40))
        self.wire.sent()

    def refused(self) -> float:
        """Refuse to declare the exchange and to look for it; return the seconds until the next attempt."""
        before = self.wire.clock.seconds()
        for _ in range(2):
            self.wire.receive(method(3, "channel.open-ok", ""))
            self.close(403, "ACCESS_REFUSED - access to exchange 'events' refused")
        while not self.wire.called():
            self.wire.clock.advance(0.5)
        return self.wire.clock.seconds() - before


def came_back(key: bytes) -> bytes:
    """Return the frames with which a message of a key comes back, as nobody is bound for it."""
    properties = (1 << 7).to_bytes(2, "big") + bytes([len(key)]) + key
    called = method(3, "basic.return", 312, "NO_ROUTE", "events", key.decode())
    return called + content(3, b"{}", 1, properties)


def test_a_message_is_transient_json() -> None:
    """It goes to the exchange under its key, with delivery mode 1, its body untouched."""
    [(called, header, body)] = Rig().open().announce("task.done")
    assert called == frames.route(b"events", b"task.done")
    assert body == b"{}"
    flags = (1 << 15 | 1 << 12 | 1 << 7).to_bytes(2, "big")
    assert header[12:] == flags + b"\x10application/json" + b"\x01" + b"\x09task.done"


def test_nothing_is_kept_for_later() -> None:
    """Without a connection, and while the socket is full, messages are dropped unmade."""
    rig = Rig()
    assert rig.announce() == []
    rig.open()
    rig.announcer.set_writable(False)
    assert rig.announce() == []
    rig.announcer.set_writable(True)
    assert len(rig.announce()) == 1
    rig.wire.hang_up()
    assert rig.announce() == []
    assert rig.made == 1


def test_where_nobody_listens() -> None:
    """After a message came back nothing is even made for its key, for a while; other keys go on."""
    rig = Rig().open()
    assert len(rig.announce("a.b")) == 1
    rig.wire.receive(came_back(b"a.b"))
    assert rig.announce("a.b") == []
    assert len(rig.announce("a.c")) == 1
    rig.wire.clock.advance(PAUSE)
    assert len(rig.announce("a.b")) == 1
    assert rig.made == 3


def test_an_exchange_that_was_removed_is_made_anew() -> None:
    """The broker closes the channel, which is opened again with the exchange."""
    rig = Rig().open()
    rig.close(404, "NOT_FOUND - no exchange 'events' in vhost '/'")
    assert rig.announce() == []
    rig.answer_open()
    assert len(rig.announce()) == 1


@pytest.mark.parametrize("when", ["declaring", "publishing"])
def test_where_the_broker_does_not_let_us(when: str) -> None:
    """There are no events until the next connection, and the connection stays as it is."""
    rig = Rig()
    Deferred.fromCoroutine(rig.announcer.open(rig.wire.protocol))
    rig.wire.receive(method(3, "channel.open-ok", ""))
    if when == "publishing":
        rig.wire.receive(method(3, "exchange.declare-ok"))
    rig.close(403, "ACCESS_REFUSED - access to exchange 'events' refused")
    assert rig.announce() == []
    assert rig.wire.protocol.usable


def test_an_exchange_of_another_kind_to_which_nobody_may_publish() -> None:
    """What is said of the channel is heard though it was opened twice: nothing goes on a closed one."""
    rig = Rig()
    Deferred.fromCoroutine(rig.announcer.open(rig.wire.protocol))
    rig.wire.receive(method(3, "channel.open-ok", ""))
    rig.close(406, "PRECONDITION_FAILED - inequivalent arg 'internal' for exchange 'events'")
    rig.answer_open()
    assert len(rig.announce("a.b")) == 1
    rig.wire.receive(came_back(b"a.b"))
    assert rig.announce("a.b") == []
    assert len(rig.announce("a.c")) == 1
    rig.close(403, "ACCESS_REFUSED - cannot publish to internal exchange 'events'")
    assert rig.announce("a.c") == []


def test_a_right_to_publish_is_told_by_what_is_taken() -> None:
    """That the channel is open again says nothing; the broker's answer after a message does."""
    rig = Rig().open()
    refused = "ACCESS_REFUSED - access to exchange 'events' refused"
    with capturedLogs() as logs:
        for _ in range(2):
            rig.announcer.announce("a.b", lambda: b"{}")
            rig.close(403, refused)
            rig.wire.clock.advance(OPTIONAL[1])
            rig.answer_open()
        assert [formatEvent(event) for event in logs] == [f"Events are not published: 403 {refused}"]
        assert rig.missing == [None, f"403 {refused}", f"403 {refused}"]
        rig.announcer.announce("a.b", lambda: b"{}")
        rig.wire.receive(method(3, "exchange.declare-ok"))
        assert [formatEvent(event) for event in logs[1:]] == ["Events are published again"]
        assert rig.missing[-1] is None
    rig.wire.sent()
    assert len(rig.announce()) == 1, "and nothing is asked any more"


def test_a_connection_that_goes_while_the_exchange_is_made_anew() -> None:
    """There is nothing to be done about it, and nothing is left in a Deferred."""
    rig = Rig().open()
    rig.close(404, "NOT_FOUND - no exchange 'events' in vhost '/'")
    rig.wire.hang_up()
    assert rig.announce() == []


def test_what_is_refused_is_tried_again_soon_and_then_seldom() -> None:
    """The pauses grow from a second to half a minute, and begin anew once the broker lets us."""
    rig = Rig()
    Deferred.fromCoroutine(rig.announcer.open(rig.wire.protocol))
    assert [rig.refused() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    rig.answer_open()
    rig.close(404, "NOT_FOUND - no exchange 'events' in vhost '/'")
    assert rig.refused() == 1
