"""HTTP connections and requests, with bounds on everything that clients could fill up."""

from __future__ import annotations

import resource
from io import BytesIO
from typing import Any

import msgspec
from twisted.internet.interfaces import IDelayedCall
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from tefmanager.status.api import LONGEST_BODY, Error
from tefmanager.status.hosts import Hosts

IDLE = 60
"""Seconds after which a silent connection is closed."""

LINGER = 2.0
"""Seconds for which a refused client may continue to send; if it were cut off at once, it would not get the
answer."""

# Twisted has few types for these.
_Channel: Any = HTTPChannel
_Request: Any = Request
_Site: Any = Site

HEADERS = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
    b" connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"server": b"tef-manager",
    b"x-content-type-options": b"nosniff",
}
"""The headers of every answer."""

_REASONS = {403: b"Forbidden", 413: b"Content Too Large"}


def most_connections() -> int:
    """Return how many connections are allowed, so that file descriptors remain for the services."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 100 if soft == resource.RLIM_INFINITY else min(100, max(10, (soft - 100) // 4))


class BoundedRequest(_Request):  # type: ignore[misc]
    """A request whose body is short, stays in memory and is never parsed as a form."""

    def gotLength(self, length: int | None) -> None:
        """Prepare for the body."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take in a part of the body; the length of a chunked body is not known before."""
        if self.content.tell() + len(data) > LONGEST_BODY:
            self.channel.refuse(413, f"a body may have at most {LONGEST_BODY} bytes")
        else:
            self.content.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer the complete request."""
        self.content.seek(0)
        self.method, self.uri, self.clientproto = command, path, version
        self.path = path.partition(b"?")[0]
        self.args: dict[bytes, list[bytes]] = {}
        self.process()


class Channel(_Channel):  # type: ignore[misc]
    """A connection. Errors in a request's headers are answered before its body is read."""

    maxHeaders = 100
    site: BoundedSite
    _refused = False
    _linger: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Join the crowd; another connection is dropped if there are too many."""
        super().connectionMade()
        self.site.crowd.idle(self)

    def connectionLost(self, reason: Any) -> None:
        """Leave the crowd."""
        self.site.crowd.gone(self)
        if self._linger is not None and self._linger.active():
            self._linger.cancel()
        super().connectionLost(reason)

    def dataReceived(self, data: bytes) -> None:
        """Read, unless this connection is finished."""
        if not self._refused:
            super().dataReceived(data)

    def lineReceived(self, line: bytes) -> None:
        """Read the start of a request."""
        if not self._refused:
            super().lineReceived(line)

    def rawDataReceived(self, data: bytes) -> None:
        """Read a body."""
        if not self._refused:
            super().rawDataReceived(data)

    def allHeadersReceived(self) -> None:
        """Begin to read the body, unless the request is refused."""
        problem = self._problem(self.requests[-1])
        if problem is None:
            super().allHeadersReceived()
        else:
            self.refuse(*problem)

    def _problem(self, request: Any) -> tuple[int, str] | None:
        headers, address = request.requestHeaders, getattr(self.transport.getHost(), "host", "")
        hosts = headers.getRawHeaders(b"Host") or [None]
        origin = (headers.getRawHeaders(b"Origin") or [None])[0]
        if len(hosts) > 1 or not self.site.hosts.has(hosts[0], address):
            return 403, "the Host header is not a name of this manager; set --http-host to allow it"
        if self._command not in (b"GET", b"HEAD") and not self.site.hosts.is_ours(origin, hosts[0]):
            return 403, "pages of other sites may change nothing here"
        if self.length is not None and self.length > LONGEST_BODY:
            return 413, f"a body may have at most {LONGEST_BODY} bytes"
        return None

    def allContentReceived(self) -> None:
        """Answer the complete request."""
        if not self._refused:
            self.site.crowd.busy(self)
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """Wait for the next request."""
        self.site.crowd.idle(self)
        super().requestDone(request)

    def refuse(self, status: int, text: str) -> None:
        """Answer without reading on, then close the connection."""
        if self._refused:
            return
        self._refused = True
        self.setTimeout(None)
        self.transport.write(_bare_answer(status, text))
        half = getattr(self.transport, "loseWriteConnection", None)
        if half is not None:
            half()
        self._linger = self.callLater(LINGER, self.drop)

    def timeoutConnection(self) -> None:
        """Close the connection because it was silent for too long. Twisted would log each of these."""
        self.drop()

    def drop(self) -> None:
        """Close the connection at once."""
        self.transport.abortConnection()


def _bare_answer(status: int, text: str) -> bytes:
    body = msgspec.json.encode(Error(text))
    head = [b"HTTP/1.1 %d %s" % (status, _REASONS[status]), b"connection: close"]
    own = {b"content-type": b"application/json", b"content-length": b"%d" % len(body)}
    head += [name + b": " + value for name, value in (HEADERS | own).items()]
    return b"\r\n".join([*head, b"", body])


class Crowd:
    """All connections. If there are too many, the one that has been idle longest is dropped.

    So a new connection is always accepted, and `/health` is always answered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: dict[Channel, None] = {}
        self._busy: dict[Channel, None] = {}

    def __len__(self) -> int:
        """Count the connections."""
        return len(self._idle) + len(self._busy)

    def idle(self, channel: Channel) -> None:
        """Note that a connection waits for a request, because it is new or its last one is answered."""
        self.gone(channel)
        if len(self) >= self._most:
            self._drop_one()
        self._idle[channel] = None

    def busy(self, channel: Channel) -> None:
        """Note that a connection has sent a request."""
        self._idle.pop(channel, None)
        self._busy[channel] = None

    def gone(self, channel: Channel) -> None:
        """Note that a connection is closed."""
        self._idle.pop(channel, None)
        self._busy.pop(channel, None)

    def _drop_one(self) -> None:
        channel = next(iter(self._idle or self._busy))
        self.gone(channel)
        channel.drop()


class BoundedSite(_Site):  # type: ignore[misc]
    """Answers requests without logging them: health checks would be logged every few seconds.

    Args:
        hosts: our host names.
        most: the largest number of connections.
    """

    protocol = Channel
    requestFactory = BoundedRequest

    def __init__(self, root: Resource, hosts: Hosts, most: int) -> None:
        super().__init__(root, timeout=IDLE)
        self.hosts = hosts
        self.crowd = Crowd(most)
        self.noisy = False
        self.displayTracebacks = False

    def log(self, request: Request) -> None:
        """Do nothing."""
