"""Decides what a copy of somebody's message keeps, and what would do harm in it."""

from __future__ import annotations

from collections.abc import Mapping

from tefmanager.amqp.codec import MAX_SHORT_TEXT, TableError, Timestamp, decode_table
from tefmanager.interfaces.amqp import DELIVERY_COUNT, SET_ASIDE, Message

ROUTES = ("CC", "BCC")
"""Headers that make RabbitMQ send a message to further queues, with the publisher's rights."""

OF_ITS_WAY = (SET_ASIDE, DELIVERY_COUNT)
"""Headers that describe where a message has been; they would be wrong for a copy. A rejected message may be
corrected and sent again, and must not count as rejected before."""

KEPT_AS = "x-tef-{}"
"""The name of the header that keeps what the copy can't have itself."""


LATEST = 253_402_300_799
"""The last second of the year 9999. Clients that convert times to dates fail on later ones."""

LONGEST_NAME = 60
"""Characters of a header's name that are kept if it is very long: a name must fit into 255 bytes."""


def without_routes(headers: Mapping[str, object]) -> dict[str, object]:
    """Return the headers of a copy, without those that route it elsewhere, readable by every client."""
    return {
        KEPT_AS.format(name.lower()) if name in ROUTES else _short(name): _readable(value)
        for name, value in headers.items()
        if name not in OF_ITS_WAY
    }


def _short(name: str) -> str:
    return name if len(name.encode("utf-8", "backslashreplace")) <= MAX_SHORT_TEXT else name[:LONGEST_NAME]


def _readable(value: object) -> object:
    """Return a header's value, or its text if some clients can't decode the value."""
    match value:
        case Timestamp() if value > LATEST:
            return str(int(value))
        case int() if value >= 2**63:
            return str(value)
        case list():
            return [_readable(item) for item in value]
        case dict():
            return {_short(name): _readable(item) for name, item in value.items()}
    return value


def headers_of(message: Message) -> Mapping[str, object]:
    """Return the headers to send: those of the original, if the message is a copy, and our own."""
    found: dict[str, object] = {}
    if message.original is not None:
        try:
            found = without_routes(decode_table(message.original))
        except TableError:
            found = {KEPT_AS.format("headers"): message.original}
    if (envelope := message.envelope) is not None:
        if (envelope.timestamp or 0) > LATEST:
            found[KEPT_AS.format("timestamp")] = str(envelope.timestamp)
        for name, value in (("user-id", envelope.user_id), ("expiration", envelope.expiration)):
            if value is not None:
                found[KEPT_AS.format(name)] = value.decode("utf-8", "backslashreplace")
    return {**found, **message.headers} if found else message.headers
