"""Puts copies of dead tasks into the dead queue, and removes a copy when its task is settled.

The database is the truth: a task is dead even if the queue refuses its copy, and the copy is sent again
later. Bodies are read from the database only when they are sent, a few at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from tefmanager import inquiry
from tefmanager.core.model import events
from tefmanager.core.model.dead_copies import Copy, CopyRow, given_back
from tefmanager.core.model.effects import DeadLetter
from tefmanager.core.running.announcements import history
from tefmanager.engine.properties import copy_of
from tefmanager.inquiry.questions import DropDeadMessages, GetDeadMessages
from tefmanager.interfaces.amqp import Delivered, IPublisher, Lying
from tefmanager.interfaces.store import ILeadership
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.protocol.fields import LONGEST_NAME
from tefmanager.support.backoff import Backoff
from tefmanager.support.crashpoints import CrashPoint, reach
from tefmanager.support.outages import SET_ASIDE, WALK, Outages, Service

log = Logger()

AT_ONCE = 20
"""How many copies are sent at a time, with their bodies in memory."""

ROWS = 1000
"""How many dead tasks one round handles."""

REMEMBERED = 10_000
"""Copies at the beginning of the queue of which a walk finds a second one further on."""

PAUSES = (5.0, 60.0)
"""Seconds until a queue that refuses is tried again: the first pause, and the longest."""

SETTLES = 15.0
"""Seconds after the loss of a connection during which a message sent on it may still arrive."""

ATTEMPTS_TOLD = 100
"""How many attempts of a dead task its headers list: the last ones."""

GUID, TASK = "x-tef-guid", "x-tef-task"
"""Headers of a copy: the guid and the id of its task."""


class DeadCopies:
    """Keeps the dead queue in step with history.

    Before a copy is sent, its row says that the copy may be in the queue; afterwards the row says whether
    it is. If a manager ends in between, the next one searches the queue before it sends the copy again. So
    the queue has each copy only once.

    Args:
        post: takes the results, as events.
        run: runs a coroutine that must end before the manager stops.
        run_aside: runs a coroutine that a stop does not wait for.
    """

    def __init__(
        self,
        clock: IReactorTime,
        publisher: IPublisher,
        queue: bytes,
        leadership: ILeadership,
        post: Callable[[events.Event], None],
        run: Callable[[Coroutine[Any, Any, None], str], object],
        run_aside: Callable[[Coroutine[Any, Any, None], str], object],
        outages: Outages,
    ) -> None:
        self._clock = clock
        self._publisher = publisher
        self._queue = queue
        self._leadership = leadership
        self._post = post
        self._run = run
        self._run_aside = run_aside
        self._outages = outages
        self._waiting: deque[DeadLetter] = deque()
        self._going = 0
        self._beginning = False
        self._unwritten: set[int] = set()
        self._round_under_way = self._round_wanted = False
        self._pauses = Backoff(clock, *PAUSES)
        self._not_before = 0.0
        self._settled_at = clock.seconds() + SETTLES
        self._timer: IDelayedCall | None = None
        self._over = False

    # --- to the queue ---

    def dead_letter(self, effect: DeadLetter) -> None:
        """Send a copy as soon as fewer than `AT_ONCE` are under way."""
        if effect.again:
            self._post(events.DeadLettered(effect.task_id, effect.guid, Copy.DOUBT))
        else:
            self._waiting.append(effect)
            self._begin()

    def _begin(self) -> None:
        if self._beginning:
            return  # called again by a send that ended at once
        self._beginning = True
        while self._waiting and self._going < AT_ONCE:
            self._going += 1
            self._run(self._dead_letter(self._waiting.popleft()), SET_ASIDE)
        self._beginning = False

    async def _dead_letter(self, effect: DeadLetter) -> None:
        copy = await self._put(effect)
        reach(CrashPoint.DEAD_LETTERED)
        self._going -= 1
        self._begin()
        if copy is Copy.DUE:
            self._not_before = self._clock.seconds() + self._pauses.next()
        if copy is Copy.DOUBT:
            self._settled_at = self._clock.seconds() + SETTLES
        if effect.late:
            self._known({effect.task_id: copy})
        else:
            self._post(events.DeadLettered(effect.task_id, effect.guid, copy))

    async def _put(self, effect: DeadLetter) -> Copy | None:
        """Send a copy once; return its state in the queue."""
        stored = await self._leadership.message(effect.task_id)
        if stored is None:
            return None  # history has forgotten the task
        attempts = await self._leadership.attempts(effect.task_id)
        told = [history(row) for row in attempts[-ATTEMPTS_TOLD:]]
        headers = {"x-tef-reason": effect.reason, GUID: effect.guid, TASK: effect.task_id}
        message = copy_of(stored, {**headers, "x-tef-attempts": told})
        why: list[str] = []
        outcome = await self._publisher.send(self._queue, message, why.append)
        if outcome is Delivered.RETURNED:
            await self._publisher.declare(self._queue)
            outcome = await self._publisher.send(self._queue, message, why.append)
        return self._copy(effect, outcome, "; ".join(dict.fromkeys(why)))

    def _copy(self, effect: DeadLetter, outcome: Delivered, reason: str) -> Copy | None:
        match outcome:
            case Delivered.CONFIRMED:
                self._pauses.reset()
                self._not_before = 0.0
                self._outages.over(Service.QUEUE, about=self._queue.decode())
                return Copy.THERE
            case Delivered.LOST:
                return Copy.DOUBT
            case Delivered.REFUSED:
                emit(catalogue.DEAD_NOT_QUEUED(effect.guid, reason))  # the task stays in history
                return None
        self._refused(f"a message was {outcome}: {reason}")
        return Copy.DUE

    def _refused(self, cause: str) -> None:
        self._outages.began(Service.QUEUE, cause, self._queue.decode())

    # --- rounds ---

    def written(self, ids: Iterable[int]) -> None:
        """Note that the rows of these tasks now say whether their copies are in the queue."""
        self._unwritten.difference_update(ids)
        self.look()

    def look(self) -> None:
        """Start a round: find the copies to send, to search for, or to remove."""
        self._round_wanted = True
        if not self._unwritten and not self._round_under_way:
            self._round_under_way = True
            self._run_aside(self._rounds(), WALK)

    def look_again(self) -> None:
        """Start a round in passing, unless one is due: a sender may have submitted a dead task again."""
        if self._timer is None or not self._timer.active():
            self.look()

    async def _rounds(self) -> None:
        while self._round_wanted and not self._unwritten:
            self._round_wanted = False
            await self._round()
        self._round_under_way = False

    async def _round(self) -> None:
        rows = await self._leadership.copies(ROWS)
        if unsent := [row.id for row in rows if row.settled and row.copy is Copy.DUE]:
            # Only here is it certain that none of them is on its way to the queue.
            self._known(dict.fromkeys(unsent))
            return
        now = self._clock.seconds()
        doubtful = any(row.copy is Copy.DOUBT for row in rows)
        if doubtful and now < self._settled_at:
            self._look_in(self._settled_at - now)
        elif unsure := [row for row in rows if row.copy is not Copy.DUE]:
            await self._walk(unsure)
        elif rows and now < self._not_before:
            self._look_in(self._not_before - now)
        elif rows:
            self._want(rows[: 1 if self._not_before else AT_ONCE])

    def _want(self, rows: Sequence[CopyRow]) -> None:
        """Send copies that are due; only one if the queue refused the last."""
        self._unwritten.update(row.id for row in rows)
        wanted = tuple((row.id, row.guid, given_back(row.attempts)) for row in rows)
        self._post(events.CopiesWanted(wanted))

    def _known(self, copies: Mapping[int, Copy | None]) -> None:
        self._unwritten.update(copies)
        self._post(events.CopiesKnown(copies))

    async def _walk(self, rows: Sequence[CopyRow]) -> None:
        """Go through the queue: remove the copies of settled tasks, and find out which others are there.

        A walk that was broken off leaves second copies at the end of the queue, while the first ones return
        to its beginning. So second copies are found without remembering the whole queue.
        """
        wanted = {(row.id, row.guid): row for row in rows}
        seen: set[tuple[int, str]] = set()

        def take(lying: Lying) -> bool:
            key = _task(lying)
            if key is None or self._over:
                return False
            if key in seen:
                return True
            row = wanted.get(key)
            if row is not None or len(seen) < REMEMBERED:
                seen.add(key)
            return row is not None and row.settled

        reason = await self._publisher.sift(self._queue, take)
        if reason is not None:
            self._refused(f"the walk through it failed: {reason}")
            self._look_in(self._pauses.next())
            return
        self._outages.over(Service.QUEUE, about=self._queue.decode())
        found = Copy.THERE, Copy.DUE
        self._known(
            {row.id: None if row.settled else found[key not in seen] for key, row in wanted.items()}
        )

    def _look_in(self, seconds: float) -> None:
        self._look_not()
        self._timer = self._clock.callLater(seconds, self.look)

    def _look_not(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def abandon(self) -> None:
        """Remove nothing any more: the leadership ends, and the next manager may be using the queue."""
        self._over = True
        self._look_not()

    # --- messages of others ---

    async def others(self, question: GetDeadMessages | DropDeadMessages) -> inquiry.QueuedMessages:
        """Find messages in the queue that are no copies of dead tasks; drop those that were asked for."""
        if isinstance(question, GetDeadMessages):
            return await self._described(question.limit)
        count, listed = await self._leadership.dead(ROWS)
        kept = {row.finished.row.spec.guid for row in listed}
        all_known = count <= len(listed)  # otherwise a copy may belong to an older dead task
        found: list[inquiry.QueuedMessage] = []

        def take(lying: Lying) -> bool:
            key = _task(lying)
            stranger = _stranger(lying, key)
            meant = question.every or not {stranger.name, stranger.guid}.isdisjoint(question.guids)
            if not meant or (key is not None and (key[1] in kept or not all_known)):
                return False
            if len(found) < ROWS:
                found.append(stranger)
            return True

        trouble = await self._publisher.sift(self._queue, take)
        return inquiry.QueuedMessages(tuple(found), trouble)

    async def _described(self, at_most: int) -> inquiry.QueuedMessages:
        found: list[inquiry.QueuedMessage] = []
        copies: set[str] = set()

        def take(lying: Lying) -> bool:
            key = _task(lying)
            found.append(_stranger(lying, key))
            copies.update(() if key is None else (key[1],))
            return False

        trouble = await self._publisher.sift(self._queue, take, at_most)
        known = copies & await self._leadership.finished(sorted(copies))
        strangers = [each for each in found if each.name not in known]
        return inquiry.QueuedMessages(tuple(strangers), trouble)


def _task(lying: Lying) -> tuple[int, str] | None:
    """Return id and guid of the dead task that this message is a copy of, or None if it is no copy."""
    headers = lying.headers or {}
    id, guid = headers.get(TASK), headers.get(GUID)
    return (id, guid) if type(id) is int and type(guid) is str and len(guid) <= LONGEST_NAME else None


def _stranger(lying: Lying, key: tuple[int, str] | None) -> inquiry.QueuedMessage:
    return inquiry.queued(lying.body, None if key is None else key[1], lying.headers is not None)
