"""Logging in to Etcd: one login for all who wait, tokens that are renewed, what is said of a refusal."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from tefmanager.config.endpoints import EtcdAccess
from tefmanager.etcd import auth
from tefmanager.etcd.auth import Login

ACCESS = EtcdAccess(user="tef", password="hunter2")
RANGE = "/v3/kv/range"


def fault(error: str) -> bytes:
    """Return the body of v3's answer to what goes wrong."""
    return json.dumps({"error": error, "message": error, "code": 16}).encode()


INVALID = fault("etcdserver: invalid auth token")


class Server:
    """Is asked for tokens, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[Deferred[str]] = []

    async def ask(self, body: bytes) -> str:
        """Take the body of a login."""
        assert json.loads(body) == {"name": "tef", "password": "hunter2"}
        self.asked.append(Deferred())
        return await self.asked[-1]


def begun(work: Coroutine[Deferred[Any], Any, str]) -> tuple[Deferred[str], list[object]]:
    """Begin to wait for something, and return where its result or its error will be."""
    found: list[object] = []
    deferred = Deferred.fromCoroutine(work)
    deferred.addCallbacks(found.append, lambda failure: found.append(failure.value))
    return deferred, found


@pytest.fixture
def server() -> Server:
    """A server of tokens."""
    return Server()


@pytest.fixture
def login(server: Server) -> Login:
    """A login there."""
    return Login(ACCESS, server.ask)


def logged_in(login: Login, server: Server, token: str = "t1") -> None:
    """Get a token."""
    _, found = begun(login.authorization(RANGE))
    server.asked[-1].callback(token)
    assert found == [token]


def test_nobody(server: Server) -> None:
    """Without a user nothing is sent, by either API, and no token helps."""
    login = Login(EtcdAccess(), server.ask)
    assert [begun(login.authorization(path))[1] for path in (RANGE, "/v2/keys/x")] == [[""], [""]]
    assert not login.outdated(RANGE, "", 401, INVALID)
    assert server.asked == []


def test_v2(login: Login, server: Server) -> None:
    """With v2 user and password go with each request."""
    _, [header] = begun(login.authorization("/v2/keys/x"))
    assert isinstance(header, str)
    scheme, _, rest = header.partition(" ")
    assert (scheme, b64decode(rest)) == ("Basic", b"tef:hunter2")
    assert server.asked == []


def test_one_login_for_all(login: Login, server: Server) -> None:
    """However many wait, one token is asked for, and who comes later has it at once."""
    found = [begun(login.authorization(RANGE))[1] for _ in range(3)]
    assert (found, len(server.asked)) == ([[], [], []], 1)
    server.asked[0].callback("t1")
    assert found == [["t1"]] * 3
    assert begun(login.authorization(RANGE))[1] == ["t1"]
    assert len(server.asked) == 1


def test_refusal_is_shared(login: Login, server: Server) -> None:
    """When a login fails, all who wait fail, and the next one tries anew."""
    found = [begun(login.authorization(RANGE))[1] for _ in range(2)]
    error = ConnectionError("away")
    server.asked[0].errback(error)
    assert found == [[error], [error]]
    logged_in(login, server, "t2")
    assert len(server.asked) == 2


def test_who_gives_up_stops_nobody_else(login: Login, server: Server) -> None:
    """A request that is cancelled leaves the login to the others."""
    first, gave_up = begun(login.authorization(RANGE))
    first.cancel()
    _, found = begun(login.authorization(RANGE))
    assert isinstance(gave_up[0], CancelledError)
    assert len(server.asked) == 1
    server.asked[0].callback("t1")
    assert found == ["t1"]


@pytest.mark.parametrize(
    "error", ["invalid auth token", "revision of auth store is old", "user name is empty"]
)
def test_renewal(login: Login, server: Server, error: str) -> None:
    """A token that the server refuses is renewed, once for all who had it."""
    logged_in(login, server)
    body = fault(f"etcdserver: {error}")
    assert login.outdated(RANGE, "t1", 401, body)
    logged_in(login, server, "t2")
    assert login.outdated(RANGE, "t1", 401, body)
    assert begun(login.authorization(RANGE))[1] == ["t2"]


def test_a_token_that_is_not_answered(login: Login, server: Server) -> None:
    """It is renewed, once for all who had it: a server may wait for ever until it understands it."""
    logged_in(login, server)
    login.unanswered("t1")
    logged_in(login, server, "t2")
    login.unanswered("t1")
    assert begun(login.authorization(RANGE))[1] == ["t2"]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        (RANGE, 200, INVALID),
        ("/v2/keys/x", 401, INVALID),
        (RANGE, 400, fault("etcdserver: mvcc: required revision has been compacted")),
        (RANGE, 403, fault("etcdserver: permission denied")),
        (RANGE, 404, b"404 page not found"),
    ],
)
def test_what_a_new_token_does_not_cure(
    login: Login, server: Server, path: str, status: int, body: bytes
) -> None:
    """Other errors, and errors of v2, are no reason to log in again."""
    logged_in(login, server)
    assert not login.outdated(path, "t1", status, body)
    assert begun(login.authorization(RANGE))[1] == ["t1"]


def test_authentication_that_is_switched_on_later(login: Login, server: Server) -> None:
    """Where no token was wanted, a denied permission may mean that one is, now."""
    logged_in(login, server, "")
    assert begun(login.authorization(RANGE))[1] == [""]
    assert login.outdated(RANGE, "", 403, fault("etcdserver: permission denied"))
    logged_in(login, server, "t1")
    assert len(server.asked) == 2


def test_answers_to_a_login() -> None:
    """A token, none wanted, or a refusal."""
    assert auth.token_in(b'{"header":{"revision":"3"},"token":"abc.7"}') == "abc.7"
    assert auth.token_in(fault("etcdserver: authentication is not enabled")) == ""
    for body in (fault("etcdserver: authentication failed"), b"CommonName of client", b"", b"[]"):
        with pytest.raises(auth.LoginRefused):
            auth.token_in(body)


def test_words() -> None:
    """A refusal names the user, the status and the reason, and no password."""
    login = Login(ACCESS, Server().ask)
    denied = fault("etcdserver: permission denied")
    assert login.refusal(403, denied) == "not let in, as 'tef': HTTP 403: permission denied"
    v2 = b'{"errorCode":110,"message":"The request requires","cause":"Insufficient credentials","index":0}'
    assert login.refusal(401, v2) == "not let in, as 'tef': HTTP 401: Insufficient credentials"
    nobody = Login(EtcdAccess(), Server().ask)
    assert nobody.refusal(403, denied).startswith("not let in, and no user is set: HTTP 403")
    assert "hunter2" not in repr(ACCESS)
