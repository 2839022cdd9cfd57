"""Everything that is shown. It is computed only on request, and at most once a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import localtime, strftime
from typing import Protocol, TypeVar

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tefmanager import __version__, inquiry
from tefmanager.core.core import Core
from tefmanager.core.model.events import Commanded
from tefmanager.core.model.values import Moment
from tefmanager.inquiry.inquirer import TooManyQuestions
from tefmanager.inquiry.questions import GetDead, Question
from tefmanager.status.journal import Journal
from tefmanager.status.meter import Meter, Sample
from tefmanager.support.outages import NEEDED, Outage, Outages, Service

log = Logger()

FRESH = 1.0
"""Seconds for which an answer may be reused."""

T = TypeVar("T")


class Source(Protocol):
    """What is shown of a manager."""

    @property
    def core(self) -> Core | None:
        """The core of the present leadership, or None if this manager is not the active one."""

    @property
    def turn_began(self) -> float | None:
        """Monotonic time at which the turn under way began, or None between two turns."""

    def command(self, event: Commanded) -> bool:
        """Carry out a control message; return False if this manager is not the active one."""

    def ask(self, question: Question) -> Deferred[object] | None:
        """Return a Deferred for the answer; None if this manager is not the active one."""


class Readiness(Struct, frozen=True):
    """Whether the manager can do its work.

    Attributes:
        ready: whether nothing is missing. A standby is ready too.
        role: ``active``, ``standby``, or ``starting`` if it is neither.
        missing: what is wrong with each service that it needs, by service.
        version: of the program.
        outages: all outages, the longest first. On a standby they include that another manager is active.
    """

    ready: bool
    role: str
    missing: Mapping[str, str]
    version: str
    outages: tuple[Outage, ...] = ()


class Health(Struct, frozen=True):
    """Whether the manager is alive.

    Attributes:
        healthy: whether it makes progress.
        turn: seconds since the turn under way began; 0 between two turns.
    """

    healthy: bool
    turn: float


class EventInfo(Struct, frozen=True):
    """A logged event: unix time, level, and its text in the log."""

    time: float
    level: str
    text: str


class Events(Struct, frozen=True):
    """The last events, newest first."""

    events: tuple[EventInfo, ...]


class Rate(Struct, frozen=True):
    """What happened in ten seconds.

    Attributes:
        time: unix time at which they began.
        accepted, dispatched, completed: numbers of tasks.
        waited: mean seconds from acceptance to dispatch, or None if nothing was dispatched.
        longest: the longest of these times.
    """

    time: float
    accepted: int
    dispatched: int
    completed: int
    waited: float | None
    longest: float


class Rates(Struct, frozen=True):
    """The last hour, oldest first, without intervals in which nothing happened."""

    seconds: float
    samples: tuple[Rate, ...]


class Overview(Struct, frozen=True):
    """All that the page shows. Values that only the active manager knows are None on others."""

    time: float
    readiness: Readiness
    actions: bool
    status: inquiry.Status | None
    workers: inquiry.Workers | None
    suites: inquiry.Suites | None
    resources: inquiry.Resources | None
    dead: inquiry.DeadTasks | None
    rates: Rates
    events: Events


class NotActive(Exception):
    """Only the active manager knows the answer."""


class View:
    """Answers questions about a manager.

    Args:
        source: the manager.
        clocks: reads the clocks.
        outages: what the manager has to do without.
        stuck: seconds after which an unfinished turn means that the manager is not alive.
        actions: whether there is a token, so that the page offers actions.
    """

    def __init__(
        self,
        source: Source,
        clocks: Callable[[], Moment],
        meter: Meter,
        journal: Journal,
        outages: Outages,
        *,
        stuck: float,
        actions: bool,
    ) -> None:
        self.meter = meter
        self._source = source
        self._clocks = clocks
        self._journal = journal
        self._outages = outages
        self._stuck = stuck
        self._actions = actions
        self._kept: dict[str, tuple[float, object]] = {}
        self._asking = False
        self._known_dead: inquiry.DeadTasks | None = None

    @property
    def now(self) -> Moment:
        """The time of all clocks."""
        return self._clocks()

    def fresh(self, name: str, make: Callable[[], T]) -> T:
        """Return an answer that is less than a second old, or make a new one."""
        now = self._clocks().monotonic
        found = self._kept.get(name)
        if found is None or now - found[0] >= FRESH:
            found = self._kept[name] = (now, make())
        return found[1]  # type: ignore[return-value]  # each name has answers of one type

    # --- always ---

    def health(self) -> Health:
        """Tell whether the manager makes progress."""
        began = self._source.turn_began
        turn = 0.0 if began is None else max(0.0, self._clocks().monotonic - began)
        return Health(turn < self._stuck, turn)

    def readiness(self) -> Readiness:
        """Tell whether it can work, or could if the active manager stopped."""
        outages = self._outages.now()
        missing = {each.service: each.cause for each in outages if each.service in NEEDED}
        role, ready = "starting", False
        if self._source.core is not None:
            role, ready = "active", not missing
        elif self._outages.away(Service.STANDBY):
            role, ready = "standby", not missing
        return Readiness(ready, role, missing, __version__, outages)

    def headline(self) -> str:
        """Tell in a line what it does or waits for."""
        found, core = self.readiness(), self._source.core
        head = found.role if core is None else f"{found.role}, {inquiry.headline(core)}"
        return "; ".join([head, *(f"{each.text}, since {_clock(each.since)}" for each in found.outages)])

    def events(self) -> Events:
        """Return the last events."""
        last = reversed(self._journal.last)
        return Events(tuple(EventInfo(time, level, line.text) for time, level, line in last))

    def rates(self) -> Rates:
        """Return how much happened in the last hour."""
        return self.fresh("rates", self._rates)

    def _rates(self) -> Rates:
        samples = self.meter.last_hour(self._clocks().wall)
        return Rates(10.0, tuple(_rate(sample) for sample in samples))

    # --- of the active one ---

    @property
    def core(self) -> Core:
        """The core of the present leadership. Raises `NotActive`."""
        core = self._source.core
        if core is None:
            raise NotActive
        return core

    def need_active(self) -> None:
        """Raise `NotActive` if this manager is not the active one."""
        if self._source.core is None:
            raise NotActive

    def status(self) -> inquiry.Status:
        """Return the manager's status. Raises `NotActive`."""
        core = self.core
        return self.fresh("status", lambda: inquiry.status(core, self.now, self._outages.now()))

    def resources(self) -> inquiry.Resources:
        """List the resources. Raises `NotActive`."""
        core = self.core
        return self.fresh("resources", lambda: inquiry.resources(core, self.now))

    async def ask(self, question: Question) -> object:
        """Ask a question that is answered between turns. Raises `NotActive` and `TooManyQuestions`."""
        answer = self._source.ask(question)
        if answer is None:
            raise NotActive
        try:
            return await answer
        except CancelledError:  # the leadership is over
            raise NotActive from None

    def command(self, event: Commanded) -> None:
        """Carry out a control message. Raises `NotActive`."""
        if not self._source.command(event):
            raise NotActive

    # --- all of it ---

    def overview(self) -> Overview:
        """Return all that the page shows."""
        return self.fresh("overview", self._overview)

    def _overview(self) -> Overview:
        core, now = self._source.core, self.now
        return Overview(
            time=now.wall,
            readiness=self.readiness(),
            actions=self._actions,
            status=None if core is None else self.status(),
            workers=None if core is None else inquiry.workers(core, now, at_most=200, worst_first=True),
            suites=None if core is None else inquiry.suites(core, at_most=50),
            resources=None if core is None else inquiry.resources(core, now, at_most=100, short_first=True),
            dead=None if core is None else self._dead_as_known(),
            rates=self.rates(),
            events=self.events(),
        )

    def _dead_as_known(self) -> inquiry.DeadTasks | None:
        """Return the dead tasks as of the last overview, and ask the database for the next one."""
        if not self._asking:
            self._asking = True
            asked = Deferred.fromCoroutine(self.ask(GetDead(limit=50)))
            asked.addCallbacks(self._dead_known, self._dead_unknown)
        return self._known_dead

    def _dead_known(self, found: object) -> None:
        self._asking = False
        self._known_dead = found if isinstance(found, inquiry.DeadTasks) else None

    def _dead_unknown(self, failure: Failure) -> None:
        self._asking = False
        self._known_dead = None
        if not isinstance(failure.value, NotActive | TooManyQuestions):
            log.failure("the dead tasks are not known", failure)


def _rate(sample: Sample) -> Rate:
    waited = sample.waited / sample.dispatched if sample.dispatched else None
    return Rate(sample.time, sample.accepted, sample.dispatched, sample.completed, waited, sample.longest)


def _clock(at: float) -> str:
    return strftime("%Y-%m-%d %H:%M:%S", localtime(at))
