"""The service: one leadership after the other, until it is stopped.

A leadership begins when the store grants it. It reads the rows and takes turns until something makes it
untrustworthy. Then everything that it held in memory is thrown away, and the next one reads the rows again:
recovering from an outage and starting are the same thing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from tefmanager.core.core import Core
from tefmanager.core.model import events
from tefmanager.core.model.identity import Life
from tefmanager.core.model.values import Moment
from tefmanager.engine.engine import Engine
from tefmanager.engine.reception import Poisoned
from tefmanager.inquiry.questions import Question
from tefmanager.interfaces.amqp import Delivery, IConsumer, IDeliveries, IPublisher
from tefmanager.interfaces.etcd import IReservations, IResourceObserver, ReservationsLost, Seen
from tefmanager.interfaces.policy import Policy
from tefmanager.interfaces.store import ILeadership, IStore, SchemaTooNew, StoreConflict, StoreLost
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.support.backoff import Backoff
from tefmanager.support.crashpoints import CrashPoint, reach
from tefmanager.support.outages import ENDING, OF_A_LEADERSHIP, Outages
from tefmanager.support.outages import Service as Away
from tefmanager.support.taskgroup import TaskGroup

log = Logger()

_HANDOVER = 5.0
"""Seconds for which a stop waits for what is under way."""

_STOP_LIMIT = 9.0
"""Seconds that a stop may take."""

_CAREFUL = 2000
"""How many turns take one message each after a leadership failed for another reason than a lost service.
This is more than the number of messages that are redelivered then."""

_MOST_ROOM = 32 * 1024 * 1024
"""The most bytes for which a database must have room before a leadership begins: those for which it last
had none."""

_LOOK = 1.0
"""Seconds between two looks for what has lasted too long."""

_LONG_LEADERSHIP = 30.0
"""A leadership that lasted for this many seconds was no failed attempt to begin one."""


@implementer(IDeliveries, IResourceObserver)
class Manager(Service):
    """Runs leaderships, and passes events of the adapters to the present one.

    Args:
        clock: for timers.
        clocks: reads the clocks.
        reservations: makes new ones for each leadership, because a standby does not use Etcd.
        give_up: is called with a reason when no leadership can ever begin.
        outages: is told what the manager has to do without; `tefmanager.tap` reports RabbitMQ.
    """

    name = "tef-manager"

    def __init__(
        self,
        clock: IReactorTime,
        clocks: Callable[[], Moment],
        store: IStore,
        consumer: IConsumer,
        publisher: IPublisher,
        reservations: Callable[[Life], IReservations],
        policy: Policy,
        give_up: Callable[[str], None],
        outages: Outages | None = None,
    ) -> None:
        self.outages = Outages(clocks, emit) if outages is None else outages
        self._clock = clock
        self._clocks = clocks
        self._store = store
        self._consumer = consumer
        self._publisher = publisher
        self._make_reservations = reservations
        self._reservations: IReservations | None = None
        self._policy = policy
        self._give_up = give_up
        self._task_group = TaskGroup(self._unexpected)
        self._leaderships: Deferred[None] | None = None
        self._engine: Engine | None = None
        self._poison: set[bytes] = set()
        self._careful = 0
        self._room = 0
        self._refreshing = False
        self._ending = False
        self._loops: dict[LoopingCall, Callable[[], float]] = {}
        self._looks = LoopingCall(self._look)
        self._looks.clock = clock
        self._resources_lost = False

    def startService(self) -> None:
        """Connect, and begin to wait for a leadership."""
        super().startService()  # type: ignore[no-untyped-call]
        self.outages.began(Away.DATABASE, "connecting, or bringing the tables up to date", quiet=True)
        self._publisher.start(lambda: self._tell(events.DeliveriesResumed()))
        self._task_group.run(_until_stopped(self._looks, _LOOK))
        self._leaderships = self._task_group.run(self._lead_for_ever())

    def stopService(self) -> Deferred[None]:
        """Finish what is under way, hand over, disconnect; within some seconds.

        After that it is as if the process had died: the next leader repairs what was left.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        stopped: Deferred[None] = Deferred()

        def end(result: object) -> None:
            if isinstance(result, Failure) and not result.check(CancelledError):  # type: ignore[no-untyped-call]
                log.failure("stopping failed", result)
            if late.active():
                late.cancel()
            if not stopped.called:
                stopped.callback(None)

        late = self._clock.callLater(_STOP_LIMIT, self._too_late, stopped)
        Deferred.fromCoroutine(self._stop()).addBoth(end)
        return stopped

    def _too_late(self, stopped: Deferred[None]) -> None:
        log.warn("stopped without waiting any longer for services that do not answer")
        stopped.callback(None)

    async def _stop(self) -> None:
        await self._consumer.cease()
        reach(CrashPoint.STOPPING)
        if self._engine is not None:
            self._engine.stop(within=_HANDOVER)
        elif self._leaderships is not None and not self._ending:
            self._leaderships.cancel()
        if self._leaderships is not None:
            await self._leaderships
        if self._looks.running:
            self._looks.stop()
        self._task_group.cancel()
        await self._task_group.wait()
        await self._publisher.stop()

    def _unexpected(self, failure: Failure) -> None:
        log.failure("a part of the manager failed", failure)

    def _look(self) -> None:
        """Report what has lasted too long, whoever waits for it."""
        if self._engine is not None:
            self._engine.look()
        self.outages.remind()

    # --- leaderships ---

    async def _lead_for_ever(self) -> None:
        backoff = Backoff(self._clock, first=0.5)
        while self.running:
            try:
                if await self._lead_once() > _LONG_LEADERSHIP:
                    backoff.reset()
            except SchemaTooNew as error:
                self._give_up(str(error))
                return
            except CancelledError:
                raise
            except Exception as error:
                # Nobody else would begin another leadership: the process would stay and do nothing.
                log.failure("a leadership could neither begin nor end; trying again")
                self.outages.began(Away.LEADERSHIP, f"{type(error).__name__}: {error}")
            if self.running:
                await backoff.pause()

    async def _lead_once(self) -> float:
        """Wait for a leadership and run it to its end; return how many seconds it lasted."""
        leadership = await self._store.leadership(self.outages.leadership_awaited, self._room)
        self.outages.leadership_granted()
        began = self._clocks().monotonic
        await self._outlive(leadership)
        return self._clocks().monotonic - began

    async def _outlive(self, leadership: ILeadership) -> None:
        """Run a leadership until it ends, whatever ends it."""
        try:
            await self._leadership(leadership)
        except CancelledError:
            raise
        except StoreConflict as conflict:
            self._careful = _CAREFUL
            self._lost(leadership, Away.DATABASE, str(conflict))
        except StoreLost as lost:
            self._lost(leadership, Away.DATABASE, str(lost))
        except Poisoned as poisoned:
            self._careful = _CAREFUL
            self._poison.add(poisoned.body)
            log.failure("a message is set aside: it made the manager fail")
            self._lost(leadership, Away.LEADERSHIP, str(poisoned))
        except Exception as error:
            self._careful = _CAREFUL
            log.failure("the leadership failed")
            self._lost(leadership, Away.LEADERSHIP, f"{type(error).__name__}: {error}")
        finally:
            await self._end_leadership(leadership)

    def _lost(self, leadership: ILeadership, to_blame: Away, reason: str) -> None:
        emit(catalogue.LEADERSHIP_LOST(leadership.epoch, reason))
        self.outages.began(to_blame, reason, quiet=True)

    async def _leadership(self, leadership: ILeadership) -> None:
        reach(CrashPoint.LEADERSHIP_GAINED)
        snapshot = await leadership.load(self._policy.limits.memory.tasks)
        reach(CrashPoint.LEADERSHIP_LOADED)
        core = Core(self._policy.limits, snapshot, self._clocks())
        reservations = self._reservations = self._make_reservations(leadership.life)
        engine = self._engine = self._make_engine(leadership, core, reservations)
        engine.room = self._room
        leadership.on_lost(engine.lose)
        emit(catalogue.LEADERSHIP_GAINED(leadership.epoch, snapshot.count, len(snapshot.workers)))
        self.outages.leadership_gained()
        self._resources_lost = False
        reservations.start(self)
        self._consumer.start(self, leadership.epoch, narrow=True)
        self._again_and_again(engine.tidy, lambda: self._policy.dispatch_interval)
        self._again_and_again(self._refresh, lambda: self._policy.read_interval)
        try:
            await engine.run()
        finally:
            for calls in self._loops:
                calls.stop()
            self._loops.clear()

    def _again_and_again(self, call: Callable[[], None], interval: Callable[[], float]) -> None:
        calls = LoopingCall(call)
        calls.clock = self._clock
        self._loops[calls] = interval
        self._task_group.run(_until_stopped(calls, interval()))

    def _make_engine(self, leadership: ILeadership, core: Core, reservations: IReservations) -> Engine:
        careful, self._careful = self._careful, 0
        return Engine(
            self._clock,
            self._clocks,
            core,
            leadership,
            self._consumer,
            self._publisher,
            reservations,
            self._policy,
            self.outages,
            poison=self._poison,
            careful=careful,
        )

    async def _end_leadership(self, leadership: ILeadership) -> None:
        self._ending = True  # a stop waits for this
        try:
            await self._hand_over(leadership)
        finally:
            self._ending = False

    async def _hand_over(self, leadership: ILeadership) -> None:
        engine, self._engine = self._engine, None
        self._room = 0 if engine is None else min(engine.room, _MOST_ROOM)
        self.outages.drop(*OF_A_LEADERSHIP)
        self.outages.began(Away.STEP, ENDING, ENDING, quiet=True)
        reservations, self._reservations = self._reservations, None
        steps: list[Callable[[], Awaitable[None]]] = [self._consumer.stop]
        if engine is not None:
            steps.append(engine.abandon)
        if reservations is not None:
            steps.append(reservations.stop)
        for step in steps:
            try:
                await step()
            except Exception:
                log.failure("a part of the leadership did not end well")
        reach(CrashPoint.LEADERSHIP_ENDING)
        await leadership.end()
        self.outages.drop(Away.STEP)

    def change(self, policy: Policy) -> None:
        """Apply another policy from now on; queues and meter stay."""
        self._policy = replace(policy, queues=self._policy.queues, meter=self._policy.meter)
        for calls, interval in self._loops.items():
            calls.interval = interval()
            calls.reset()
        if self._engine is not None:
            self._engine.history = policy.history
            self._engine.post(events.LimitsChanged(policy.limits))

    # --- looking at Etcd ---

    def _refresh(self) -> None:
        """Read all resources again, unless that is under way."""
        if not self._refreshing:
            self._refreshing = True
            self._task_group.run(self._read_resources())

    async def _read_resources(self) -> None:
        try:
            if self._reservations is not None:
                await self._reservations.refresh()
        except ReservationsLost as lost:
            log.debug("resources were not read: {reason}", reason=str(lost))
        finally:
            self._refreshing = False

    # --- what is shown ---

    @property
    def core(self) -> Core | None:
        """The core of the present leadership, or None if this manager is not the active one."""
        return None if self._engine is None else self._engine.core

    @property
    def turn_began(self) -> float | None:
        """Monotonic time at which the turn under way began, or None between two turns."""
        return None if self._engine is None else self._engine.turn_began

    def command(self, event: events.Commanded) -> bool:
        """Carry out a control message; return False if this manager is not the active one."""
        if self._engine is None:
            return False
        self._engine.post(event)
        return True

    def ask(self, question: Question) -> Deferred[object] | None:
        """Return a Deferred for the answer, see `Inquirer.ask`; None if this manager is not active."""
        return None if self._engine is None else self._engine.ask(question)

    # --- what the adapters tell ---

    def delivered(self, delivery: Delivery) -> None:
        """Take in a message."""
        reach(CrashPoint.LEADERSHIP_CONSUMING)
        if self._engine is not None:
            self._engine.post(delivery)

    def session_lost(self, session: int, reason: str) -> None:
        """Note that the consumer's channel is gone."""
        emit(catalogue.DELIVERIES_LOST(reason))
        if self._engine is not None:
            self._engine.session_lost(session)

    def resources_seen(self, seen: Seen) -> None:
        """Take in changes of resources."""
        self._tell(events.ResourcesSeen(seen))

    def resources_read(self, seen: Seen, held: Mapping[int, frozenset[str]]) -> None:
        """Take in a full read of the resources."""
        self._resources_lost = False
        self.outages.over(Away.ETCD)
        self._tell(events.ResourcesRead(seen, held))

    def resources_replaced(self, reason: str) -> None:
        """See `IResourceObserver.resources_replaced`."""
        self._tell(events.ResourcesReplaced(reason))

    def resources_lost(self, reason: str) -> None:
        """Note that Etcd is unreachable, or is so for a new reason."""
        self.outages.began(Away.ETCD, reason, quiet=not self._resources_lost)
        if not self._resources_lost:
            self._resources_lost = True
            self._tell(events.ResourcesLost(reason))

    def _tell(self, event: events.Event) -> None:
        if self._engine is not None:
            self._engine.post(event)


async def _until_stopped(calls: LoopingCall, interval: float) -> None:
    await calls.start(interval, now=False)
