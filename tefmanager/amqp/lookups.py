"""Asks the broker questions that may make it close the channel, one after the other on one channel."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from txamqp.client import Closed

from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.unasked import ChannelEvents, NoChannel

T = TypeVar("T")

Question: TypeAlias = Callable[[Any], Coroutine[Deferred[Any], Any, T]]
"""Is given the channel. May raise `txamqp.client.Closed`."""


def detached(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Run a coroutine to its end, even if the caller cancels the result.

    An abandoned call would leave its channel in an unknown state.
    """
    answer: Deferred[T] = Deferred()

    def end(result: T | Failure) -> None:
        if not answer.called:
            answer.callback(result)

    Deferred.fromCoroutine(coroutine).addBoth(end)
    return answer


class Lookups:
    """Asks the broker questions, on a channel that stays open as long as the answers let it.

    One channel number is enough for any number of callers. Each question is asked to its end, even if the
    caller has been cancelled, so the number is never reused while the broker has the channel open.

    Attributes:
        number: of the channel; 0 if there is none.
    """

    def __init__(self, number: int = 0) -> None:
        self.number = number
        self._protocol: AmqpProtocol | None = None
        self._channel: Any = None
        self._waiting: deque[tuple[Question[Any], Deferred[Any]]] = deque()
        self._busy = False

    def use(self, protocol: AmqpProtocol, number: int) -> None:
        """Ask on a new connection from now on."""
        self._protocol, self._channel, self.number = protocol, None, number

    def ask(self, question: Question[T]) -> Deferred[T]:
        """Return a Deferred for the answer. It fails with what the question raises, or with `NoChannel`."""
        answer: Deferred[T] = Deferred()
        self._waiting.append((question, answer))
        if not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._work()).addErrback(self._give_up)
        return answer

    async def _work(self) -> None:
        while self._waiting:
            question, answer = self._waiting.popleft()
            if answer.called:
                continue  # nobody waits for the answer any more
            try:
                found: object = await question(await self._opened())
            except Exception:
                found = Failure()  # type: ignore[no-untyped-call]
            if not answer.called:
                answer.callback(found)
        self._busy = False

    def _give_up(self, failure: Failure) -> None:
        """Ignore that it was cancelled: only the end of the process does that."""
        self._busy = False
        waiting, self._waiting = self._waiting, deque()
        for _, answer in waiting:
            if not answer.called:
                answer.errback(failure)

    async def _opened(self) -> Any:
        protocol = self._protocol
        if protocol is None:
            raise Closed("there is no connection")
        if not self.number:
            raise NoChannel(f"the broker allows no more than {protocol.channel_max} channels")
        if self._channel is None or self._channel.closed:
            self._channel = await protocol.open_channel(self.number, ChannelEvents())
        return self._channel
