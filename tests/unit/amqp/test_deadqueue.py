"""Going through a queue, as far as it needs no broker."""

from __future__ import annotations

from typing import Any, cast

import pytest_twisted
from twisted.internet import reactor
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure
from txamqp.client import Closed

from tefmanager.amqp.deadqueue import Connection, Walks


class Broken:
    """A connection that breaks as soon as it is used."""

    async def ask(self, question: Any, refused: str) -> Any:
        """Ask on a connection that stands, it seems."""
        return await question(None)

    def spare_channel(self, protocol: Any) -> int:
        """Break."""
        raise Closed(Failure(ConnectionAborted()))  # type: ignore[no-untyped-call]


@pytest_twisted.ensureDeferred
async def test_why_a_queue_was_not_gone_through() -> None:
    """What the network says is told in its own words, without a traceback."""
    walks = Walks(reactor, cast(Connection, Broken()))
    told = await walks.sift(b"dead", cast(Any, None), None)
    assert told == str(ConnectionAborted())
