"""What comes with a task's message beside its body. It is kept, so that a copy is the same message."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Struct

from tefmanager.core.model.dead_copies import Stored
from tefmanager.interfaces.amqp import Delivery, Envelope, Message


class _Kept(Struct, frozen=True, array_like=True):
    """See `Delivery`. Fields that are added go to the end, with a default."""

    content_type: bytes | None = None
    headers: bytes | None = None
    correlation_id: bytes | None = None
    reply_to: bytes | None = None
    envelope: Envelope | None = None


_NOTHING = _Kept()
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Kept)


def properties_of(delivery: Delivery) -> bytes | None:
    """Return what came with a message, encoded; None where nothing did."""
    kept = _Kept(
        delivery.content_type,
        delivery.headers,
        delivery.correlation_id,
        delivery.reply_to,
        delivery.envelope,
    )
    return None if kept == _NOTHING else _encoder.encode(kept)


def copy_of(stored: Stored, headers: Mapping[str, object]) -> Message:
    """Return a task's message as it came, with headers of ours beside its own."""
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
