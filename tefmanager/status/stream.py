"""Server-sent events: the overview, once a second, to everybody who looks at the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

Request: TypeAlias = Any
"""A `twisted.web.server.Request`, most of which has no types."""

INTERVAL = 1.0
"""Seconds between two events."""

MOST = 50
"""Listeners at a time."""

log = Logger()


@implementer(IPushProducer)
class _Listener:
    """A request that is never finished by us.

    While its connection takes nothing it is left out: it gets the next event that it can take.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.ready = True

    def pauseProducing(self) -> None:
        self.ready = False

    def resumeProducing(self) -> None:
        self.ready = True

    def stopProducing(self) -> None:
        self.ready = False


class Stream:
    """Makes an event once a second while there are listeners, and not otherwise.

    Args:
        make: makes the data of an event, JSON on one line.
    """

    def __init__(self, clock: IReactorTime, make: Callable[[], bytes]) -> None:
        self._make = make
        self._listeners: dict[_Listener, None] = {}
        self._calls = LoopingCall(self._tell)
        self._calls.clock = clock

    def __len__(self) -> int:
        """Count the listeners."""
        return len(self._listeners)

    def listen(self, request: Request) -> None:
        """Let a request have the events from now on, until it is gone."""
        event = self._event()  # before there is a listener: if it can't be made, the request is refused
        listener = _Listener(request)
        request.setHeader(b"content-type", b"text/event-stream")
        request.setHeader(b"x-accel-buffering", b"no")
        request.notifyFinish().addBoth(lambda _: self._gone(listener))
        request.registerProducer(listener, True)
        self._listeners[listener] = None
        request.write(b"retry: 2000\n\n" + event)
        if not self._calls.running:
            self._calls.start(INTERVAL, now=False).addErrback(self._failed)

    def close(self) -> None:
        """Let all of them go."""
        for listener in list(self._listeners):
            listener.request.loseConnection()
        if self._calls.running:
            self._calls.stop()

    def _failed(self, failure: Failure) -> None:
        """No event could be made: let all go, so that they come again."""
        log.failure("the page gets no more events", failure)
        self.close()

    def _event(self) -> bytes:
        return b"data: " + self._make() + b"\n\n"

    def _tell(self) -> None:
        event = self._event()
        for listener in list(self._listeners):
            if listener.ready:
                listener.request.write(event)

    def _gone(self, listener: _Listener) -> None:
        self._listeners.pop(listener, None)
        if not self._listeners and self._calls.running:
            self._calls.stop()
