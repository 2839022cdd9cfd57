"""Listens for HTTP requests."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
from twisted.application.service import Service
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.failure import Failure

from tefmanager.config.http_settings import HttpConfig
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.status.gate import Gate
from tefmanager.status.hosts import Hosts
from tefmanager.status.pacer import Pacer
from tefmanager.status.site import BoundedSite, most_connections
from tefmanager.status.stream import MOST, Stream
from tefmanager.status.view import View
from tefmanager.status.web import Root

log = Logger()

OTHERS = 0o007
"""The permissions of users who are neither the owner nor in the group."""


class StatusServer(Service):
    """Serves the page, the JSON and the metrics.

    Args:
        config: the address, whether failing to get it is an error, and the token.
        give_up: is called with a reason if the address was asked for and can't be used.
    """

    def __init__(
        self,
        reactor: Any,
        config: HttpConfig,
        view: View,
        give_up: Callable[[str], None],
    ) -> None:
        endpoint = for_group_only(config.endpoint)
        self._endpoint: Any = serverFromString(reactor, endpoint)  # type: ignore[no-untyped-call]
        self._where = config.endpoint
        self._asked = config.asked
        self._give_up = give_up
        most = most_connections()
        self._stream = Stream(reactor, lambda: msgspec.json.encode(view.overview()), min(MOST, most // 2))
        root = Root(reactor, view, self._stream, Gate(reactor, config.token, emit), Pacer(reactor))
        self._site = BoundedSite(root, Hosts(config.hosts), most)
        self._port: IListeningPort | None = None

    def startService(self) -> None:
        """Begin to listen."""
        super().startService()  # type: ignore[no-untyped-call]
        mask = os.umask(OTHERS)  # a socket's file exists before it has its mode
        os.umask(mask | OTHERS)
        try:
            listening = self._endpoint.listen(self._site)
        finally:
            os.umask(mask)
        listening.addCallbacks(self._listens, self._cannot_listen)
        listening.addErrback(lambda failure: log.failure("the page can't be shown", failure))

    def _listens(self, port: IListeningPort) -> None:
        self._port = port
        emit(catalogue.HTTP_LISTENING(_shown(port.getHost())))

    def _cannot_listen(self, failure: Failure) -> None:
        failure.trap(CannotListenError)  # type: ignore[no-untyped-call]
        error = getattr(failure.value, "socketError", None)
        reason = getattr(error, "strerror", None) or str(error)
        if self._asked:
            self._give_up(f"--http: can't listen on {self._where}: {reason}")
        else:
            emit(catalogue.HTTP_UNAVAILABLE(self._where, reason))

    def stopService(self) -> Deferred[None]:
        """Stop listening, and close all connections."""
        super().stopService()  # type: ignore[no-untyped-call]
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._stream.close()
        if self._port is not None:
            await maybeDeferred(self._port.stopListening)


def for_group_only(endpoint: str) -> str:
    """Return an endpoint whose socket file is only for owner and group, if no mode is given.

    Connecting requires write permission. A umask that gives the group no permission leaves the socket to
    its owner; otherwise the umask does not matter.
    """
    if not endpoint.startswith("unix:") or ":mode=" in endpoint:
        return endpoint
    mask = os.umask(OTHERS)
    os.umask(mask)
    return f"{endpoint}:mode={'600' if mask & 0o070 == 0o070 else '660'}"


def _shown(address: Any) -> str:
    """Return the address where we listen: a socket's file, or host and port."""
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"")
    return f"{address.host}:{address.port}"
