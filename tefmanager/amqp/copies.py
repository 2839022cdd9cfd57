"""What a copy of somebody's message keeps, and what would do harm on it."""

from __future__ import annotations

from collections.abc import Mapping

from tefmanager.amqp.codec import MAX_SHORT_TEXT, TableError, Timestamp, decode_table
from tefmanager.interfaces.amqp import DELIVERY_COUNT, SET_ASIDE, Message

ROUTES = ("CC", "BCC")
"""Headers by which RabbitMQ sends a message to other queues as well, with the publisher's rights."""

OF_ITS_WAY = (SET_ASIDE, DELIVERY_COUNT)
"""Headers that tell where a message has been: a copy has not been there. One that was rejected may be sent
again, when it is valid, and must not count as rejected before."""

KEPT_AS = "x-tef-{}"
"""How the header is called that has what a copy can't be given itself."""


LATEST = 253_402_300_799
"""The last second of the year 9999: clients that make dates of times break at later ones."""

LONGEST_NAME = 60
"""Characters of a header's name that are kept where it has very many: they must fit 255 bytes."""


def without_routes(headers: Mapping[str, object]) -> dict[str, object]:
    """Return headers of a copy: they send it nowhere else, and every client can read them."""
    return {
        KEPT_AS.format(name.lower()) if name in ROUTES else _short(name): _readable(value)
        for name, value in headers.items()
        if name not in OF_ITS_WAY
    }


def _short(name: str) -> str:
    return name if len(name.encode("utf-8", "backslashreplace")) <= MAX_SHORT_TEXT else name[:LONGEST_NAME]


def _readable(value: object) -> object:
    """Return a header's value, or its text where some clients can't read such a value."""
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
    """Return the headers to send: those of the original, if it is a copy, and our own."""
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
