"""The protocol over a transport in memory: handshake, frames however they come, heartbeats, closing."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from txamqp.client import ChannelClosed, Closed

from tefmanager.amqp import frames
from tefmanager.amqp.amqp_protocol import ProtocolError
from tefmanager.amqp.codec import TableError, Timestamp, decode_table, encode_table
from tefmanager.amqp.frames import Properties
from tefmanager.amqp.unasked import ChannelEvents
from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.interfaces.amqp import Envelope, Message
from tests.unit.amqp.wire import START, Wire, content, deliver, method


class Recorder(ChannelEvents):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.properties: list[Properties] = []
        self.told: list[tuple[object, ...]] = []

    def delivered(self, tag: int, redelivered: bool, properties: Properties, body: bytes) -> None:
        self.bodies.append(body)
        self.properties.append(properties)

    def returned(self, reason: str, properties: Properties) -> None:
        self.told.append(("returned", reason, properties.message_id))

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        self.told.append(("confirmed", tag, multiple, ok))

    def cancelled(self) -> None:
        self.told.append(("cancelled",))

    def closed(self, reason: str) -> None:
        self.told.append(("closed", reason))


def opened(wire: Wire) -> tuple[Any, Recorder]:
    """Open channel 1 and return it, with who is told of its events."""
    recorder = Recorder()
    result: list[Any] = []
    Deferred.fromCoroutine(wire.protocol.open_channel(1, recorder)).addCallback(result.append)
    wire.receive(method(1, "channel.open-ok", ""))
    wire.sent()
    return result[0], recorder


@pytest.fixture
def wire() -> Wire:
    """A connection that is logged in."""
    wire = Wire()
    wire.log_in()
    wire.sent()
    return wire


def outcome(deferred: Deferred[Any]) -> list[Any]:
    """Return a list that will hold the result of a Deferred, or the exception."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results


# --- Handshake ---


def test_login() -> None:
    """It says 0-9-1, logs in by PLAIN, announces what it understands, and opens its vhost."""
    wire = Wire(AmqpEndpoint(user="é", password="ü", vhost="vé", heartbeat=10))
    assert wire.transport.take() == b"AMQP\x00\x00\x09\x01"
    done = outcome(Deferred.fromCoroutine(wire.protocol.login()))
    wire.receive(START)
    [(name, (properties, mechanism, response, _))] = wire.called()
    assert (name, mechanism, response) == ("connection.start-ok", "PLAIN", "\0é\0ü")
    assert properties["connection_name"] == "test"
    assert set(properties["capabilities"].values()) == {True}
    assert "consumer_cancel_notify" in properties["capabilities"]
    wire.receive(method(0, "connection.tune", 2047, 131072, 60))
    tuned, opened = wire.called()
    assert tuned == ("connection.tune-ok", (2047, 131072, 10))
    assert opened == ("connection.open", ("vé", "", False))
    assert not done
    wire.receive(method(0, "connection.open-ok", ""))
    assert len(done) == 1


@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"),
    [
        ((0, 0, 0), 10, (2047, 131072, 10)),
        ((100, 8192, 5), 10, (100, 8192, 5)),
        ((65535, 2**31, 60), 10, (2047, 131072, 10)),
        ((0, 0, 60), 0, (2047, 131072, 0)),
        ((0, 0, 0), 0, (2047, 131072, 0)),
    ],
)
def test_tuning(theirs: tuple[int, int, int], ours: int, agreed: tuple[int, int, int]) -> None:
    """Of both sides' limits the lower counts, 0 being none; our own heartbeat of 0 stands."""
    wire = Wire(AmqpEndpoint(heartbeat=ours))
    wire.receive(START + method(0, "connection.tune", *theirs))
    assert wire.called()[1] == ("connection.tune-ok", agreed)
    assert len(wire.clock.getDelayedCalls()) == (1 if agreed[2] else 0)


def test_refused() -> None:
    """When the broker closes the connection at login, the reason is the broker's."""
    wire = Wire(AmqpEndpoint(password="hunter2"))
    done = outcome(Deferred.fromCoroutine(wire.protocol.login()))
    wire.receive(START + method(0, "connection.close", 403, "ACCESS_REFUSED - no", 0, 0))
    assert wire.called()[-1] == ("connection.close-ok", ())
    assert isinstance(done[0], Closed)
    assert wire.protocol.reason == "403 ACCESS_REFUSED - no"
    assert "hunter2" not in str(done[0])


def test_no_plain_login() -> None:
    """A broker without PLAIN is given up, with a reason."""
    wire = Wire()
    wire.receive(method(0, "connection.start", 0, 9, {}, "EXTERNAL", "en_US"))
    assert wire.transport.is_aborted()
    assert "EXTERNAL" in wire.protocol.reason


@pytest.mark.parametrize("greeting", [b"AMQP\x00\x01\x00\x00", b"HTTP/1.1 400 Bad Request", b"\x00" * 20])
def test_something_else_answers(greeting: bytes, expected_errors: Callable[..., None]) -> None:
    """A server that does not speak AMQP 0-9-1 is given up, with a reason."""
    expected_errors(ProtocolError)
    wire = Wire()
    wire.receive(greeting)
    assert wire.transport.is_aborted()
    assert "not understood" in wire.protocol.reason


# --- Messages ---


@given(st.lists(st.binary(max_size=300)), st.integers(1, 5), st.data())
def test_any_chunks(bodies: list[bytes], pieces: int, data: st.DataObject) -> None:
    """However a stream is cut into chunks, and bodies into frames, the bodies come as they were sent."""
    wire = Wire()
    wire.log_in()
    _, recorder = opened(wire)
    stream = b"".join(deliver(tag, body, pieces) for tag, body in enumerate(bodies, 1))
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        wire.receive(stream[:size])
        stream = stream[size:]
    assert recorder.bodies == bodies


def test_one_byte_at_a_time(wire: Wire) -> None:
    """A message arrives whole when each byte comes alone; its multi-byte characters are cut by frames."""
    _, recorder = opened(wire)
    body = "€".encode() * 10
    for byte in deliver(1, body, pieces=13):
        wire.receive(bytes([byte]))
    assert recorder.bodies == [body]


def test_properties(wire: Wire) -> None:
    """Properties are found among others, and headers left as they came."""
    _, recorder = opened(wire)
    headers = encode_table({"k": 1})
    properties = (
        b"\xff\xf8\x04text\x03utf" + headers + b"\x02\x00\x04corr\x05reply\x0260\x02id"
        b"\x00\x00\x00\x00\x00\x00\x00\x01\x01t\x01u\x01a"
    )
    wire.receive(deliver(1, b"x", properties=properties))
    envelope = Envelope(b"utf", b"60", b"id", 1, b"t", b"u", b"a", 0)
    assert recorder.properties == [Properties(b"text", headers, b"corr", b"reply", b"id", envelope)]


@pytest.mark.parametrize(
    "properties",
    [
        b"\x80\x00",
        b"\x80\x00\xff",
        b"\x20\x00\x00\x00",
        b"\x20\x00\x00\x00\xff\xff",
        b"\x04\x00\x10short",
        b"\xff\xff",
    ],
)
def test_broken_properties(wire: Wire, properties: bytes) -> None:
    """Properties that can't be read count as not sent; body and connection are not touched."""
    _, recorder = opened(wire)
    wire.receive(deliver(1, b"body", properties=properties) + deliver(2, b"next"))
    assert recorder.bodies == [b"body", b"next"]
    assert recorder.properties[0] == Properties()


def test_broken_header_table(wire: Wire) -> None:
    """Headers of an unknown type reach us as bytes, and are an error only to who decodes them."""
    _, recorder = opened(wire)
    raw = b"\x00\x00\x00\x04\x01kZ\x00"
    wire.receive(deliver(1, b"body", properties=b"\x20\x00" + raw))
    assert recorder.properties[0].headers == raw
    with pytest.raises(TableError):
        decode_table(raw)


def test_empty_body(wire: Wire) -> None:
    """A message without a body has no body frame."""
    _, recorder = opened(wire)
    wire.receive(deliver(1, b""))
    assert recorder.bodies == [b""]


def test_two_channels_mixed(wire: Wire) -> None:
    """Frames of messages on two channels may come mixed."""
    _, first = opened(wire)
    second = Recorder()
    Deferred.fromCoroutine(wire.protocol.open_channel(2, second))
    called = method(2, "basic.deliver", "c", 1, False, "", "q")
    one, two = deliver(1, b"one"), called + content(2, b"two")
    middle = len(method(1, "basic.deliver", "consumer", 1, False, "", "queue"))
    wire.receive(one[:middle] + two + one[middle:])
    assert (first.bodies, second.bodies) == ([b"one"], [b"two"])


@pytest.mark.parametrize(
    "data",
    [
        deliver(1, b"x")[:-1] + b"\x00",
        content(1, b"x"),
        frames.frame(frames.BODY, 1, b"x"),
        method(1, "basic.deliver", "c", 1, False, "", "q") + frames.frame(frames.BODY, 1, b"x"),
        deliver(1, b"x")[:-9] + frames.frame(frames.BODY, 1, b"xx"),
        frames.frame(frames.METHOD, 0, b"\x00\x0a\x00\xff"),
        frames.frame(frames.METHOD, 0, b"\x00\x0a\x00\x32\x00"),
        frames.frame(frames.METHOD, 1, b"\x00\x3c\x00\x3c"),
        frames.frame(frames.HEADER, 1, b""),
        frames.frame(7, 1, b""),
        b"\x03\x00\x01\x7f\xff\xff\xff",
    ],
)
def test_broken_protocol(wire: Wire, data: bytes, expected_errors: Callable[..., None]) -> None:
    """What breaks the protocol itself ends the connection, with a reason, and the channel is told."""
    expected_errors(ProtocolError, TableError, IndexError, struct.error)
    _, recorder = opened(wire)
    wire.receive(data)
    assert wire.transport.is_aborted()
    wire.hang_up()
    assert recorder.told == [("closed", wire.protocol.reason)]
    assert "not understood" in wire.protocol.reason


def test_published_frames(wire: Wire) -> None:
    """A body is cut so that no frame is larger than agreed; the broker sees it persistent and mandatory."""
    message = Message(b"x" * 10000, correlation_id=b"c", headers={"k": 1})
    data = frames.publish_frames(
        1, frames.route(b"", b"q"), frames.encode_properties(message) + b"\x021a", message.body, 4096
    )
    wire.protocol.transport.write(data)
    sent = wire.sent()
    assert [kind for kind, _, _ in sent] == [1, 2, 3, 3, 3]
    assert all(len(payload) + 8 <= 4096 for _, _, payload in sent)
    assert b"".join(payload for kind, _, payload in sent if kind == 3) == message.body
    size, properties = frames.decode_header(sent[1][2])
    assert size == 10000
    assert properties == Properties(
        None, encode_table({"k": 1}), b"c", None, b"1a", Envelope(message_id=b"1a")
    )
    assert sent[0][2] == b"\x00\x3c\x00\x28\x00\x00\x00\x01q\x01"


def test_returns_and_confirms(wire: Wire) -> None:
    """Returns and confirms are told in the order in which they came; a returned body is not kept."""
    _, recorder = opened(wire)
    returned = method(1, "basic.return", 312, "NO_ROUTE", "", "q")
    wire.receive(
        returned + content(1, b"x" * 100, 3, b"\x00\x80\x021a") + method(1, "basic.ack", 5, True)
        + method(1, "basic.nack", 6, False, False)
    )  # fmt: skip
    assert recorder.told == [
        ("returned", "312 NO_ROUTE", b"1a"),
        ("confirmed", 5, True, True),
        ("confirmed", 6, False, False),
    ]
    assert not recorder.bodies


# --- Calls ---


def test_bad_argument(wire: Wire) -> None:
    """An argument that does not fit is the caller's error; nothing is written, and writing goes on."""
    channel, _ = opened(wire)
    done = outcome(channel.queue_declare(queue="q" * 256))
    assert isinstance(done[0], TableError)
    assert wire.sent() == []
    channel.queue_declare(queue="é" * 127)
    assert wire.called()[0][1][1] == "é" * 127


def test_channel_closed_by_broker(wire: Wire) -> None:
    """A call under way fails with the broker's reason, the channel's user is told, and all is answered."""
    channel, recorder = opened(wire)
    done = outcome(channel.queue_declare(queue="q", passive=True))
    wire.sent()
    wire.receive(method(1, "channel.close", 404, "NOT_FOUND - no queue", 50, 10) + deliver(1, b"late"))
    assert isinstance(done[0], ChannelClosed)
    assert recorder.told == [("closed", "404 NOT_FOUND - no queue")]
    assert wire.called() == [("channel.close-ok", ())]
    assert not recorder.bodies
    assert wire.protocol.usable


def test_a_channel_that_is_opened_anew_at_once(wire: Wire) -> None:
    """Who uses it is told of its end as well, though the first had its number."""
    channel, first = opened(wire)
    second = Recorder()

    async def again() -> None:
        with suppress(ChannelClosed):
            await channel.queue_declare(queue="q", passive=True)
        await wire.protocol.open_channel(1, second)

    Deferred.fromCoroutine(again())
    wire.receive(method(1, "channel.close", 404, "NOT_FOUND - no queue", 50, 10))
    wire.receive(method(1, "channel.open-ok", ""))
    wire.receive(method(1, "channel.close", 403, "ACCESS_REFUSED", 60, 40))
    assert first.told == [("closed", "404 NOT_FOUND - no queue")]
    assert second.told == [("closed", "403 ACCESS_REFUSED")]


@pytest.mark.parametrize(("nowait", "answers"), [(True, []), (False, [("basic.cancel-ok", ("c",))])])
def test_cancelled_by_broker(wire: Wire, nowait: bool, answers: list[object]) -> None:
    """A consumer that the broker ends is told of, and answered where an answer is wanted."""
    _, recorder = opened(wire)
    wire.receive(method(1, "basic.cancel", "c", nowait))
    assert recorder.told == [("cancelled",)]
    assert wire.called() == answers


def test_blocked(wire: Wire) -> None:
    """The broker's blocking and unblocking is kept and told."""
    told: list[str | None] = []
    wire.protocol.on_blocked = lambda: told.append(wire.protocol.blocked)
    wire.receive(method(0, "connection.blocked", "low on memory") + method(0, "connection.unblocked"))
    assert told == ["low on memory", None]


# --- Heartbeats ---


def test_heartbeats_go_out(wire: Wire) -> None:
    """Ours are sent twice in an interval, as long as the peer is heard."""
    for _ in range(20):
        wire.clock.advance(5)
        wire.receive(frames.HEARTBEAT_FRAME)
        assert wire.sent() == [(frames.HEARTBEAT, 0, b"")]
    assert not wire.transport.is_aborted()


def test_heartbeat_missed(wire: Wire) -> None:
    """A peer that is not heard for two intervals is given up; the channel is told why."""
    _, recorder = opened(wire)
    wire.clock.advance(5)  # heard: the answer to opening the channel
    wire.clock.pump([5] * 3)
    assert not wire.transport.is_aborted()
    wire.clock.advance(5)
    assert wire.transport.is_aborted()
    wire.hang_up()
    assert recorder.told == [("closed", "not heard for 20 s")]
    assert wire.clock.getDelayedCalls() == []


def test_any_traffic_is_a_heartbeat(wire: Wire) -> None:
    """A peer that sends a large message byte by byte is alive."""
    opened(wire)
    for byte in deliver(1, b"x" * 20):
        wire.clock.advance(5)
        wire.receive(bytes([byte]))
    assert not wire.transport.is_aborted()


def test_silence_while_not_reading(wire: Wire) -> None:
    """While we don't read, ours still go out and silence proves nothing; it counts from reading on."""
    wire.protocol.pause_reading()
    assert wire.transport.producerState == "paused"
    wire.clock.pump([5] * 50)
    assert not wire.transport.is_aborted()
    assert len(wire.sent()) == 50
    wire.protocol.resume_reading()
    assert wire.transport.producerState == "producing"
    wire.clock.pump([5] * 4)
    assert not wire.transport.is_aborted()
    wire.clock.advance(5)
    assert wire.transport.is_aborted()


# --- The end ---


def test_shut(wire: Wire) -> None:
    """Closing in order says so, tells the channels at once, and ends with the broker's answer."""
    _, recorder = opened(wire)
    wire.protocol.shut("enough")
    assert recorder.told == [("closed", "enough")]
    assert wire.called()[0][0] == "connection.close"
    wire.receive(deliver(1, b"late") + method(0, "connection.close-ok"))
    assert wire.transport.disconnecting
    assert not recorder.bodies
    wire.hang_up()
    assert wire.clock.getDelayedCalls() == []
    assert wire.protocol.reason == "enough"


def test_shut_without_answer(wire: Wire) -> None:
    """When the broker does not answer, the connection is dropped after five seconds."""
    wire.protocol.shut("enough")
    wire.clock.advance(5)
    assert wire.transport.is_aborted()


def test_calls_after_the_end(wire: Wire) -> None:
    """On a connection that is gone no channel can be opened; calls under way fail."""
    channel, _ = opened(wire)
    under_way = outcome(channel.queue_declare(queue="q"))
    wire.hang_up()
    assert isinstance(under_way[0], Closed)
    later = outcome(Deferred.fromCoroutine(wire.protocol.open_channel(2, Recorder())))
    assert isinstance(later[0], Closed)
    wire.protocol.shut("again")
    wire.protocol.pause_reading()


@pytest.mark.parametrize("message_id", [b"own", None])
def test_a_copy_keeps_what_its_original_had(message_id: bytes | None) -> None:
    """What would close the channel, remove it or send it elsewhere is a header there, its way is not."""
    envelope = Envelope(b"gzip", b"60", message_id, 2**37, b"kind", b"somebody", b"app")
    late = Timestamp(2**64 - 1)
    routes = {"CC": ["elsewhere"], "BCC": ["there"]}
    way = {"x-tef-set-aside": "it was full", "x-delivery-count": 19}
    original = encode_table({"k": b"\xff", "late": [late], **routes, **way})
    own = {"x-tef-reason": "why"}
    message = Message(b"body", b"corr", b"me", b"text", own, envelope=envelope, original=original)
    before, after = frames.encode_around(message)
    _, found = frames.decode_header(b"\0\x3c\0\0" + bytes(8) + before + b"\x05token" + after)
    assert found.envelope is not None
    kept = (found.content_type, found.correlation_id, found.reply_to, found.envelope.content_encoding)
    assert kept == (b"text", b"corr", b"me", b"gzip")
    behind = (found.envelope.timestamp, found.envelope.type, found.envelope.app_id)
    assert behind == (2**37, b"kind", b"app")
    assert (found.envelope.user_id, found.envelope.expiration) == (None, None)
    assert (found.message_id, found.cluster_id) == ((b"own", b"token") if message_id else (b"token", None))
    assert decode_table(found.headers or b"") == {
        "k": b"\xff",
        "late": [str(2**64 - 1)],
        "x-tef-cc": ["elsewhere"],
        "x-tef-bcc": ["there"],
        "x-tef-user-id": "somebody",
        "x-tef-expiration": "60",
        "x-tef-reason": "why",
    }
