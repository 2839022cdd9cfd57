"""The judge notices everything: for each forbidden thing, a manager with that fault is found out."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from pytest import MonkeyPatch

from tefmanager.core.books.calendar import Calendar
from tefmanager.core.books.ledger import Ledger
from tefmanager.core.books.suites import Suites
from tefmanager.core.core import Core
from tefmanager.core.grants import Grants
from tefmanager.core.intake import Intake
from tefmanager.core.model import events
from tefmanager.core.model.dead_copies import Copy
from tefmanager.core.model.effects import DeadLetter
from tefmanager.core.model.endings import AttemptEnd
from tefmanager.core.model.entities import Worker
from tefmanager.core.model.reservations import Granted, Impossible, Outcome, Reservation
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.said import Said
from tefmanager.core.model.values import Changes, Moment, Stretch, TaskRow
from tefmanager.core.planner import Planner
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.running.departures import Departures
from tefmanager.core.running.reports import UNHELD, Reports, Word
from tefmanager.core.running.workers import Workers
from tefmanager.core.sharing.pool import Pool
from tefmanager.core.stops import Stops
from tefmanager.core.waiting.rotation import Rotation
from tefmanager.core.waiting.type_queues import Front, TypeQueue
from tefmanager.core.waiting.wait_lists import SleepingLists, WaitList
from tefmanager.engine import effector, engine
from tefmanager.engine.deadcopies import DeadCopies
from tefmanager.engine.deliveries import RENEWED, copy_of
from tefmanager.engine.engine import Engine
from tefmanager.engine.liveness import LivenessCheck
from tefmanager.engine.outcomes import event_of_dispatch
from tefmanager.engine.reception import Reception, Turn
from tefmanager.engine.renewals import Renewals
from tefmanager.engine.unacknowledged import Unacknowledged
from tefmanager.etcd import plan
from tefmanager.etcd.changing import Changing
from tefmanager.interfaces.amqp import Delivered, Delivery, Message
from tefmanager.interfaces.etcd import ReservationsLost
from tefmanager.protocol.messages import WorkerMessage
from tefmanager.support.lease import Lease
from tefmanager.support.outages import Outages
from tests.fakes import store
from tests.fakes.reservations import FakeEtcd, FakeReservations
from tests.fakes.store import FakeDatabase, FakeLeadership
from tests.simulation import effort
from tests.simulation.knobs import knobs, unusual
from tests.simulation.links import SimConsumer, SimPublisher
from tests.simulation.play import play
from tests.simulation.story import Step, draw
from tests.simulation.voices import talkative
from tests.simulation.world import Process

Patch = Callable[[MonkeyPatch], None]

SEEDS = range(40)
"""Histories of which at least one must show the fault."""


SEED = 9
"""The seed of the stories in this module: two managers, and three attempts for a task."""


def nothing(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


async def later_nothing(*args: Any, **kwargs: Any) -> None:
    """Do nothing, when awaited."""


def without(place: type, name: str) -> Patch:
    """Return a patch that makes a method do nothing."""
    return lambda patch: patch.setattr(place, name, nothing)


def without_async(place: type, name: str) -> Patch:
    """Return the same for a coroutine function."""
    return lambda patch: patch.setattr(place, name, later_nothing)


# --- planted faults ---


def lose_etcd_by_a_refusal(patch: MonkeyPatch) -> None:
    """Etcd's refusal of one reservation counts as the loss of Etcd."""
    reserve = FakeReservations._reserve

    def broken(self: FakeReservations, reservation: Reservation) -> Outcome:
        outcome = reserve(self, reservation)
        if isinstance(outcome, Impossible):
            self.lose(outcome.reason)
            raise ReservationsLost(outcome.reason)
        return outcome

    patch.setattr(FakeReservations, "_reserve", broken)


def lose_messages(patch: MonkeyPatch) -> None:
    """Tasks of high priority are acknowledged and forgotten."""
    accept = Intake.submitted
    patch.setattr(
        Intake,
        "submitted",
        lambda self, event, now: None if event.message.priority > 1 else accept(self, event, now),
    )


def ignore_limits(patch: MonkeyPatch) -> None:
    """Every resource always has references left."""
    patch.setattr(plan, "_fits", lambda *args: True)
    patch.setattr(Pool, "_free", lambda *args: True)


def believe_counts(patch: MonkeyPatch) -> None:
    """The manager trusts ref_count more than what it knows of its own references."""
    patch.setattr(Resource, "with_own", lambda self, own: self)


def open_at_once(patch: MonkeyPatch) -> None:
    """A window counts as soon as it can be read, even while it is being written."""
    patch.setattr(Changing, "strictest", lambda self, resource: resource)


def leave_windows_out(patch: MonkeyPatch) -> None:
    """Windows have no effect."""
    patch.setattr(Resource, "_limit_at", lambda self, local: self.limit)


def stop_the_clock_of_windows(patch: MonkeyPatch) -> None:
    """Windows are looked at by the time of day of the first look, so none begins or ends."""
    limit_at, first = Resource._limit_at, list[datetime]()

    def stale(self: Resource, local: datetime) -> int:
        first.append(local)
        return limit_at(self, first[0])

    patch.setattr(Resource, "_limit_at", stale)


def grant_nothing(patch: MonkeyPatch) -> None:
    """Etcd is said to have reserved what it has not reserved."""
    patch.setattr(
        FakeReservations,
        "_reserve",
        lambda self, reservation: Granted(reservation.attempt, tuple(reservation.resources)),
    )


def hold_for_ever(patch: MonkeyPatch) -> None:
    """A manager believes that it is active as long as it lives."""
    patch.setattr(Lease, "holds", property(lambda self: True))
    patch.setattr(Lease, "end", nothing)


def crown_everybody(patch: MonkeyPatch) -> None:
    """The lock excludes nobody."""
    patch.setattr(FakeDatabase, "blocker", lambda self, name: None)


def mean_what_is_live(patch: MonkeyPatch) -> None:
    """Whatever a worker says is related to its latest task, which it gets too early."""
    patch.setattr(Worker, "unsettled", False)
    patch.setattr(Reports, "_meant", lambda self, worker, word, guid: worker.live)


def believe_idle(patch: MonkeyPatch) -> None:
    """An attempt that was taken from a worker is forgotten at once."""
    end = Attempts._end
    patch.setattr(Attempts, "_end", lambda self, *args, unresolved: end(self, *args, unresolved=False))


def rewrite_history(patch: MonkeyPatch) -> None:
    """A late event changes how an attempt ended."""

    def write(rows: store.Rows, changes: Any) -> None:
        for attempt in changes.attempts:
            rows.attempts[attempt.id] = attempt
        for id in changes.resolved:
            rows.attempts[id] = replace(rows.attempts[id], end=AttemptEnd.COMPLETED)

    patch.setattr(store, "_write_attempts", write)


def publish_twice(patch: MonkeyPatch) -> None:
    """A dispatch is published twice."""
    dispatch = SimPublisher.dispatch

    async def twice(self: SimPublisher, address: str, message: Message, why: Any) -> Any:
        await dispatch(self, address, message, why)
        return await dispatch(self, address, message, why)

    patch.setattr(SimPublisher, "dispatch", twice)


def spoil_bodies(patch: MonkeyPatch) -> None:
    """A worker gets another message than was sent."""
    dispatch = SimPublisher.dispatch
    patch.setattr(
        SimPublisher,
        "dispatch",
        lambda self, address, message, why: dispatch(
            self, address, replace(message, body=message.body + b" "), why
        ),
    )


def never_free(patch: MonkeyPatch) -> None:
    """Workers that say they are free are ignored."""
    for word in (Word.READY, Word.IDLE):
        patch.setitem(UNHELD, word, nothing)


def stop_for_pause(patch: MonkeyPatch) -> None:
    """A suite is stopped when it should be paused."""
    patch.setattr(Intake, "_pause", Intake._stop)


def type_by_type(patch: MonkeyPatch) -> None:
    """Types are served one after the other, although tasks of all types wait at a shared resource."""
    across, asleep = WaitList.across, SleepingLists._rank

    def first(wait_list: WaitList, rank: Any) -> Any:
        queue = wait_list.owner
        favoured = isinstance(queue, TypeQueue) and queue.task_type == "x"
        return rank and (-1e9, *rank[1:]) if favoured else rank

    patch.setattr(WaitList, "across", lambda line: first(line, across(line)))
    patch.setattr(SleepingLists, "_rank", lambda self, line: first(line, asleep(self, line)))


def count_no_turns(patch: MonkeyPatch) -> None:
    """Among equals the oldest task is first, whatever its suite."""
    patch.setattr(Rotation, "served", nothing)


def stop_again(patch: MonkeyPatch) -> None:
    """A redelivered stop is taken for a new one."""
    command = Stops.command
    patch.setattr(
        Stops, "command", lambda self, *args, redelivered: command(self, *args, redelivered=False)
    )


def pretend_sent(patch: MonkeyPatch) -> None:
    """Messages that should be put into a queue are not sent."""

    async def there(*args: Any) -> Copy:
        return Copy.THERE

    patch.setattr(DeadCopies, "_put", there)


def send_copies_twice(patch: MonkeyPatch) -> None:
    """A dead task's copy is sent again although it is there."""
    put = DeadCopies._put

    async def twice(self: DeadCopies, effect: DeadLetter) -> Copy | None:
        await put(self, effect)
        return await put(self, effect)

    patch.setattr(DeadCopies, "_put", twice)


def die_early(patch: MonkeyPatch) -> None:
    """A task is dead after its first attempt."""
    take_back = Attempts.take_back

    def taken(self: Attempts, attempt: Any, *args: Any, **kwargs: Any) -> None:
        number, attempt.task.attempts = attempt.task.attempts, 99
        take_back(self, attempt, *args, **kwargs)
        attempt.task.attempts = number

    patch.setattr(Attempts, "take_back", taken)


def say_it_once(patch: MonkeyPatch) -> None:
    """A lasting outage is reported only once."""
    patch.setattr(Outages, "remind", nothing)


def hear_nothing_and_say_nothing(patch: MonkeyPatch) -> None:
    """Nobody reports that no probe comes back."""
    patch.setattr(LivenessCheck, "look", nothing)


def release_twice(patch: MonkeyPatch) -> None:
    """A reference is given back twice."""
    release = FakeReservations._release

    def twice(self: FakeReservations, reservation: Any) -> None:
        release(self, reservation)
        for name in reservation.resources:
            count = int(self._etcd.keys.get(f"{name}/ref_count", "0"))
            self._etcd.set(f"{name}/ref_count", str(count - 1))

    patch.setattr(FakeReservations, "_release", twice)


def go_by_the_wall(patch: MonkeyPatch) -> None:
    """Time limits depend on the wall clock."""
    read = Process.clocks

    def clocks(self: Process) -> Moment:
        now = read(self)
        return replace(now, monotonic=now.wall)

    patch.setattr(Process, "clocks", clocks)


def trust_the_wall(patch: MonkeyPatch) -> None:
    """The wall clock decides what is old enough to be removed."""
    patch.setattr(Calendar, "today", lambda self, now: now.wall)


def forget_the_calendar(patch: MonkeyPatch) -> None:
    """A new leadership starts its calendar with the wall clock."""
    begin = Calendar.__init__
    patch.setattr(Calendar, "__init__", lambda self, written, now: begin(self, None, now))


def believe_old_goodbyes(patch: MonkeyPatch) -> None:
    """A redelivered goodbye is taken for a new one."""
    offline = Departures.offline
    patch.setattr(
        Departures, "offline", lambda self, name, now, *, again: offline(self, name, now, again=False)
    )


def pay_no_debts(patch: MonkeyPatch) -> None:
    """An attempt that lacks references never gets them, and others do."""
    patch.setattr(Planner, "pay_debts", nothing)
    patch.setattr(Pool, "owe", nothing)


def keep_what_is_in_doubt(patch: MonkeyPatch) -> None:
    """Redelivered messages of workers are not acknowledged."""
    deliver = Reception._deliver

    def delivered(self: Reception, turn: Turn, delivery: Delivery, parsed: Any, *more: Any) -> None:
        deliver(self, turn, delivery, parsed, *more)
        if delivery.redelivered and isinstance(parsed, WorkerMessage):
            turn.acks[delivery.session].remove(delivery.tag)

    patch.setattr(Reception, "_deliver", delivered)


def forget_copies(monkeypatch: MonkeyPatch) -> None:
    """Take a redelivered message for another one."""
    monkeypatch.setattr(Unacknowledged, "adopts", lambda self, delivery: False)


def idle_resources(patch: MonkeyPatch) -> None:
    """Tasks that wait for a resource are not woken when it is given back."""
    patch.setattr(Front, "wake", nothing)


def lose_etcd_by_operations(patch: MonkeyPatch) -> None:
    """A reservation is sent to Etcd in one transaction, however many operations it has."""
    lose_etcd_where(patch, lambda etcd, names: 4 * len(names) > etcd.operations)


def lose_etcd_by_bytes(patch: MonkeyPatch) -> None:
    """A reservation is sent to Etcd in one transaction, however many bytes it has."""
    lose_etcd_where(patch, lambda etcd, names: sum(map(etcd.least_size, names)) > etcd.size)


def lose_etcd_where(patch: MonkeyPatch, large: Callable[[FakeEtcd, Sequence[str]], bool]) -> None:
    """A transaction that is too large counts as the loss of Etcd."""
    reserve = FakeReservations._reserve

    def broken(self: FakeReservations, reservation: Reservation) -> Outcome:
        if large(self._etcd, reservation.resources):
            self.lose("the transaction is too large")
            raise ReservationsLost("the transaction is too large")
        return reserve(self, reservation)

    patch.setattr(FakeReservations, "_reserve", broken)


def acknowledge_at_once(patch: MonkeyPatch) -> None:
    """A message is acknowledged before its request is carried out."""

    @contextmanager
    def hold(self: Unacknowledged, delivery: Delivery) -> Iterator[None]:
        self._acknowledge(delivery.session, [delivery.tag])
        yield

    patch.setattr(Unacknowledged, "hold", hold)


def replace_nothing(patch: MonkeyPatch) -> None:
    """A message that RabbitMQ is about to drop is not replaced."""
    patch.setattr(engine, "LAST", 1000)


def replace_by_what_is_refused(patch: MonkeyPatch) -> None:
    """A message that RabbitMQ is about to drop is acknowledged though its copy was refused."""

    async def renew(self: Renewals, delivery: Delivery) -> None:
        await self._publisher.send(self._own, copy_of(delivery, {RENEWED: "yes"}))
        self._acknowledge(delivery.session, [delivery.tag])

    patch.setattr(Renewals, "renew", renew)


def risk_messages(patch: MonkeyPatch) -> None:
    """Messages are taken in although nothing can be written, and none that is at risk is replaced."""
    blocker = FakeDatabase.blocker

    def blind(self: FakeDatabase, name: str) -> str | None:
        full, self.full = self.full, None
        found = blocker(self, name)
        self.full = full
        return found

    patch.setattr(FakeDatabase, "blocker", blind)
    patch.setattr(engine, "LAST", 1000)


def make_no_queue(patch: MonkeyPatch) -> None:
    """A deleted queue of the manager is not created again."""
    patch.setattr(SimPublisher, "declare", later_nothing)


def give_up_what_is_refused(patch: MonkeyPatch) -> None:
    """A message that a queue of the manager refuses is given up."""
    send = SimPublisher.send

    async def once(self: SimPublisher, *args: Any) -> Delivered:
        outcome = await send(self, *args)
        return Delivered.CONFIRMED if outcome is Delivered.NACKED else outcome

    patch.setattr(SimPublisher, "send", once)


def take_a_refusal_for_a_confirm(patch: MonkeyPatch) -> None:
    """A dispatch that a worker's queue refuses counts as sent."""

    def told(attempt: int, outcome: Delivered, reason: str) -> events.Event:
        refused = outcome is Delivered.NACKED
        return event_of_dispatch(attempt, Delivered.CONFIRMED if refused else outcome, reason)

    patch.setattr(effector, "event_of_dispatch", told)


def read_no_pages(patch: MonkeyPatch) -> None:
    """The following tasks of a lane are not found in the database."""

    async def nothing_follows(self: FakeLeadership, stretches: Sequence[Stretch]) -> list[list[TaskRow]]:
        return [[] for _ in stretches]

    patch.setattr(FakeLeadership, "following", nothing_follows)


def lose_verdicts(patch: MonkeyPatch) -> None:
    """What workers say of their tasks is not kept."""
    for name in ("judged", "ended"):
        patch.setattr(Said, name, lambda self, verdict: self)


def keep_the_last_verdict(patch: MonkeyPatch) -> None:
    """A task gets the result of the one that ended before it."""
    finished, last = Ledger.finished, list[Any]([None])

    def kept(self: Ledger, task: Any, outcome: Any, now: Moment, copy: Any, verdict: Any) -> None:
        last.append(verdict or last[-1])
        finished(self, task, outcome, now, copy, verdict and last[-2])

    patch.setattr(Ledger, "finished", kept)


def keep_it_with_the_last_attempt(patch: MonkeyPatch) -> None:
    """An attempt gets the result of the one that ended before it."""
    ended, last = Ledger.ended, list[Any]([None])

    def kept(self: Ledger, row: Any) -> None:
        last.append(row)
        ended(self, replace(row, message=last[-2] and last[-2].message))

    patch.setattr(Ledger, "ended", kept)


def complete_whatever_is_said(patch: MonkeyPatch) -> None:
    """A task that was to be tried elsewhere is completed."""
    patch.setattr(
        Attempts, "end_by_worker", lambda self, attempt, now: self.complete(attempt.task, attempt, now)
    )


def blame_the_worker(patch: MonkeyPatch) -> None:
    """A worker that blames its surroundings counts as one that gave up."""

    def ended(self: Attempts, attempt: Any, now: Moment) -> None:
        if attempt.said.verdict.retry:
            self.take_back(attempt, AttemptEnd.GIVEN_UP, now)
        else:
            self.complete(attempt.task, attempt, now)

    patch.setattr(Attempts, "end_by_worker", ended)


def heed_late_wishes(patch: MonkeyPatch) -> None:
    """A worker whose attempt is over takes the task from the one that has it."""
    late = Reports._complete_late

    def heeded(self: Reports, by: Any, now: Moment) -> None:
        if by.said.verdict.retry and by.task.attempt is not None:
            self._attempts.take_back(by.task.attempt, AttemptEnd.ENVIRONMENT, now)
        else:
            late(self, by, now)

    patch.setattr(Reports, "_complete_late", heeded)


def count_no_environment(patch: MonkeyPatch) -> None:
    """An attempt that its worker's surroundings have ended does not count."""
    take_back = Attempts.take_back

    def taken(self: Attempts, attempt: Any, end: AttemptEnd, *args: Any, **kwargs: Any) -> None:
        attempt.confirmed = attempt.confirmed and end is not AttemptEnd.ENVIRONMENT
        take_back(self, attempt, end, *args, **kwargs)

    patch.setattr(Attempts, "take_back", taken)


def go_back_at_once(patch: MonkeyPatch) -> None:
    """A task goes to the worker that became free last, be it the one whose surroundings were to blame."""
    free = Workers.free
    patch.setattr(
        Workers, "free", lambda self, worker_type: dict.fromkeys(reversed(free(self, worker_type)))
    )
    patch.setattr(Attempts, "_shun", nothing)


def tell_other_counts(change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Patch:
    """Return a patch by which the log tells other counts of a suite than there are."""
    conclude = Suites.conclude

    def told(self: Suites, ends: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
        return ((suite, change(counts)) for suite, counts in conclude(self, ends))

    return lambda patch: patch.setattr(Suites, "conclude", told)


@dataclass(frozen=True)
class Mutation:
    """A manager with a planted fault, and the violation that must be reported.

    Attributes:
        stories: at least one of these must show it; if empty, one of the seeds' own stories.
        seed: the seed for these stories.
    """

    patch: Patch
    said: str
    stories: tuple[tuple[Step, ...], ...] = ()
    seed: int = SEED


LONG = (Step(200.0, "submit", ("t0", "x", 1.0, ("db",), None, 100.0)),)
RESTORED = (*LONG, Step(255.0, "etcd_restored", (10.0,)))
DENIED = (
    Step(1.0, "etcd_denied", ("licence", 0.0)),
    Step(2.0, "submit", ("t0", "x", 1.0, ("licence",), None, 1.0)),
    Step(2.0, "submit", ("t1", "y", 1.0, ("db",), None, 1.0)),
)
DEAF = tuple(Step(0.5, "deafen_worker", (number, 200.0)) for number in (1, 3, 5))
DEADLY = (*DEAF, Step(1.0, "submit", ("t0", "y", 1.0, (), None, 1.0)))
DROPPED = (*DEADLY, Step(235.0, "settle_dead_tasks", ("settle_dead",)))
KILLED = tuple(
    (
        *DEADLY,
        Step(230.0, "slow", ("database", 20.0)),
        Step(235.0, "submit", ("t1", "x", 1.0, (), None, 1.0)),
        Step(235.05, "settle_dead_tasks", (how,)),
        *(Step(235.1 + tenths / 10, "kill_manager", (1.0,)) for _ in range(2)),
    )
    for how in ("settle_dead", "retry_dead")
    for tenths in range(0, 20, 5)
)
SENT_AGAIN = (*DEADLY, Step(235.0, "submit_again", ("t0",)))
RETRIED = (*DEADLY, Step(235.0, "settle_dead_tasks", ("retry_dead",)))
SLOW = (
    *(Step(0.5, "deafen_worker", (number, 50.0)) for number in (0, 2)),
    *(Step(1.0, "submit", (f"t{number}", "x", 1.0, (), None, 20.0)) for number in range(3)),
    *(Step(9.0, "submit", (f"u{number}", "x", 9.0, (), None, 20.0)) for number in range(3)),
)
FULL = (
    Step(0.5, "queue_refuses", ("rejected", 30.0)),
    Step(2.0, "send_garbage", ("{",)),
    *(Step(4.0 + 3 * n, "break_links", ()) for n in range(6)),
)
RETURNED = (
    Step(0.5, "queue_refuses", ("rejected", 70.0)),
    Step(2.0, "send_garbage", ("{",)),
    *(Step(4.0 + 2 * n, "break_links", ()) for n in range(25)),
)
UNREPLACED = (
    *RETURNED[:19],
    Step(32.0, "queue_refuses", ("tef.manager", 5.0)),
    Step(39.9, "kill_manager", (1.0,)),
    Step(39.9, "kill_manager", (1.0,)),
)
GARBAGE = (Step(1.0, "send_garbage", ("{",)),)
PAUSED = (
    Step(1.0, "set_state", ("paused", 9.0)),
    Step(2.0, "submit", ("t0", "x", 1.0, (), "S1", 1.0)),
    Step(3.0, "pause_suite", ("S1", 9.0)),
)
ONE_TYPE = (
    *(Step(200.0, "submit", (f"t{number}", "x", 1.0, ("licence",), None, 5.0)) for number in range(30)),
    Step(262.0, "submit", ("u", "y", 9.0, ("licence",), None, 1.0)),
)
ONE_AGE = (
    *(Step(200.0, "submit", (f"s{number}", "x", 1.0, ("licence",), None, 5.0)) for number in range(10)),
    Step(200.5, "submit", ("u", "y", 1.0, ("licence",), None, 1.0)),
    *(Step(201.0, "submit", (f"t{number}", "x", 1.0, ("licence",), None, 5.0)) for number in range(30)),
)
IDLE = tuple(Step(240.0, "submit", (f"t{n}", "x", 1.0, ("licence",), None, 5.0)) for n in range(20))
CROWDED = (tuple(Step(2.0, "submit", (f"t{n}", "x", 1.0, ("licence",), None, 1.0)) for n in range(40)),)
WIDE = (
    Step(1.0, "submit_wide", ("t0", "x", 33)),
    Step(2.0, "submit", ("t1", "y", 1.0, ("db",), None, 1.0)),
)
BYTES = (
    Step(241.0, "etcd_bytes", (3000,)),
    Step(242.0, "submit_wide", ("t0", "x", 20)),
    Step(243.0, "submit", ("t1", "y", 1.0, ("db",), None, 1.0)),
)
SMALL = tuple((Step(0.5, "etcd_small", (what, 300.0)), *DENIED[1:]) for what in ("operations", "size"))
NO_SPACE = (
    Step(1.0, "database_full", (120.0,)),
    Step(2.0, "submit", ("t0", "x", 1.0, (), None, 1.0)),
)
FORGOTTEN = (*DEADLY, Step(1.5, "broker_forgets", (3.0,)))
NO_REJECTS = (Step(0.5, "queue_refuses", ("rejected", 30.0)), Step(2.0, "send_garbage", ("{",)))
NO_DEAD = (*DEADLY, Step(0.5, "queue_refuses", ("dead", 230.0)))
NO_WORKERS = (
    *(Step(0.5, "queue_refuses", (f"w{number}", 230.0)) for number in (0, 2, 4)),
    Step(1.0, "submit", ("t0", "x", 1.0, (), None, 1.0)),
)
ONE_SUITE = (
    *(Step(200.0, "submit", (f"t{number}", "x", 1.0, (), "S1", 5.0)) for number in range(60)),
    Step(262.0, "submit", ("u", "x", 1.0, (), "S2", 1.0)),
)
UNCOUNTED = (
    *(Step(0.3, "deafen_worker", (number, 60.0)) for number in (0, 2, 4)),
    Step(1.0, "submit", ("t0", "x", 1.0, (), "S1", 1.0)),
    Step(5.0, "kill_manager", (1.0,)),
    Step(10.0, "set_state", ("paused", 60.0)),
    Step(50.0, "stop_suite", ("S1",)),
)
STOPPED = (
    Step(1.0, "set_state", ("paused", 20.0)),
    Step(3.0, "submit", ("t0", "x", 1.0, (), "S1", 0.1)),
    Step(4.9999, "commit_lost", ("after",)),
    Step(5.0, "stop_suite", ("S1",)),
    Step(5.0, "submit", ("t1", "x", 1.0, (), "S1", 0.1)),
)
FROZEN = tuple(
    (
        Step(0.0, "freeze_at_step", (steps, 14.0)),
        Step(1.0, "submit", ("t0", "x", 1.0, ("db",), None, 1.0)),
        Step(1.0, "submit", ("t1", "y", 1.0, (), None, 1.0)),
    )
    for steps in range(20, 60)
)
AWAY = tuple(
    (
        Step(5.0, what, (120.0,)),
        *(Step(40.0 * n, "submit", (f"t{n}", "x", 1.0, ("db",), None, 1.0)) for n in range(4)),
    )
    for what in ("broker_away", "broker_blocked", "database_away", "database_silent", "etcd_away")
)
HANGS = (Step(5.0, "broker_hangs", (120.0,)), Step(40.0, "submit", ("t0", "x", 1.0, (), None, 1.0)))
CRASH = (*LONG, Step(210.0, "kill_manager", (1.0,)), Step(220.0, "kill_worker", (0, 10.0)))

SHARED = tuple(Step(2.0, "submit", (f"t{n}", "xy"[n % 2], 1.0, ("licence",), None, 30.0)) for n in range(4))
RESET = (*SHARED, Step(9.0, "foreign_reset", ("licence",)))
REMADE = (
    Step(2.0, "submit", ("t0", "x", 1.0, ("licence",), None, 30.0)),
    Step(9.0, "foreign_remake", ("licence",)),
    Step(12.0, "submit", ("t1", "y", 1.0, ("licence",), None, 5.0)),
)
WINDOW = (*SHARED, Step(9.0, "foreign_window", ("licence", 1, 3, 60.0)))
CLOSING = (Step(1.0, "foreign_window", ("licence", 0, 4, 2000.0)), *SHARED)
SHUT = (Step(1.0, "foreign_window", ("licence", 0, 2, 60.0)), *SHARED)
FOUND_MIDWAY = tuple(
    (
        Step(10.0, "etcd_away", (50.0,)),
        Step(20.0, "foreign_window", ("licence", 0, 3, 39.7 + 0.08 * step)),
        Step(25.0, "submit", ("t0", "x", 1.0, ("licence",), None, 1.0)),
    )
    for step in range(42)
)
"""A window is removed at about the time at which the manager reaches Etcd again."""

YEARS = 10 * 365 * 86400.0
SOON = (
    Step(1.0, "submit", ("t0", "x", 1.0, (), None, 1.0)),
    Step(2.0, "submit", ("t1", "y", 1.0, (), None, 20.0)),
)
JUMP = (*SOON, Step(9.0, "clock_jumps", (YEARS, 15.0)))
BEGUN_IN_IT = (*SOON, Step(9.0, "clock_jumps", (YEARS, 60.0)), Step(10.0, "session_dies"))
HOUR = (*SOON, Step(9.0, "clock_jumps", (3600.0, 15.0)))
BACK = (
    *(Step(4.0, "worker_leaves", (number, 100.0)) for number in (1, 3)),
    Step(5.0, "worker_comes_back", (5, 0.2)),
    Step(6.0, "submit", ("t0", "y", 1.0, (), None, 20.0)),
    Step(7.0, "told_again", (5,)),
)
REGAINED = (
    Step(185.0, "submit", ("t0", "x", 1.0, ("db", "licence"), None, 130.0)),
    *(Step(186.0, "stick_worker", (number, 54.0)) for number in (0, 2, 4)),
    *(Step(187.0, "submit", (f"u{n}", "y", 5.0, ("licence",), None, 2.5)) for n in range(70)),
)
HASTY = next(seed for seed in range(1000) if knobs(seed).limits == {"missing_interval": 45.0})
README = next(seed for seed in range(1000) if knobs(seed).readme and knobs(seed).prefetch == 5)
TOLD_AGAIN = (
    Step(1.0, "slow", ("broker", 100.0)),
    *(Step(20.6 + after, "break_links", ()) for after in (0.0, 0.3, 0.6, 20.3, 20.6, 40.6, 60.8)),
)

TALKATIVE = next(seed for seed in range(SEED + 1, 1000) if talkative(seed) and not unusual(seed))
SAID = tuple(Step(1.0 + n, "submit", (f"t{n}", "xy"[n % 2], 1.0, (), "S1", 1.0)) for n in range(30))
BLAMED = (
    *(Step(0.5, "worker_blames", (number,)) for number in (0, 2, 4)),
    Step(1.0, "submit", ("t0", "x", 1.0, (), None, 1.0)),
)
BLAMED_WHILE_BUSY = (
    *(Step(0.5, "submit", (f"u{number}", "x", 1.0, (), None, 40.0)) for number in range(2)),
    *(Step(2.0, step.what, step.details) for step in BLAMED),
)
BLAMED_LATE = tuple(
    (
        Step(0.2, "worker_leaves", (4, 200.0)),
        Step(1.0, "submit", ("t0", "x", 1.0, (), None, 30.0)),
        Step(1.5, "worker_blames", (number,)),
        Step(1.5, "hang_worker", (number, 75.0)),
    )
    for number in (0, 2)
)

MUTATIONS = {
    "result lost": Mutation(lose_verdicts, "kept unknown, None, which nobody said", (SAID,), TALKATIVE),
    "result of another task": Mutation(keep_the_last_verdict, "which nobody said", (SAID,), TALKATIVE),
    "result of another attempt": Mutation(keep_it_with_the_last_attempt, ", not of w", (SAID,), TALKATIVE),
    "to be tried elsewhere and completed": Mutation(
        complete_whatever_is_said, "but nobody completed it", (BLAMED,)
    ),
    "to be tried elsewhere and given up": Mutation(blame_the_worker, "blamed its surroundings", (BLAMED,)),
    "late wish heeded": Mutation(heed_late_wishes, "asked 0 times to try t0", BLAMED_LATE),
    "environment not counted": Mutation(count_no_environment, "does not count", (BLAMED,)),
    "shunned worker gets it again": Mutation(
        without(Attempts, "_shun"), "t0 went to w", (BLAMED_WHILE_BUSY,)
    ),
    "shunned worker gets it though others are free": Mutation(go_back_at_once, "t0 went to w", (BLAMED,)),
    "results that do not add up": Mutation(
        tell_other_counts(lambda counts: (*counts[:6], 0)), "do not add up", (SAID,), TALKATIVE
    ),
    "results of others": Mutation(
        tell_other_counts(lambda counts: (*counts[:3], *counts[:2:-1])), "are others", (SAID,), TALKATIVE
    ),
    "limits by the wall clock": Mutation(go_by_the_wall, "counts as stalled", (HOUR,)),
    "history by the wall clock": Mutation(trust_the_wall, "is gone from history", (JUMP,)),
    "calendar begun anew": Mutation(forget_the_calendar, "is gone from history", (BEGUN_IN_IT,)),
    "debts not paid": Mutation(pay_no_debts, "was given licence, which", (REGAINED,), HASTY),
    "old goodbye believed": Mutation(believe_old_goodbyes, "an old goodbye took", (BACK,)),
    "doubt kept in the window": Mutation(
        keep_what_is_in_doubt, "nobody reads the manager's queue", (TOLD_AGAIN,), README
    ),
    "acknowledged and forgotten": Mutation(lose_messages, "is lost"),
    "never planned": Mutation(without(Planner, "plan"), "and is not dispatched"),
    "never ended": Mutation(without(Planner, "plan"), "never ended: it is waiting"),
    "over the limit": Mutation(ignore_limits, "references are more than it has"),
    "count set by hand believed": Mutation(believe_counts, "the manager's are more", (RESET,)),
    "made anew and believed": Mutation(believe_counts, "the manager's are more", (REMADE,)),
    "open while it is written": Mutation(open_at_once, "licence: 2 references are more", (WINDOW,)),
    "found half-removed": Mutation(
        without(Changing, "found"), "licence: 1 references are more", FOUND_MIDWAY
    ),
    "window without end": Mutation(
        stop_the_clock_of_windows, "could run and is not dispatched", (CLOSING,)
    ),
    "window left out": Mutation(leave_windows_out, "licence: 1 references are more", (SHUT,)),
    "given back twice": Mutation(release_twice, "-1 references are held"),
    "never released": Mutation(without(FakeReservations, "_release"), "outlives attempt"),
    "never reconciled": Mutation(without(Grants, "_reconcile"), "outlives its task"),
    "restored and not noticed": Mutation(without(Grants, "_owe"), "runs without db", (RESTORED,)),
    "refusal taken for loss": Mutation(
        lose_etcd_by_a_refusal, "could run and is not dispatched", (DENIED,)
    ),
    "nothing reserved": Mutation(grant_nothing, "runs without db", (LONG,)),
    "for ever active": Mutation(hold_for_ever, "writes to", FROZEN),
    "two active": Mutation(crown_everybody, "writes to"),
    "late words taken for new ones": Mutation(mean_what_is_live, "has not completed", (SLOW,)),
    "worker free at once": Mutation(believe_idle, "but nobody completed it", (SLOW,)),
    "history rewritten": Mutation(rewrite_history, "changed after it had ended"),
    "dispatched twice": Mutation(publish_twice, "ran 2 times in 1 attempts"),
    "sent twice": Mutation(publish_twice, "was sent 2 times in 1 attempts"),
    "another body": Mutation(spoil_bodies, "was sent as"),
    "attempts not kept": Mutation(without(Ledger, "ended"), "attempts, in history are"),
    "worker never free": Mutation(never_free, "is idle and counts as working"),
    "worker unknown": Mutation(without(Ledger, "worker"), "is idle and counts as unknown"),
    "queue not read": Mutation(without(SimConsumer, "_connect"), "nobody reads the manager's queue"),
    "dead and nowhere": Mutation(pretend_sent, "but not in the dead queue", (DEADLY,)),
    "dead and there twice": Mutation(send_copies_twice, "2 copies in the dead queue", (DEADLY,)),
    "dropped and still there": Mutation(
        without(DeadCopies, "look"), "is settled, and in the dead queue", (DROPPED,)
    ),
    "sent again and still there": Mutation(
        without(DeadCopies, "look"), "is settled, and in the dead queue", (RETRIED,)
    ),
    "settled and lost": Mutation(acknowledge_at_once, "is dead as before", KILLED[:4]),
    "sent again and lost": Mutation(acknowledge_at_once, "is dead as before", KILLED[4:]),
    "dead, sent again, and there": Mutation(
        without(DeadCopies, "look_again"), "is settled, and in the dead queue", (SENT_AGAIN,)
    ),
    "dead too early": Mutation(die_early, "is dead after 1 attempts"),
    "bad message dropped": Mutation(without_async(Engine, "_reject"), "was not rejected", (GARBAGE,)),
    "bad message copied again": Mutation(forget_copies, "copies in the rejected queue", (FULL,)),
    **{
        f"silent while {story[0].what}": Mutation(say_it_once, " says nothing of ", (story,))
        for story in AWAY
    },
    "deaf and silent": Mutation(hear_nothing_and_say_nothing, " says nothing of probe", (HANGS,)),
    "one type first": Mutation(type_by_type, "has a higher priority", (ONE_TYPE,)),
    "one type first at the same priority": Mutation(type_by_type, "younger tasks", (ONE_AGE,)),
    "resource idles": Mutation(idle_resources, "could run and is not dispatched", (IDLE,)),
    "too many operations": Mutation(lose_etcd_by_operations, "could run and is not dispatched", (WIDE,)),
    "too many bytes": Mutation(lose_etcd_by_bytes, "could run and is not dispatched", (BYTES,)),
    "message not replaced": Mutation(replace_nothing, "until its queue dropped it", (RETURNED,)),
    "message replaced by nothing": Mutation(replace_by_what_is_refused, "was not rejected", (UNREPLACED,)),
    "messages risked": Mutation(risk_messages, "until its queue dropped it", (NO_SPACE,)),
    "queue not made anew": Mutation(make_no_queue, "but not in the dead queue", (FORGOTTEN,)),
    "rejected queue refuses": Mutation(give_up_what_is_refused, "was not rejected", (NO_REJECTS,)),
    "dead queue refuses": Mutation(give_up_what_is_refused, "but not in the dead queue", (NO_DEAD,)),
    "worker's queue refuses": Mutation(
        take_a_refusal_for_a_confirm, "is dead, but was never sent", (NO_WORKERS,)
    ),
    "pages not read": Mutation(read_no_pages, "never ended: it is waiting", CROWDED, 4),
    "no turns": Mutation(count_no_turns, "has turn after turn", (ONE_SUITE,)),
    "suite stopped again": Mutation(stop_again, "was stopped by what came before it", (STOPPED,)),
    "suite stopped": Mutation(stop_for_pause, "was stopped by nobody", (PAUSED,)),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_what_is_broken_is_seen(name: str, monkeypatch: MonkeyPatch) -> None:
    """At least one of the first histories shows the fault."""
    mutation = MUTATIONS[name]
    mutation.patch(monkeypatch)
    stories = [(mutation.seed, list(story)) for story in mutation.stories]
    for seed, story in stories or [(seed, draw(seed)) for seed in SEEDS]:
        violations = play(seed, story).violations
        if any(mutation.said in violation for violation in violations):
            return
    pytest.fail("nobody noticed")


def test_what_is_whole_is_not_blamed() -> None:
    """The stories of these tests end well without a planted fault."""
    assert play(README, list(TOLD_AGAIN)).violations == play(HASTY, list(REGAINED)).violations == ()
    assert play(TALKATIVE, SAID).violations == ()
    for story in (BLAMED, BLAMED_WHILE_BUSY, *BLAMED_LATE):
        assert play(SEED, story).violations == ()
    for story in (
        SHARED,
        ONE_TYPE,
        ONE_SUITE,
        DEADLY,
        DROPPED,
        RETRIED,
        SLOW,
        GARBAGE,
        LONG,
        RESTORED,
        DENIED,
        PAUSED,
        STOPPED,
        UNCOUNTED,
        CRASH,
        *FROZEN[::8],
        *KILLED,
    ):
        assert play(SEED, story).violations == ()
    limits = (WIDE, BYTES, *SMALL, NO_SPACE, FORGOTTEN, NO_REJECTS, NO_DEAD, NO_WORKERS)
    for story in (ONE_AGE, IDLE, *limits):
        assert play(SEED, story).violations == (), story
    for story in (
        JUMP,
        BEGUN_IN_IT,
        HOUR,
        BACK,
        FULL,
        HANGS,
        *AWAY,
        RETURNED,
        UNREPLACED,
        RESET,
        REMADE,
        WINDOW,
        CLOSING,
        SHUT,
    ):
        assert play(SEED, story).violations == ()


def count_the_dead_each_turn(patch: MonkeyPatch) -> None:
    """Each turn reads all dead tasks."""
    end = Engine._end_turn

    async def ended(self: Engine, turn: Turn) -> None:
        await end(self, turn)
        await self._leadership.dead(10_000)

    patch.setattr(Engine, "_end_turn", ended)


def look_at_all_that_waits(patch: MonkeyPatch) -> None:
    """Each turn goes through the whole backlog."""
    plan = Core.plan

    def planned(self: Core, now: Moment) -> None:
        min((task.rank for task in self.backlog.by_guid.values()), default=None)
        plan(self, now)

    patch.setattr(Core, "plan", planned)


def look_at_all_that_is_over(patch: MonkeyPatch) -> None:
    """Each turn goes through everything that has ended in this leadership."""
    committed, plan, ended = Core.committed, Core.plan, dict[Core, list[int]]()

    def kept(self: Core, changes: Changes) -> None:
        ended.setdefault(self, []).extend(changes.finished)
        committed(self, changes)

    def planned(self: Core, now: Moment) -> None:
        for _ in ended.get(self, ()):
            self.timers.next()
        plan(self, now)

    patch.setattr(Core, "committed", kept)
    patch.setattr(Core, "plan", planned)


def read_everything_each_turn(patch: MonkeyPatch) -> None:
    """Each turn reads all rows again."""
    end = Engine._end_turn

    async def ended(self: Engine, turn: Turn) -> None:
        await end(self, turn)
        await self._leadership.load()

    patch.setattr(Engine, "_end_turn", ended)


@pytest.mark.parametrize("kind", effort.KINDS)
def test_no_turn_grows(kind: str) -> None:
    """The cost of a turn depends neither on history, nor on the backlog, nor on what has ended."""
    assert effort.growth(kind) == []


@pytest.mark.parametrize(
    ("kind", "broken", "said"),
    [
        ("history", count_the_dead_each_turn, "rows"),
        ("backlog", look_at_all_that_waits, "lines"),
        ("unread", read_everything_each_turn, "rows"),
        ("over", look_at_all_that_is_over, "lines"),
    ],
)
def test_a_turn_that_grows_is_seen(kind: str, broken: Patch, said: str, monkeypatch: MonkeyPatch) -> None:
    """A growing cost shows in the lines of code that run, or in the rows that are read."""
    broken(monkeypatch)
    assert any(grown.startswith(said) for grown in effort.growth(kind))


def test_a_foreign_leak_is_seen() -> None:
    """A lock key that is left behind is noticed, whoever left it."""
    assert any("outlives" in said for said in play(1, [Step(2.0, "foreign_leak")]).violations)


@pytest.mark.parametrize("name", ["observer", "judge", "silence", "verdicts"])
def test_the_judge_shares_no_code(name: str) -> None:
    """What judges the core imports nothing from it, except for type checking."""
    module = ast.parse(Path(__file__).with_name(f"{name}.py").read_text())
    imported = [node.module or "" for node in module.body if isinstance(node, ast.ImportFrom)]
    assert not [name for name in imported if name.startswith("tefmanager")]
