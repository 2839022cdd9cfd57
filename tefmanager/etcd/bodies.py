"""Bodies of HTTP requests and answers, with bounds on the size of answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import BODY, HTTP11ClientProtocol, Request
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from tefmanager.interfaces.etcd import ReservationsLost

TOO_LATE = "another manager may be the active one by now"
"""The reason why something is not written."""


@implementer(IBodyProducer)
class RequestBody:
    """Writes a request's body at once, so that it is sent in one piece with the headers.

    Writes nothing if the lease has run out, since connecting may have taken longer than the lease lasts.
    """

    def __init__(self, body: bytes, may: Callable[[], bool]) -> None:
        self._body = body
        self._may = may
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Write all of it."""
        if not self._may():
            return fail(ReservationsLost(TOO_LATE))
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Do nothing: the body has been written."""

    def resumeProducing(self) -> None:
        """Do nothing: the body has been written."""

    def stopProducing(self) -> None:
        """Do nothing: the body has been written."""


class _Collector(Protocol):
    """Passes the pieces of a body on. ``done`` fires at its end; cancelling it closes the connection."""

    def __init__(self, on_data: Callable[[bytes], None]) -> None:
        self.done: Deferred[None] = Deferred(self._abort)
        self._on_data: Callable[[bytes], None] | None = on_data

    def dataReceived(self, data: bytes) -> None:
        if self._on_data is None:
            return
        try:
            self._on_data(data)
        except Exception as error:
            self._finish(error)
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        complete = isinstance(reason.value, ResponseDone | PotentialDataLoss)
        self._finish(None if complete else reason.value)

    def _abort(self, _: Deferred[None]) -> None:
        self._on_data = None
        self._close()

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()

    def _finish(self, reason: BaseException | None) -> None:
        self._on_data = None
        if not self.done.called:
            self.done.callback(None) if reason is None else self.done.errback(reason)


LARGEST_BODY = 64 * 1024 * 1024
"""The largest answer, or line of an endless answer, in bytes after decompression.

A hundred thousand resources take less.
"""


LARGEST_HEAD = 256 * 1024
"""The most bytes of an answer before its body."""


class BoundedHead(HTTP11ClientProtocol):
    """Twisted's HTTP client protocol, with a bound on the size of the headers."""

    _left = LARGEST_HEAD

    def request(self, request: Request) -> Deferred[IResponse]:
        """Send a request, as Twisted does."""
        self._left = LARGEST_HEAD
        return super().request(request)

    def dataReceived(self, data: bytes) -> None:
        """Take in a piece of an answer; close the connection if the headers get too large."""
        twisted = cast(Any, super())  # Twisted has no types here
        if self._parser is not None and self._parser.state != BODY:
            self._left -= len(data)
        if self._left >= 0:
            twisted.dataReceived(data)
        else:
            text = f"headers of more than {LARGEST_HEAD:,} bytes are not read"
            twisted._giveUp(cast(Any, Failure)(ReservationsLost(text)))


class Bounded:
    """The pieces of a body from ``whom``, up to a total size, by default `LARGEST_BODY`."""

    def __init__(self, whom: str, most: int | None = None) -> None:
        self._whom = whom
        self._most = LARGEST_BODY if most is None else most
        self._pieces: list[bytes] = []
        self._size = 0

    def append(self, piece: bytes) -> None:
        """Add a piece. Raises `ReservationsLost` if the total gets too large."""
        self._size += len(piece)
        if self._size > self._most:
            self._pieces.clear()
            raise ReservationsLost(f"{self._whom}: an answer of more than {self._most:,} bytes is not read")
        self._pieces.append(piece)

    def whole(self) -> bytes:
        """Return all pieces as one, and start again with none."""
        pieces, self._pieces, self._size = self._pieces, [], 0
        return b"".join(pieces)


async def collect(response: IResponse, on_data: Callable[[bytes], None]) -> None:
    """Pass the pieces of an answer's body on until it ends; cancelling closes the connection."""
    collector = _Collector(on_data)
    cast(Any, response).deliverBody(collector)
    await collector.done
