"""HTTP to one of several Etcd endpoints: kept connections, login, timeouts, errors with the address."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from hyperlink import EncodedURL
from msgspec import Struct
from OpenSSL import SSL
from treq.client import HTTPClient
from twisted.internet import error as net
from twisted.internet.defer import CancelledError, Deferred, DeferredSemaphore
from twisted.internet.interfaces import IReactorTime
from twisted.web._newclient import ParseError, RequestNotSent, RequestTransmissionFailed
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    ResponseFailed,
    _HTTP11ClientFactory,
)
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from tefmanager.etcd import auth
from tefmanager.etcd.bodies import TOO_LATE, Bounded, BoundedHead, RequestBody, collect
from tefmanager.etcd.cluster import Cluster, Endpoint, TlsPolicy
from tefmanager.etcd.refusals import NotLetIn, RequestRefused
from tefmanager.interfaces.etcd import ReservationsLost
from tefmanager.support import tls
from tefmanager.support.lease import Lease

__all__ = ["FORM", "Answer", "Endpoint", "HttpClient", "Request", "Stream"]

MAX_CONNECTIONS = 16
"""How many requests are under way at a time, and how many idle connections are kept open."""

CONNECT_TIMEOUT = 2.0
"""Seconds to wait for a TCP connection before the next endpoint is tried."""

LONGEST_INDEX = 20
"""The most digits of a 64-bit number."""

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

_NEVER_SENT = (net.ConnectError, net.DNSLookupError, tls.TlsError)
"""Errors after which certainly nothing of a request was sent."""

T = TypeVar("T")
Work: TypeAlias = Coroutine[Deferred[Any], Any, T]

_WIRE_ERRORS = (
    net.ConnectionClosed,
    OSError,
    ParseError,
    RequestNotSent,
    RequestTransmissionFailed,
    ResponseFailed,
    SSL.Error,
)


class Request(Struct, frozen=True):
    """A request. Path and query are already percent-encoded."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = JSON

    @property
    def writes(self) -> bool:
        """Whether the request may change something."""
        return self.method in ("PUT", "DELETE") or self.path == "/v3/kv/txn"


class Answer(Struct, frozen=True):
    """An answer and the "host:port" that sent it; v2 also reports its store's index and its cluster."""

    status: int
    index: int
    cluster: str
    body: bytes
    server: str


class _QuietFactory(_HTTP11ClientFactory):
    """Twisted's connection factory, without a log line per connection and with bounded headers."""

    noisy = False

    def buildProtocol(self, addr: object) -> BoundedHead:
        """Build the HTTP protocol of a connection."""
        return cast(BoundedHead, cast(Any, BoundedHead)(self._quiescentCallback))


class _NotSent(Exception):
    """An endpoint could not be reached; nothing was sent."""


class Stream:
    """An answer whose body arrives in pieces. Its user must read or close it."""

    def __init__(self, status: int, response: IResponse, run: Callable[[Work[None]], Work[None]]) -> None:
        self.status = status
        self._response = response
        self._run = run

    async def read(self, on_data: Callable[[bytes], None]) -> None:
        """Pass the pieces on until the body ends. An error of ``on_data`` ends it and is raised.

        Raises `ReservationsLost`.
        """
        await self._run(collect(self._response, on_data))

    def close(self) -> None:
        """Close the connection, unless the body has been read."""
        deferred = Deferred.fromCoroutine(collect(self._response, lambda _: None))
        deferred.addErrback(lambda _: None)
        deferred.cancel()


class HttpClient:
    """Tries the endpoints in turn until one can be reached, and stays with that one.

    Args:
        reactor: connects, and measures time.
        endpoints: where Etcd is, at least one; a `Cluster` also says how to log in.
        timeout: seconds to wait for an answer.
        lease: nothing is written while it does not hold.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoints: Sequence[Endpoint],
        timeout: float = 5.0,
        lease: Lease | None = None,
    ) -> None:
        self._reactor = reactor
        self._lease = Lease.unlimited() if lease is None else lease
        access = Cluster.of(endpoints).access
        self._endpoints = list(endpoints)
        self._scheme = "http" if access.tls is None else "https"
        self._login = auth.Login(access, self._ask_for_token)
        self._timeout = timeout
        # Twisted's web client has no types.
        agent_class, pool_class = cast(Any, Agent), cast(Any, HTTPConnectionPool)
        self._pool = pool_class(reactor)
        self._pool.maxPersistentPerHost = MAX_CONNECTIONS
        self._pool._factory = _QuietFactory
        # Never resend automatically what may have been sent.
        self._pool.retryAutomatically = False
        connect_timeout = min(timeout, CONNECT_TIMEOUT)
        policy = TlsPolicy(access.tls)
        agent = agent_class(reactor, policy, connectTimeout=connect_timeout, pool=self._pool)
        self._client = HTTPClient(agent)
        self._slots = DeferredSemaphore(MAX_CONNECTIONS)
        self._under_way: set[Deferred[Any]] = set()
        self._closed = False

    async def ask(self, request: Request) -> Answer:
        """Return the whole answer, whatever its status below 500. Raises `ReservationsLost`.

        A request is sent a second time only if it was not carried out because its token had become invalid.
        """
        authorization = await self._login.authorization(request.path)
        answer = await self._ask(request, authorization)
        if self._login.outdated(request.path, authorization, answer.status, answer.body):
            answer = await self._ask(request, await self._login.authorization(request.path))
        if auth.is_closed(request.path, answer.status):
            refused = await self._alone_denied(request, answer)
            if not refused:
                self.distrust(answer.server)
            raise self._not_let_in(answer, refused=refused)
        return answer

    async def _alone_denied(self, request: Request, answer: Answer) -> bool:
        """Tell whether only this request is denied: a user who may not write one key may write others.

        v3 has a status for that. v2 answers a wrong password and a missing right in the same way, so this
        reads something to find out.
        """
        if not request.writes or request.path.startswith(auth.V3):
            return request.writes and answer.status == 403
        read = Request("GET", request.path.partition("?")[0])
        found = await self._ask(read, await self._login.authorization(read.path))
        return not auth.is_closed(read.path, found.status)

    async def _ask(self, request: Request, authorization: str) -> Answer:
        await self._slots.acquire()
        try:
            return await self._whole(request, authorization)
        finally:
            self._slots.release()

    async def _whole(self, request: Request, authorization: str) -> Answer:
        async def exchange(server: str, response: IResponse) -> Answer:
            body = Bounded(f"etcd {server}")
            await collect(response, body.append)
            cluster = _header(response, "X-Etcd-Cluster-Id")
            return Answer(response.code, _index(response), cluster, body.whole(), server)

        return await self._each(lambda endpoint: self._exchange(endpoint, request, authorization, exchange))

    async def _ask_for_token(self, body: bytes) -> str:
        # This takes no slot, because requests that have a slot may be waiting for it.
        answer = await self._whole(Request("POST", auth.AUTHENTICATE, body), "")
        try:
            return auth.token_in(answer.body)
        except auth.LoginRefused:
            raise self._not_let_in(answer) from None

    def _not_let_in(self, answer: Answer, *, refused: bool = False) -> ReservationsLost:
        fault = self._login.refusal(answer.status, answer.body)
        text = f"etcd {answer.server}: {fault}"
        return RequestRefused(text, fault) if refused else NotLetIn(text)

    async def open(self, request: Request) -> Stream:
        """Return an answer whose body may take any time; the timeout covers only its headers.

        Raises `ReservationsLost`.
        """

        async def stream(server: str, response: IResponse) -> Stream:
            return Stream(response.code, response, lambda body: self._tracked(self._named(server, body)))

        authorization = await self._login.authorization(request.path)
        return await self._each(lambda endpoint: self._exchange(endpoint, request, authorization, stream))

    async def close(self) -> None:
        """Make requests under way fail with `ReservationsLost`, and close all connections."""
        self._closed = True
        for deferred in list(self._under_way):
            deferred.cancel()
        await self._pool.closeCachedConnections()

    def distrust(self, server: str) -> None:
        """Try another endpoint first from now on, because this one does not answer like an Etcd."""
        for endpoint in self._endpoints[:1]:
            if _shown(endpoint) == server:
                self._avoid(endpoint)

    async def _each(self, attempt: Callable[[Endpoint], Work[T]]) -> T:
        reasons = []
        for endpoint in list(self._endpoints):
            if self._closed:
                raise ReservationsLost("stopped")
            try:
                return await attempt(endpoint)
            except _NotSent as error:
                reasons.append(str(error))
                self._avoid(endpoint)
            except ReservationsLost:
                self._avoid(endpoint)
                raise
        raise ReservationsLost("; ".join(reasons))

    def _avoid(self, endpoint: Endpoint) -> None:
        # Several requests may fail at once; only the first switches to the next endpoint.
        if self._endpoints[0] == endpoint:
            self._endpoints.append(self._endpoints.pop(0))

    async def _tracked(self, work: Work[T], limit: tuple[float, str] | None = None) -> T:
        deferred = Deferred.fromCoroutine(work)
        self._under_way.add(deferred)
        if limit is not None:
            seconds, text = limit
            deferred.addTimeout(seconds, self._reactor, _raiser(text))
        try:
            return await deferred
        finally:
            self._under_way.discard(deferred)

    async def _exchange(
        self,
        endpoint: Endpoint,
        request: Request,
        authorization: str,
        receive: Callable[[str, IResponse], Work[T]],
    ) -> T:
        server = _shown(endpoint)

        async def exchange() -> T:
            response = await self._send(endpoint, request, authorization)
            if response.code >= 500:
                raise ReservationsLost(f"etcd {server}: {await _error_text(response)}")
            return await receive(server, response)

        limit = (self._timeout, f"etcd {server}: no answer in {self._timeout:g} s")
        try:
            return await self._tracked(self._named(server, exchange()), limit)
        except ReservationsLost:
            self._login.unanswered(authorization)
            raise

    async def _send(self, endpoint: Endpoint, request: Request, authorization: str) -> IResponse:
        may = self._may_write if request.writes else _always
        if not may():
            raise ReservationsLost(TOO_LATE)
        headers = Headers({})
        if request.body is not None:
            headers.setRawHeaders("Content-Type", [request.content_type])
        if authorization:
            headers.setRawHeaders("Authorization", [authorization])
        response = await self._client.request(
            request.method,
            _Url.from_text(f"{self._scheme}://{_shown(endpoint)}{request.path}"),
            headers=headers,
            data=cast(Any, None if request.body is None else RequestBody(request.body, may)),
            allow_redirects=False,
            unbuffered=True,
        )
        return cast(IResponse, response)

    def _may_write(self) -> bool:
        return self._lease.holds

    async def _named(self, server: str, work: Work[T]) -> T:
        """Convert network errors to `ReservationsLost` or `_NotSent`."""
        try:
            return await work
        except ReservationsLost:
            raise
        except net.ConnectingCancelledError as error:
            raise CancelledError from error
        except Exception as error:
            first = _first(error)
            if isinstance(first, ReservationsLost):
                # The body may not follow its headers any more, or the answer had no end.
                raise ReservationsLost(f"etcd {server}: {first}") from error
            if isinstance(first, _NEVER_SENT):
                raise _NotSent(f"etcd {server}: {_text(error)}") from error
            if self._closed:
                raise ReservationsLost("stopped") from error
            if not isinstance(error, _WIRE_ERRORS):
                raise
            raise ReservationsLost(f"etcd {server}: {_text(error)}") from error


class _Url(EncodedURL):
    """A URL of one of our hosts."""

    def to_uri(self) -> EncodedURL:
        """Leave an ASCII host as it is: hyperlink refuses IPv6 addresses, and names that DNS allows."""
        return self if self.host.isascii() else super().to_uri()


def _always() -> bool:
    return True


def _raiser(text: str) -> Callable[[object, float], object]:
    def timed_out(_: object, __: float) -> object:
        raise ReservationsLost(text)

    return timed_out


def _index(response: IResponse) -> int:
    """Return the index of the v2 store, or 0 if there is none."""
    found = _header(response, "X-Etcd-Index")
    return int(found) if found.isascii() and found.isdigit() and len(found) <= LONGEST_INDEX else 0


def _header(response: IResponse, name: str) -> str:
    """Return a header as text, even if it is malformed; empty if it is missing."""
    found: bytes = (response.headers.getRawHeaders(name.encode()) or [b""])[0]
    return found.decode("ascii", "replace")


async def _error_text(response: IResponse) -> str:
    body = Bounded("etcd")
    await collect(response, body.append)
    return f"HTTP {response.code}: {body.whole()[:200].decode('utf-8', 'replace').strip()}"


def _first(error: BaseException) -> BaseException:
    """Return the underlying error that made an HTTP request fail."""
    reasons = getattr(error, "reasons", None)
    return _first(reasons[0].value) if reasons else error


def _text(error: BaseException) -> str:
    first = _first(error)
    return tls.reason(first) or (str(first) or type(first).__name__).rstrip(".")


def _shown(endpoint: Endpoint) -> str:
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
