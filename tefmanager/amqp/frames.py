"""Builds and reads the frames of messages and acknowledgements as bytes: the work done once per message.

Layout of a frame: kind (1), channel (2), size (4), payload, end mark (1).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from tefmanager.amqp.codec import encode_table, short_text
from tefmanager.amqp.copies import LATEST, headers_of
from tefmanager.interfaces.amqp import Envelope, Message

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
OVERHEAD = 8
"""Bytes of a frame besides its payload."""

PROPERTIES_OVERHEAD = OVERHEAD + 12 + 32
"""Bytes of the header frame besides the encoded properties, including the sender's message id."""

MIN_FRAME_MAX = 4096
"""The frame size that every peer must accept, according to the protocol."""

PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
HEARTBEAT_FRAME = struct.pack(">BHIB", HEARTBEAT, 0, 0, FRAME_END)

BASIC = 60
BASIC_RETURN = BASIC << 16 | 50
BASIC_DELIVER = BASIC << 16 | 60
BASIC_ACK = BASIC << 16 | 80
BASIC_NACK = BASIC << 16 | 120

_FRAME = struct.Struct(">BHI")
_ACK = struct.Struct(">BHIHHQBB")
_CONTENT = struct.Struct(">HHQH")
_LONG = struct.Struct(">I")
_LONG_LONG = struct.Struct(">Q")
_PUBLISH = struct.pack(">HHH", BASIC, 40, 0)
_END = bytes((FRAME_END,))
_MANDATORY = b"\x01"
_OPTIONAL = b"\x00"
DIRECT_REPLY = b"amq.rabbitmq.reply-to."
"""The prefix of the addresses that RabbitMQ makes for answers without a queue."""

# Flags of the properties, in the order in which they stand.
_CONTENT_TYPE = 1 << 15
_CONTENT_ENCODING = 1 << 14
_HEADERS = 1 << 13
_DELIVERY_MODE = 1 << 12
_PRIORITY = 1 << 11
_CORRELATION_ID = 1 << 10
_REPLY_TO = 1 << 9
_EXPIRATION = 1 << 8
_MESSAGE_ID = 1 << 7
_TIMESTAMP = 1 << 6
_TYPE = 1 << 5
_USER_ID = 1 << 4
_APP_ID = 1 << 3
_CLUSTER_ID = 1 << 2
_ENVELOPE = (
    _CONTENT_ENCODING | _PRIORITY | _EXPIRATION | _MESSAGE_ID | _TIMESTAMP | _TYPE | _USER_ID | _APP_ID
)
_PERSISTENT = b"\x02"
_TRANSIENT = b"\x01"


class Properties(NamedTuple):
    """The message properties that matter here; None if not sent."""

    content_type: bytes | None = None
    headers: bytes | None = None
    correlation_id: bytes | None = None
    reply_to: bytes | None = None
    message_id: bytes | None = None
    envelope: Envelope | None = None
    cluster_id: bytes | None = None


NO_PROPERTIES = Properties()


# --- Writing ---------------------------------------------------------------------------------


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """Return a whole frame."""
    return _FRAME.pack(kind, channel, len(payload)) + payload + _END


def ack_frames(channel: int, acks: Iterable[tuple[int, bool]]) -> bytes:
    """Return ``basic.ack`` frames for pairs of delivery tag and *multiple*."""
    return b"".join(
        _ACK.pack(METHOD, channel, 13, BASIC, 80, tag, multiple, FRAME_END) for tag, multiple in acks
    )


def encode_properties(message: Message) -> bytes:
    """Return the flags and values of a message's properties. Raises `TableError`.

    The flag of the message id is set too; it comes last, so the sender appends it.
    """
    flags = _DELIVERY_MODE | _MESSAGE_ID
    parts = []
    if message.content_type is not None:
        flags |= _CONTENT_TYPE
        parts.append(short_text(message.content_type))
    if headers := headers_of(message):
        flags |= _HEADERS
        parts.append(encode_table(headers))
    parts.append(_PERSISTENT if message.persistent else _TRANSIENT)
    if message.envelope is not None and message.envelope.priority is not None:
        flags |= _PRIORITY
        parts.append(bytes((message.envelope.priority,)))
    if message.correlation_id is not None:
        flags |= _CORRELATION_ID
        parts.append(short_text(message.correlation_id))
    if message.reply_to is not None:
        flags |= _REPLY_TO
        parts.append(short_text(message.reply_to))
    return flags.to_bytes(2, "big") + b"".join(parts)


def encode_around(message: Message) -> tuple[bytes, bytes]:
    """Return a message's encoded properties before and after the token that identifies it.

    The token is the message id. A copy keeps its own message id, and has the token as cluster id, which
    nobody uses. Raises `TableError`.
    """
    envelope = message.envelope
    if envelope is None:
        return encode_properties(message), b""
    before = encode_properties(message)
    flags = int.from_bytes(before[:2], "big")
    parts, start = [], 2
    if envelope.content_encoding is not None:
        start += len(short_text(message.content_type)) if message.content_type is not None else 0
        flags |= _CONTENT_ENCODING
        parts = [before[2:start], short_text(envelope.content_encoding)]
    head = b"".join(parts) + before[start:]
    after, more = _behind(envelope)
    flags |= more
    if envelope.message_id is None:
        return flags.to_bytes(2, "big") + head, after
    whole = head + short_text(envelope.message_id) + after
    return (flags | _CLUSTER_ID).to_bytes(2, "big") + whole, b""


def _behind(envelope: Envelope) -> tuple[bytes, int]:
    """Return the encoded properties that follow the message id, and their flags."""
    flags, parts = 0, []
    if envelope.timestamp is not None and envelope.timestamp <= LATEST:
        flags |= _TIMESTAMP
        parts.append(_LONG_LONG.pack(envelope.timestamp))
    for flag, text in ((_TYPE, envelope.type), (_APP_ID, envelope.app_id)):
        if text is not None:
            flags |= flag
            parts.append(short_text(text))
    return b"".join(parts), flags


def route(exchange: bytes, key: bytes) -> bytes:
    """Return the payload of a ``basic.publish``, mandatory if that is meaningful.

    It is not for a *direct reply-to* address: that is no queue, so RabbitMQ returns mandatory messages
    although they arrive. Raises `TableError` over 255 bytes.
    """
    direct = not exchange and key.startswith(DIRECT_REPLY)
    return _PUBLISH + short_text(exchange) + short_text(key) + (_OPTIONAL if direct else _MANDATORY)


def publish_frames(channel: int, routed: bytes, properties: bytes, body: bytes, frame_max: int) -> bytes:
    """Return all frames of one message: method, header, and as many body frames as it needs."""
    header = struct.pack(">HHQ", BASIC, 0, len(body)) + properties
    parts = [frame(METHOD, channel, routed), frame(HEADER, channel, header)]
    room = frame_max - OVERHEAD
    for start in range(0, len(body), room):
        piece = body if len(body) <= room else body[start : start + room]
        parts += (_FRAME.pack(BODY, channel, len(piece)), piece, _END)
    return b"".join(parts)


# --- Reading ---------------------------------------------------------------------------------


def decode_header(payload: bytes) -> tuple[int, Properties]:
    """Return the size of the body and the properties from a content header's payload.

    Malformed properties count as not sent: the body is what matters.
    """
    _, _, size, flags = _CONTENT.unpack_from(payload)
    if not flags:
        return size, NO_PROPERTIES
    try:
        return size, _properties(payload, flags)
    except (IndexError, struct.error):
        return size, NO_PROPERTIES


def _properties(payload: bytes, flags: int) -> Properties:
    pos = _CONTENT.size
    content_type, pos = _short(payload, pos, flags & _CONTENT_TYPE)
    content_encoding, pos = _short(payload, pos, flags & _CONTENT_ENCODING)
    headers = None
    if flags & _HEADERS:
        end = pos + 4 + _LONG.unpack_from(payload, pos)[0]
        headers, pos = payload[pos:end], end
    pos += bool(flags & _DELIVERY_MODE)
    priority = payload[pos] if flags & _PRIORITY else None
    pos += bool(flags & _PRIORITY)
    correlation_id, pos = _short(payload, pos, flags & _CORRELATION_ID)
    reply_to, pos = _short(payload, pos, flags & _REPLY_TO)
    expiration, pos = _short(payload, pos, flags & _EXPIRATION)
    message_id, pos = _short(payload, pos, flags & _MESSAGE_ID)
    timestamp = _LONG_LONG.unpack_from(payload, pos)[0] if flags & _TIMESTAMP else None
    pos += 8 * bool(flags & _TIMESTAMP)
    kind, pos = _short(payload, pos, flags & _TYPE)
    user_id, pos = _short(payload, pos, flags & _USER_ID)
    app_id, pos = _short(payload, pos, flags & _APP_ID)
    cluster_id, pos = _short(payload, pos, flags & _CLUSTER_ID)
    if pos > len(payload):
        return NO_PROPERTIES
    envelope = None
    if flags & _ENVELOPE:
        rest = (expiration, message_id, timestamp, kind, user_id, app_id, priority)
        envelope = Envelope(content_encoding, *rest)
    return Properties(content_type, headers, correlation_id, reply_to, message_id, envelope, cluster_id)


def _short(payload: bytes, pos: int, present: int) -> tuple[bytes | None, int]:
    if not present:
        return None, pos
    end = pos + 1 + payload[pos]
    return payload[pos + 1 : end], end


def decode_deliver(payload: bytes) -> tuple[int, bool]:
    """Return delivery tag and *redelivered* from the payload of a ``basic.deliver``."""
    pos = 5 + payload[4]
    return int.from_bytes(payload[pos : pos + 8], "big"), payload[pos + 8] & 1 == 1


def decode_ack(payload: bytes) -> tuple[int, bool]:
    """Return delivery tag and *multiple* from the payload of a ``basic.ack`` or ``basic.nack``."""
    return int.from_bytes(payload[4:12], "big"), payload[12] & 1 == 1


def decode_return(payload: bytes) -> str:
    """Return the broker's reason from the payload of a ``basic.return``, such as "312 NO_ROUTE"."""
    end = 7 + payload[6]
    return f"{int.from_bytes(payload[4:6], 'big')} {payload[7:end].decode('utf-8', 'backslashreplace')}"
