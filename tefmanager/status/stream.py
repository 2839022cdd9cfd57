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

UNREAD = 5
"""Events in a row that a listener may leave unread."""

TURN = 10
"""Events after which a listener gives way where all places are taken; a browser comes again by itself."""

log = Logger()


@implementer(IPushProducer)
class _Listener:
    """A request that is never finished by us.

    While its connection takes nothing it is left out: it gets the next event that it can take.

    Attributes:
        told: events since it came.
        unread: of these, those in a row that it could not take.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.ready = True
        self.told = 0
        self.unread = 0

    def tell(self, event: bytes) -> None:
        self.told += 1
        if self.ready:
            self.unread = 0
            self.request.write(event)
        else:
            self.unread += 1

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
        most: listeners at a time.
    """

    def __init__(self, clock: IReactorTime, make: Callable[[], bytes], most: int = MOST) -> None:
        self._make = make
        self._most = most
        self._listeners: dict[_Listener, None] = {}
        self._calls = LoopingCall(self._tell)
        self._calls.clock = clock

    def __len__(self) -> int:
        """Count the listeners."""
        return len(self._listeners)

    def has_room(self) -> bool:
        """Tell whether another one may listen; if need be, who has been there for longest goes."""
        oldest = next(iter(self._listeners), None)
        if oldest is not None and len(self) >= self._most and oldest.told >= TURN:
            self._drop(oldest)
        return len(self) < self._most

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
            listener.tell(event)
            if listener.unread >= UNREAD:
                self._drop(listener)

    def _drop(self, listener: _Listener) -> None:
        """End a listener at once: one that reads nothing would not even take in that it is over."""
        self._gone(listener)
        listener.request.channel.drop()

    def _gone(self, listener: _Listener) -> None:
        self._listeners.pop(listener, None)
        if not self._listeners and self._calls.running:
            self._calls.stop()
