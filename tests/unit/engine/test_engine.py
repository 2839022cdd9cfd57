"""While one turn is committed the next takes in what comes; whatever fails, nothing is done too early."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tefmanager.amqp.codec import encode_table
from tefmanager.core.core import Core
from tefmanager.core.model import events
from tefmanager.core.model.audience import Audience
from tefmanager.core.model.dead_copies import DeadMessage, Stored
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.reservations import Granted, Impossible, Reservation
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.values import Bodies, Changes, ManagerRow, Moment
from tefmanager.engine.deliveries import RENEWED
from tefmanager.engine.engine import TURN_SIZE, Engine
from tefmanager.engine.reception import Poisoned, fingerprint
from tefmanager.engine.renewals import LAST
from tefmanager.interfaces.amqp import (
    SET_ASIDE,
    Delivered,
    Delivery,
    IConsumer,
    IPublisher,
    Message,
    Tell,
    tell_nobody,
)
from tefmanager.interfaces.etcd import IReservations
from tefmanager.interfaces.policy import Policy, Queues
from tefmanager.interfaces.store import StoreConflict, StoreLost
from tests.fakes.store import FakeDatabase, FakeLeadership
from tests.unit.grid import finish
from tests.unit.support.outages import Told

PATIENCE = 0.001
"""Seconds by which the clock goes on when something is to happen."""


class Acks:
    """A consumer of which only the acknowledgements matter.

    Attributes:
        all: tags, and the guids of the tasks that had rows at that time.
    """

    def __init__(self, database: FakeDatabase) -> None:
        self.all: list[tuple[list[int], list[str]]] = []
        self._database = database

    def ack(self, session: int, tags: list[int]) -> None:
        """Remember an acknowledgement."""
        rows = [row for row, _ in self._database.rows.tasks.values()]
        self.all.append((tags, sorted(row.spec.guid for row in rows)))

    def widen(self, wholly: bool) -> None:
        """Take more at a time: here all come at once."""


class Quiet:
    """A publisher that brings everything to its worker, and to nobody else.

    Attributes:
        sent_to: queues to which something else was sent.
    """

    def __init__(self) -> None:
        self.sent_to: list[bytes] = []

    async def send(self, queue: bytes, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """Put it there."""
        self.sent_to.append(queue)
        return Delivered.CONFIRMED

    async def dispatch(self, address: str, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """Bring it."""
        return Delivered.CONFIRMED

    async def audience(self, queue: str) -> Audience | None:
        """Nobody can tell."""
        return None

    def announce(self, key: str, body: Callable[[], bytes]) -> None:
        """Drop what is announced."""


class Asked:
    """Reservations that are always granted.

    Attributes:
        all: what was asked for, in order: "take" or "give", and the attempts.
    """

    def __init__(self) -> None:
        self.all: list[tuple[str, list[int]]] = []

    async def reserve(self, reservations: Sequence[Reservation]) -> Sequence[Granted]:
        """Grant all."""
        self.all.append(("take", [reservation.attempt for reservation in reservations]))
        return [Granted(reservation.attempt, tuple(reservation.resources)) for reservation in reservations]

    async def release(self, reservations: Sequence[Reservation]) -> Sequence[Impossible]:
        """Take all back."""
        self.all.append(("give", [reservation.attempt for reservation in reservations]))
        return []


class Copies(Quiet):
    """A publisher by which messages go to the manager's queue again.

    Attributes:
        all: those messages.
        outcome: what becomes of them.
    """

    def __init__(self) -> None:
        self.all: list[Message] = []
        self.outcome = Delivered.CONFIRMED

    async def send(self, queue: bytes, message: Message, tell: Tell = tell_nobody) -> Delivered:
        """Publish."""
        assert queue == b"own"
        self.all.append(message)
        return self.outcome


class Rig:
    """An engine, its database, and messages for it. Its wall clock is ahead by ``jump`` seconds."""

    jump = 0.0

    def __init__(
        self, publisher: Quiet | None = None, message_limit: int = 1000, poison: Sequence[bytes] = ()
    ) -> None:
        self.clock = Clock()
        self.database = FakeDatabase()
        self.database.rows.manager = ManagerRow(calendar=self.now().wall)  # not the first start
        self.acks = Acks(self.database)
        self.etcd = Asked()
        self.publisher = publisher or Quiet()
        self.leadership = self.database.crown("test")
        self.core = Core(Limits(), finish(self.leadership.load()), self.now())
        self.engine = Engine(
            self.clock,
            self.now,
            self.core,
            self.leadership,
            cast(IConsumer, self.acks),
            cast(IPublisher, self.publisher),
            cast(IReservations, self.etcd),
            Policy(
                Limits(),
                Queues(b"own", b"dead", b"rejected", frozenset({"events"})),
                message_limit=message_limit,
                history=1.0,
            ),
            Told().outages,
            poison={fingerprint(body) for body in poison},
            careful=0,
        )
        self.leadership.on_lost(self.engine.lose)
        self.ended: list[object] = []
        self._tag = 0
        Deferred.fromCoroutine(self.engine.run()).addBoth(self.ended.append)
        self.go_on()

    def now(self) -> Moment:
        """Read the clocks."""
        seconds = self.clock.seconds()
        return Moment(seconds, seconds + self.jump, datetime.fromtimestamp(seconds))

    def submit(self, *guids: str, redelivered: bool = False, resources: Sequence[str] = ()) -> None:
        """Deliver tasks, and let the engine see them."""
        for guid in guids:
            task = {"type": "task", "task_type": "x", "guid": guid, "resources": resources}
            self.deliver(task, redelivered=redelivered)
        self.go_on()

    def say(self, worker: str, *statuses: str) -> None:
        """Deliver what a worker says."""
        who = {"type": "worker_status", "name": worker, "worker_type": "x", "exchange_name": worker}
        for status in statuses:
            self.deliver({**who, "status": status})

    def deliver(self, message: Mapping[str, object], *, redelivered: bool = False) -> None:
        """Hand a message over; `go_on` lets the engine see it."""
        self._tag += 1
        self.engine.post(Delivery(1, self._tag, redelivered, json.dumps(message).encode()))

    def with_workers(self, *names: str) -> Rig:
        """Let there be a resource, and free workers."""
        self.engine.post(events.ResourcesRead({"r": Resource("r", limit=9)}, {}))
        for name in names:
            self.say(name, "idle")
        self.go_on()
        return self

    def go_on(self) -> None:
        """Let happen what can."""
        for _ in range(3):
            self.clock.advance(PATIENCE)

    @property
    def known(self) -> list[str]:
        """Return the guids of the tasks that the core knows."""
        return sorted(self.core.backlog.by_guid)

    @property
    def failure(self) -> Any:
        """Return what the engine has failed of."""
        [failure] = self.ended
        assert isinstance(failure, Failure)
        return failure.value


def test_dead_tasks_are_settled_before_the_message_is_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the database is lost before it is written, the message is not acknowledged, and so comes again."""
    rig = Rig()
    rig.deliver({"type": "settle_dead", "data": {"guids": ["T"]}})
    rig.go_on()
    assert [tags for tags, _ in rig.acks.all] == [[1]]

    async def lost(self: FakeLeadership, guids: Sequence[str]) -> Sequence[str]:
        raise StoreLost("gone")

    monkeypatch.setattr(FakeLeadership, "settle", lost)
    rig.deliver({"type": "settle_dead", "data": {"guids": ["T"]}})
    rig.go_on()
    assert isinstance(rig.failure, StoreLost)
    finish(rig.engine.abandon())
    assert [tags for tags, _ in rig.acks.all] == [[1]]


def test_a_question_that_writes_and_is_delivered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is under way it is not asked a second time; the last delivery is acknowledged."""
    written: list[Deferred[Sequence[str]]] = []

    async def settle(self: FakeLeadership, guids: Sequence[str]) -> Sequence[str]:
        written.append(Deferred())
        return await written[-1]

    monkeypatch.setattr(FakeLeadership, "settle", settle)
    rig = Rig()
    question = b'{"type": "settle_dead", "data": {"guids": ["T"]}}'
    rig.engine.post(Delivery(1, 7, False, question))
    rig.go_on()
    rig.engine.session_lost(1)
    rig.engine.post(Delivery(2, 1, True, question))
    written[0].callback([])
    rig.go_on()
    assert (len(written), [tags for tags, _ in rig.acks.all]) == (1, [[1]])


def test_a_retry_of_very_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """If nobody waits for the answer, what was too much for once follows before the acknowledgement."""
    rig = Rig()

    async def one_at_a_time(self: FakeLeadership, guids: Sequence[str]) -> Sequence[DeadMessage]:
        dead = [guid for guid in guids if guid not in rig.known]
        body = b'{"type": "task", "task_type": "x", "guid": "%s"}'
        return [DeadMessage(1, guid, Stored(body.replace(b"%s", guid.encode()))) for guid in dead[:1]]

    monkeypatch.setattr(FakeLeadership, "dead_messages", one_at_a_time)
    rig.deliver({"type": "retry_dead", "data": {"guids": ["T", "U"]}})
    rig.go_on()
    assert rig.acks.all == [([1], ["T", "U"])]


def test_a_retry_that_cannot_be_done(
    monkeypatch: pytest.MonkeyPatch, expected_errors: Callable[..., None]
) -> None:
    """The message is acknowledged: it would bring down each leadership to which it is delivered."""
    expected_errors(StoreConflict)
    rig = Rig()
    body = b'{"type": "task", "task_type": "x", "guid": "T"}'

    async def dead_messages(self: FakeLeadership, guids: Sequence[str]) -> Sequence[DeadMessage]:
        return [DeadMessage(1, "T", Stored(body))]

    async def refused(self: FakeLeadership, changes: Changes) -> Bodies:
        raise StoreConflict("no")

    monkeypatch.setattr(FakeLeadership, "dead_messages", dead_messages)
    monkeypatch.setattr(FakeLeadership, "commit", refused)
    rig.deliver({"type": "retry_dead", "data": {"guids": ["T"]}})
    rig.go_on()
    assert isinstance(rig.failure, StoreConflict)
    assert [tags for tags, _ in rig.acks.all] == [[1]]


@pytest.mark.parametrize("bad", [False, True])
def test_a_message_that_was_set_aside(bad: bool) -> None:
    """It is taken in, since somebody may have sent it again; not if it has brought this manager down."""
    task = b'{"type": "task", "task_type": "x", "guid": "T"}'
    rig = Rig(poison=[task] if bad else [])
    rig.engine.post(Delivery(1, 1, False, task, headers=encode_table({SET_ASIDE: "why"})))
    rig.go_on()
    assert rig.known == ([] if bad else ["T"])
    assert len(rig.publisher.sent_to) == bad


def test_the_next_turn_takes_in_what_comes() -> None:
    """What comes while a turn is committed is taken in at once, and committed together, after it."""
    rig = Rig()
    rig.database.hold()
    for guid in "abc":
        rig.submit(guid)
    assert (rig.known, rig.acks.all, rig.database.commits) == (["a", "b", "c"], [], 0)
    rig.database.go_on()
    rig.go_on()
    assert rig.acks.all == [([1], ["a"]), ([2, 3], ["a", "b", "c"])]
    assert rig.database.commits == 2


def test_one_is_committed_at_a_time() -> None:
    """A turn that has taken in what came waits until the last one is committed."""
    rig = Rig()
    rig.database.hold()
    rig.submit("a")
    rig.submit("b")
    rig.database.go_on()
    rig.database.hold()
    rig.go_on()
    assert rig.acks.all == [([1], ["a"])]
    assert rig.engine.turn_began is not None
    rig.database.go_on()
    rig.go_on()
    assert rig.acks.all[1:] == [([2], ["a", "b"])]
    assert rig.engine.turn_began is None


def test_a_turn_is_bounded_while_it_waits() -> None:
    """However much comes while a turn is committed, the next one takes in no more than a turn may."""
    rig = Rig()
    rig.database.hold()
    rig.submit("first")
    for begin in range(0, TURN_SIZE + 100, 50):
        rig.submit(*(f"{number}" for number in range(begin, begin + 50)))
    assert len(rig.known) == 1 + TURN_SIZE
    rig.database.go_on()
    rig.go_on()
    assert [len(tags) for tags, _ in rig.acks.all] == [1, TURN_SIZE, 100]


def test_what_has_to_be_looked_up_waits_for_the_rows() -> None:
    """A task that comes again is taken in when the rows are there that tell whether it is finished."""
    rig = Rig()
    rig.database.hold()
    rig.submit("a")
    rig.submit("b", redelivered=True)
    rig.submit("c")
    assert rig.known == ["a"]
    rig.database.go_on()
    rig.go_on()
    assert rig.known == ["a", "b", "c"]
    assert [tags for tags, _ in rig.acks.all] == [[1], [2, 3]]


def test_what_comes_before_it_does_not_wait() -> None:
    """Messages before one that has to be looked up are taken in, and no message overtakes it."""
    rig = Rig()
    rig.database.hold()
    rig.submit("a")
    rig.submit("b")
    rig.submit("c", redelivered=True)
    rig.submit("d")
    assert rig.known == ["a", "b"]
    rig.database.go_on()
    rig.go_on()
    assert [tags for tags, _ in rig.acks.all] == [[1], [2], [3, 4]]


BODY = b'{"type": "task", "task_type": "x", "guid": "a"}'


@pytest.mark.parametrize("given_back", [LAST - 1, LAST, 19, 30])
def test_what_went_back_too_often(given_back: int) -> None:
    """It is replaced by a new message before the broker drops it, and acknowledged then; not earlier."""
    copies = Copies()
    rig = Rig(copies)
    rig.engine.post(Delivery(1, 7, True, BODY, headers=b"as sent", given_back=given_back))
    rig.go_on()
    renewed = [(copy.body, copy.original, list(copy.headers)) for copy in copies.all]
    assert renewed == ([(BODY, b"as sent", [RENEWED])] if given_back >= LAST else [])
    assert rig.acks.all == [([7], [] if renewed else ["a"])]


@pytest.mark.parametrize("outcome", [each for each in Delivered if each is not Delivered.CONFIRMED])
def test_what_cannot_be_replaced(outcome: Delivered) -> None:
    """It is taken in: perhaps it can be kept this time."""
    copies = Copies()
    copies.outcome = outcome
    rig = Rig(copies)
    rig.engine.post(Delivery(1, 7, True, BODY, given_back=LAST))
    rig.go_on()
    assert rig.acks.all == [([7], ["a"])]


def test_a_replaced_message_may_be_the_second() -> None:
    """A task that is finished is not done again when the message comes that replaced its own."""
    rig = Rig().with_workers("w")
    rig.engine.post(Delivery(1, 90, True, BODY, given_back=3))
    rig.go_on()
    rig.say("w", "working", "task_complete")
    rig.go_on()
    rig.engine.post(Delivery(1, 95, False, BODY, headers=RENEWED.encode(), given_back=0))
    rig.go_on()
    assert rig.known == []
    assert [95] in [tags for tags, _ in rig.acks.all]


def test_nothing_is_done_when_a_commit_fails() -> None:
    """If a turn can't be committed, nothing of it or of the next one is done."""
    rig = Rig()
    rig.database.hold()
    rig.submit("a")
    rig.submit("b")
    rig.database.go_away("for a test")
    rig.database.go_on()
    rig.go_on()
    assert isinstance(rig.failure, StoreLost)
    assert (rig.acks.all, rig.database.commits) == ([], 0)


def test_the_last_turn_is_done_though_the_next_one_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that brings down a turn takes nothing from the one that is being committed."""
    apply = Core.apply

    def failing(core: Core, event: events.Event, now: Moment) -> None:
        if isinstance(event, events.TaskSubmitted) and event.message.guid == "bad":
            raise ValueError("for a test")
        apply(core, event, now)

    monkeypatch.setattr(Core, "apply", failing)
    rig = Rig()
    rig.database.hold()
    rig.submit("a")
    rig.submit("bad")
    assert not rig.ended
    rig.database.go_on()
    rig.go_on()
    assert isinstance(rig.failure, Poisoned)
    assert rig.acks.all == [([1], ["a"])]


def test_a_stop_waits_for_the_commit() -> None:
    """What is being committed when a stop comes is done before the end."""
    rig = Rig()
    rig.database.hold()
    rig.submit("a")
    rig.engine.stop(within=5.0)
    rig.go_on()
    assert not rig.ended
    rig.database.go_on()
    rig.go_on()
    assert rig.ended == [None]
    assert rig.acks.all == [([1], ["a"])]


def test_a_reservation_does_not_wait_for_the_commit() -> None:
    """References are asked for while the task that needs them is committed."""
    rig = Rig().with_workers("v", "w")
    rig.submit("a", resources=["r"])
    rig.database.hold()
    rig.submit("b", resources=["r"])
    assert rig.etcd.all == [("take", [1]), ("take", [2])]
    assert "b" not in [row.spec.guid for row, _ in rig.database.rows.tasks.values()]


def test_a_reservation_waits_for_its_number() -> None:
    """The number of an attempt is set aside in the database before Etcd gets to know it."""
    rig = Rig().with_workers("w")
    rig.database.hold()
    rig.submit("a", resources=["r"])
    assert rig.etcd.all == []
    rig.database.go_on()
    rig.go_on()
    assert rig.etcd.all == [("take", [1])]


def test_a_reservation_goes_with_what_is_given_back() -> None:
    """Where a task ends in the same turn, its references are given back, and others taken, together."""
    rig = Rig().with_workers("w")
    rig.submit("a", resources=["r"])
    rig.database.hold()
    rig.say("w", "working", "task_complete", "idle")
    rig.submit("b", resources=["r"])
    assert rig.etcd.all == [("take", [1])]
    rig.database.go_on()
    rig.go_on()
    assert rig.etcd.all == [("take", [1]), ("take", [2]), ("give", [1])]


@pytest.mark.parametrize(
    "name", ["own", "dead", "rejected", "events", "amq.topic", "amq.default", "amq.gen"]
)
def test_addresses_that_no_worker_has(name: str) -> None:
    """Who says that it wants its tasks where only the manager publishes is no worker, nor moves there."""
    rig = Rig()
    rig.say("w", "idle")
    for worker in ("forger", "w"):
        status = {"type": "worker_status", "name": worker, "worker_type": "x", "status": "idle"}
        rig.deliver({**status, "exchange_name": name})
    rig.go_on()
    assert [(each.name, each.exchange_name) for each in rig.core.workers] == [("w", "w")]
    rig.submit("g")
    assert rig.core.backlog.by_guid["g"].state == "dispatched"


def test_a_clock_that_jumps_removes_no_history() -> None:
    """Ten years ahead for a second: what was finished is kept, and guards against its guid."""
    rig = Rig().with_workers("w")
    rig.engine.history = 86400.0
    rig.submit("a")
    rig.say("w", "working", "task_complete", "idle")
    rig.go_on()
    rig.jump = 10 * 365 * 86400.0
    rig.engine.tidy()
    rig.go_on()
    rig.jump = 0.0
    rig.submit("a", redelivered=True)
    assert (len(rig.database.rows.history), rig.known, rig.ended) == (1, [], [])
