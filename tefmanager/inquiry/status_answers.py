"""Describes the manager's state in numbers, and its suites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import filterfalse, islice

from tefmanager.core.core import Core
from tefmanager.core.model.entities import Phase
from tefmanager.core.model.values import Moment, TaskState, WorkerStatus
from tefmanager.core.sharing.pool import is_held_back
from tefmanager.inquiry.answers import HeldBackInfo, Status, SuiteInfo, Suites, Waiting
from tefmanager.protocol.catalogue import plain
from tefmanager.support.outages import Outage

LOOK_AT = 20_000
"""How many tasks one answer looks at, at most: that takes some milliseconds."""

SUITES_TOLD = 100
"""How many suites `status` names."""

TYPES_TOLD = 100
"""How many task types `status` names."""

RESOURCES_TOLD = 1000
"""How many resources `status` names."""

HELD_BACK_TOLD = 20
"""How many held-back things `status` names."""

NAMES_TOLD = 5
"""How many of the resources that can't be reserved together are named."""


def status(core: Core, now: Moment, outages: tuple[Outage, ...] = ()) -> Status:
    """Return the manager's state, including outages."""
    phases = Counter(attempt.phase for attempt in core.attempts.in_flight.values())
    shown = Counter(worker.status for worker in core.workers)
    free = {name: len(core.workers.free(name)) for name in core.workers.types()}
    return Status(
        state=core.state.value,
        state_since=core.counters.state_since,
        active_since=core.began,
        etcd_ready=core.pool.ready,
        waiting=_waiting(core),
        dispatched=phases[Phase.DISPATCHED],
        working=phases[Phase.WORKING],
        dead_lettering=len(core.attempts.dead_lettering),
        workers={each.value: shown[each] for each in WorkerStatus},
        worker_types=_most(free),
        paused_suites=len(core.backlog.paused),
        short=tuple(nsmallest(RESOURCES_TOLD, filterfalse(is_held_back, core.backlog.shortages()))),
        held_back=tuple(islice(_held_back(core), HELD_BACK_TOLD)),
        time=now.wall,
        outages=outages,
    )


def _held_back(core: Core) -> Iterator[HeldBackInfo]:
    for task, held in core.attempts.held_back.items():
        yield HeldBackInfo(f"task {task.spec.guid}", held.reason, held.since)
    for names, held in core.pool.impossible.items():
        yield HeldBackInfo(f"tasks that need {_shortened(names)}", held.reason, held.since)


def _shortened(names: Sequence[str]) -> str:
    more = len(names) - NAMES_TOLD
    return " ".join(names[:NAMES_TOLD]) + (f" and {more} more" if more > 0 else "")


def headline(core: Core) -> str:
    """Return the manager's state in a few words, at a cost that does not depend on the backlog."""
    booked = sum(_is_booked(each.phase, each.live) for each in core.attempts.reserving.values())
    waiting, flight = core.backlog.waiting + booked, len(core.attempts.in_flight)
    return f"{core.state.value}: {waiting} waiting, {flight} in flight, {len(core.workers)} workers"


def _waiting(core: Core) -> Waiting:
    """Count the waiting tasks. Booked tasks are in no lane, so they are counted separately."""
    booked = [each.task for each in core.attempts.reserving.values() if _is_booked(each.phase, each.live)]
    types = Counter(
        {name: type_queue.waiting.total() for name, type_queue in core.backlog.type_queues.items()}
    )
    types.update(task.spec.task_type for task in booked)
    suites = waiting_by_suite(core)
    looked_at = [task for task in islice(core.backlog.tasks(), LOOK_AT) if task.state is TaskState.WAITING]
    priorities = Counter(task.spec.priority for task in looked_at)
    named = nsmallest(SUITES_TOLD, suites.items(), key=lambda each: (-each[1], each[0] or ""))
    return Waiting(
        total=core.backlog.waiting + len(booked),
        unread=core.backlog.unread,
        by_type=_largest(types),
        types=sum(count > 0 for count in types.values()),
        by_suite={suite or "": count for suite, count in named},
        suites=len(suites),
        by_priority={plain(each): priorities[each] for each in sorted(priorities, reverse=True)},
        by_priority_of=len(looked_at),
        oldest=min((task.spec.received for task in looked_at), default=None),
    )


def _largest(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Return the largest counts by name, leaving out zeros."""
    return _most({name: count for name, count in counts.items() if count})


def _most(counts: Mapping[str, int]) -> Mapping[str, int]:
    """Return the largest counts by name."""
    return dict(sorted(nsmallest(TYPES_TOLD, counts.items(), key=lambda each: (-each[1], each[0]))))


def waiting_by_suite(core: Core) -> Mapping[str | None, int]:
    """Count the waiting tasks of each suite, including unread tasks and those being reserved."""
    suites: Counter[str | None] = Counter()
    for type_queue in core.backlog.type_queues.values():
        suites.update(type_queue.waiting)
    for each in core.attempts.reserving.values():
        if _is_booked(each.phase, each.live):
            suites[each.task.spec.suite] += 1
    return suites


def _is_booked(phase: Phase, live: bool) -> bool:
    return live and phase is Phase.RESERVING


def suites(core: Core, at_most: int = 1000) -> Suites:
    """List the suites with unfinished tasks, and the paused ones."""
    waiting = waiting_by_suite(core)
    flight: Counter[tuple[str | None, Phase]] = Counter(
        (attempt.task.spec.suite, attempt.phase) for attempt in core.attempts.in_flight.values()
    )
    names = {*waiting, *(suite for suite, _ in flight), *core.backlog.paused} - {None}
    infos = [
        SuiteInfo(
            suite=suite,
            paused=suite in core.backlog.paused,
            waiting=waiting.get(suite, 0),
            dispatched=flight[suite, Phase.DISPATCHED],
            working=flight[suite, Phase.WORKING],
        )
        for suite in names
        if suite is not None
    ]
    first = nsmallest(at_most, infos, key=lambda info: (-_size(info), info.suite))
    return Suites(len(infos), tuple(first))


def _size(info: SuiteInfo) -> int:
    return info.waiting + info.dispatched + info.working
