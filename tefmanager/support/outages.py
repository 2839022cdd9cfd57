"""What the manager has to do without: since when, why, and what that means for tasks. Pure.

Whoever finds that something is unreachable, refuses or does not answer reports it here, and reports when it
is over. From here it goes to the log, ``/ready``, explanations, the page, systemd and the metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from msgspec import Struct

from tefmanager.core.model.values import Moment
from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import LoggedEvent

INTERVAL = 30.0
"""Seconds between two log lines about a lasting outage. An outage that returns within this time counts as
the same one."""

CAUSES_TOLD = 8
"""How many new causes of one outage are logged at once; further ones wait for the next line."""

NOT_YET = "not connected yet"

ANOTHER_IS_ACTIVE = "another manager is active"
"""How the text begins that a standby gives for waiting."""


class Service(StrEnum):
    """What may be missing, as named in metrics."""

    DATABASE = "database"
    STANDBY = "standby"
    """Another manager is active. This is no fault, but this manager waits for it."""
    LEADERSHIP = "leadership"
    """The manager is no longer the active one, for a reason of its own."""
    CONSUMER = "consumer"
    PUBLISHER = "publisher"
    BLOCKED = "blocked"
    """RabbitMQ accepts no messages for now."""
    PROBE = "probe"
    """The connections stand, but the manager's own messages do not come back."""
    ETCD = "etcd"
    QUEUE = "queue"
    """One of the manager's own queues accepts nothing."""
    STEP = "step"
    """Something that the manager does has not ended for a long time."""
    OPTIONAL = "optional"
    """RabbitMQ refuses a queue, a binding or an exchange that the manager can do without."""


_NOTHING_GOES = "no task is accepted or sent; workers go on; messages wait in RabbitMQ; nothing is lost"

MEANING: Mapping[Service, str] = {
    Service.DATABASE: _NOTHING_GOES,
    Service.STANDBY: "this manager takes over when the active one ends",
    Service.LEADERSHIP: _NOTHING_GOES,
    Service.CONSUMER: "no task is accepted; workers go on, but can't report; nothing is lost",
    Service.PUBLISHER: "no task and no reply is sent; workers go on; nothing is lost",
    Service.BLOCKED: "no task is sent, and workers can't report; nothing is lost",
    Service.PROBE: "tasks and reports may not arrive; time limits are suspended; nothing is lost",
    Service.ETCD: "tasks that need resources wait; the others are sent; nothing is lost",
    Service.QUEUE: "messages for this queue wait; everything else goes on",
    Service.STEP: "whatever needs this step waits; everything else goes on",
    Service.OPTIONAL: "what needs it waits or is left out; everything else goes on",
}
"""What an outage means for tasks, in words."""

OF_A_LEADERSHIP = (
    Service.CONSUMER,
    Service.PROBE,
    Service.ETCD,
    Service.QUEUE,
    Service.STEP,
    Service.OPTIONAL,
)
"""What only the active manager needs."""

LATE = 25.0
"""Seconds after which an unfinished step is reported."""

CONFIRM = "RabbitMQ has not confirmed a dispatch"
ANSWER = "RabbitMQ has not taken an answer"
SET_ASIDE = "RabbitMQ has not taken a message that is set aside"
WALK = "the dead queue has not been gone through"
RESERVATION = "Etcd has not answered a reservation"
RELEASE = "Etcd has not taken references back"
TURN = "a turn has not ended"
ENDING = "the last leadership has not ended"
"""What the manager waits for, in words."""

EXPLAINED: Mapping[str, tuple[Service, ...]] = {
    CONFIRM: (Service.PUBLISHER, Service.BLOCKED),
    ANSWER: (Service.PUBLISHER, Service.BLOCKED),
    SET_ASIDE: (Service.PUBLISHER, Service.BLOCKED, Service.QUEUE),
    WALK: (Service.PUBLISHER, Service.BLOCKED, Service.QUEUE),
    RESERVATION: (Service.ETCD,),
    RELEASE: (Service.ETCD,),
}
"""The outages that explain why such a step lasts."""

NEEDED = frozenset(set(Service) - {Service.STANDBY, Service.QUEUE, Service.STEP, Service.OPTIONAL})
"""The manager is not ready without these."""


class Outage(Struct, frozen=True):
    """Something that is unreachable, refuses or does not answer.

    Attributes:
        service: see `Service`.
        about: which of them, such as a queue's name; empty if there is only one.
        cause: why, in the service's words.
        since: unix time.
        seconds: how long it has lasted.
        meaning: what it means for tasks.
    """

    service: str
    about: str
    cause: str
    since: float
    seconds: float
    meaning: str

    @property
    def sentence(self) -> str:
        """What is missing, why, for how long, and what that means."""
        return f"{self.text}, for {_lasted(self.seconds)}: {self.meaning}"

    @property
    def name(self) -> str:
        """What is missing."""
        return " ".join(filter(None, (self.service, self.about)))

    @property
    def text(self) -> str:
        """What is missing, and why; the cause may say both."""
        says_both = self.cause.startswith((f"{self.name} ", f"{self.name}:"))
        alone = self.service in (Service.STANDBY, Service.STEP) or says_both
        return self.cause if alone else f"{self.name}: {self.cause}"


@dataclass(slots=True)
class _Entry:
    """An outage that lasts, or has just ended.

    Attributes:
        began, next: monotonic times at which it began, and at which it is logged again.
        told: it has been logged, so its end is logged too.
        ended: monotonic time of its end, or None.
    """

    service: Service
    about: str
    cause: str
    wall: float
    began: float
    next: float
    causes: set[str] = field(default_factory=set)
    told: bool = False
    ended: float | None = None

    def is_past(self, now: float) -> bool:
        """Tell whether a new report would be another outage; a step that has ended does not return."""
        if self.ended is None:
            return False
        return self.service is Service.STEP or now - self.ended > INTERVAL

    def shown(self, now: float) -> Outage:
        lasted = max(0.0, now - self.began)
        return Outage(self.service, self.about, self.cause, self.wall, lasted, MEANING[self.service])


class Outages:
    """All present outages.

    Each is logged when it begins, every `INTERVAL` seconds while it lasts, and when it is over.

    Args:
        clocks: reads the clocks.
        tell: logs a line.
    """

    def __init__(self, clocks: Callable[[], Moment], tell: Callable[[LoggedEvent], object]) -> None:
        self._clocks = clocks
        self._tell = tell
        self._entries: dict[tuple[Service, str], _Entry] = {}

    def began(
        self, service: Service, cause: str, about: str = "", *, quiet: bool = False, lasted: float = 0.0
    ) -> None:
        """Report that something is missing, now or still, for this cause.

        ``quiet``: log it only after it has lasted for a while, because another log line reports its
        beginning or because it may not be an outage yet. ``lasted``: seconds that it has already lasted.
        """
        now = self._clocks()
        key = service, about
        entry = self._entries.get(key)
        if entry is None or entry.is_past(now.monotonic):
            since = now.monotonic - lasted
            due = since + INTERVAL if quiet else now.monotonic
            entry = self._entries[key] = _Entry(service, about, cause, now.wall - lasted, since, due)
        elif not quiet and cause not in entry.causes and len(entry.causes) < CAUSES_TOLD:
            entry.next = now.monotonic
        entry.ended = None
        entry.cause = cause
        self._remind(entry, now)

    def leadership_awaited(self, what: str) -> None:
        """Report that the manager is not the active one, and why."""
        standby = what.startswith(ANOTHER_IS_ACTIVE)
        self.over(Service.LEADERSHIP, Service.DATABASE if standby else Service.STANDBY)
        self.began(Service.STANDBY if standby else Service.DATABASE, what)

    def leadership_granted(self) -> None:
        """Report that no other manager is active; this one is reading the rows."""
        self.over(Service.STANDBY)
        self.began(Service.DATABASE, "the tables are being read", quiet=True)

    def leadership_gained(self) -> None:
        """Report that the manager is the active one; it connects to the services that this needs."""
        self.over(Service.LEADERSHIP, Service.DATABASE, Service.STANDBY)
        for service in (Service.CONSUMER, Service.ETCD):
            self.began(service, NOT_YET, quiet=True)

    def over(self, *services: Service, about: str = "") -> None:
        """Report that these are back. Does nothing for those that were not missing."""
        now = self._clocks()
        for service in services:
            entry = self._entries.get((service, about))
            if entry is not None and entry.ended is None:
                entry.ended = now.monotonic
                if entry.told:
                    entry.told = False
                    self._tell(catalogue.WAITED_FOR(entry.shown(now.monotonic).name, _seconds(entry, now)))

    def drop(self, *services: Service) -> None:
        """Report that these are not needed any more, whether or not they are missing."""
        now = self._clocks().monotonic
        for entry in self._entries.values():
            if entry.service in services and entry.ended is None:
                entry.ended, entry.told = now, False

    def remind(self) -> None:
        """Log what is due. Called every second."""
        now = self._clocks()
        for key, entry in list(self._entries.items()):
            if entry.is_past(now.monotonic):
                del self._entries[key]
            elif entry.ended is None:
                self._remind(entry, now)

    def _remind(self, entry: _Entry, now: Moment) -> None:
        if now.monotonic >= entry.next:
            entry.next = now.monotonic + INTERVAL
            entry.told = True
            entry.causes.add(entry.cause)
            shown = entry.shown(now.monotonic)
            self._tell(catalogue.WAITING_FOR(shown.text, _seconds(entry, now), shown.meaning))

    def away(self, *services: Service) -> bool:
        """Tell whether one of these is missing."""
        return any(each.ended is None and each.service in services for each in self._entries.values())

    def now(self, *services: Service) -> tuple[Outage, ...]:
        """Return the present outages, or those of the given services, the longest first."""
        now = self._clocks().monotonic
        last = [
            entry
            for entry in self._entries.values()
            if entry.ended is None
            and (not services or entry.service in services)
            and now - entry.began >= (INTERVAL if entry.service is Service.STEP else -inf)
        ]
        return tuple(entry.shown(now) for entry in sorted(last, key=lambda entry: entry.began))


class Steps:
    """Reports the manager's steps that do not end, unless an outage explains it."""

    def __init__(self, outages: Outages) -> None:
        self._outages = outages
        self._told: set[str] = set()

    def look(self, late: Mapping[str, float]) -> None:
        """Take in the steps that last too long, with their seconds. Called every second."""
        for gone in self._told - late.keys():
            self._outages.over(Service.STEP, about=gone)
        self._told = set(late)
        for awaited, seconds in late.items():
            if not self._outages.away(*EXPLAINED.get(awaited, ())):
                self._outages.began(Service.STEP, awaited, awaited, quiet=True, lasted=seconds)


def _lasted(seconds: float) -> str:
    """Return a duration in the largest unit of which it has at least two."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _seconds(entry: _Entry, now: Moment) -> int:
    return round(max(0.0, now.monotonic - entry.began))
