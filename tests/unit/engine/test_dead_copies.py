"""Copies of dead tasks on their way to their queue, which may refuse, and out of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tefmanager.core.model import events
from tefmanager.core.model.dead_copies import Copy
from tefmanager.core.model.effects import DeadLetter
from tefmanager.core.model.endings import Finish, Outcome
from tefmanager.core.model.values import Changes, TaskRow, TaskSpec
from tefmanager.engine import deadcopies
from tefmanager.engine.deadcopies import AT_ONCE, PAUSES, SETTLES, DeadCopies
from tefmanager.inquiry.questions import DropDeadMessages, GetDeadMessages
from tefmanager.interfaces.amqp import Delivered, Lying, Message
from tests.fakes.store import FakeDatabase
from tests.unit.grid import finish
from tests.unit.support.outages import Told

Headers = dict[str, object]


class Queue:
    """The dead queue.

    Attributes:
        outcome: what becomes of messages; None: nothing yet.
        lying: headers and bodies of those that are there.
        held: messages that were sent and are not confirmed.
        walks: how often it was gone through.
        broken: why a walk comes to no end, or None.
    """

    def __init__(self) -> None:
        self.outcome: Delivered | None = Delivered.CONFIRMED
        self.lying: deque[tuple[Headers, bytes]] = deque()
        self.held: list[tuple[Message, Deferred[Delivered]]] = []
        self.sent = self.walks = 0
        self.broken: str | None = None

    async def send(self, queue: bytes, message: Message, tell: Callable[[str], None]) -> Delivered:
        """See `IPublisher.send`."""
        self.sent += 1
        if self.outcome is None:
            self.held.append((message, Deferred()))
            return await self.held[-1][1]
        if self.outcome is Delivered.CONFIRMED:
            self.lying.append((dict(message.headers), message.body))
        else:
            tell("full")
        return self.outcome

    async def declare(self, queue: bytes) -> None:
        """See `IPublisher.declare`."""

    async def sift(
        self, queue: bytes, take: Callable[[Lying], bool], at_most: int | None = None
    ) -> str | None:
        """See `IPublisher.sift`."""
        self.walks += 1
        if self.broken is not None:
            return self.broken
        self.lying = deque(each for each in self.lying if not take(Lying(each[1], each[0], b"")))
        return None

    @property
    def guids(self) -> list[str]:
        """Of the copies that are there."""
        return sorted(str(headers["x-tef-guid"]) for headers, _ in self.lying)


class Rig:
    """Dead tasks of a database, and what keeps their copies."""

    def __init__(self, *guids: str) -> None:
        self.clock = Clock()
        self.queue = Queue()
        self.told = Told()
        self.leadership = FakeDatabase().crown("test")
        self.posted: list[events.Event] = []
        self.dead = DeadCopies(
            self.clock,
            self.queue,  # type: ignore[arg-type]
            b"dead",
            self.leadership,
            self.posted.append,
            self._run,
            self._run,
            self.told.outages,
        )
        self.ids = {guid: id for id, guid in enumerate(guids, 1)}
        accepted = [(_row(id, guid), guid.encode()) for guid, id in self.ids.items()]
        finish(self.leadership.commit(Changes(accepted=accepted)))

    def _run(self, coroutine: Coroutine[Any, Any, None], what: str) -> None:
        Deferred.fromCoroutine(coroutine).addErrback(lambda failure: failure.raiseException())

    def die(self, *guids: str, again: bool = False) -> None:
        """Let tasks die."""
        for guid in guids:
            self.dead.dead_letter(DeadLetter(self.ids[guid], guid, "given back once", again=again))
        self.turn()

    def turn(self) -> None:
        """Write what has happened, and do what follows from it, until nothing does."""
        while self.posted:
            happened, self.posted[:] = list(self.posted), []
            for event in happened:
                self._write(event)

    def _write(self, event: events.Event) -> None:
        match event:
            case events.DeadLettered(id, _, copy):
                self._commit(Changes(finished={id: Finish(Outcome.DEAD, 1.0, 1, copy)}))
                self.dead.written([id] if copy is not Copy.THERE else [])
            case events.CopiesKnown(copies):
                self._commit(Changes(copies=dict(copies)))
                self.dead.written(copies)
            case events.CopiesWanted(wanted):
                self._commit(Changes(copies={id: Copy.DOUBT for id, _, _ in wanted}))
                for each in wanted:
                    self.dead.dead_letter(DeadLetter(*each, late=True))

    def _commit(self, changes: Changes) -> None:
        finish(self.leadership.commit(changes))

    def settle(self, *guids: str) -> None:
        """Let nobody want them any more."""
        finish(self.leadership.settle(guids))
        self.dead.look()
        self.turn()

    def resubmit(self, guid: str) -> None:
        """Let a task's sender submit it once more."""
        id = self.ids[guid] = max(self.ids.values()) + 1
        self._commit(Changes(accepted=[(_row(id, guid), guid.encode())]))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(int(seconds)):
            self.clock.advance(1.0)
            self.turn()

    @property
    def listed(self) -> list[str]:
        """Guids of the dead tasks that are listed."""
        return sorted(row.finished.row.spec.guid for row in finish(self.leadership.dead(1000))[1])


def _row(id: int, guid: str) -> TaskRow:
    return TaskRow(TaskSpec(id, guid, "t", 1.0, (), None, None, 0.0))


def test_one_copy_until_it_is_settled() -> None:
    """It has the history and the task's own id in headers; when the task is settled it goes."""
    rig = Rig("a", "b")
    rig.die("a", "b")
    assert rig.queue.guids == ["a", "b"]
    assert (rig.queue.lying[0][0]["x-tef-task"], rig.queue.walks) == (rig.ids["a"], 0)
    rig.settle("a")
    assert rig.queue.guids == ["b"]
    rig.dead.look()
    rig.turn()
    assert (rig.queue.walks, rig.queue.sent) == (1, 2)


def test_a_dead_task_that_its_sender_submits_again() -> None:
    """Its copy goes in passing; a walk that was broken off is not begun again before its pause is over."""
    rig = Rig("a", "b")
    rig.die("a", "b")
    rig.resubmit("a")
    rig.queue.broken = "the connection broke"
    for _ in range(3):
        rig.dead.look_again()
    assert (rig.queue.guids, rig.queue.walks) == (["a", "b"], 1)
    rig.queue.broken = None
    rig.wait(PAUSES[0] + 1)
    assert (rig.queue.guids, rig.queue.walks) == (["b"], 2)
    rig.resubmit("b")
    rig.dead.look_again()
    assert (rig.queue.guids, rig.queue.walks) == ([], 3)


def test_a_queue_that_refuses() -> None:
    """Its tasks are dead all the same; it is tried again slowly, with one, and then gets all of them."""
    guids = [f"t{number}" for number in range(50)]
    rig = Rig(*guids)
    rig.queue.outcome = Delivered.NACKED
    rig.die(*guids)
    assert (len(rig.listed), rig.queue.sent) == (50, 50)
    assert rig.told.logged() == ["WAITING_FOR|queue dead: a message was nacked: full|0"]
    rig.wait(600)
    assert 600 / PAUSES[1] <= rig.queue.sent - 50 <= 600 / PAUSES[0]
    rig.settle("t0")
    rig.queue.outcome = Delivered.CONFIRMED
    rig.wait(PAUSES[1] + 1)
    assert rig.queue.guids == sorted(guids[1:])
    assert (rig.queue.walks, rig.told.outages.now()) == (0, ())


@pytest.mark.parametrize("how", ["settled", "submitted again"])
def test_a_copy_that_is_about_to_be_sent(how: str) -> None:
    """That its task is settled in the same moment does not leave a copy that nobody knows of."""
    rig = Rig("a")
    rig.queue.outcome = Delivered.NACKED
    rig.die("a")
    rig.queue.outcome = Delivered.CONFIRMED
    rig.clock.advance(PAUSES[0] + 1)
    assert [type(event) for event in rig.posted] == [events.CopiesWanted]
    if how == "settled":
        finish(rig.leadership.settle(["a"]))
    else:
        rig.resubmit("a")
    rig.turn()
    rig.dead.look()
    rig.wait(SETTLES + 1)
    assert (rig.queue.sent, rig.queue.guids) == (2, [])
    assert finish(rig.leadership.copies(9)) == []


def test_bodies_in_memory_are_few() -> None:
    """While the queue confirms nothing, the others are in the database alone."""
    guids = [f"t{number}" for number in range(10 * AT_ONCE)]
    rig = Rig(*guids)
    rig.queue.outcome = None
    rig.die(*guids)
    assert len(rig.queue.held) == AT_ONCE
    rig.queue.outcome = Delivered.CONFIRMED
    for _, answer in rig.queue.held:
        answer.callback(Delivered.CONFIRMED)
    rig.turn()
    assert len(rig.listed) == len(guids)


def test_a_copy_that_may_be_there() -> None:
    """It is looked for, when all that was under way has arrived, and sent again only if it is not there."""
    rig = Rig("lost", "arrived")
    rig.queue.outcome = Delivered.LOST
    rig.die("lost", "arrived")
    rig.queue.lying.append(({"x-tef-guid": "arrived", "x-tef-task": rig.ids["arrived"]}, b"arrived"))
    rig.queue.outcome = Delivered.CONFIRMED
    rig.wait(SETTLES - 1)
    assert (rig.queue.walks, rig.queue.sent) == (0, 2)
    rig.wait(2)
    assert (rig.queue.guids, rig.queue.walks) == (["arrived", "lost"], 1)


def test_after_a_crash() -> None:
    """What was on its way when a manager ended may be there, even twice; in the end it is there once."""
    rig = Rig("a")
    copy: tuple[Headers, bytes] = ({"x-tef-guid": "a", "x-tef-task": rig.ids["a"]}, b"a")
    rig.queue.lying.extend([copy, copy])
    rig.die("a", again=True)
    assert rig.listed == ["a"]
    rig.wait(SETTLES + 1)
    assert (rig.queue.guids, rig.queue.sent) == (["a"], 0)


def test_second_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are removed if they are of the first ones, otherwise when their task is settled."""
    monkeypatch.setattr(deadcopies, "REMEMBERED", 2)
    rig = Rig("a", "b", "c", "x")
    rig.die("a", "b", "c")
    rig.queue.lying.append(({"x-tef-guid": "x", "x-tef-task": rig.ids["x"]}, b"x"))
    rig.queue.lying.extend(list(rig.queue.lying)[::-1])
    rig.die("x", again=True)
    rig.wait(SETTLES + 1)
    assert (rig.queue.guids, rig.queue.sent) == (["a", "b", "c", "c", "x"], 3)
    rig.settle("c")
    assert rig.queue.guids == ["a", "b", "x"]


def test_one_that_is_too_large() -> None:
    """It is told once, and the task is dead without a copy."""
    rig = Rig("a")
    rig.queue.outcome = Delivered.REFUSED
    rig.die("a")
    rig.wait(100)
    assert (rig.listed, rig.queue.sent) == (["a"], 1)


def test_messages_of_others() -> None:
    """Dead tasks' copies are none of them; each can be dropped, by the name that it is told with."""
    rig = Rig("a")
    rig.die("a")
    for headers, body in (({}, b"odd"), ({"x-tef-guid": b"a", "x-tef-task": "1"}, b"")):
        rig.queue.lying.append((dict(headers), body))
    rig.queue.lying.append(({"x-tef-guid": "gone", "x-tef-task": 7}, b"{}"))
    found = finish(rig.dead.others(GetDeadMessages())).messages
    assert [(each.guid, each.text) for each in found] == [(None, "odd"), (None, ""), ("gone", "{}")]
    dropped = finish(rig.dead.others(DropDeadMessages((found[0].name, "gone", "a"))))
    assert [each.name for each in dropped.messages] == [found[0].name, "gone"]
    assert len(finish(rig.dead.others(DropDeadMessages(every=True))).messages) == 1
    assert rig.queue.guids == ["a"]


def test_copies_of_more_dead_tasks_than_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are kept, though not all dead tasks are known; of what is dropped only so many are told."""
    monkeypatch.setattr("tefmanager.engine.deadcopies.ROWS", 2)
    rig = Rig("a", "b", "c")
    rig.die("a", "b", "c")
    for number in range(4):
        rig.queue.lying.append(({}, b"odd %d" % number))
    dropped = finish(rig.dead.others(DropDeadMessages(every=True)))
    assert (len(dropped.messages), rig.queue.guids) == (2, ["a", "b", "c"])
