"""Logs in to Etcd: with every request in v2, and for a token in v3.

A token becomes invalid when it is not used for some time (five minutes, unless ``--auth-token-ttl`` says
otherwise), when the server restarts, and when users or roles change. Etcd does not announce this, so the
client gets a new token when the server rejects one. A request that was rejected in this way was certainly
not carried out and may be sent again.

A token also contains the index of the server's log at which it was made, and the server delays a request
until its log has reached that index. A server that was restored to an earlier state may never reach it. So
a token is replaced too when a request with it got no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import msgspec
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tefmanager.config.endpoints import EtcdAccess

V2 = "/v2/"
V3 = "/v3/"
"""The prefix of the v3 API's paths."""

AUTHENTICATE = "/v3/auth/authenticate"
"""The path that returns a token."""

NO_AUTHENTICATION = "etcdserver: authentication is not enabled"
"""The answer to a login when authentication is off."""

PERMISSION_DENIED = "etcdserver: permission denied"
"""The answer to a request for something that the user, or somebody without a token, may not do."""

STALE = frozenset(
    {
        "etcdserver: invalid auth token",
        "etcdserver: revision of auth store is old",
        # The answer to a request without a token, after authentication was switched on.
        "etcdserver: user name is empty",
    }
)
"""Errors that a new token cures. A request that gets one of them has changed nothing."""

Ask: TypeAlias = Callable[[bytes], Coroutine[Deferred[Any], Any, str]]
"""Sends the body of a login, and returns the token."""


class LoginRefused(Exception):
    """Etcd rejects the user."""


class _Fault(msgspec.Struct, frozen=True):
    """An error as the APIs report it: v3 ``error``, v2 ``cause`` or ``message``."""

    error: str = ""
    cause: str = ""
    message: str = ""


class _Token(msgspec.Struct, frozen=True):
    token: str


def basic(access: EtcdAccess) -> str:
    """Return the value of the ``Authorization`` header of a v2 request."""
    return f"Basic {access.basic}"


def login(access: EtcdAccess) -> bytes:
    """Return the body of a request for a token."""
    return msgspec.json.encode({"name": access.user, "password": access.password})


def token_in(body: bytes) -> str:
    """Return the token from a login's answer; empty if Etcd needs none. Raises `LoginRefused`."""
    if fault_in(body) == NO_AUTHENTICATION:
        return ""
    try:
        return msgspec.json.decode(body, type=_Token).token
    except msgspec.DecodeError:
        raise LoginRefused from None


def fault_in(body: bytes) -> str:
    """Return the error in an answer."""
    try:
        fault = msgspec.json.decode(body, type=_Fault)
    except msgspec.DecodeError:
        return body[:200].decode("utf-8", "replace").strip()
    return fault.error or fault.cause or fault.message


def is_closed(path: str, status: int) -> bool:
    """Tell whether an answer means that the client may not make this request."""
    # In v2, 403 also answers invalid requests.
    return status == 401 or (status == 403 and path.startswith(V3))


class Login:
    """The credentials of one client.

    Args:
        access: user and password.
        ask: gets a token; called once at a time, however many requests wait for it.
    """

    def __init__(self, access: EtcdAccess, ask: Ask) -> None:
        self._access = access
        self._ask = ask
        self._token: str | None = None
        self._asking = False
        self._waiting: list[Deferred[str]] = []

    async def authorization(self, path: str) -> str:
        """Return the value of the ``Authorization`` header; empty if there is none.

        Raises what ``ask`` raises.
        """
        if self._access.user is None:
            return ""
        if path.startswith(V2):
            return basic(self._access)
        if self._token is not None:
            return self._token
        waiting: Deferred[str] = Deferred(self._waiting.remove)
        self._waiting.append(waiting)
        if not self._asking:
            self._asking = True
            asking = Deferred.fromCoroutine(self._ask(login(self._access)))
            asking.addCallbacks(self._got, self._failed)
        return await waiting

    def outdated(self, path: str, authorization: str, status: int, body: bytes) -> bool:
        """Tell whether a rejected request may succeed with a new token, and forget the old token."""
        if status == 200 or self._access.user is None or not path.startswith(V3):
            return False
        fault = fault_in(body)
        # This is also the answer if authentication was switched on and we have no token yet.
        if fault not in STALE and (authorization or fault != PERMISSION_DENIED):
            return False
        if self._token == authorization:
            self._token = None
        return True

    def unanswered(self, authorization: str) -> None:
        """Forget the token of a request that got no answer: the token may be the cause."""
        if self._token == authorization:
            self._token = None

    def refusal(self, status: int, body: bytes) -> str:
        """Return in words that Etcd does not let us in."""
        who = "and no user is set" if self._access.user is None else f"as {self._access.user!r}"
        return f"not let in, {who}: HTTP {status}: {fault_in(body).removeprefix('etcdserver: ')}"

    def _got(self, token: str) -> None:
        self._token = token
        for waiting in self._taken():
            waiting.callback(token)

    def _failed(self, failure: Failure) -> None:
        for waiting in self._taken():
            waiting.errback(failure.value)

    def _taken(self) -> list[Deferred[str]]:
        self._asking = False
        taken, self._waiting = self._waiting, []
        return taken
