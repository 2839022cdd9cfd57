"""A way to Etcd that can be cut, closed and made to go silent."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTCP
from twisted.protocols.portforward import ProxyFactory, ProxyServer

NETWORK = cast(IReactorTCP, reactor)


class _Server(ProxyServer):
    """One connection; remembers whether it asked for a watch."""

    factory: Any
    transport: Any

    def connectionMade(self) -> None:
        self.silent = self.factory.silent
        self.watches = False
        self.factory.connections.add(self)
        super().connectionMade()

    def dataReceived(self, data: bytes) -> None:
        self.watches = self.watches or b"/v3/watch" in data or b"wait=true" in data
        if not self.silent:
            cast(Any, super()).dataReceived(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.connections.discard(self)
        cast(Any, super()).connectionLost(reason)


class EtcdProxy:
    """Forwards a port of its own to Etcd."""

    def __init__(self, etcd: tuple[str, int]) -> None:
        self._factory = cast(Any, ProxyFactory)(*etcd)
        self._factory.noisy = False
        self._factory.protocol = _Server
        self._factory.connections = set()
        self._factory.silent = False
        self._listening = cast(Any, NETWORK).listenTCP(0, self._factory, interface="127.0.0.1")
        self.endpoint: tuple[str, int] = ("127.0.0.1", self._listening.getHost().port)

    @property
    def connections(self) -> set[_Server]:
        """Return the connections that are open."""
        return set(self._factory.connections)

    def cut(self) -> None:
        """Break all connections."""
        for connection in self.connections:
            connection.transport.abortConnection()

    def silence(self, *, only_watches: bool = False) -> None:
        """Let nothing more through, in either direction; new connections work if only watches are meant."""
        self._factory.silent = not only_watches
        for connection in self.connections:
            if connection.watches or not only_watches:
                connection.silent = True
                cast(Any, connection.peer).transport.pauseProducing()

    def speak(self) -> None:
        """Let new connections work."""
        self._factory.silent = False

    async def close(self) -> None:
        """Refuse connections, too."""
        if self._listening is not None:
            listening, self._listening = self._listening, None
            await listening.stopListening()
        self.cut()

    def open(self) -> None:
        """Listen again, at the same port."""
        self._listening = cast(Any, NETWORK).listenTCP(
            self.endpoint[1], self._factory, interface="127.0.0.1"
        )
