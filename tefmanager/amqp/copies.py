"""What a copy of somebody's message keeps, and what would do harm on it."""

from __future__ import annotations

from collections.abc import Mapping

from tefmanager.amqp.codec import TableError, decode_table
from tefmanager.interfaces import Message

ROUTES = ("CC", "BCC")
"""Headers by which RabbitMQ sends a message to other queues as well, with the publisher's rights."""

KEPT_AS = "x-tef-{}"
"""How the header is called that has what a copy can't be given itself."""


def without_routes(headers: Mapping[str, object]) -> dict[str, object]:
    """Return headers under which a message goes nowhere but where it is sent."""
    return {KEPT_AS.format(name.lower()) if name in ROUTES else name: headers[name] for name in headers}


def headers_of(message: Message) -> Mapping[str, object]:
    """Return the headers to send: those of the original, if it is a copy, and our own."""
    found: dict[str, object] = {}
    if message.original is not None:
        try:
            found = without_routes(decode_table(message.original))
        except TableError:
            found = {KEPT_AS.format("headers"): message.original}
    if (envelope := message.envelope) is not None:
        for name, value in (("user-id", envelope.user_id), ("expiration", envelope.expiration)):
            if value is not None:
                found[KEPT_AS.format(name)] = value.decode("utf-8", "backslashreplace")
    return {**found, **message.headers} if found else message.headers
