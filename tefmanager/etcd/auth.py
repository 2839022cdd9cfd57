"""Logging in to Etcd: with each request where it is v2, and for a token where it is v3.

A token ends when it was not used for some time (five minutes, unless ``--auth-token-ttl`` says otherwise),
when the server starts anew and when users or roles change. Nobody tells when, so it is renewed when the
server refuses one. Such a request was certainly not carried out: it may be sent again.

A token also names the index of the server's log at which it was made, and the server lets a request wait
until it is there. One that was restored to an earlier state may never be. So a token with which a request
got no answer is renewed as well.
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
"""What the paths of the two APIs begin with."""

AUTHENTICATE = "/v3/auth/authenticate"
"""Where a token is to be had."""

NO_AUTHENTICATION = "etcdserver: authentication is not enabled"
"""The answer to a login where everybody may do everything."""

PERMISSION_DENIED = "etcdserver: permission denied"
"""The answer to a request for what the user, or somebody without a token, may not do."""

STALE = frozenset(
    {
        "etcdserver: invalid auth token",
        "etcdserver: revision of auth store is old",
        # The answer to a request without a token: authentication was switched on since.
        "etcdserver: user name is empty",
    }
)
"""Errors that a new token cures; whoever gets one has changed nothing."""

Ask: TypeAlias = Callable[[bytes], Coroutine[Deferred[Any], Any, str]]
"""Sends the body of a login, and returns the token."""


class LoginRefused(Exception):
    """Etcd does not let the user in."""


class _Fault(msgspec.Struct, frozen=True):
    """What the APIs say of an error: v3 ``error``, v2 ``cause`` or ``message``."""

    error: str = ""
    cause: str = ""
    message: str = ""


class _Token(msgspec.Struct, frozen=True):
    token: str


def basic(access: EtcdAccess) -> str:
    """Return what stands in the header ``Authorization`` of a v2 request."""
    return f"Basic {access.basic}"


def login(access: EtcdAccess) -> bytes:
    """Return the body of a request for a token."""
    return msgspec.json.encode({"name": access.user, "password": access.password})


def token_in(body: bytes) -> str:
    """Return the token in the answer to a login; empty where Etcd wants none. Raises `LoginRefused`."""
    if fault_in(body) == NO_AUTHENTICATION:
        return ""
    try:
        return msgspec.json.decode(body, type=_Token).token
    except msgspec.DecodeError:
        raise LoginRefused from None


def fault_in(body: bytes) -> str:
    """Return the error that an answer tells."""
    try:
        fault = msgspec.json.decode(body, type=_Fault)
    except msgspec.DecodeError:
        return body[:200].decode("utf-8", "replace").strip()
    return fault.error or fault.cause or fault.message


def is_closed(path: str, status: int) -> bool:
    """Tell whether an answer says that whoever asks may not ask that."""
    # In v2, 403 also stands for requests that make no sense.
    return status == 401 or (status == 403 and path.startswith(V3))


class Login:
    """What requests of one client need to be let in.

    Args:
        access: as whom.
        ask: gets a token; called once at a time, however many requests wait for it.
    """

    def __init__(self, access: EtcdAccess, ask: Ask) -> None:
        self._access = access
        self._ask = ask
        self._token: str | None = None
        self._asking = False
        self._waiting: list[Deferred[str]] = []

    async def authorization(self, path: str) -> str:
        """Return what has to stand in the header ``Authorization``; empty: it is left out.

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
        """Tell whether a request that was not carried out may be with a new token; forget the old one."""
        if status == 200 or self._access.user is None or not path.startswith(V3):
            return False
        fault = fault_in(body)
        # Where no token was wanted before, and now one is, the answer may also be this.
        if fault not in STALE and (authorization or fault != PERMISSION_DENIED):
            return False
        if self._token == authorization:
            self._token = None
        return True

    def unanswered(self, authorization: str) -> None:
        """Forget the token of a request that got no answer: it may be why there is none."""
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
