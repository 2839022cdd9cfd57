"""Describes the resources as last seen, with their holders and waiters."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from heapq import nsmallest

from tefmanager.core.core import Core
from tefmanager.core.model.entities import Attempt
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.values import Moment
from tefmanager.core.sharing.pool import Wait, is_resource
from tefmanager.inquiry.answers import Holder, ResourceInfo, Resources, Waiter

WAITERS_TOLD = 20
"""How many waiting tasks are named for a resource."""


def resources(core: Core, now: Moment, *, at_most: int = 500, short_first: bool = False) -> Resources:
    """List the resources; ``short_first``: those that tasks wait for come first."""
    seen = core.pool.seen
    short = core.backlog.shortages() if short_first else ()
    names = nsmallest(at_most, seen, key=lambda name: (name not in short, name))
    held = holders(core, names)
    waits: defaultdict[str, list[Wait]] = defaultdict(list)
    for wait in core.pool.waits.values():
        for name in wait.task.spec.resources:
            waits[name].append(wait)
    lanes = _lanes(core)
    infos = [_info(seen[name], now, held.get(name, ()), waits[name], lanes[name]) for name in names]
    resembling = dict(core.intake.blockers.resembling.found)
    names_asked = {*lanes, *resembling}
    unknown = nsmallest(at_most, (name for name in names_asked if name not in seen and is_resource(name)))
    return Resources(core.pool.ready, len(seen), tuple(infos), tuple(unknown), resembling)


def _lanes(core: Core) -> Counter[str]:
    """Count the lanes that wait for each resource."""
    found: Counter[str] = Counter()
    for type_queue in core.backlog.type_queues.values():
        found.update(type_queue.standing())
    return found


def _info(
    entry: Resource, now: Moment, held: Iterable[Holder], waits: Iterable[Wait], lanes: int
) -> ResourceInfo:
    ours = tuple(held)
    inside = [window.id for window in entry.windows if window.contains(now.local)]
    longest = nsmallest(WAITERS_TOLD, waits, key=lambda wait: wait.since)
    return ResourceInfo(
        name=entry.name,
        held=entry.used,
        limit=entry.limit_at(now.local),
        own_limit=entry.limit,
        available=entry.available,
        window=inside[0] if inside else None,
        faults=entry.faults,
        holders=ours,
        others=not_ours(entry, ours),
        waiters=tuple(waiter(wait, now) for wait in longest),
        waiting=lanes,
    )


def not_ours(entry: Resource, ours: Iterable[Holder]) -> int:
    """Return how many references others hold, as far as known: counts arrive slightly later."""
    return max(0, entry.used - sum(holder.state != "reserving" for holder in ours))


def holders(core: Core, names: Iterable[str]) -> Mapping[str, list[Holder]]:
    """Return the manager's attempts that hold, reserve or release some resources, oldest first."""
    wanted = set(names)
    found: defaultdict[str, list[Holder]] = defaultdict(list)
    attempts = core.attempts
    for number, given_back in attempts.releasing.items():
        for name in wanted.intersection(given_back):
            found[name].append(Holder(number, None, None, None, "releasing", None))
    for attempt in {**attempts.reserving, **attempts.in_flight}.values():
        for name in wanted.intersection(_concerned(core, attempt)):
            found[name].append(_holder(attempt))
    for each in found.values():
        each.sort(key=lambda holder: holder.attempt)
    return found


def _concerned(core: Core, attempt: Attempt) -> Iterable[str]:
    """Return what an attempt holds or is reserving; it does not hold what it is owed."""
    if attempt.id in core.attempts.owed and attempt.id not in core.attempts.reserving:
        return set(attempt.task.spec.resources).difference(attempt.references.lacks)
    return attempt.task.spec.resources


def _holder(attempt: Attempt) -> Holder:
    spec = attempt.task.spec
    state = attempt.phase.value if attempt.references.held else "reserving"
    return Holder(attempt.id, spec.guid, attempt.worker.name, spec.suite, state, attempt.dispatched)


def waiter(wait: Wait, now: Moment) -> Waiter:
    """Describe a task that is first in line and lacks only resources."""
    spec = wait.task.spec
    since = wait.task.short_since or now.wall - (now.monotonic - wait.since)
    claims = wait.task.claim is not None
    return Waiter(spec.guid, spec.task_type, spec.suite, spec.priority, since, claims)
