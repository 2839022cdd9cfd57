"""The pages: which request gets which answer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from tefmanager.status.api import ROUTES, Error, Names, Refused, Route, checked_query, decoded_path
from tefmanager.status.gate import DELAY, Gate
from tefmanager.status.metrics import exposition
from tefmanager.status.openapi import openapi
from tefmanager.status.pacer import Pacer
from tefmanager.status.site import HEADERS
from tefmanager.status.stream import Stream
from tefmanager.status.view import Health, NotActive, Readiness, View

Request: TypeAlias = Any
"""A `twisted.web.server.Request`, most of which has no types."""

log = Logger()

_JSON = b"application/json"
_STATIC = {
    "": ("page.html", b"text/html; charset=utf-8"),
    "page.css": ("page.css", b"text/css; charset=utf-8"),
    "page.js": ("page.js", b"text/javascript; charset=utf-8"),
    "plots.js": ("plots.js", b"text/javascript; charset=utf-8"),
    "icon.svg": ("icon.svg", b"image/svg+xml"),
}
"""The page's files by URL path: file name in the package, and content type."""


_URGENT = (b"/health", b"/ready")
"""Paths that are answered at once, however many requests wait."""


class Root(Resource):
    """All paths.

    Args:
        view: answers.
        stream: sends events to its listeners.
        gate: knows the token.
        pacer: carries out the requests.
    """

    isLeaf = True

    def __init__(self, clock: IReactorTime, view: View, stream: Stream, gate: Gate, pacer: Pacer) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._clock = clock
        self._view = view
        self._stream = stream
        self._gate = gate
        self._pacer = pacer
        folder = files("tefmanager.status") / "static"
        self._files = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _STATIC.items()}

    def render(self, request: Request) -> int:
        """Answer a request when its turn comes."""
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        if request.path in _URGENT:
            self._finish(request)
        else:
            gone: list[object] = []
            request.notifyFinish().addErrback(gone.append)
            self._pacer.add(lambda: None if gone else self._finish(request))
        return NOT_DONE_YET

    def _finish(self, request: Request) -> None:
        """Answer a request; errors are returned as JSON."""
        try:
            answer = self._answer(request)
        except (Refused, NotActive) as error:
            answer = _refuse(request, error)
        except Exception:
            log.failure("a request could not be answered")
            answer = _json(request, 500, Error("the manager could not answer; its log says why"))
        if isinstance(answer, bytes):
            _send(request, answer)

    def _answer(self, request: Request) -> bytes | int:
        segments = decoded_path(request.postpath)
        if segments[0] == "api":
            return self._api(request, segments[1:])
        path = "/".join(segments)
        _only(request, "GET")
        if path in self._files:
            body, kind = self._files[path]
            request.setHeader(b"content-type", kind)
            return body
        if path == "metrics":
            request.setHeader(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
            return exposition(self._view)
        if path in ("health", "ready"):
            return self._api(request, [path])
        raise Refused(404, "there is nothing at this path")

    def _api(self, request: Request, segments: list[str]) -> bytes | int:
        if segments == ["openapi.json"]:
            _only(request, "GET")
            request.setHeader(b"content-type", _JSON)
            return openapi()
        if segments == ["stream"]:
            _only(request, "GET", head=False)
            return self._listen(request)
        found = [(route, names) for route in ROUTES if (names := route.match(segments)) is not None]
        if not found:
            raise Refused(404, "there is nothing at this path")
        [(route, names)] = found
        _only(request, route.method)
        return self._carry_out(request, route, names)

    def _carry_out(self, request: Request, route: Route, names: Names) -> bytes | int:
        if route.method == "POST" and not self._may(request):
            return NOT_DONE_YET
        query = checked_query(_query(request), route.query)
        result = route.answer(self._view, query, names, _body(request))
        if isinstance(result, Deferred):
            return _later(request, route, result)
        return _json(request, _status(route, result), result)

    def _listen(self, request: Request) -> int:
        if not self._stream.has_room():
            raise Refused(503, "too many viewers are connected")
        self._stream.listen(request)
        return NOT_DONE_YET

    def _may(self, request: Request) -> bool:
        """Tell whether a request has the token; one with a wrong token is refused after a delay."""
        if not self._gate.exists:
            raise Refused(403, "changes are not possible: the manager has no token file")
        if self._gate.lets_in(request.getHeader(b"authorization") or b""):
            return True
        self._gate.guessed(str(getattr(request.getClientAddress(), "host", None) or "a local socket"))
        request.setHeader(b"www-authenticate", b"Bearer")
        body = _json(request, 401, Error("the token is missing or wrong"))
        later = self._clock.callLater(DELAY, _send, request, body)
        request.notifyFinish().addErrback(lambda _: later.cancel())
        return False


def _query(request: Request) -> Mapping[str, list[str]]:
    """Return the URL's parameters; Twisted mixes them with those of a form."""
    found: dict[str, list[str]] = {}
    try:
        text = request.uri.partition(b"?")[2].decode("ascii")
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:  # not UTF-8, or too many parameters
        raise Refused(400, "the query can't be read") from None
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _body(request: Request) -> bytes:
    body: bytes = request.content.read()
    return body


def _only(request: Request, method: str, *, head: bool = True) -> None:
    allowed = (b"GET", b"HEAD") if method == "GET" and head else (method.encode(),)
    if request.method not in allowed:
        request.setHeader(b"allow", b", ".join(allowed))
        raise Refused(405, f"only {method} is possible here")


def _send(request: Request, body: bytes) -> None:
    """Send an answer; for HEAD without a body, about which Twisted would warn."""
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(b"" if request.method == b"HEAD" else body)
    request.finish()


def _refuse(request: Request, error: Refused | NotActive) -> bytes:
    if isinstance(error, Refused):
        return _json(request, error.status, Error(str(error)))
    return _json(request, 503, Error("this manager is not the active one"))


def _later(request: Request, route: Route, answer: Deferred[Struct]) -> int:
    """Send an answer when it is ready. The question is cancelled if the client leaves."""
    gone: list[object] = []

    def leave(failure: Failure) -> None:
        gone.append(failure)
        if route.method == "GET":
            answer.cancel()

    def refuse(failure: Failure) -> bytes:
        if not isinstance(failure.value, Refused | NotActive):
            log.failure("a request could not be answered", failure)
            return _json(request, 500, Error("the manager could not answer; its log says why"))
        return _refuse(request, failure.value)

    def send(body: bytes) -> None:
        if not gone:
            _send(request, body)

    request.notifyFinish().addErrback(leave)
    body = answer.addCallbacks(lambda found: _json(request, _status(route, found), found), refuse)
    body.addCallback(send).addErrback(lambda failure: log.failure("an answer could not be sent", failure))
    return NOT_DONE_YET


def _status(route: Route, result: Struct) -> int:
    match result:
        case Health(healthy=False) | Readiness(ready=False):
            return 503
    return 202 if route.method == "POST" else 200


def _json(request: Request, status: int, answer: Struct) -> bytes:
    request.setResponseCode(status)
    request.setHeader(b"content-type", _JSON)
    return msgspec.json.encode(answer)
