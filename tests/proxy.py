"""A proxy in front of a server whose connections can be cut, refused, delayed, and silenced."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP, IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol, ServerFactory, connectionDone

from tefmanager.sandbox.machine import HOST, free_ports

NETWORK = cast(IReactorTCP, reactor)
_TIME = cast(IReactorTime, reactor)


class _End(Protocol):
    """One of the two ends of a connection; what arrives here leaves at the other end."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def connectionMade(self) -> None:
        cast(Any, self.transport).setTcpNoDelay(True)
        self._link.made(self)

    def dataReceived(self, data: bytes) -> None:
        self._link.passed(self, data)

    def connectionLost(self, reason: Any = connectionDone) -> None:
        self._link.lost(self)


class Link:
    """A client's connection, and the one to the server that belongs to it.

    Attributes:
        silent: nothing passes any more, in either direction.
        watches: it asked Etcd for a watch.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.silent = False
        self.watches = False
        self._proxy = proxy
        self._ends: list[_End] = []
        self._early: list[bytes] = []
        self._late: deque[tuple[float, Callable[[], None]]] = deque()
        self._gone = False

    def made(self, end: _End) -> None:
        """An end is connected: first the client's, then the server's."""
        self._ends.append(end)
        if len(self._ends) == 1:
            NETWORK.connectTCP(*self._proxy.target, _Onwards(self))
        elif self._gone:
            self.abort()
        else:
            for data in self._early:
                cast(Any, end.transport).write(data)

    def passed(self, end: _End, data: bytes) -> None:
        """Data arrived at an end."""
        self.watches = self.watches or b"/v3/watch" in data or b"wait=true" in data
        if not self.silent:
            self._in_turn(lambda: self._write(end, data))

    def _in_turn(self, call: Callable[[], None]) -> None:
        """Do something after the delay, and after everything that came before it."""
        if self._late or self._proxy.delay:
            self._late.append((_TIME.seconds() + self._proxy.delay, call))
            if len(self._late) == 1:
                self._wait()
        else:
            call()

    def _wait(self) -> None:
        _TIME.callLater(max(0.0, self._late[0][0] - _TIME.seconds()), self._due)

    def _due(self) -> None:
        _, call = self._late.popleft()
        call()
        if self._late:
            self._wait()

    def _write(self, end: _End, data: bytes) -> None:
        other = next((each for each in self._ends if each is not end), None)
        if other is None:
            self._early.append(data)
        elif not self._gone:
            cast(Any, other.transport).write(data)

    def lost(self, end: _End) -> None:
        """An end was closed: pass on what came from it, then close the other end."""
        self._proxy.links.discard(self)
        self._in_turn(self._close)

    def _close(self) -> None:
        self._gone = True
        for end in self._ends:
            cast(Any, end.transport).loseConnection()

    def abort(self) -> None:
        """Break the connection at both ends, as a failing network does."""
        self._gone = True
        self._proxy.links.discard(self)
        for end in self._ends:
            cast(Any, end.transport).abortConnection()


class _Onwards(ClientFactory):
    """Creates the links' ends at the server."""

    noisy = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def buildProtocol(self, addr: object) -> Any:
        return _End(self._link)

    def clientConnectionFailed(self, connector: object, reason: object) -> None:
        self._link.abort()


class _Accepting(ServerFactory):
    """Creates the links' ends at the clients."""

    noisy = False

    def __init__(self, accept: Callable[[], Link]) -> None:
        self._accept = accept

    def buildProtocol(self, addr: object) -> Any:
        return _End(self._accept())


class Proxy:
    """Forwards a port of its own to a server.

    Args:
        target: the server's host and port.

    Attributes:
        endpoint: host and port to connect to.
        links: the open connections.
        delay: seconds by which everything is delayed.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.links: set[Link] = set()
        self.delay = 0.0
        self._silent = False
        self._listening: Any = None
        # Not a port that a client may get as its local port while this one is closed.
        self.endpoint = (HOST, free_ports(1)[0])
        self.open()

    def cut(self) -> None:
        """Break all connections."""
        for link in set(self.links):
            link.abort()

    def silence(self, *, only_watches: bool = False) -> None:
        """Let nothing pass, in either direction; with ``only_watches``, new connections still work."""
        self._silent = not only_watches
        for link in self.links:
            link.silent = link.silent or link.watches or not only_watches

    def speak(self) -> None:
        """Let new connections work again."""
        self._silent = False

    async def close(self) -> None:
        """Break all connections and refuse new ones."""
        if self._listening is not None:
            listening, self._listening = self._listening, None
            await listening.stopListening()
        self.cut()

    def open(self) -> None:
        """Listen again, on the same port as before."""
        host, port = self.endpoint
        self._listening = NETWORK.listenTCP(port, _Accepting(self._accept), interface=host)

    def _accept(self) -> Link:
        link = Link(self)
        link.silent = self._silent
        self.links.add(link)
        return link
