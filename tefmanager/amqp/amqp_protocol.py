"""The AMQP 0-9-1 protocol on txamqp: its handshake and method calls, with our own code for messages.

What happens once per message (deliveries, returns, confirms) goes straight from the bytes to
`ChannelEvents`, without a Deferred or an object per frame. All other methods go through txamqp.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from importlib import resources
from io import BytesIO
from typing import Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp import spec as txamqp_spec
from txamqp.client import Closed
from txamqp.connection import Frame, Method
from txamqp.message import Message as MethodCall
from txamqp.protocol import AMQChannel, AMQClient

from tefmanager.amqp import frames
from tefmanager.amqp.codec import TableError, WireCodec
from tefmanager.amqp.delegate import BrokerDelegate
from tefmanager.amqp.heartbeat import Heartbeat
from tefmanager.amqp.tls_context import lost_text
from tefmanager.amqp.unasked import ChannelEvents, NoChannel
from tefmanager.config.endpoints import AmqpEndpoint

MAX_FRAME = 131072
"""The largest frame that we send or accept, in bytes; the broker may ask for less."""

MAX_CHANNELS = 2047
"""The most channels of a connection; the broker may allow fewer."""

CLOSE_TIMEOUT = 5.0
"""Seconds that closing a connection properly may take."""

SPEC = txamqp_spec.load_string(resources.files(__package__).joinpath("amqp0-9-1.xml").read_bytes())
"""The methods of the protocol, in the form that txamqp needs."""

_FRAME = struct.Struct(">BHI")


class ProtocolError(Exception):
    """The broker sent something that the protocol does not allow."""


class _Incoming:
    """A message whose frames are arriving."""

    __slots__ = ("missing", "pieces", "properties", "redelivered", "returned", "tag")

    def __init__(self, tag: int, redelivered: bool, returned: str | None = None) -> None:
        self.tag = tag
        self.redelivered = redelivered
        self.returned = returned
        self.missing = -1  # -1 until its header has come
        self.pieces: list[bytes] = []
        self.properties = frames.NO_PROPERTIES


class _Writer:
    """Replaces txamqp's queue of outgoing frames: each frame is written at once.

    So an error is raised to the caller and does not stop all later writing.
    """

    def __init__(self, send: Callable[[Frame], None]) -> None:
        self.put = send


class AmqpProtocol(AMQClient):  # type: ignore[misc]  # txamqp has no types
    """A connection to a broker.

    Attributes:
        reason: why the connection ended or is ending, for people; None before.
        blocked: why the broker accepts no messages for now, or None.
        on_blocked: called whenever ``blocked`` changes.
        frame_max: the largest frame to send, in bytes.
        channel_max: the highest channel number.
        server: the broker's description of itself.
    """

    _log = Logger()

    def __init__(self, endpoint: AmqpEndpoint, name: str, clock: IReactorTime) -> None:
        # txamqp's own heartbeat is off: it would reset two timers for each frame.
        super().__init__(BrokerDelegate(), endpoint.vhost, SPEC, heartbeat=0, clock=clock)
        self.endpoint = endpoint
        self.name = name
        self.outgoing = _Writer(self.send_frame)
        self.heartbeat = Heartbeat(clock, self._beat, self._missed)
        self.reason: str | None = None
        self.blocked: str | None = None
        self.on_blocked: Callable[[], None] = lambda: None
        self.frame_max = MAX_FRAME
        self.channel_max = MAX_CHANNELS
        self.server: dict[str, object] = {}
        self._events: dict[int, ChannelEvents] = {}
        self._incoming: dict[int, _Incoming] = {}
        self._rest = bytearray()
        self._needed = 0
        self._closing = False
        self._lost = False
        self._logged_in = False
        self._abort_call: IDelayedCall | None = None
        self._kinds = {
            frames.METHOD: self._method_frame,
            frames.HEADER: self._header_frame,
            frames.BODY: self._body_frame,
            frames.HEARTBEAT: self._heartbeat_frame,
        }
        self._direct = {
            frames.BASIC_DELIVER: self._deliver,
            frames.BASIC_RETURN: self._return,
            frames.BASIC_ACK: self._ack,
            frames.BASIC_NACK: self._nack,
        }
        self.make_channel(0)

    # --- Life ---

    def connectionMade(self) -> None:
        """Begin the handshake."""
        set_no_delay = getattr(self.transport, "setTcpNoDelay", None)
        if set_no_delay is not None:
            set_no_delay(True)
        super().connectionMade()

    def send_init_string(self) -> None:
        """Announce AMQP 0-9-1."""
        self.transport.write(frames.PROTOCOL_HEADER)

    @property
    def usable(self) -> bool:
        """Whether it is neither closed nor closing."""
        return not (self._closing or self.closed or self._lost)

    async def login(self) -> None:
        """Log in and open the vhost. Raises `Closed`; ``reason`` then says why."""
        await self.started.wait()
        await self.channels[0].connection_open(self.vhost)
        self._logged_in = True

    def shut(self, reason: str) -> None:
        """Close the connection properly, or after 5 seconds abruptly. Then ``disconnected`` fires."""
        if not self.usable:
            return
        self._closing = True
        self.note(reason)
        self._tell_closed()
        self.resume_reading()
        self._abort_later()
        answer = self.channels[0].connection_close(200, "closed by the client", 0, 0)
        answer.addCallback(lambda _: self.do_close(ConnectionDone()))
        answer.addErrback(_ignore_closed)

    def abort(self, reason: str) -> None:
        """Drop the connection at once."""
        self.note(reason)
        if self.transport is not None:
            self.transport.abortConnection()

    def note(self, reason: str) -> None:
        """Keep the first reason given for the end of the connection."""
        if self.reason is None:
            self.reason = reason

    def do_close(self, reason: object) -> None:
        """Make all calls under way fail, and close the socket."""
        self.closed = True
        self._abort_later()
        for channel in list(self.channels.values()):
            channel.close(reason)
        self.delegate.close(reason)

    def _abort_later(self) -> None:
        if self._abort_call is None and not self._lost:
            self._abort_call = self.clock.callLater(CLOSE_TIMEOUT, self.transport.abortConnection)

    def connectionLost(self, reason: Failure) -> None:
        """Clean up, and tell the channels."""
        self._lost = True
        self.heartbeat.stop()
        if self._abort_call is not None and self._abort_call.active():
            self._abort_call.cancel()
        self.note(lost_text(reason, logged_in=self._logged_in))
        self._tell_closed()
        super().connectionLost(reason)

    def _tell_closed(self) -> None:
        events, self._events = self._events, {}
        for channel_events in events.values():
            channel_events.closed(self.reason or "")

    def _beat(self) -> None:
        self.transport.write(frames.HEARTBEAT_FRAME)

    def _missed(self, seconds: float) -> None:
        self.abort(f"not heard for {seconds:g} s")

    def pause_reading(self) -> None:
        """Stop reading from the socket. The broker's silence does not count meanwhile."""
        if self.usable and not self.heartbeat.deaf:
            self.heartbeat.deaf = True
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read on after `pause_reading`."""
        if self.heartbeat.deaf:
            self.heartbeat.deaf = False
            self.heartbeat.heard = True
            self.transport.resumeProducing()

    # --- Channels ---

    def make_channel(self, number: int) -> AMQChannel:
        """Return a new channel object that is not open at the broker yet."""
        channel = self.channelFactory(number, self.outgoing, self)
        self.channels[number] = channel
        return channel

    async def open_channel(self, number: int, events: ChannelEvents) -> AMQChannel:
        """Open a channel. Raises `Closed`."""
        if not self.usable:
            raise Closed(self.reason)
        channel = self.make_channel(number)
        self._events[number] = events
        await channel.channel_open()
        return channel

    def free_channel(self, above: int = 0) -> int:
        """Return an unused channel number greater than ``above``. Raises `NoChannel`."""
        number = next((n for n in range(self.channel_max, above, -1) if n not in self.channels), None)
        if number is None:
            raise NoChannel(f"the broker allows no more than {self.channel_max} channels")
        return number

    def drop_channel(self, number: int) -> None:
        """Forget a channel that is closed on both sides."""
        self.channels.pop(number, None)
        self._events.pop(number, None)
        self._incoming.pop(number, None)

    def events_of(self, number: int) -> ChannelEvents | None:
        """Return who is told of a channel's events; None once it is closed."""
        return self._events.get(number)

    def channel_closed(self, number: int) -> ChannelEvents | None:
        """Note that the broker closed a channel, whose number may be reused; return whom to tell."""
        self._incoming.pop(number, None)
        return self._events.pop(number, None)

    # --- Writing ---

    def send_frame(self, frame: Frame) -> None:
        """Write a method. If its arguments can't be encoded, raises `TableError` and writes nothing."""
        self.transport.write(frames.frame(frames.METHOD, frame.channel, encode_method(frame.payload)))

    # --- Reading ---

    def dataReceived(self, data: bytes) -> None:
        """Handle all complete frames that have arrived."""
        self.heartbeat.heard = True
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
        try:
            self._read(data)
        except (ProtocolError, TableError, struct.error, IndexError) as error:
            self._log.failure("AMQP connection {name}: not understood", name=self.name)
            self.abort(f"what the broker sent was not understood: {error}")

    def _read(self, data: bytes) -> None:
        pos, size = 0, len(data)
        self._needed = 7
        while size - pos >= 7:
            kind, channel, length = _FRAME.unpack_from(data, pos)
            if length > MAX_FRAME:
                raise ProtocolError("no AMQP 0-9-1 frame")
            start = pos + 7
            end = start + length
            if end >= size:
                self._needed = length + frames.OVERHEAD
                break
            if data[end] != frames.FRAME_END:
                raise ProtocolError("a frame without its end mark")
            self._take(kind, channel, data[start:end])
            pos = end + 1
        self._rest = bytearray(data[pos:])

    def _take(self, kind: int, channel: int, payload: bytes) -> None:
        handler = self._kinds.get(kind)
        if handler is None:
            raise ProtocolError(f"a frame of the unknown kind {kind}")
        handler(channel, payload)

    def _heartbeat_frame(self, channel: int, payload: bytes) -> None:
        """Do nothing: `dataReceived` has noted that the peer was heard."""

    def _method_frame(self, channel: int, payload: bytes) -> None:
        direct = self._direct.get(int.from_bytes(payload[:4], "big"))
        if direct is not None:
            direct(channel, payload)
        else:
            self._method(channel, payload)

    def _method(self, number: int, payload: bytes) -> None:
        channel = self.channels.get(number)
        if channel is None or channel.closed:
            return  # an answer that crossed our close
        method, args = decode_method(payload)
        if method.response:
            channel.dispatch(Frame(number, Method(method, *args)), self.work)
        else:
            self.delegate.dispatch(channel, MethodCall(method, args))

    def _deliver(self, channel: int, payload: bytes) -> None:
        self._incoming[channel] = _Incoming(*frames.decode_deliver(payload))

    def _return(self, channel: int, payload: bytes) -> None:
        self._incoming[channel] = _Incoming(0, False, frames.decode_return(payload))

    def _ack(self, channel: int, payload: bytes) -> None:
        self._confirm(channel, payload, True)

    def _nack(self, channel: int, payload: bytes) -> None:
        self._confirm(channel, payload, False)

    def _confirm(self, channel: int, payload: bytes, ok: bool) -> None:
        events = self._events.get(channel)
        if events is not None:
            events.confirmed(*frames.decode_ack(payload), ok)

    def _header_frame(self, channel: int, payload: bytes) -> None:
        incoming = self._incoming.get(channel)
        if incoming is None or incoming.missing >= 0:
            raise ProtocolError("a content header without its method")
        incoming.missing, incoming.properties = frames.decode_header(payload)
        if not incoming.missing:
            self._complete(channel, incoming)

    def _body_frame(self, channel: int, payload: bytes) -> None:
        incoming = self._incoming.get(channel)
        if incoming is None or incoming.missing < len(payload):
            raise ProtocolError("more body than announced")
        incoming.missing -= len(payload)
        if incoming.returned is None:  # only the properties of a returned message are used
            incoming.pieces.append(payload)
        if not incoming.missing:
            self._complete(channel, incoming)

    def _complete(self, channel: int, incoming: _Incoming) -> None:
        del self._incoming[channel]
        events = self._events.get(channel)
        if events is None:
            return
        if incoming.returned is not None:
            events.returned(incoming.returned, incoming.properties)
            return
        pieces = incoming.pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        events.delivered(incoming.tag, incoming.redelivered, incoming.properties, body)


def _ignore_closed(failure: Failure) -> None:
    # The connection broke before the broker answered our close.
    failure.trap(Closed)  # type: ignore[no-untyped-call]


def encode_method(payload: Method) -> bytes:
    """Return a method's frame payload. Raises `TableError`."""
    stream = BytesIO()
    codec = WireCodec(stream)
    codec.encode_short(payload.method.klass.id)
    codec.encode_short(payload.method.id)
    for field, value in zip(payload.method.fields, payload.args, strict=True):
        codec.encode(field.type, value)
    codec.flush()
    return stream.getvalue()


def decode_method(payload: bytes) -> tuple[Any, tuple[object, ...]]:
    """Return a method and its arguments. Raises `ProtocolError` and `TableError`."""
    codec = WireCodec(BytesIO(payload))
    class_id, method_id = codec.decode_short(), codec.decode_short()
    try:
        method = SPEC.classes.byid[class_id].methods.byid[method_id]
    except KeyError:
        raise ProtocolError(f"the unknown method {class_id}.{method_id}") from None
    return method, tuple(codec.decode(field.type) for field in method.fields)
