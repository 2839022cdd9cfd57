"""Carries out the effects of a turn after its commit, and posts their results as events."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import time

import msgspec
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from tefmanager.core.model import events
from tefmanager.core.model.effects import (
    DeadLetter,
    Effect,
    KeepCopies,
    Log,
    LookAt,
    Publish,
    Release,
    Reply,
    ReplyTo,
    ReplyWorkers,
    Reserve,
)
from tefmanager.core.model.reservations import Granted, Impossible, Outcome, Refused, Reservation
from tefmanager.core.model.values import Bodies
from tefmanager.core.running.announcements import announcement, workers_told
from tefmanager.engine.deadcopies import DeadCopies
from tefmanager.engine.deliveries import CONTENT_TYPE, Answers
from tefmanager.engine.outcomes import event_of_claim, event_of_dispatch
from tefmanager.engine.releases import Releases
from tefmanager.interfaces.amqp import Delivered, IPublisher, Message
from tefmanager.interfaces.etcd import IReservations, ReservationsLost
from tefmanager.interfaces.meter import IMeter
from tefmanager.interfaces.policy import Queues
from tefmanager.interfaces.store import ILeadership
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.support.backoff import Backoff
from tefmanager.support.crashpoints import CrashPoint, reach
from tefmanager.support.outages import ANSWER, CONFIRM, LATE, RELEASE, RESERVATION, Outages, Service, Steps
from tefmanager.support.taskgroup import TaskGroup

log = Logger()

NOT_CONFIRMED = "RabbitMQ does not confirm that it has it"

LOOK_TIMEOUT = 5.0
"""Seconds to wait for the broker's answer about a worker's queue."""

REFUSED_PAUSE = 60.0
"""Seconds until a rejected message that is too large for the rejected queue is sent again."""

_METERED: dict[type[Outcome], str] = {Granted: "granted", Refused: "refused", Impossible: "impossible"}


class Effector:
    """Carries out effects: publishes, replies, reserves and releases.

    Reservations are sent to the adapter at once; it batches those that come while Etcd is busy.

    Args:
        post: takes the results of effects, as events.
        leadership: is read for copies of dead tasks.
        on_failure: is told of an unexpected failure.
        on_idle: is called when nothing is under way any more.
        meter: is told what is measured.
        outages: is told of queues that take nothing.

    Attributes:
        probed: the outcome of the last probe, in words.
        dead: the copies of dead tasks.
    """

    def __init__(
        self,
        clock: IReactorTime,
        publisher: IPublisher,
        reservations: IReservations,
        queues: Queues,
        post: Callable[[events.Event], None],
        leadership: ILeadership,
        on_failure: Callable[[Failure], None],
        on_idle: Callable[[], None],
        meter: IMeter,
        outages: Outages,
    ) -> None:
        self._clock = clock
        self._publisher = publisher
        self._reservations = reservations
        self._queues = queues
        self._post = post
        self._meter = meter
        self._task_group = TaskGroup(on_failure, on_idle)
        self._questions = TaskGroup(on_failure)  # a stop does not wait for these
        self._to_reserve: list[Reservation] = []
        self._answers = Answers(publisher, queues.names)
        self._outages = outages
        self._steps = Steps(outages)
        self.dead = DeadCopies(
            clock,
            publisher,
            queues.dead,
            leadership,
            post,
            self._task_group.run,
            self._questions.run,
            outages,
        )
        self.probed = NOT_CONFIRMED
        self._probe: Deferred[None] | None = None
        self._releases = Releases(
            clock, reservations, post, lambda giving: self._task_group.run(giving, RELEASE)
        )

    def carry_out(self, effects: Sequence[Effect], bodies: Bodies) -> None:
        """Begin to carry out a turn's effects, in order. ``bodies``: the messages of the tasks.

        All log lines are written first, together. So whatever is visible of the other effects is already in
        the log, even if the process dies at once.
        """
        emit(*(effect.line for effect in effects if isinstance(effect, Log)))
        for effect in effects:
            match effect:
                case Log():
                    pass
                case Publish():
                    self._task_group.run(self._publish(effect, bodies[effect.task_id]), CONFIRM)
                case Reserve(attempt, resources):
                    self._to_reserve.append(Reservation(attempt, resources))
                case Release(attempt, resources):
                    self._releases.add(Reservation(attempt, resources))
                case Reply():
                    self._task_group.run(self.answered(effect), ANSWER)
                case ReplyWorkers(to, workers):
                    self._task_group.run(self.reply(to, workers_told(workers, bodies)), ANSWER)
                case LookAt():
                    self._questions.run(self._look(effect), "RabbitMQ has not said who consumes a queue")
                case DeadLetter():
                    self.dead.dead_letter(effect)
                case KeepCopies(ids):
                    self.dead.written(ids)
        self._ask_etcd()
        self._tell(effects)

    def reserve(self, wanted: Sequence[Reserve]) -> None:
        """Reserve without waiting for a commit."""
        self._to_reserve += [Reservation(each.attempt, each.resources) for each in wanted]
        self._ask_etcd()

    def _tell(self, effects: Sequence[Effect]) -> None:
        """Announce and measure what has been logged."""
        now = time()
        for effect in effects:
            if isinstance(effect, Log) and (topic := effect.line.type.topic):
                self._publisher.announce(topic, partial(announcement, effect, now))
                if effect.line.type is catalogue.DISPATCH and effect.about is not None:
                    self._meter.dispatched(now - effect.about.received, now)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way that has to end before a stop."""
        return not len(self._task_group)

    def look(self, late: Mapping[str, float]) -> None:
        """Report steps that do not end. Called every second. ``late``: the engine's own steps."""
        self._steps.look({**self._task_group.look(int(LATE)), **self._questions.look(int(LATE)), **late})

    async def abandon(self) -> None:
        """Give up everything under way."""
        self._releases.abandon()
        self.dead.abandon()
        for task_group in (self._task_group, self._questions):
            task_group.cancel()
            await task_group.wait()

    async def reject(self, message: Message) -> None:
        """Put a message into the rejected queue; return when it is there."""
        while await self._insist(self._queues.rejected, message) is not None:
            await deferLater(self._clock, REFUSED_PAUSE)  # no other copy of it exists

    # --- RabbitMQ ---

    def probe(self, token: str) -> None:
        """Send a message to the manager's own queue, to see when it comes back."""
        body = msgspec.json.encode({"type": "dispatch_tasks", "probe": token})
        if self._probe is not None:
            self._probe.cancel()  # not sent yet because there is no connection, or lost
        self._probe = self._questions.run(self._send_probe(Message(body, content_type=CONTENT_TYPE)))

    async def _send_probe(self, message: Message) -> None:
        self.probed = NOT_CONFIRMED
        outcome = await self._publisher.send(self._queues.own, message)
        delivers_none = "RabbitMQ has it, and delivers nothing"
        self.probed = delivers_none if outcome is Delivered.CONFIRMED else f"it was {outcome} by RabbitMQ"

    def connect_anew(self, reason: str) -> None:
        """Replace the publisher's connection if RabbitMQ confirms none of the probes."""
        if self.probed == NOT_CONFIRMED:
            self._publisher.renew(reason)

    async def _publish(self, effect: Publish, body: bytes) -> None:
        headers = {"x-tef-attempt": effect.attempt, "x-tef-time-limit": effect.time_limit}
        message = Message(body, content_type=CONTENT_TYPE, headers=headers)
        reach(CrashPoint.PUBLISHING)
        why: list[str] = []
        outcome = await self._publisher.dispatch(effect.address, message, why.append)
        reach(CrashPoint.PUBLISHED)
        self._post(event_of_dispatch(effect.attempt, outcome, "; ".join(why) or outcome.value))

    async def _look(self, effect: LookAt) -> None:
        looking = Deferred.fromCoroutine(self._publisher.audience(effect.address))
        try:
            found = await looking.addTimeout(LOOK_TIMEOUT, self._clock)
        except TimeoutError:
            found = None
        self._post(events.Looked(effect.worker, found))

    async def answered(self, reply: Reply) -> None:
        """Answer a message; return when the broker has taken the answer or it is clear that it will not."""
        await self._answers.reply(reply.to, reply.response, reply.warnings)

    async def reply(self, to: ReplyTo, response: object) -> None:
        """Answer with a value that can be encoded as JSON."""
        await self._answers.reply(to, response)

    async def _insist(self, queue: bytes, message: Message) -> str | None:
        """Publish to one of the manager's queues until the message is there; declare the queue if missing.

        Returns the reason if the broker will never take this message.
        """
        backoff, name = Backoff(self._clock), queue.decode()
        while True:
            why: list[str] = []
            outcome = await self._publisher.send(queue, message, why.append)
            reason = "; ".join(why)
            if outcome is Delivered.CONFIRMED:
                self._outages.over(Service.QUEUE, about=name)
                return None
            if outcome is Delivered.REFUSED:
                return reason
            self._outages.began(Service.QUEUE, f"a message was {outcome}: {reason}", name)
            if outcome is Delivered.RETURNED:
                await self._publisher.declare(queue)
            await backoff.pause()

    # --- Etcd ---

    def _ask_etcd(self) -> None:
        if self._to_reserve:
            reservations, self._to_reserve = self._to_reserve, []
            self._task_group.run(self._reserve(reservations), RESERVATION)
        self._releases.begin()

    async def _reserve(self, reservations: Sequence[Reservation]) -> None:
        for event in await self._reserved(reservations):
            self._post(event)

    async def _reserved(self, reservations: Sequence[Reservation]) -> list[events.Event]:
        reach(CrashPoint.RESERVING)
        try:
            outcomes = await self._reservations.reserve(reservations)
        except ReservationsLost as lost:
            log.debug("reservations: {reason}", reason=str(lost))
            self._meter.reserved("unknown", len(reservations))
            return [
                events.ReservationUnknown(reservation.attempt, str(lost)) for reservation in reservations
            ]
        reach(CrashPoint.RESERVED)
        for kind, name in _METERED.items():
            self._meter.reserved(name, sum(isinstance(outcome, kind) for outcome in outcomes))
        return [event_of_claim(outcome) for outcome in outcomes]

    def etcd_is_back(self) -> None:
        """Release now what could not be released while Etcd was away."""
        self._releases.etcd_is_back()
