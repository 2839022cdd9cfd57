"""Connects and stays connected: tries brokers in turn, with jittered backoff, and explains errors."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from enum import StrEnum
from typing import Any, TypeAlias, TypeVar

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.interfaces import IAddress, IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure
from txamqp.client import Closed

from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.budget import ChannelBudget
from tefmanager.amqp.codec import TableError
from tefmanager.amqp.delegate import why
from tefmanager.config.endpoints import AmqpEndpoint
from tefmanager.config.secrets import Told
from tefmanager.support.backoff import Backoff

CONNECT_TIMEOUT = 10.0
"""Seconds for connecting and logging in, and again for opening the channels."""

T = TypeVar("T")

_log = Logger()

LASTING = 10.0
"""Seconds after which a connection counts as good, so that the backoff starts again from its first
delay."""

Tls: TypeAlias = Callable[[AmqpEndpoint], IOpenSSLClientConnectionCreator]
"""Makes the TLS settings of a connection to an endpoint."""


class AmqpUnavailable(Told):
    """A broker can't be used; the text says why, without secrets."""


class LinkState(StrEnum):
    """The state of a connection."""

    CONNECTED = "connected"
    LOST = "lost"
    WAITING = "waiting"
    """It could not be made; another attempt follows."""
    BLOCKED = "blocked"
    """It stands, but the broker accepts no messages."""
    UNBLOCKED = "unblocked"
    CLOSED = "closed"
    """It stands, but the broker closed one channel, which is opened again."""
    FORBIDDEN = "forbidden"
    """It stands, but the broker lets us publish to no queue."""
    PERMITTED = "permitted"
    """The broker lets us publish to queues again."""


OnState: TypeAlias = Callable[[LinkState, str], None]
"""Is told each change of state, with the broker and the reason in a text for people."""


def ignore_state(state: LinkState, detail: str) -> None:
    """Ignore a change of state."""


OnMissing: TypeAlias = Callable[[str, str | None], None]
"""Is told what the broker refuses that the manager can do without, and why, at each attempt; None: it is
there now."""


def ignore_missing(what: str, why: str | None) -> None:
    """Ignore that something is missing."""


# --- One connection --------------------------------------------------------------------------


async def connect(reactor: Any, endpoint: AmqpEndpoint, name: str, tls: Tls) -> AmqpProtocol:
    """Connect and log in. Raises `AmqpUnavailable`.

    Leaves no connection behind if it fails or is cancelled.
    """
    protocol = AmqpProtocol(endpoint, name, reactor)
    try:
        await _timely(reactor, _login(_stream(reactor, endpoint, tls), protocol))
    except BaseException as error:
        reason = protocol.reason
        protocol.abort("given up")
        if isinstance(error, FAULTS):
            raise AmqpUnavailable(reason or _text(error)) from None
        if not isinstance(error, Exception) or isinstance(error, CancelledError | ConnectingCancelledError):
            raise
        # Whatever the error is, another broker or a later attempt may work.
        _log.failure("AMQP connection {name}: an unexpected error", name=name)
        raise AmqpUnavailable(f"{type(error).__name__}: {error}") from error
    return protocol


FAULTS = (ConnectError, Closed, TimeoutError, OSError, TableError, AmqpUnavailable, SSL.Error)
"""The errors by which a broker shows that it is unreachable or refuses us."""


def _timely(reactor: Any, coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    return Deferred.fromCoroutine(coroutine).addTimeout(CONNECT_TIMEOUT, reactor)


def _text(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT:g} s"
    return why(error)


def _stream(reactor: Any, endpoint: AmqpEndpoint, tls: Tls) -> IStreamClientEndpoint:
    stream = HostnameEndpoint(reactor, endpoint.host, endpoint.port, timeout=CONNECT_TIMEOUT)
    return wrapClientTLS(tls(endpoint), stream) if endpoint.tls else stream


async def _login(stream: IStreamClientEndpoint, protocol: AmqpProtocol) -> None:
    await stream.connect(_Once(protocol))
    await protocol.login()


class _Once(Factory):
    """Builds one protocol, without logging."""

    noisy = False

    def __init__(self, protocol: AmqpProtocol) -> None:
        self._protocol = protocol

    def buildProtocol(self, addr: IAddress | None) -> AmqpProtocol:
        return self._protocol


# --- Staying connected -----------------------------------------------------------------------


class _Run:
    """The time from a start to a stop."""

    ended: Deferred[None]
    stopped = False


class Link:
    """Keeps one connection to whichever broker works.

    ``setup`` opens the channels of a new connection; if it raises, that broker counts as unusable. The user
    of a connection closes it (`AmqpProtocol.shut`) when its channels are no longer usable, and a new
    connection is made.
    """

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[AmqpEndpoint],
        name: str,
        setup: Callable[[AmqpProtocol], Coroutine[Deferred[Any], Any, None]],
        on_state: OnState,
        tls: Tls,
        budget: ChannelBudget,
    ) -> None:
        self._budget = budget
        self._reactor = reactor
        self._endpoints = list(endpoints)
        self._name = name
        self._setup = setup
        self._on_state = on_state
        self._tls = tls
        self._backoff = Backoff(reactor)
        self._turn = 0
        self._said: dict[AmqpEndpoint, str] = {}
        self._protocol: AmqpProtocol | None = None
        self._run: _Run | None = None

    def start(self) -> None:
        """Connect, and stay connected until `stop`."""
        if self._run is None:
            self._run = _Run()
            self._run.ended = Deferred.fromCoroutine(self._stay(self._run))
            self._run.ended.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError, ConnectingCancelledError):  # type: ignore[no-untyped-call]
            self._log.failure("AMQP connection {name} is given up", failure=failure, name=self._name)

    async def stop(self) -> None:
        """Close the connection properly, within 5 seconds, and make no other. `start` may follow."""
        run, self._run = self._run, None
        if run is None:
            return
        run.stopped = True
        run.ended.cancel()
        protocol = self._protocol
        if protocol is not None:
            protocol.shut("stopped")
            await protocol.disconnected.wait()

    def renew(self, reason: str) -> None:
        """Close the connection, if there is one, and make another."""
        if self._protocol is not None:
            self._protocol.shut(reason)

    async def _stay(self, run: _Run) -> None:
        while True:
            for _ in self._endpoints:
                if await self._use(self._endpoints[self._turn], run):
                    break
                self._turn = (self._turn + 1) % len(self._endpoints)
            await self._backoff.pause()

    async def _use(self, endpoint: AmqpEndpoint, run: _Run) -> bool:
        """Use a connection to a broker as long as it lasts; return whether it could be used at all."""
        try:
            protocol = await self._connected(endpoint)
        except AmqpUnavailable as error:
            self._budget.ended(str(error))
            if run.stopped:
                # When a lookup is cancelled, Twisted reports that the name was not found.
                raise CancelledError from error
            self._say_waiting(endpoint, str(error))
            return False
        since = self._reactor.seconds()
        self._said.clear()
        self._on_state(LinkState.CONNECTED, str(endpoint))
        await protocol.disconnected.wait()
        self._budget.ended(protocol.reason or "")
        self._on_state(LinkState.LOST, f"{endpoint}: {protocol.reason}")
        if self._reactor.seconds() - since >= LASTING:
            self._backoff.reset()
        return True

    def _say_waiting(self, endpoint: AmqpEndpoint, why: str) -> None:
        """Tell why a broker can't be used, if the reason is new."""
        if self._said.get(endpoint) != why:
            self._said[endpoint] = why
            self._on_state(LinkState.WAITING, f"{endpoint}: {why}")

    async def _connected(self, endpoint: AmqpEndpoint) -> AmqpProtocol:
        protocol = self._protocol = await connect(self._reactor, endpoint, self._name, self._tls)
        try:
            await _timely(self._reactor, self._setup(protocol))
        except CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, FAULTS):
                self._log.failure("AMQP connection {name} can't be set up", name=self._name)
            reason = protocol.reason or _text(error)
            protocol.shut(reason)
            await protocol.disconnected.wait()
            raise AmqpUnavailable(reason) from None
        return protocol
