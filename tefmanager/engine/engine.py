"""The turn: take in events, commit one transaction, then carry out the effects.

A turn takes events from the inbox, lets the core apply each of them and plan, and commits all row changes
in one transaction. Only then does it carry out the effects and acknowledge the messages. The result of an
effect comes back as an event of a later turn. One turn is committed at a time; meanwhile the next one takes
in events. Publishes, reservations and releases of several turns overlap. Under load a turn takes in more
events, so one commit serves many tasks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from random import random

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from tefmanager.core.core import Core
from tefmanager.core.model import events
from tefmanager.core.model.values import Bodies, Moment
from tefmanager.engine.effector import Effector
from tefmanager.engine.liveness import Liveness, LivenessCheck
from tefmanager.engine.reception import (
    Arrival,
    Item,
    Reception,
    Rejected,
    Turn,
    at_risk,
    blamed,
    fingerprint,
)
from tefmanager.engine.rejections import Rejections
from tefmanager.engine.renewals import LAST, Renewals
from tefmanager.engine.replies import Replies
from tefmanager.inquiry.inquirer import Inquirer
from tefmanager.inquiry.questions import Question
from tefmanager.interfaces.amqp import Delivery, IConsumer, IPublisher
from tefmanager.interfaces.etcd import IReservations
from tefmanager.interfaces.policy import Policy
from tefmanager.interfaces.store import ILeadership, StoreLost
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.support.crashpoints import CrashPoint, reach
from tefmanager.support.outages import ANSWER, LATE, SET_ASIDE, TURN, Outages
from tefmanager.support.taskgroup import TaskGroup
from tefmanager.support.wakeup import Wakeup

TURN_SIZE = 500
"""How many inbox items one turn takes in at most."""

HISTORY_STEP = 500
"""How many tasks one step removes from history at most."""


class Engine:
    """Runs the turns of one leadership.

    Args:
        clocks: reads the clocks.
        core: loaded from this leadership's rows.
        outages: is told what takes too long.
        policy: the configured behaviour.
        poison: fingerprints of messages that ended a leadership. Each is rejected once when it is
            redelivered.
        careful: how many of the first turns take in one item each, to find out which message is to blame.

    Attributes:
        core: as given.
        history: seconds for which finished tasks stay in history; may be changed.
        room: bytes of bodies that are being committed, or that could not be committed.
    """

    room = 0

    def __init__(
        self,
        clock: IReactorTime,
        clocks: Callable[[], Moment],
        core: Core,
        leadership: ILeadership,
        consumer: IConsumer,
        publisher: IPublisher,
        reservations: IReservations,
        policy: Policy,
        outages: Outages,
        *,
        poison: set[bytes],
        careful: int,
    ) -> None:
        self._clock = clock
        self._clocks = clocks
        self.core = core
        self._leadership, self._meter = leadership, policy.meter
        self._consumer = consumer
        self._careful, self.history = careful, policy.history
        self._inbox: deque[Arrival] = deque()
        self._open: Turn | None = None
        self._committing: Turn | None = None
        self._lost_session = -1
        self._wakeup = Wakeup(clock, lambda: clocks().monotonic)
        self._clock_out: IDelayedCall | None = None
        self._failure: Failure | None = None
        self._stopping = self._overtime = self._tidy = False
        self._task_group = TaskGroup(self._fail, self._wakeup.call)
        self._liveness = Liveness(f"{leadership.epoch}", lambda token: self._effector.probe(token))
        queues, own = policy.queues, policy.queues.own
        around = (self._fail, self._wakeup.call, policy.meter, outages)
        self._effector = Effector(clock, publisher, reservations, queues, self.post, leadership, *around)
        self._inquirer = Inquirer(core, leadership, outages, self._resubmit, self._effector.dead)
        self._replies = Replies(self._inquirer, self._effector.reply, consumer.ack)
        self._rejections = Rejections(clock, publisher, own, self._effector.reject, consumer.ack)
        self._renewals = Renewals(publisher, own, consumer.ack, self._put)
        self._liveness_check = LivenessCheck(
            self._liveness, outages, self._effector, self._connect_anew, random
        )
        self._reception = Reception(
            core,
            leadership,
            self._liveness,
            poison,
            policy.message_limit,
            policy.queues.names,
            self._asked,
            self._effector.etcd_is_back,
        )

    # --- the inbox ---

    def post(self, item: Item) -> None:
        """Put an item into the inbox. Instead, replace a message that RabbitMQ is about to drop."""
        if isinstance(item, Delivery) and item.given_back >= LAST:
            self._task_group.run(self._renewals.renew(item), SET_ASIDE)
        else:
            self._put(item)

    def _put(self, item: Item) -> None:
        self._inbox.append(self._reception.read(item))
        self._wakeup.call()

    def ask(self, question: Question) -> Deferred[object]:
        """Return a Deferred for the answer, see `Inquirer.ask`."""
        answer = self._inquirer.ask(question)
        self._wakeup.call()
        return answer

    def session_lost(self, session: int) -> None:
        """Forget what a lost session delivered and no turn has taken in; RabbitMQ redelivers it."""
        self._lost_session = session
        self._rejections.session_lost(session)
        self._replies.session_lost(session)

    def lose(self, lost: StoreLost) -> None:
        """End the leadership: its session is lost, although no turn has noticed that yet."""
        self._fail(Failure(lost))  # type: ignore[no-untyped-call]

    def look(self) -> None:
        """Notice messages that do not come and steps that do not end. Called every second."""
        now = self._clocks().monotonic
        self._liveness_check.look(now, self._reception.delivered)
        late: dict[str, float] = {**self._task_group.look(int(LATE))}
        if self.turn_began is not None and now - self.turn_began >= LATE:
            late[TURN] = now - self.turn_began
        self._effector.look(late)

    def _connect_anew(self, reason: str) -> None:
        self._consumer.renew(reason)
        self._effector.connect_anew(reason)

    def tidy(self) -> None:
        """Let the next turn check everything again; remove some old history, and copies that must go."""
        self._tidy = True
        self._effector.dead.look_again()
        self.post(events.Pass())

    def _fail(self, failure: Failure) -> None:
        self._failure = self._failure or failure
        self._wakeup.call()

    # --- turns ---

    async def run(self) -> None:
        """Take turns until `stop`, or until one fails; after a failure this leadership must end."""
        self._effector.dead.look()
        while not self._done():
            if self._careful or self._at_risk():
                await self._settled()
                await self._careful_turn()
            else:
                await self._turn()
            if self._tidy or self._inquirer:
                await self._between_turns()
            await self._something_to_do()

    def stop(self, within: float) -> None:
        """Dispatch nothing more, and let `run` return when everything under way has ended.

        `run` returns after ``within`` seconds in any case.
        """
        self._stopping = True
        self.core.drain()
        self._clock_out = self._clock.callLater(within, self._time_is_up)
        self._wakeup.call()

    def _time_is_up(self) -> None:
        self._overtime = True
        self._wakeup.call()

    def _done(self) -> bool:
        idle = not self._inbox and self._effector.idle and not len(self._task_group)
        return self._stopping and (idle or self._overtime)

    async def abandon(self) -> None:
        """Give up everything under way: the leadership ends."""
        self._wakeup.cancel()
        if self._clock_out is not None and self._clock_out.active():
            self._clock_out.cancel()
        self._task_group.cancel()
        await self._task_group.wait()
        self._inquirer.forsake()
        await self._effector.abandon()

    async def _something_to_do(self) -> None:
        """Wait for an event, or until a timer or probe is due."""
        self._check()
        while not (self._inbox or self._inquirer or self.core.backlog.needs_rows or self._done()):
            due = self._next_look()
            if due is not None and due <= self._clocks().monotonic:
                return
            await self._news(due)

    async def _news(self, until: float | None = None) -> None:
        """Wait until something is posted or ends, or until a time. Raises the failure of any part."""
        await self._wakeup.wait(until)
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            self._failure.raiseException()

    def _next_look(self) -> float | None:
        """Return when a turn is needed even if nothing is posted, because a timer or a probe is due."""
        due = self.core.next_look()
        if due is None or due > self._clocks().monotonic:
            return due
        return due if self._liveness.until >= due else self._liveness.ask(self._clocks().monotonic)

    @property
    def turn_began(self) -> float | None:
        """Monotonic time at which the oldest unfinished turn began, or None if there is none."""
        turn = self._committing or self._open
        return None if turn is None else turn.began

    async def _turn(self) -> None:
        """Fill a turn from the inbox while the previous turn is being committed; then commit it."""
        turn = self._open = Turn(self._clocks().monotonic)
        try:
            await self._gather(turn)
            await self._conclude()
        except Exception:
            await self._settled()  # the failure is not the previous turn's
            raise
        self._task_group.run(self._end_turn(turn), TURN)

    async def _careful_turn(self) -> None:
        """Take in and commit a single item, so that it is clear what is to blame if that fails."""
        self._careful = max(self._careful - 1, 0)
        batch = self._batch(1)
        try:
            await self._take_alone(batch)
        except Exception as error:
            raise blamed(batch, error) from error

    async def _take_alone(self, arrivals: Sequence[Arrival]) -> None:
        turn = self._open = Turn(self._clocks().monotonic)
        await self._take_in_with_rows(turn, arrivals)
        await self._conclude()
        await self._end_turn(turn)

    async def _resubmit(self, tasks: Sequence[events.TaskSubmitted]) -> None:
        """Take tasks in, in a turn of their own between two others; return when it is committed."""
        try:
            await self._take_alone([Arrival(task, task.message) for task in tasks])
        except Exception:
            self._fail(Failure())  # type: ignore[no-untyped-call]
            raise

    async def _gather(self, turn: Turn) -> None:
        if self.core.backlog.needs_rows or (self._inbox and self._reception.needs_rows(self._inbox[0])):
            await self._settled()
            await self._take_in_with_rows(turn, self._batch(TURN_SIZE))
        else:
            self._take_in(turn, self._batch(TURN_SIZE, without_rows=True))
        while self._committing is not None:
            if more := self._batch(TURN_SIZE - turn.size, without_rows=True):
                self._take_in(turn, more)
            else:
                await self._news()

    async def _conclude(self) -> None:
        """Let the core log the suites that have ended; history knows how their earlier tasks ended."""
        over = self.core.suites_over
        self.core.conclude(await self._leadership.suite_ends(over) if over else {})

    def _batch(self, at_most: int, *, without_rows: bool = False) -> list[Arrival]:
        """Take items out of the inbox; if ``without_rows``, stop before the first one that needs rows."""
        batch: list[Arrival] = []
        while self._inbox and len(batch) < at_most:
            if at_most > 1 and self._at_risk():
                break  # a message at risk is taken in alone
            if without_rows and self._reception.needs_rows(self._inbox[0]):
                break
            arrival = self._inbox.popleft()
            if not self._stale(arrival.item):
                batch.append(arrival)
        return batch

    async def _settled(self) -> None:
        """Wait until no commit is under way: then memory and rows agree."""
        while self._committing is not None:
            await self._news()

    async def _take_in_with_rows(self, turn: Turn, arrivals: Sequence[Arrival]) -> None:
        finished = await self._reception.look_up(arrivals)
        self._take_in(turn, arrivals, finished)

    def _take_in(
        self, turn: Turn, arrivals: Sequence[Arrival], finished: frozenset[str] = frozenset()
    ) -> None:
        now = self._clocks()
        self._reception.take_in(turn, arrivals, now, finished)
        self.core.advance(replace(now, monotonic=min(now.monotonic, self._liveness.until)))
        self.core.plan(now)
        self._effector.reserve(self.core.reserve_early())
        reach(CrashPoint.TURN_APPLIED)

    async def _end_turn(self, turn: Turn) -> None:
        """Commit a turn, then carry out what it decided."""
        self._committing, self._open = turn, None
        changes, effects = self.core.close()
        try:
            bodies: dict[int, bytes] = {row.spec.id: body for row, body in changes.accepted}
            if changes:
                self.room = sum(map(len, bodies.values()))
                read: Bodies = await self._leadership.commit(changes)
                bodies.update(read)
                self.room = 0
                self.core.committed(changes)
            reach(CrashPoint.TURN_COMMITTED)
            self._effector.carry_out(effects, bodies)
            for rejected in turn.rejected:
                self._task_group.run(self._reject(rejected), SET_ASIDE)
            reach(CrashPoint.TURN_CARRIED_OUT)
            for session, tags in turn.acks.items():
                self._consumer.ack(session, tags)
            if turn.deliveries:
                self._consumer.widen(wholly=bool(changes))
            reach(CrashPoint.TURN_ACKNOWLEDGED)
        finally:
            self._committing = None
            self._wakeup.call()
        self._meter.turned(self._clocks().monotonic - turn.began)

    def _at_risk(self) -> bool:
        return bool(self._inbox) and at_risk(self._inbox[0].item)

    def _stale(self, item: Item) -> bool:
        return isinstance(item, Delivery) and item.session <= self._lost_session

    async def _reject(self, rejected: Rejected) -> None:
        async def copied() -> None:
            if rejected.answer is not None:
                await self._effector.answered(rejected.answer)
            reach(CrashPoint.REJECTED)
            if self._reception.poison:
                self._reception.poison.discard(fingerprint(rejected.delivery.body))

        await self._rejections.reject(rejected, copied)

    def _asked(self, question: Question, message: Delivery) -> None:
        self._task_group.run(self._replies.reply(question, message), ANSWER)

    async def _between_turns(self) -> None:
        """Do what requires that memory and rows agree and no turn is open."""
        await self._settled()
        await self._inquirer.answer_some(self._clocks())
        if self._tidy:
            await self._remove_history()

    async def _remove_history(self) -> None:
        self._tidy = False
        today = self.core.calendar.today(self._clocks())
        removed = await self._leadership.forget(today - self.history, HISTORY_STEP)
        if removed:
            emit(catalogue.HISTORY_REMOVED(removed))
        self._tidy = removed == HISTORY_STEP
