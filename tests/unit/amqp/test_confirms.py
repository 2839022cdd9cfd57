"""A channel in confirm mode: each message gets its own answer, however answers are batched and mixed."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred

from tefmanager.amqp import frames
from tefmanager.amqp.codec import TableError
from tefmanager.amqp.confirms import ConfirmChannel
from tefmanager.interfaces.amqp import Delivered, Message
from tefmanager.support.backoff import LONGEST
from tefmanager.support.lease import Lease
from tests.unit.amqp.wire import Wire, content, method

LOST, RETURNED, CONFIRMED, NACKED, REFUSED = (
    Delivered.LOST,
    Delivered.RETURNED,
    Delivered.CONFIRMED,
    Delivered.NACKED,
    Delivered.REFUSED,
)
NOT_FOUND = "NOT_FOUND - no exchange '{}' in vhost '/'"


class Rig:
    """A confirm channel over a transport in memory.

    Attributes:
        wire: the connection.
        channel: the channel.
        answers: what has become of messages, by the order of the calls.
        told: why the broker has closed the channel.
        access: why we may publish to no queue, and an empty text when we may again.
    """

    def __init__(self, opened: bool = True, window: float = inf) -> None:
        self.wire = Wire()
        self.wire.log_in()
        self.lease = Lease.unlimited()
        self.told: list[str] = []
        self.access: list[str] = []
        self.channel = ConfirmChannel(1, self.lease, window, self.told.append, self.access.append)
        self.answers: dict[int, object] = {}
        self._calls = 0
        if opened:
            self.open()

    def open(self) -> None:
        """Open the channel."""
        Deferred.fromCoroutine(self.channel.open(self.wire.protocol))
        self.answer_open()

    def answer_open(self) -> None:
        """Answer to the channel's being opened."""
        self.wire.receive(method(1, "channel.open-ok", "") + method(1, "confirm.select-ok"))

    def publish(self, exchange: bytes = b"", body: bytes = b"x") -> Deferred[Delivered]:
        """Publish a message."""
        self._calls += 1
        call = self._calls
        answer = self.channel.publish(exchange, b"key", Message(body))
        answer.addCallbacks(
            lambda outcome: self.answers.update({call: outcome}),
            lambda failure: self.answers.update({call: failure.type}),
        )
        return answer

    def published(self) -> list[tuple[bytes, bytes]]:
        """Return properties and bodies of what was written since the last call."""
        sent = self.wire.sent()
        headers = [payload[12:] for kind, _, payload in sent if kind == frames.HEADER]
        bodies = [payload for kind, _, payload in sent if kind == frames.BODY]
        return list(zip(headers, bodies, strict=True))


def returned(properties: bytes) -> bytes:
    """Return the frames with which a message comes back."""
    return method(1, "basic.return", 312, "NO_ROUTE", "", "key") + content(1, b"x", 1, properties)


@pytest.fixture
def rig() -> Rig:
    """A channel that is open."""
    return Rig()


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_any_mix(count: int, rng: random.Random) -> None:
    """Equal messages, some returned, some nacked, confirms in any order and batched: each gets its own."""
    rig = Rig()
    for _ in range(count):
        rig.publish()
    sent = rig.published()
    fates = {number: rng.choice([CONFIRMED, RETURNED, NACKED]) for number in range(1, count + 1)}
    returns = [number for number in fates if fates[number] is RETURNED]
    open_numbers = set(fates)
    while open_numbers:
        number = rng.choice(sorted(open_numbers))
        while returns and (returns[0] <= number or rng.random() < 0.5):
            rig.wire.receive(returned(sent[returns.pop(0) - 1][0]))
        below = {other for other in open_numbers if other <= number}
        nacked = fates[number] is NACKED
        multiple = all((fates[other] is NACKED) == nacked for other in below) and rng.random() < 0.7
        rig.wire.receive(
            method(1, "basic.nack", number, multiple, False)
            if nacked
            else method(1, "basic.ack", number, multiple)
        )
        open_numbers -= below if multiple else {number}
    assert rig.answers == fates
    assert len(rig.channel) == 0


def test_multiple_with_zero(rig: Rig) -> None:
    """A confirm of everything settles everything."""
    rig.publish()
    rig.publish()
    rig.wire.receive(method(1, "basic.ack", 0, True))
    assert rig.answers == {1: CONFIRMED, 2: CONFIRMED}


def test_strange_return(rig: Rig) -> None:
    """A return that belongs to nothing here changes nothing."""
    rig.publish()
    for properties in (b"\0\0", b"\x00\x80\x03x-1", b"\x00\x80\x01-"):
        rig.wire.receive(returned(properties))
    rig.wire.receive(method(1, "basic.ack", 1, False) + method(1, "basic.ack", 1, False))
    assert rig.answers == {1: CONFIRMED}


def test_order_while_waiting() -> None:
    """Messages wait for the channel and go out in the order of the calls."""
    rig = Rig(opened=False)
    for number in range(5):
        rig.publish(body=b"%d" % number)
    assert rig.published() == []
    rig.open()
    rig.publish(body=b"5")
    assert [body for _, body in rig.published()] == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_held_back(rig: Rig) -> None:
    """While nothing may be written messages wait; those before keep their answers."""
    rig.publish()
    rig.channel.set_writable(False)
    rig.publish(body=b"y")
    assert len(rig.published()) == 1
    rig.wire.receive(method(1, "basic.ack", 1, False))
    assert rig.answers == {1: CONFIRMED}
    rig.channel.set_writable(True)
    assert [body for _, body in rig.published()] == [b"y"]


def test_cancel(rig: Rig) -> None:
    """A message that waits can be taken back; one that was sent only loses its answer."""
    sent = rig.publish()
    rig.channel.set_writable(False)
    waiting = rig.publish(body=b"y")
    rig.publish(body=b"z")
    sent.cancel()
    waiting.cancel()
    rig.channel.set_writable(True)
    assert [body for _, body in rig.published()] == [b"x", b"z"]
    rig.wire.receive(method(1, "basic.ack", 2, True))
    assert rig.answers == {1: CancelledError, 2: CancelledError, 3: CONFIRMED}


def test_connection_lost(rig: Rig) -> None:
    """What was in flight is lost, what was returned stays returned, what waits goes on waiting."""
    rig.publish()
    rig.publish()
    rig.wire.receive(returned(rig.published()[1][0]))
    rig.channel.set_writable(False)
    rig.publish(body=b"waits")
    rig.wire.hang_up()
    assert rig.answers == {1: LOST, 2: RETURNED}
    rig.wire = Wire()
    rig.wire.log_in()
    rig.channel.set_writable(True)
    rig.open()
    assert [body for _, body in rig.published()] == [b"waits"]


def test_give_up(rig: Rig) -> None:
    """Giving up settles all there is."""
    rig.publish()
    rig.channel.set_writable(False)
    rig.publish()
    rig.channel.give_up()
    assert rig.answers == {1: LOST, 2: LOST}
    assert len(rig.channel) == 0


def test_missing_exchange(rig: Rig) -> None:
    """A missing exchange returns its message; earlier ones are lost, later ones sent again, in order."""
    cancelled = [rig.publish(exchange) for exchange in (b"a", b"gone", b"c", b"d", b"e")][3]
    rig.published()
    cancelled.cancel()
    rig.wire.receive(method(1, "channel.close", 404, NOT_FOUND.format("gone"), 60, 40))
    rig.publish(b"f", b"later")
    assert rig.answers == {1: LOST, 2: RETURNED, 4: CancelledError}
    rig.answer_open()
    assert [body for _, body in rig.published()] == [b"x", b"x", b"later"]
    rig.wire.receive(method(1, "basic.ack", 3, True))
    assert rig.answers == {
        1: LOST,
        2: RETURNED,
        3: CONFIRMED,
        4: CancelledError,
        5: CONFIRMED,
        6: CONFIRMED,
    }


def test_missing_exchange_twice(rig: Rig) -> None:
    """Of several messages to a missing exchange only the last is certain not to have got through."""
    for exchange in (b"gone", b"gone"):
        rig.publish(exchange)
    rig.wire.receive(method(1, "channel.close", 404, NOT_FOUND.format("gone"), 60, 40))
    assert rig.answers == {1: LOST, 2: RETURNED}


def test_missing_exchange_long_name(rig: Rig) -> None:
    """A name so long that the broker's reason is cut off is recognized all the same."""
    name = "é" * 127
    reason = NOT_FOUND.format(name).encode()[:255].decode(errors="ignore")
    rig.publish(name.encode())
    rig.wire.receive(method(1, "channel.close", 404, reason, 60, 40))
    assert rig.answers == {1: RETURNED}


@pytest.mark.parametrize(
    ("exchange", "reason"),
    [
        (b"secret", "access to exchange 'secret' in vhost '/' refused for user 'manager'"),
        (b"inner", "cannot publish to internal exchange 'inner' in vhost '/'"),
    ],
)
def test_refused_exchange(rig: Rig, exchange: bytes, reason: str) -> None:
    """An exchange that is not for us returns its message; those to other exchanges go on."""
    for each in (exchange, b"other"):
        rig.publish(each)
    rig.published()
    rig.wire.receive(method(1, "channel.close", 403, f"ACCESS_REFUSED - {reason}", 60, 40))
    assert rig.answers == {1: RETURNED}
    rig.answer_open()
    assert len(rig.published()) == 1


def test_refusal_is_told_once(rig: Rig) -> None:
    """Why the broker closes the channel is told, and again only after something was published."""
    refused = method(1, "channel.close", 403, "ACCESS_REFUSED - access to exchange 'secret'", 60, 40)

    def refuse() -> None:
        rig.publish(b"secret")
        rig.wire.receive(refused)
        rig.answer_open()

    refuse()
    refuse()
    assert [reason[:20] for reason in rig.told] == ["403 ACCESS_REFUSED -"]
    rig.publish()
    rig.wire.receive(method(1, "basic.ack", 1, False))
    refuse()
    assert len(rig.told) == 2


FORBIDDEN = "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'manager'"


def forbid(rig: Rig) -> None:
    """Let the broker refuse what was published to a queue; wait until it is tried again."""
    rig.wire.receive(method(1, "channel.close", 403, FORBIDDEN, 60, 40))
    assert rig.published() == []
    rig.wire.clock.advance(LONGEST)
    rig.answer_open()


def test_no_right_to_publish_to_queues(rig: Rig) -> None:
    """It is no fault of the message, nor of its queue: it waits, and goes out in its place once we may."""
    for body in (b"1", b"2", b"3"):
        rig.publish(body=body)
    rig.published()
    forbid(rig)
    assert rig.answers == {1: LOST, 2: LOST}, "it may have been looked at before the right was taken away"
    rig.publish(body=b"4")
    for _ in range(3):
        assert [body for _, body in rig.published()] == [b"3"], "alone, so that nothing else is in doubt"
        forbid(rig)
    assert rig.access == [f"403 {FORBIDDEN}"] * 4
    assert rig.told == []
    rig.published()
    rig.wire.receive(method(1, "basic.ack", 1, False))
    assert [body for _, body in rig.published()] == [b"4"]
    assert rig.answers[3] is CONFIRMED
    assert rig.access[-1] == ""


def test_a_pause_is_ended(rig: Rig) -> None:
    """Once another channel may publish to queues, so may this one."""
    rig.channel.hurry()
    rig.publish()
    rig.published()
    rig.wire.receive(method(1, "channel.close", 403, FORBIDDEN, 60, 40))
    rig.channel.hurry()
    rig.wire.clock.advance(0)
    rig.answer_open()
    assert len(rig.published()) == 1
    rig.channel.hurry()
    assert rig.published() == []


def test_a_cancelled_message_is_not_tried_again(rig: Rig) -> None:
    """Nobody waits for it any more."""
    rig.publish().cancel()
    rig.published()
    forbid(rig)
    assert rig.published() == []


@pytest.mark.parametrize("wording", ["max size", "configured max size"])
def test_too_large(rig: Rig, wording: str) -> None:
    """A message that is too large is refused alone: those behind it go out again on the next channel."""
    for body in (b"small", b"x" * 2000, b"after"):
        rig.publish(body=body)
    rig.published()
    reason = f"PRECONDITION_FAILED - message size 2000 is larger than {wording} 1000"
    rig.wire.receive(method(1, "channel.close", 406, reason, 60, 40))
    assert rig.answers == {1: LOST, 2: REFUSED}
    assert rig.told == [f"406 {reason}"]
    rig.answer_open()
    assert [body for _, body in rig.published()] == [b"after"]


def test_window() -> None:
    """No more messages are under way than the window lets, and the next goes out when one is confirmed."""
    rig = Rig(window=1)
    for body in (b"1", b"2"):
        rig.publish(body=body)
    assert [body for _, body in rig.published()] == [b"1"]
    rig.wire.receive(method(1, "basic.ack", 1, False))
    assert [body for _, body in rig.published()] == [b"2"]


def test_confirms_cost_what_is_in_flight(rig: Rig) -> None:
    """A confirm of several looks only at those in flight, however many were confirmed before."""
    for number in range(1, 50):
        rig.publish()
        rig.wire.receive(method(1, "basic.ack", number, False))
    rig.publish()
    looked: list[int] = []

    class Counted(dict[int, Any]):
        def __iter__(self) -> Iterator[int]:
            for number in super().__iter__():
                looked.append(number)
                yield number

        def pop(self, number: int, *default: Any) -> Any:
            looked.append(number)
            return super().pop(number, *default)

    rig.channel._in_flight = Counted(rig.channel._in_flight)
    rig.wire.receive(method(1, "basic.ack", 50, True))
    assert set(looked) == {50}
    assert len(rig.answers) == 50


def test_direct_reply_is_not_mandatory(rig: Rig) -> None:
    """RabbitMQ returns a mandatory answer to a direct reply-to, though it arrives."""
    for key, mandatory in ((b"queue", 1), (b"amq.rabbitmq.reply-to.g1h2.x", 0)):
        rig.channel.publish(b"", key, Message(b""))
        [called] = [args for name, args in rig.wire.called() if name == "basic.publish"]
        assert called[3] == mandatory


def test_channel_closed_otherwise(rig: Rig) -> None:
    """When the broker closes the channel for another reason all is lost, and the channel opened anew."""
    rig.publish()
    rig.wire.receive(method(1, "channel.close", 406, "PRECONDITION_FAILED - too large", 60, 40))
    assert rig.answers == {1: LOST}
    rig.answer_open()
    rig.publish()
    rig.wire.receive(method(1, "basic.ack", 1, False))
    assert rig.answers == {1: LOST, 2: CONFIRMED}


def test_channel_cannot_be_opened_anew(rig: Rig) -> None:
    """When that fails too the connection is closed, to be made anew."""
    closed = method(1, "channel.close", 406, "PRECONDITION_FAILED", 60, 40)
    rig.wire.receive(closed + closed)
    assert not rig.wire.protocol.usable
    assert "can't be opened" in rig.wire.protocol.reason


@pytest.mark.parametrize(
    "message",
    [
        Message(b"", correlation_id=b"x" * 256),
        Message(b"", headers={"k": object()}),
        Message(b"", headers={"k": 2**64}),
    ],
)
def test_not_encodable(rig: Rig, message: Message) -> None:
    """A message that can't be encoded is refused before anything is written; others are not touched."""
    rig.wire.sent()
    with pytest.raises(TableError):
        rig.channel.publish(b"", b"key", message)
    assert rig.wire.sent() == []
    rig.publish()
    [(properties, _)] = rig.published()
    assert struct.unpack(">H", properties[:2])[0] & 1 << 12
    rig.wire.receive(method(1, "basic.ack", 1, False))
    assert rig.answers == {1: CONFIRMED}


def test_nothing_leaves_without_a_lease(rig: Rig) -> None:
    """While it is not certain that we are the active manager messages wait; nothing is sent in between."""
    rig.lease.end()
    rig.publish()
    assert rig.published() == []
    rig.lease.renew(0.0)
    rig.channel.set_writable(True)
    assert len(rig.published()) == 1


@pytest.mark.parametrize(("size", "kept"), [(130_000, True), (131_020, False), (300_000, False)])
def test_headers_too_long_for_a_frame(size: int, kept: bool) -> None:
    """They are left out: the message matters more, and the broker would end the connection."""
    rig = Rig()
    message = Message(b"body", reply_to=b"me", headers={"reason": "x" * size})
    rig.channel.publish(b"", b"key", message)
    [(properties, body)] = rig.published()
    assert body == b"body"
    assert (len(properties) > size) is kept
    assert b"me" in properties
    assert len(properties) <= 131072 - 8
