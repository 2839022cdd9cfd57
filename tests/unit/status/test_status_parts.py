"""What is counted, what is missing, and that nothing is made for nobody."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from tefmanager import inquiry
from tefmanager.core.core import Core
from tefmanager.core.model import events
from tefmanager.core.model.events import Commanded
from tefmanager.core.model.limits import Limits
from tefmanager.core.model.resources import Resource
from tefmanager.inquiry.questions import GetDead
from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import LoggedEvent
from tefmanager.protocol.messages import DispatchTasks
from tefmanager.status.api import ROUTES, Refused
from tefmanager.status.journal import LAST, Journal
from tefmanager.status.meter import OTHER, SLOT, SLOTS, TYPES, Histogram, Meter
from tefmanager.status.metrics import exposition
from tefmanager.status.stream import INTERVAL, Stream
from tefmanager.status.view import FRESH, NotActive, View
from tefmanager.support.outages import ANOTHER_IS_ACTIVE, Service
from tests.unit.grid import Grid
from tests.unit.status.support import Source
from tests.unit.support.outages import Told

# --- the meter ---


def test_events_are_counted_by_what_they_are_about() -> None:
    """By task type, by outcome, or by service."""
    meter = Meter()
    for line in (
        catalogue.TASK_ACCEPTED("t", "g", "1", ""),
        catalogue.TASK_RELEASED("t", "g", "w", 1, "stalled"),
        catalogue.TASK_COMPLETED("t", "g", "w", 2, "failed", 1.5, None),
        catalogue.BROKER_LOST("consumer", "why"),
        catalogue.RESOURCE_WAIT("t", "g", "r"),
    ):
        meter.logged(line, 5.0)
    assert meter.counts == {
        ("tasks_accepted", "t"): 1,
        ("attempts", "stalled"): 1,
        ("attempts", "completed"): 1,
        ("tasks_finished", "completed"): 1,
        ("results", "failed"): 1,
        ("losses", "consumer"): 1,
    }


def test_a_histogram_adds_up() -> None:
    """Each value counts for every bound that it does not pass, the bound itself included."""
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 99.0):
        histogram.observe(value)
    assert histogram.buckets() == [("1", 2.0), ("2", 3.0), ("+Inf", 4.0)]
    assert histogram.sum == 102.0


def test_samples_of_the_last_hour() -> None:
    """What happens within ten seconds is one sample; after an hour it is forgotten."""
    meter = Meter()
    meter.logged(catalogue.TASK_ACCEPTED("t", "g", "1", ""), 1001.0)
    meter.dispatched(2.0, 1002.0)
    meter.dispatched(4.0, 1009.0)
    meter.logged(catalogue.TASK_COMPLETED("t", "g", "w", 1, "passed", 1.5, None), 1010.0)
    first, second = meter.last_hour(1010.0)
    assert (first.time, first.accepted, first.dispatched, first.completed) == (1000.0, 1, 2, 0)
    assert (first.waited, first.longest) == (6.0, 4.0)
    assert (second.time, second.completed) == (1010.0, 1)
    assert meter.last_hour(1005.0 + SLOT * SLOTS) == [second]
    for number in range(2 * SLOTS):
        meter.dispatched(0.0, 2000.0 + number * SLOT)
    assert len(meter.samples) == SLOTS


def test_a_clock_that_is_set_back() -> None:
    """What happens then is put into the last sample, and no wait is below zero."""
    meter = Meter()
    meter.dispatched(1.0, 5000.0)
    meter.dispatched(-3.0, 4000.0)
    [sample] = meter.samples
    assert (sample.dispatched, sample.waited) == (2, 1.0)


# --- the journal ---


def heard(*lines: LoggedEvent) -> Journal:
    """Return a journal that has heard these lines."""
    journal = Journal(Meter())
    for line in lines:
        journal({"line": line, "log_time": 7.0})
    return journal


def test_the_last_events_are_kept() -> None:
    """And no more of them than are shown."""
    journal = heard(*(catalogue.HISTORY_REMOVED(number) for number in range(LAST + 5)))
    assert [line.values for _, _, line in journal.last] == [(number,) for number in range(5, LAST + 5)]


def test_task_types_without_end() -> None:
    """Those counted last are counted apart, all others together; none is lost, and metrics stay small."""
    meter = Meter()
    for number in range(10_000):
        meter.logged(catalogue.TASK_ACCEPTED("usual", "g", "1", ""), 1.0)
        meter.logged(catalogue.TASK_ACCEPTED(f"made up {number}", "g", "1", ""), 1.0)
        meter.logged(catalogue.DISPATCH_FAILED(OTHER, "g", "w", "r"), 1.0)
    assert len(meter.counts) == TYPES + 2
    assert meter.counts["tasks_accepted", "usual"] == 10_000
    assert meter.counts["dispatches_failed", OTHER] == 10_000
    assert sum(count for (name, _), count in meter.counts.items() if name == "tasks_accepted") == 20_000


def test_waiting_types_without_end() -> None:
    """Each answer names as many as there is room for, and the metrics count the others together."""
    grid = Grid(Limits())
    for number in range(250):
        for copy in range(1 + number % 2):
            grid.submit(f"{number} {copy}", task_type=f"made up {number}")
        grid.say(f"w{number}", "idle", worker_type=f"worker {number}")
    rig = Rig(grid.core)
    status = rig.view.status()
    assert (len(status.waiting.by_type), status.waiting.types, len(status.worker_types)) == (100, 250, 100)
    assert set(status.waiting.by_type.values()) == {2}, "the largest"
    text = exposition(rig.view).decode()
    assert 'tef_waiting_tasks{task_type="other"} 175.0' in text
    assert text.count("tef_waiting_tasks{") == 101


def test_no_messages_are_shown() -> None:
    """Of what nobody could use, the log has the start; the page has nothing."""
    secret = "s3cret" * 100
    quoted = [
        event(*(secret if field == "message" else "x" for field in event.fields))
        for event in catalogue.CATALOGUE
        if "message" in event.fields
    ]
    assert len(quoted) > 5
    journal = heard(*quoted)
    assert all(secret in line.text for line in quoted)
    assert not any("s3cret" in line.text for _, _, line in journal.last)
    assert [line.type for _, _, line in journal.last] == [line.type for line in quoted]


def test_errors_are_counted() -> None:
    """Those are what is critical and no event."""
    meter = Meter()
    journal = Journal(meter)
    for level in LogLevel.iterconstants():
        journal({"log_level": level, "log_format": "x"})
    assert meter.counts == {("errors", ""): 1}


# --- the view ---


class Rig:
    """A view, and its clock."""

    def __init__(self, core: Core | None) -> None:
        self.source = Source(core)
        self.journal = heard()
        self._told = Told(100.0)
        self.outages = self._told.outages
        self.view = View(
            self.source, self._told.now, Meter(), self.journal, self.outages, stuck=10.0, actions=True
        )

    @property
    def time(self) -> float:
        """Monotonic time."""
        return self._told.time

    @time.setter
    def time(self, time: float) -> None:
        self._told.time = time


def test_a_picture_is_made_once_a_second() -> None:
    """However many look, and anew when it is older."""
    rig = Rig(Grid().core)
    first = rig.view.overview()
    rig.time += FRESH / 2
    assert rig.view.overview() is first
    rig.time += FRESH / 2
    assert rig.view.overview() is not first


def test_dead_tasks_are_those_of_a_picture_ago() -> None:
    """The database is asked for the next picture, once at a time; a question that fails shows none."""
    rig = Rig(Grid().core)
    assert rig.view.overview().dead is None
    rig.time += FRESH
    assert rig.view.overview().dead is None
    [(question, answer)] = rig.source.asked
    assert question == GetDead(limit=50)
    answer.callback(found := inquiry.DeadTasks(0, ()))
    rig.time += FRESH
    assert rig.view.overview().dead is found
    rig.source.asked[-1][1].cancel()  # the leadership is over
    rig.time += FRESH
    assert rig.view.overview().dead is None
    assert len(rig.source.asked) == 3


def test_a_turn_that_does_not_end() -> None:
    """The manager is healthy for a while, and then it is not."""
    rig = Rig(Grid().core)
    assert rig.view.health().healthy
    rig.source.turn_began = 91.0
    assert (rig.view.health().healthy, rig.view.health().turn) == (True, 9.0)
    rig.source.turn_began = 90.0
    assert not rig.view.health().healthy


@pytest.mark.parametrize(
    ("active", "away", "role", "ready"),
    [
        (True, [], "active", True),
        (True, [(Service.ETCD, "gone")], "active", False),
        (True, [(Service.QUEUE, "full")], "active", True),
        (False, [(Service.STANDBY, ANOTHER_IS_ACTIVE)], "standby", True),
        (False, [(Service.STANDBY, ANOTHER_IS_ACTIVE), (Service.PUBLISHER, "gone")], "standby", False),
        (False, [(Service.DATABASE, "x")], "starting", False),
    ],
)
def test_readiness(active: bool, away: list[tuple[Service, str]], role: str, ready: bool) -> None:
    """One that stands by is ready, and so is an active one that misses nothing it needs."""
    rig = Rig(Grid().core if active else None)
    for service, cause in away:
        rig.outages.began(service, cause)
    found = rig.view.readiness()
    assert (found.role, found.ready) == (role, ready)
    assert [(each.service, each.cause) for each in found.outages] == away


@pytest.mark.parametrize(
    ("active", "away", "headline"),
    [
        (True, None, "active, running: 2 waiting, 1 in flight, 1 workers"),
        (True, Service.ETCD, "active, running: 2 waiting, 1 in flight, 1 workers; etcd: gone, since 1970-"),
        (False, Service.STANDBY, "standby; gone, since 1970-"),
        (False, Service.DATABASE, "starting; database: gone, since 1970-"),
    ],
)
def test_headline(active: bool, away: Service | None, headline: str) -> None:
    """A line has the role, the state with the queue, and what is away, since when and why."""
    grid = Grid().submit("a").submit("b").submit("c").say("w", "idle")
    rig = Rig(grid.core if active else None)
    if away is not None:
        rig.outages.began(away, "gone")
    assert rig.view.headline().startswith(headline)


def test_tasks_that_are_being_reserved_are_waiting() -> None:
    """They are in no lane, but not on their way either."""
    grid = Grid(grant=False)
    grid.turn(events.ResourcesRead({"r": Resource("r", limit=1)}, {}))
    grid.submit("a", resources=("r",)).say("w", "idle")
    assert grid.core.attempts.reserving
    assert Rig(grid.core).view.headline() == "active, running: 1 waiting, 0 in flight, 1 workers"


def test_one_that_is_not_active() -> None:
    """It shows of itself what there is, and does nothing."""
    rig = Rig(None)
    found = rig.view.overview()
    assert (found.status, found.workers, found.suites) == (None, None, None)
    assert (found.resources, found.dead) == (None, None)
    for call in (rig.view.status, rig.view.resources, lambda: rig.view.command(Commanded(DispatchTasks()))):
        with pytest.raises(NotActive):
            call()


def refused(rig: Rig, action: str) -> Exception:
    """Ask for something to be done with a dead task, and return why it is not."""
    [route] = [route for route in ROUTES if route.path == "dead/{guid}/{action}"]
    answer = route.answer(rig.view, {}, {"guid": "A", "action": action}, b"")
    assert isinstance(answer, Deferred)
    for _, asked in rig.source.asked:
        asked.callback([])
    failed: list[Failure] = []
    answer.addErrback(failed.append)
    assert isinstance(failed[0].value, Exception)
    return failed[0].value


@pytest.mark.parametrize("action", ["retry", "drop"])
def test_dead_tasks_that_nothing_is_done_with(action: str) -> None:
    """One that is nowhere is not found; who is not the active manager can do nothing with any."""
    assert isinstance(refused(Rig(None), action), NotActive)
    reason = refused(Rig(Grid().core), action)
    assert isinstance(reason, Refused)
    assert reason.status == 404


# --- the stream ---


class Listener:
    """A request, as far as a stream knows it."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.producer: object = None
        self.lost = False
        self._end: Deferred[None] = Deferred()

    def setHeader(self, name: bytes, value: bytes) -> None:
        """Take a header."""

    def notifyFinish(self) -> Deferred[None]:
        """Tell when it is gone."""
        return self._end

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Know whom to tell of a full buffer."""
        self.producer = producer

    def write(self, data: bytes) -> None:
        """Take data."""
        self.written.append(data)

    def loseConnection(self) -> None:
        """Note that it is over."""
        self.lost = True
        self.go()

    def go(self) -> None:
        """Be gone."""
        if not self._end.called:
            self._end.callback(None)


@pytest.fixture
def made() -> list[int]:
    """One entry for each picture that was made."""
    return []


@pytest.fixture
def maker(made: list[int]) -> Callable[[], bytes]:
    """Make a picture."""

    def make() -> bytes:
        made.append(1)
        return b"{}"

    return make


def test_nothing_is_made_while_nobody_looks(made: list[int], maker: Callable[[], bytes]) -> None:
    """Not before the first one comes, and not after the last one has gone."""
    clock = Clock()
    stream = Stream(clock, maker)
    clock.advance(10)
    assert made == []
    listener = Listener()
    stream.listen(listener)
    clock.advance(INTERVAL)
    assert listener.written == [b"retry: 2000\n\ndata: {}\n\n", b"data: {}\n\n"]
    listener.go()
    clock.advance(10)
    assert len(made) == 2
    assert clock.getDelayedCalls() == []


def test_all_get_the_same_picture(made: list[int], maker: Callable[[], bytes]) -> None:
    """It is made once for all; who takes nothing for a while is left out."""
    clock = Clock()
    stream = Stream(clock, maker)
    quick, slow = Listener(), Listener()
    for listener in (quick, slow):
        stream.listen(listener)
    slow.producer.pauseProducing()  # type: ignore[attr-defined]
    clock.advance(INTERVAL)
    assert (len(made), len(quick.written), len(slow.written)) == (3, 2, 1)
    slow.producer.resumeProducing()  # type: ignore[attr-defined]
    clock.advance(INTERVAL)
    assert (len(quick.written), len(slow.written)) == (3, 2)
    stream.close()
    assert (quick.lost, slow.lost, len(stream)) == (True, True, 0)


def test_a_picture_that_cannot_be_made(expected_errors: Callable[..., None]) -> None:
    """Who looks is let go, to come again, and does not wait for ever; who comes meanwhile is refused."""
    expected_errors(LookupError)
    fails = False

    def make() -> bytes:
        if fails:
            raise LookupError("no picture")
        return b"{}"

    clock = Clock()
    stream = Stream(clock, make)
    stream.listen(listener := Listener())
    fails = True
    clock.advance(INTERVAL)
    assert (listener.lost, len(stream)) == (True, 0)
    with pytest.raises(LookupError):
        stream.listen(Listener())
    assert len(stream) == 0
    fails = False
    stream.listen(listener := Listener())
    clock.advance(INTERVAL)
    assert len(listener.written) == 2
