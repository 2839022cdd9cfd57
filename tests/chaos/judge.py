"""Decides what became of all tasks from the records of the grid's programs. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

FORGETFUL = 10.0
"""Seconds before RabbitMQ was killed in which it may have forgotten acknowledgements."""


@dataclass(frozen=True)
class Run:
    """A run of a task by a worker.

    Attributes:
        time: unix time of its beginning.
        redelivered: the broker marked the message as redelivered.
    """

    guid: str
    worker: str
    time: float
    redelivered: bool = False


@dataclass(frozen=True)
class Attempt:
    """An attempt in the manager's history.

    Attributes:
        begin, end: unix times of its dispatch and its end.
    """

    guid: str
    worker: str
    outcome: str
    begin: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class Change:
    """A resource in Etcd after one of its revisions."""

    revision: int
    resource: str
    count: int
    locks: int


@dataclass
class Facts:
    """The facts about a run of the grid.

    Attributes:
        confirmed, unconfirmed: guids that were sent, with and without RabbitMQ's confirmation.
        waiting: guids that the manager still has.
        history: outcomes by guid, one for each row.
        dead: guids in the dead queue.
        unread: guids that were in the managers' queue when RabbitMQ lost its queues.
        unburied: guids that were in the dead queue at that time.
        attempts, runs: in the order of time.
        needs: resources by guid.
        changes: of all resources, from the first to the last.
        limits: of resources.
        broker_down: when RabbitMQ was down, unix times.
        errors: log lines of the managers that report their own faults.
        exits: managers and workers that ended by themselves.
    """

    confirmed: set[str]
    unconfirmed: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    history: list[tuple[str, str]] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)
    unburied: set[str] = field(default_factory=set)
    attempts: list[Attempt] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    needs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    limits: Mapping[str, int] = field(default_factory=dict)
    broker_down: Sequence[tuple[float, float]] = ()
    errors: Sequence[str] = ()
    exits: Sequence[str] = ()


@dataclass(frozen=True)
class Count:
    """A line of the verdict.

    Attributes:
        what: for people.
        cases: what was counted, such as guids.
        forbidden: there must be none.
    """

    what: str
    cases: tuple[str, ...]
    forbidden: bool = False

    @property
    def wrong(self) -> bool:
        """Whether there are some although there must be none."""
        return self.forbidden and bool(self.cases)


def judge(facts: Facts) -> list[Count]:
    """Return the verdict, line by line."""
    completed = [guid for guid, outcome in facts.history if outcome == "completed"]
    died = [guid for guid, outcome in facts.history if outcome == "dead"]
    ended = Counter(guid for guid, _ in facts.history)
    known = {*ended, *facts.waiting}
    unread = facts.confirmed & facts.unread - known
    dead_lettered = {*facts.dead, *facts.unburied}
    again, redelivered, unexplained = _runs(facts)
    return [
        Count("confirmed by RabbitMQ", _sorted(facts.confirmed)),
        Count("sent and not confirmed", _sorted(facts.unconfirmed)),
        Count("completed", _sorted(completed)),
        Count("dead, after all attempts", _sorted(died)),
        Count("run again, taken back for a reason that history has", again),
        Count("run again, delivered twice by a broker that was killed", redelivered),
        Count("lost with RabbitMQ's queues, never read by a manager", _sorted(unread)),
        Count("lost", _sorted(facts.confirmed - known - unread), forbidden=True),
        Count("still waiting", _sorted(facts.waiting), forbidden=True),
        Count("ended twice", _sorted(guid for guid, times in ended.items() if times > 1), forbidden=True),
        Count("completed and never run", _sorted(_never_run(facts, completed)), forbidden=True),
        Count("dead, and not in the dead queue", _sorted({*died} ^ dead_lettered), forbidden=True),
        Count("over limit", _over(facts), forbidden=True),
        Count("in use over limit, by the manager's history", _overused(facts), forbidden=True),
        Count("counted otherwise than locked", _unequal(facts), forbidden=True),
        Count("leaked", _left(facts), forbidden=True),
        Count("run twice without a recorded reason", unexplained, forbidden=True),
        Count("errors in a manager's log", tuple(facts.errors), forbidden=True),
        Count("ended by itself", tuple(facts.exits), forbidden=True),
    ]


def _sorted(guids: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(guids))


def _never_run(facts: Facts, completed: Iterable[str]) -> set[str]:
    return set(completed) - {run.guid for run in facts.runs}


def _runs(facts: Facts) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return guids with repeated runs: for a reason, because of the broker, and without a reason.

    A worker may begin a task as often as history has attempts of it at this worker. All of these except one
    must have ended in another way than by completion.
    """
    again, redelivered, unexplained = [], [], []
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in facts.attempts:
        attempts[attempt.guid].append(attempt)
    runs: dict[str, list[Run]] = defaultdict(list)
    for run in facts.runs:
        runs[run.guid].append(run)
    for guid, those in sorted(runs.items()):
        if len(those) == 1:
            continue
        tried = Counter(attempt.worker for attempt in attempts[guid])
        surplus = _beyond(those, tried)
        completed = sum(attempt.outcome == "completed" for attempt in attempts[guid])
        if completed > 1 or not all(_broker_did(run, those, facts.broker_down) for run in surplus):
            unexplained.append(guid)
        elif surplus:
            redelivered.append(guid)
        else:
            again.append(guid)
    return tuple(again), tuple(redelivered), tuple(unexplained)


def _beyond(runs: Sequence[Run], tried: Counter[str]) -> list[Run]:
    """Return a task's runs in excess of the attempts at their workers."""
    left = Counter(tried)
    surplus = []
    for run in sorted(runs, key=lambda run: run.time):
        if left[run.worker]:
            left[run.worker] -= 1
        else:
            surplus.append(run)
    return surplus


def _broker_did(run: Run, runs: Sequence[Run], down: Sequence[tuple[float, float]]) -> bool:
    """Tell whether the broker redelivered what it had delivered before."""
    first = min((each.time for each in runs if each.worker == run.worker), default=run.time)
    return first < run.time and (
        run.redelivered or any(first - 1.0 <= end and begin - FORGETFUL <= run.time for begin, end in down)
    )


def _over(facts: Facts) -> tuple[str, ...]:
    return tuple(
        f"{change.resource}: count {change.count}, {change.locks} locks at revision {change.revision}"
        for change in facts.changes
        if max(change.count, change.locks) > facts.limits[change.resource]
    )


def _overused(facts: Facts) -> tuple[str, ...]:
    """Return the attempts that began while their resource was fully used, whatever Etcd said.

    A worker that was believed lost and comes back with its task uses resources that others may have got
    meanwhile: only attempts that are not such a return count.
    """
    found: list[str] = []
    in_use: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in _first_ones(facts.attempts):
        for resource in facts.needs.get(attempt.guid, ()):
            users = [each for each in in_use[resource] if each.end > attempt.begin]
            if len(users) >= facts.limits[resource]:
                others = ", ".join(each.guid for each in users)
                found.append(f"{resource}: {attempt.guid} at {attempt.begin:.3f} beside {others}")
            in_use[resource] = [*users, attempt]
    return tuple(found)


def _first_ones(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Return the attempts as they began, without those of a worker that had the task before."""
    seen = set[tuple[str, str]]()
    found = []
    for attempt in sorted(attempts, key=lambda attempt: attempt.begin):
        place = (attempt.guid, attempt.worker)
        if place not in seen:
            seen.add(place)
            found.append(attempt)
    return found


def _unequal(facts: Facts) -> tuple[str, ...]:
    return tuple(
        f"{change.resource}: count {change.count}, {change.locks} locks at revision {change.revision}"
        for change in facts.changes
        if change.count != change.locks
    )


def _left(facts: Facts) -> tuple[str, ...]:
    last = {change.resource: change for change in facts.changes}
    return tuple(
        f"{change.resource}: count {change.count}, {change.locks} locks"
        for change in last.values()
        if change.count or change.locks
    )
