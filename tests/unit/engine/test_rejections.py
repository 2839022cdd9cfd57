"""Messages that nobody can use, while the queue of the rejected takes nothing and connections break."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tefmanager.engine.deliveries import was_set_aside
from tefmanager.engine.reception import Rejected
from tefmanager.engine.rejections import MOST, ROUND, Rejections
from tefmanager.interfaces.amqp import (
    SET_ASIDE,
    Delivered,
    Delivery,
    IPublisher,
    Message,
    Tell,
    tell_nobody,
)


class Rig:
    """Rejections, whose copies are made when a test says so.

    Attributes:
        clock: the time.
        copies: messages for the queue of the rejected, each with what lets it be there.
        aside: messages that went to the end of the manager's queue.
        acks: what was acknowledged.
        outcome: of those.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.copies: list[tuple[Message, Deferred[None]]] = []
        self.aside: list[Message] = []
        self.acks: list[tuple[int, int]] = []
        self.outcome = Delivered.CONFIRMED
        publisher = cast(IPublisher, self)
        self.rejections = Rejections(self.clock, publisher, b"own", self._insist, self._ack)

    async def send(self, queue: bytes, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """Publish."""
        assert queue == b"own"
        self.aside.append(message)
        return self.outcome

    async def _insist(self, message: Message) -> None:
        there: Deferred[None] = Deferred()
        self.copies.append((message, there))
        await there

    def _ack(self, session: int, tags: Sequence[int]) -> None:
        self.acks += [(session, tag) for tag in tags]

    async def _copied(self) -> None:
        """Nobody waits for an answer."""

    def reject(self, session: int, tag: int, body: bytes = b"{", headers: bytes | None = None) -> None:
        """Reject a delivery; in a later session it is a redelivery."""
        delivery = Delivery(session, tag, session > 1, body, headers=headers)
        Deferred.fromCoroutine(self.rejections.reject(Rejected(delivery, "why", None), self._copied))

    def let(self, number: int = 0) -> None:
        """Let a copy be there."""
        self.copies[number][1].callback(None)


def test_acknowledged_when_the_copy_is_there() -> None:
    """A message is not acknowledged before its copy is there."""
    rig = Rig()
    rig.reject(1, 7)
    assert rig.acks == []
    rig.let()
    assert rig.acks == [(1, 7)]
    assert rig.copies[0][0].headers == {"x-tef-reason": "why"}


def test_delivered_again_while_the_copy_is_under_way() -> None:
    """One copy, however often the connection breaks; the last delivery is acknowledged."""
    rig = Rig()
    rig.reject(1, 7)
    for session in (2, 3):
        rig.rejections.session_lost(session - 1)
        rig.reject(session, 1)
    rig.let()
    assert len(rig.copies) == 1
    assert rig.acks == [(3, 1)]


def test_delivered_again_when_the_copy_is_there() -> None:
    """It is acknowledged at once, while a new message with the same bytes is another one."""
    rig = Rig()
    rig.reject(1, 7)
    rig.rejections.session_lost(1)
    rig.let()
    assert rig.acks == []
    rig.reject(2, 1)
    assert rig.acks == [(2, 1)]
    rig.reject(2, 2)
    assert len(rig.copies) == 2


def test_more_than_may_wait() -> None:
    """They go to the end of the queue, at once, and after a pause where they have been there before."""
    rig = Rig()
    for tag in range(MOST + 3):
        rig.reject(1, tag)
    assert (len(rig.copies), len(rig.aside)) == (MOST, 3)
    assert rig.acks == [(1, MOST + tag) for tag in range(3)]
    assert rig.aside[0].headers == {SET_ASIDE: "why"}
    been_there = SET_ASIDE.encode()
    assert was_set_aside(Delivery(1, 1, False, b"", headers=been_there))
    rig.reject(1, 500, headers=been_there)
    assert len(rig.aside) == 3
    rig.clock.advance(ROUND)
    assert len(rig.aside) == 4
    rig.outcome = Delivered.LOST
    rig.reject(1, 600)
    assert len(rig.copies) == MOST + 1, "it waits all the same: nothing is lost"
