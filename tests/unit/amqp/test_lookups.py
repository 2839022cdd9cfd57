"""Look-ups share one channel, in turn; how many channels there may be; what is remembered of addresses."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from txamqp.client import ChannelClosed

from tefmanager.amqp.address_kinds import ABSENT, AddressKind, AddressKinds
from tefmanager.amqp.amqp_protocol import MAX_CHANNELS
from tefmanager.amqp.budget import FORGOTTEN, ChannelBudget
from tefmanager.amqp.connection import ignore_state
from tefmanager.amqp.declare import exchange_exists
from tefmanager.amqp.lookups import Lookups, detached
from tefmanager.amqp.outlets import LARGE, LIMIT_HOLDS, Outlets, Role
from tefmanager.amqp.unasked import NoChannel
from tefmanager.support.lease import Lease
from tests.unit.amqp.wire import Wire, method

OPENED = method(2, "channel.open-ok", "")
FOUND = method(2, "exchange.declare-ok")
LIMIT = "530 NOT_ALLOWED - number of channels opened for user 'u' has reached the maximum"


class Rig:
    """Look-ups over a transport in memory."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.wire.log_in()
        self.lookups = Lookups()
        self.lookups.use(self.wire.protocol, 2)
        self.wire.sent()

    def ask(self, exchange: str) -> Deferred[bool]:
        """Look for an exchange."""
        return self.lookups.ask(lambda channel: exchange_exists(channel, exchange))

    def called(self) -> list[str]:
        """Return the names of the methods since the last call."""
        return [name for name, _ in self.wire.called()]

    def missing(self) -> None:
        """Let the broker say that there is no such exchange."""
        self.wire.receive(method(2, "channel.close", 404, "NOT_FOUND - no exchange", 40, 10))


def result(answer: Deferred[Any]) -> Any:
    """Return what a Deferred has; it must have fired."""
    found: list[Any] = []
    answer.addBoth(found.append)
    assert found, "no answer yet"
    return found[0]


def test_one_after_the_other() -> None:
    """However many ask, one channel is open, and is opened anew only after the broker has closed it."""
    rig = Rig()
    first, second, third = rig.ask("a"), rig.ask("b"), rig.ask("c")
    assert rig.called() == ["channel.open"]
    rig.wire.receive(OPENED)
    assert rig.called() == ["exchange.declare"]
    rig.missing()
    assert result(first) is False
    assert rig.called() == ["channel.close-ok", "channel.open"]
    rig.wire.receive(OPENED + FOUND)
    assert result(second) is True
    assert rig.called() == ["exchange.declare", "exchange.declare"]
    rig.wire.receive(FOUND)
    assert result(third) is True


def test_cancelled() -> None:
    """A question under way is asked to its end; one that nobody waits for any more is left out."""
    rig = Rig()
    asked, dropped, kept = rig.ask("a"), rig.ask("b"), rig.ask("c")
    for each in (asked, dropped):
        each.cancel()
        result(each).trap(CancelledError)
    rig.wire.receive(OPENED + FOUND)
    rig.wire.receive(FOUND)
    assert rig.called() == ["channel.open", "exchange.declare", "exchange.declare"]
    assert result(kept) is True


def test_refused_and_lost() -> None:
    """Another refusal fails the question that met it; so does a connection that goes, and no channel."""
    rig = Rig()
    refused, lost = rig.ask("a"), rig.ask("b")
    rig.wire.receive(OPENED + method(2, "channel.close", 403, "ACCESS_REFUSED", 40, 10))
    result(refused).trap(ChannelClosed)
    rig.wire.hang_up()
    assert result(lost).check(ChannelClosed) is None
    rig.lookups.use(rig.wire.protocol, 0)
    result(rig.ask("c")).trap(NoChannel)


def test_detached() -> None:
    """What is cancelled goes on to its end."""
    waited: Deferred[str] = Deferred()
    ended: list[str] = []

    async def work() -> None:
        ended.append(await waited)

    answer = detached(work())
    answer.cancel()
    result(answer).trap(CancelledError)
    waited.callback("whole")
    assert ended == ["whole"]


def test_budget() -> None:
    """Each time a channel was too many the publisher gets one less, but never none, and not for ever."""
    time = [1000.0]
    budget = ChannelBudget(lambda: time[0])
    told: list[int] = []
    budget.on_decrease(lambda: told.append(budget.most))
    budget.used = 3
    assert not budget.ended("320 CONNECTION_FORCED")
    for _ in range(3):
        assert budget.ended(LIMIT)
    assert told == [2, 1, 1]
    time[0] += FORGOTTEN + 1
    assert budget.most == MAX_CHANNELS


def test_places() -> None:
    """Addresses used last are remembered, also for a moment that there is no such exchange."""
    time = [1000.0]
    kinds = AddressKinds(lambda: time[0], most=2)
    for name in (b"a", b"b", b"a", b"c"):
        kinds.put(name, AddressKind.QUEUE)
        kinds.absent(name + b"!")
        assert kinds.get(b"a") is AddressKind.QUEUE
    assert [kinds.get(name) for name in (b"a", b"b", b"c")] == [
        AddressKind.QUEUE,
        None,
        AddressKind.QUEUE,
    ]
    assert [kinds.lacks(name) for name in (b"a!", b"b!", b"c!")] == [True, False, True]
    time[0] += ABSENT
    assert not kinds.lacks(b"c!")


@pytest.mark.parametrize(
    ("most", "numbers"), [(1, [1, 1, 1, 1]), (3, [1, 1, 1, 1]), (4, [1, 4, 1, 1]), (6, [1, 4, 5, 6])]
)
def test_outlets(most: int, numbers: list[int]) -> None:
    """Dispatches, answers, large messages and exchanges have channels of their own, if there are any."""
    wire = Wire()
    wire.log_in()
    outlets = Outlets(Lease.unlimited(), wire.clock.seconds, ignore_state)
    Deferred.fromCoroutine(outlets.open(wire.protocol, most))
    found = [
        outlets.channel_for(kind, size, answer=answer).number
        for kind, size, answer in (
            (AddressKind.QUEUE, 1, False),
            (AddressKind.QUEUE, 1, True),
            (AddressKind.QUEUE, LARGE, True),
            (AddressKind.EXCHANGE, 1, False),
        )
    ]
    assert found == numbers


def test_what_is_too_large_is_remembered() -> None:
    """For a while nothing is sent that is larger than the broker takes; then it is tried again."""
    wire = Wire()
    wire.log_in()
    outlets = Outlets(Lease.unlimited(), wire.clock.seconds, ignore_state)
    Deferred.fromCoroutine(outlets.open(wire.protocol, 1))
    wire.receive(method(1, "channel.open-ok", "") + method(1, "confirm.select-ok"))
    assert outlets.refusal(10**9) is None
    reason = "PRECONDITION_FAILED - message size 2000 is larger than max size 1000"
    wire.receive(method(Role.DISPATCHES, "channel.close", 406, reason, 60, 40))
    assert outlets.refusal(1001) == f"406 {reason}"
    assert outlets.refusal(1000) is None
    wire.clock.advance(LIMIT_HOLDS)
    assert outlets.refusal(1001) is None
