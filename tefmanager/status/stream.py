"""Server-sent events: sends the overview once a second to everybody who looks at the page."""

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
"""The most listeners at a time."""

UNREAD = 5
"""How many events in a row a listener may leave unread."""

TURN = 10
"""After how many events a listener gives way if all places are taken; a browser reconnects by itself."""

log = Logger()


@implementer(IPushProducer)
class _Listener:
    """A request that we never finish.

    While its connection is not writable it is skipped; it gets the next event after that.

    Attributes:
        told: number of events since it came.
        unread: number of the last events in a row that it could not take.
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
    """Makes an event once a second while there are listeners.

    Args:
        make: makes the data of an event, JSON on one line.
        most: the most listeners at a time.
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
        """Tell whether another listener may come; if necessary, the oldest is dropped."""
        oldest = next(iter(self._listeners), None)
        if oldest is not None and len(self) >= self._most and oldest.told >= TURN:
            self._drop(oldest)
        return len(self) < self._most

    def listen(self, request: Request) -> None:
        """Send events to a request until its connection is closed."""
        event = (
            self._event()
        )  # made before the listener is added: if making it fails, the request is refused
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
        """Drop all listeners."""
        for listener in list(self._listeners):
            listener.request.loseConnection()
        if self._calls.running:
            self._calls.stop()

    def _failed(self, failure: Failure) -> None:
        """Drop all listeners, because no event could be made; they reconnect."""
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
        """Close a listener's connection at once: one that reads nothing would not notice a proper end."""
        self._gone(listener)
        listener.request.channel.drop()

    def _gone(self, listener: _Listener) -> None:
        self._listeners.pop(listener, None)
        if not self._listeners and self._calls.running:
            self._calls.stop()
