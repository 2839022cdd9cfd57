"""The properties of a task's message. They are kept, so that a copy equals the original message."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from tefmanager.core.model.dead_copies import Stored
from tefmanager.interfaces.amqp import Delivery, Envelope, Message


class _Kept(Struct, frozen=True, array_like=True):
    """The kept fields, see `Delivery`. A new field goes to the end and needs a default."""

    content_type: bytes | None = None
    headers: bytes | None = None
    correlation_id: bytes | None = None
    reply_to: bytes | None = None
    envelope: Envelope | None = None


_NOTHING = _Kept()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Kept)


def properties_of(delivery: Delivery) -> bytes | None:
    """Return the encoded properties of a message; None if it has none."""
    kept = _Kept(
        delivery.content_type,
        delivery.headers,
        delivery.correlation_id,
        delivery.reply_to,
        delivery.envelope,
    )
    return None if kept == _NOTHING else _encoder.encode(kept)


def copy_of(stored: Stored, headers: Mapping[str, object]) -> Message:
    """Return a task's message as it was sent, with our headers added to its own."""
    kept = _NOTHING if stored.properties is None else _decoder.decode(stored.properties)
    return Message(
        stored.body,
        correlation_id=kept.correlation_id,
        reply_to=kept.reply_to,
        content_type=kept.content_type,
        headers=headers,
        envelope=kept.envelope,
        original=kept.headers,
    )
