"""The turn: events in, one transaction, then effects.

A turn drains the inbox, lets the core apply each event and plan, commits all row changes in one
transaction, and only then carries out the effects and acknowledges the messages. What an effect brings
back is another event, in a later turn. Turns never overlap; publishes, reservations and releases do.
Under load a turn takes in more, and so one commit serves many tasks.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from tefmanager import loglines
from tefmanager.core import events
from tefmanager.core.core import Core
from tefmanager.core.effects import Reply, ReplyTo
from tefmanager.core.values import Bodies, Moment
from tefmanager.crashpoints import CrashPoint, reach
from tefmanager.deliveries import event_of, reply_to
from tefmanager.effector import Effector, Queues
from tefmanager.hearing import Hearing
from tefmanager.inquirer import Inquirer
from tefmanager.interfaces import (
    Delivery,
    IConsumer,
    IMeter,
    IPublisher,
    IReign,
    IReservations,
    StoreConflict,
    StoreLost,
)
from tefmanager.logfile.emit import emit
from tefmanager.messages import DispatchTasks, Invalid, Parsed, TaskMessage, parse
from tefmanager.pager import Pager
from tefmanager.questions import Question
from tefmanager.spawn import Nursery

TURN_SIZE = 500
"""Most inbox items that one turn takes in."""

HISTORY_STEP = 500
"""Most tasks that one step removes from history."""

Item: TypeAlias = Delivery | events.Event


class Poisoned(Exception):
    """A turn failed because of one message, which must not bring down another.

    Attributes:
        body: the message.
    """

    def __init__(self, body: bytes, reason: str) -> None:
        super().__init__(f"a message could not be handled: {reason}")
        self.body = body


class Engine:
    """One reign's turns.

    Args:
        clocks: reads the clocks.
        core: loaded from this reign's rows.
        poison: bodies of messages that brought a reign down; redelivered ones are rejected, once.
        careful: turns to begin with that take in one item each, to find out which message is to blame.
        message_limit: bytes that a message may have.
        history: seconds that finished tasks stay in history.
        meter: is told what is measured.

    Attributes:
        core: as given.
        history: as given; may be changed.
        turn_began: monotonic time at which the turn under way began, or None between two.
    """

    def __init__(
        self,
        clock: IReactorTime,
        clocks: Callable[[], Moment],
        core: Core,
        reign: IReign,
        consumer: IConsumer,
        publisher: IPublisher,
        reservations: IReservations,
        queues: Queues,
        *,
        poison: set[bytes],
        careful: int,
        message_limit: int,
        history: float,
        meter: IMeter,
    ) -> None:
        self._clock = clock
        self._clocks = clocks
        self.core = core
        self.turn_began: float | None = None
        self._reign = reign
        self._meter = meter
        self._pager = Pager(core.backlog, reign)
        self._inquirer = Inquirer(core, reign)
        self._consumer = consumer
        self._poison = poison
        self._careful = careful
        self._message_limit = message_limit
        self.history = history
        self._inbox: deque[Item] = deque()
        self._rejected: list[tuple[Delivery, str, Reply | None]] = []
        self._lost_session = -1
        self._session = -1
        self._wakeup: Deferred[None] | None = None
        self._rising: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._clock_out: IDelayedCall | None = None
        self._failure: Failure | None = None
        self._stopping = False
        self._overtime = False
        self._tidy = False
        self._nursery = Nursery(self._fail, self._wake)
        self._hearing = Hearing(f"{reign.epoch}", lambda token: self._effector.probe(token))
        self._effector = Effector(
            clock,
            publisher,
            reservations,
            queues,
            self.post,
            lambda receipt: consumer.ack(receipt[0], [receipt[1]]),
            reign.attempts,
            self._fail,
            self._wake,
            meter,
        )

    # --- the inbox ---

    def post(self, item: Item) -> None:
        """Let a turn take something in, as soon as there can be one."""
        self._inbox.append(item)
        self._wake()

    def session_lost(self, session: int) -> None:
        """What a session delivered and no turn has taken in yet will be delivered again."""
        self._lost_session = session

    def lose(self, lost: StoreLost) -> None:
        """The reign is over, though no turn has found that out yet."""
        self._fail(Failure(lost))  # type: ignore[no-untyped-call]

    def tidy(self) -> None:
        """Let the next turn look at everything again, and remove some old history after it."""
        self._tidy = True
        self.post(events.Pass())

    def _wake(self) -> None:
        """Let there be a turn, once all that comes together has come: it is worth one commit."""
        if self._wakeup is not None and self._rising is None:
            self._rising = self._clock.callLater(0, self._rise)

    def _rise(self) -> None:
        self._rising = None
        if self._wakeup is not None:
            wakeup, self._wakeup = self._wakeup, None
            wakeup.callback(None)

    def _fail(self, failure: Failure) -> None:
        self._failure = self._failure or failure
        self._wake()

    # --- turns ---

    async def run(self) -> None:
        """Take turns until it is stopped, or until one fails; then this reign must end."""
        while not self._done():
            await self._turn()
            if self._tidy:
                await self._remove_history()
            await self._something_to_do()

    def stop(self, within: float) -> None:
        """Dispatch nothing more, and let `run` return when what is under way has ended.

        Or after some seconds.
        """
        self._stopping = True
        self.core.drain()
        self._clock_out = self._clock.callLater(within, self._time_is_up)
        self._wake()

    def _time_is_up(self) -> None:
        self._overtime = True
        self._wake()

    def _done(self) -> bool:
        idle = not self._inbox and self._effector.idle and not len(self._nursery)
        return self._stopping and (idle or self._overtime)

    async def abandon(self) -> None:
        """Give up whatever is still under way: the reign ends."""
        for timer in (self._timer, self._clock_out, self._rising):
            if timer is not None and timer.active():
                timer.cancel()
        self._nursery.cancel()
        await self._nursery.wait()
        self._inquirer.forsake()
        await self._effector.abandon()

    async def _something_to_do(self) -> None:
        """Wait for an event, or for the time at which something is due."""
        if self._failure is not None:
            self._failure.raiseException()
        if self._inbox or self._inquirer or self.core.backlog.hungry or self._done():
            return
        due = self._next_look()
        if due is not None:
            wait = max(0.0, due - self._clocks().monotonic)
            self._timer = self._clock.callLater(wait, self._rise)
        self._wakeup = Deferred()
        await self._wakeup
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _next_look(self) -> float | None:
        """Return when a turn is needed though nothing happens: something is due, or has to be asked for."""
        due = self.core.next_look()
        if due is None or due > self._clocks().monotonic:
            return due
        return due if self._hearing.until >= due else self._hearing.ask(self._clocks().monotonic)

    async def _turn(self) -> None:
        self.turn_began = began = self._clocks().monotonic
        await self._take_turn()
        self.turn_began = None
        self._meter.turned(self._clocks().monotonic - began)

    async def _take_turn(self) -> None:
        most = 1 if self._careful else TURN_SIZE
        batch = [self._inbox.popleft() for _ in range(min(len(self._inbox), most))]
        if not self._careful:
            await self._take_in(batch)
            return
        self._careful -= 1
        try:
            await self._take_in(batch)
        except Exception as error:
            raise _blamed(batch, error) from error

    async def _take_in(self, batch: Sequence[Item]) -> None:
        items = [(item, self._read(item)) for item in batch if not self._stale(item)]
        await self._pager.prepare(parsed for _, parsed in items)
        finished = await self._finished(items)
        now = self._clocks()
        bodies: dict[int, bytes] = {}
        acks: dict[int, list[int]] = defaultdict(list)
        for item, parsed in items:
            if isinstance(item, Delivery):
                self._deliver(item, parsed, finished, now, acks)
            else:
                self._happened(item, now)
        self.core.advance(replace(now, monotonic=min(now.monotonic, self._hearing.until)))
        self.core.plan(now)
        reach(CrashPoint.TURN_APPLIED)
        await self._commit(bodies)
        self._reject_all()
        reach(CrashPoint.TURN_CARRIED_OUT)
        for session, tags in acks.items():
            self._consumer.ack(session, tags)
        reach(CrashPoint.TURN_ACKNOWLEDGED)
        await self._inquirer.answer_some(now)

    def _happened(self, event: events.Event, now: Moment) -> None:
        self.core.apply(event, now)
        if isinstance(event, events.ResourcesRead):
            reach(CrashPoint.REIGN_RECONCILED)
            self._effector.etcd_is_back()

    async def _commit(self, bodies: dict[int, bytes]) -> None:
        changes, effects = self.core.close()
        bodies.update({row.spec.id: body for row, body in changes.accepted})
        if changes:
            read: Bodies = await self._reign.commit(changes)
            bodies.update(read)
        reach(CrashPoint.TURN_COMMITTED)
        self._effector.carry_out(effects, bodies)

    def _stale(self, item: Item) -> bool:
        return isinstance(item, Delivery) and item.session <= self._lost_session

    def _read(self, item: Item) -> Parsed | None:
        if not isinstance(item, Delivery):
            return None
        if item.redelivered and item.body in self._poison:
            reason = "the manager failed on this message before"
            return Invalid(loglines.TASK_REJECTED(reason, loglines.readable(item.body)), rejected=reason)
        return parse(item.body, self._message_limit)

    async def _finished(self, items: list[tuple[Item, Parsed | None]]) -> frozenset[str]:
        """Look up which tasks that the broker delivers again were finished meanwhile."""
        guids = [
            parsed.guid
            for item, parsed in items
            if isinstance(parsed, TaskMessage) and isinstance(item, Delivery) and item.redelivered
        ]
        return await self._reign.finished(guids) if guids else frozenset()

    def _deliver(
        self,
        delivery: Delivery,
        parsed: Parsed | None,
        finished: frozenset[str],
        now: Moment,
        acks: dict[int, list[int]],
    ) -> None:
        if delivery.session != self._session:
            self._session = delivery.session
            self.core.apply(events.HearingAgain(), now)
        probe = parsed.probe if isinstance(parsed, DispatchTasks) else None
        if probe is not None and self._hearing.came(probe):
            pass  # that it came is all it says
        elif isinstance(parsed, Invalid):
            self._refuse(delivery, parsed)
            if parsed.rejected is not None:
                return
        elif isinstance(parsed, Question):
            if (reply := reply_to(delivery)) is not None:
                self._nursery.run(self._reply(parsed, reply))
        else:
            try:
                self.core.apply(event_of(delivery, parsed, finished), now)
            except Exception as error:
                raise Poisoned(delivery.body, f"{type(error).__name__}: {error}") from error
            if self.core.ledger.keeps((delivery.session, delivery.tag)):
                return
        acks[delivery.session].append(delivery.tag)

    def _refuse(self, delivery: Delivery, invalid: Invalid) -> None:
        """Log and answer a message that can't be used; acknowledge it when its copy is safe."""
        self.core.ledger.log(invalid.line)
        reply = reply_to(delivery)
        answer = None if reply is None else Reply(reply, invalid.line.text)
        if invalid.rejected is not None:
            self._rejected.append((delivery, invalid.rejected, answer))
        elif answer is not None:
            self.core.ledger.do(answer)

    def _reject_all(self) -> None:
        """Let what the turn refused go where it belongs, now that the log tells of it."""
        rejected, self._rejected = self._rejected, []
        for each in rejected:
            self._nursery.run(self._reject(*each))

    async def _reject(self, delivery: Delivery, reason: str, answer: Reply | None) -> None:
        await self._effector.reject(delivery, reason)
        if answer is not None:
            await self._effector.answered(answer)
        reach(CrashPoint.REJECTED)
        self._poison.discard(delivery.body)
        self._consumer.ack(delivery.session, [delivery.tag])

    async def _reply(self, question: Question, reply: ReplyTo) -> None:
        await self._effector.reply(reply, await self._inquirer.tell(question))

    async def _remove_history(self) -> None:
        self._tidy = False
        removed = await self._reign.forget(self._clocks().wall - self.history, HISTORY_STEP)
        if removed:
            emit(loglines.HISTORY_REMOVED(removed))
        self._tidy = removed == HISTORY_STEP


def _blamed(batch: Sequence[Item], error: Exception) -> Exception:
    """Return what a turn of at most one item failed of: the message, unless the services are to blame."""
    services = isinstance(error, StoreLost) and not isinstance(error, StoreConflict)
    known = services or isinstance(error, Poisoned | CancelledError)
    if known or not batch or not isinstance(batch[0], Delivery):
        return error
    return Poisoned(batch[0].body, f"{type(error).__name__}: {error}")
