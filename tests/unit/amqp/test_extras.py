"""What is declared beside the manager's queue, and what is said where that fails."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from txamqp.client import Closed

from tefmanager.amqp.delegate import why
from tefmanager.amqp.extras import Extras
from tefmanager.amqp.topology import Topology
from tefmanager.support.backoff import OPTIONAL
from tests.unit.amqp.wire import Wire, method

OPENED = method(2, "channel.open-ok", "")


class Rig:
    """A consumer that begins on a connection in memory."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.wire.log_in()
        self.missing: list[tuple[str, str | None]] = []
        topology = Topology("in", "dead", "rejected", "events")
        self.extras = Extras(self.wire.clock, topology, lambda *told: self.missing.append(told))
        self.declared = Deferred.fromCoroutine(self.extras.declare(self.wire.protocol, 10))

    def close(self, code: int, text: str) -> None:
        """Let the broker close the channel."""
        self.wire.receive(OPENED + method(2, "channel.close", code, text, 50, 10))


def test_what_the_broker_refuses_is_told() -> None:
    """In its words; the other things are declared all the same."""
    with capturedLogs() as logs:
        rig = Rig()
        rig.close(403, "ACCESS_REFUSED - no")
    [line] = [formatEvent(event) for event in logs]
    assert line == "queue dead is missing; it is tried again at least every 30 s: 403 ACCESS_REFUSED - no"
    rig.extras.stop()


def test_each_refusal_is_told_until_it_is_there() -> None:
    """Whoever counts how long something has been missing is told at each attempt, and of its end."""
    rig = Rig()
    there = method(2, "queue.declare-ok", "q", 0, 0)
    refused = method(2, "channel.close", 403, "ACCESS_REFUSED - no", 50, 10)
    others = OPENED + there + method(2, "exchange.declare-ok")
    rig.wire.receive(OPENED + refused)
    rig.wire.receive(others)
    rig.wire.clock.advance(OPTIONAL[1])
    rig.wire.receive(refused)
    rig.wire.receive(others)
    assert [why for what, why in rig.missing if what == "queue dead"] == ["403 ACCESS_REFUSED - no"] * 2
    rig.wire.clock.advance(OPTIONAL[1])
    rig.wire.receive(there)
    assert rig.missing[-1] == ("queue dead", None)
    rig.extras.stop()


def test_nothing_is_told_where_the_connection_goes() -> None:
    """Nobody knows whether something is missing; the consumer tells of the connection."""
    with capturedLogs() as logs:
        rig = Rig()
        rig.wire.hang_up()
        assert rig.declared.called
    assert logs == []


def test_reasons_are_for_people() -> None:
    """Whatever txamqp keeps as the reason, the text is what happened, and no object's name."""
    lost = Failure(ConnectionLost())  # type: ignore[no-untyped-call]
    assert why(Closed(lost)) == str(ConnectionLost())
    assert why(Closed("heartbeat expired")) == "heartbeat expired"
    assert why(Closed()) == "Closed"
