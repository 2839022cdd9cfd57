"""Counts what happens. Pure: a few additions per event; everything else is computed on request."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from zope.interface import implementer

from tefmanager.interfaces.meter import IMeter
from tefmanager.protocol import catalogue
from tefmanager.protocol.catalogue import LoggedEvent

SLOT = 10.0
"""Seconds per sample of the last hour."""

SLOTS = 360
"""How many samples are kept: one hour."""

WAITED = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400)
TURNED = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Bounds of the histograms, in seconds."""

TYPES = 100
"""How many task types each counter counts separately; anybody who may submit can invent new types."""

OTHER = "other"
"""The label under which all other types are counted."""

_BY_TYPE = {
    catalogue.TASK_ACCEPTED.name: "tasks_accepted",
    catalogue.DISPATCH.name: "dispatches",
    catalogue.DISPATCH_FAILED.name: "dispatches_failed",
}
"""Events that are counted by task type, their first field."""

_BY_FIELD = {
    catalogue.TASK_RELEASED.name: ("attempts", 4),
    catalogue.TASK_COMPLETED.name: ("results", 4),
    catalogue.BROKER_CONNECTED.name: ("connects", 0),
    catalogue.BROKER_LOST.name: ("losses", 0),
}
"""Events that are counted by one of their fields: the counter's name and the field's index."""

_BY_NAME = {
    catalogue.TASK_COMPLETED.name: (("attempts", "completed"), ("tasks_finished", "completed")),
    catalogue.TASK_STOPPED.name: (("tasks_finished", "stopped"),),
    catalogue.TASK_DEAD.name: (("tasks_finished", "dead"),),
    catalogue.TASK_REJECTED.name: (("messages_rejected", "task"),),
    catalogue.MESSAGE_INVALID_JSON.name: (("messages_rejected", "json"),),
    catalogue.UNKNOWN_TYPE.name: (("messages_rejected", "type"),),
    catalogue.LEADERSHIP_GAINED.name: (("connects", "database"),),
    catalogue.LEADERSHIP_LOST.name: (("losses", "database"),),
    catalogue.RESOURCES_READ.name: (("connects", "etcd"),),
    catalogue.RESOURCES_LOST.name: (("losses", "etcd"),),
}
"""Events that are counted without a field: names of the counters and their labels."""


class Histogram:
    """Counts values by upper bounds, and sums them."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.sum = 0.0
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return how many values are at most each bound, as Prometheus expects it."""
        names = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        return [(name, float(count)) for name, count in zip(names, accumulate(self._counts), strict=True)]


@dataclass(slots=True)
class Sample:
    """What happened in one slot of time.

    Attributes:
        time: unix time at which it began.
        accepted, dispatched, completed: numbers of tasks.
        waited: total seconds from acceptance to dispatch of the ``dispatched`` tasks.
        longest: the longest of these.
    """

    time: float
    accepted: int = 0
    dispatched: int = 0
    completed: int = 0
    waited: float = 0.0
    longest: float = 0.0


_SAMPLED = {
    catalogue.TASK_ACCEPTED.name: "accepted",
    catalogue.TASK_COMPLETED.name: "completed",
}


@implementer(IMeter)
@dataclass
class Meter:
    """The counts since the process began.

    Attributes:
        counts: by the counter's name and label.
        waited: seconds from acceptance to dispatch.
        turns: seconds that turns took.
        types: for each counter by type, its types, least recently counted first.
        samples: the samples of the last hour in which anything happened, oldest first.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    waited: Histogram = field(default_factory=lambda: Histogram(WAITED))
    turns: Histogram = field(default_factory=lambda: Histogram(TURNED))
    types: dict[str, dict[str, None]] = field(default_factory=dict)
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=SLOTS))

    def turned(self, seconds: float) -> None:
        """See `IMeter.turned`."""
        self.turns.observe(seconds)

    def dispatched(self, waited: float, time: float) -> None:
        """See `IMeter.dispatched`."""
        waited = max(0.0, waited)
        self.waited.observe(waited)
        sample = self._sample(time)
        sample.dispatched += 1
        sample.waited += waited
        sample.longest = max(sample.longest, waited)

    def reserved(self, outcome: str, reservations: int = 1) -> None:
        """See `IMeter.reserved`."""
        self.counts["reservations", outcome] += reservations

    def conflicted(self) -> None:
        """See `IMeter.conflicted`."""
        self.counts["reservation_conflicts", ""] += 1

    def logged(self, line: LoggedEvent, time: float) -> None:
        """Count a logged event."""
        name = line.type.name
        if (found := _BY_FIELD.get(name)) is not None:
            self.counts[found[0], str(line.values[found[1]])] += 1
        if (by_type := _BY_TYPE.get(name)) is not None:
            self._count_type(by_type, str(line.values[0]))
        for key in _BY_NAME.get(name, ()):
            self.counts[key] += 1
        if (sampled := _SAMPLED.get(name)) is not None:
            sample = self._sample(time)
            setattr(sample, sampled, getattr(sample, sampled) + 1)

    def _count_type(self, name: str, task_type: str) -> None:
        """Count a type. If there are too many, the least recently counted one is merged into `OTHER`."""
        self.counts[name, task_type] += 1
        types = self.types.setdefault(name, {})
        types.pop(task_type, None)
        types[task_type] = None
        if len(types) > TYPES:
            gone = next(each for each in types if each != OTHER)
            del types[gone]
            self.counts[name, OTHER] += self.counts.pop((name, gone))

    def failed(self) -> None:
        """Count an unexpected error."""
        self.counts["errors", ""] += 1

    def _sample(self, time: float) -> Sample:
        begin = time - time % SLOT
        if not self.samples or self.samples[-1].time < begin:
            self.samples.append(Sample(begin))
        return self.samples[-1]

    def last_hour(self, now: float) -> list[Sample]:
        """Return the samples of the last hour."""
        return [sample for sample in self.samples if sample.time > now - SLOT * SLOTS]
