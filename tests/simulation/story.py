"""What happens in a simulation: tasks that are submitted and things that break, drawn from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TypeAlias

from tests.simulation.knobs import unusual

DURATION = 240.0
"""Seconds in which things happen; then everything is mended and there is time to finish."""

TYPES = ("x", "y")
RESOURCES = {"db": 2, "licence": 1, "server": 3}
LIMITS = {**RESOURCES, "cloud": -1}
"""All resources that exist from the beginning, with their limits; -1: none."""

LATER = "later"
"""A resource that tasks name before it exists."""

WIDE = "wide"
"""The beginning of the names of resources for tasks that need very many."""

WORKERS = 6
SUITES = (None, "S1", "S2")

Detail: TypeAlias = str | int | float | tuple[str, ...] | None


@dataclass(frozen=True)
class Step:
    """One thing that happens.

    Attributes:
        at: simulated seconds.
        what: name of a method of `tests.simulation.grid.Grid`.
        details: its arguments.
    """

    at: float
    what: str
    details: tuple[Detail, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:7.2f}  {self.what}({', '.join(map(repr, self.details))})"


FAULTS = {
    "kill_manager": 3,
    "freeze_manager": 2,
    "break_links": 3,
    "break_one_link": 3,
    "broker_away": 2,
    "database_away": 2,
    "session_dies": 2,
    "commit_lost": 4,
    "etcd_away": 3,
    "kill_worker": 3,
    "stick_worker": 2,
    "worker_gives_up": 2,
    "worker_leaves": 1,
    "worker_queue_lost": 1,
    "foreign_take": 4,
    "foreign_limit": 1,
    "pause_suite": 1,
    "set_state": 1,
    "stop_suite": 1,
}
"""Faults, and how often each is drawn compared with the others."""

MORE_FAULTS = {
    "kill_at_step": 6,
    "disturb_at_step": 6,
    "freeze_at_step": 3,
    "cut_off_at_step": 3,
    "broker_blocked": 2,
    "database_silent": 2,
    "slow": 4,
    "hang_worker": 3,
    "deafen_worker": 3,
    "foreign_close": 1,
    "foreign_create": 1,
    "submit_again": 3,
    "submit_deadly": 1,
    "submit_long": 2,
    "send_garbage": 1,
}
"""More faults; drawn separately, so that a seed's story is the old one with additions."""


ETCD_FAULTS = {"etcd_restored": 1, "etcd_denied": 1}
"""More faults of Etcd, in one of so many grids as `TROUBLED` says."""

TROUBLED = 4


MORTAL = 4
"""In one of so many grids tasks die, the dead queue refuses or is deleted, and somebody settles dead
tasks."""


HANDLED = 6
"""In one of so many grids somebody changes resources by hand."""


LATE_CLOCKS = 7
"""In one of so many grids the wall clock is behind for a while, as it may be after a boot."""


LIMIT_FAULTS = {
    "broker_forgets": 2,
    "queue_refuses": 3,
    "queue_forbidden": 2,
    "delivery_limit": 2,
    "database_full": 2,
    "etcd_small": 2,
    "submit_wide": 2,
}
"""Faults of servers at their limits, in one of so many grids as `LIMITED` says."""

LIMITED = 7


CROWDED = 5
"""In one of so many grids the backlog is larger, and almost none of it is in memory."""


def crowded(seed: int) -> bool:
    """Tell whether a seed's grid is crowded."""
    return seed % CROWDED == CROWDED - 1


def draw(seed: int, tasks: int = 30, faults: int = 12, more: int = 8) -> list[Step]:
    """Return a story."""
    chance, extra = random.Random(seed), random.Random(f"{seed} more")
    steps = [_task(chance, extra if more else None, number) for number in range(tasks)]
    kinds = chance.choices(list(FAULTS), weights=list(FAULTS.values()), k=chance.randrange(faults + 1))
    steps += [_fault(chance, kind) for kind in kinds]
    count = extra.randrange(more + 1)
    kinds = extra.choices(list(MORE_FAULTS), weights=list(MORE_FAULTS.values()), k=count)
    steps += [_other_fault(extra, kind, tasks) for kind in kinds]
    if more and crowded(seed):
        bursts = random.Random(f"{seed} bursts")
        steps += [step for number in range(bursts.randrange(1, 6)) for step in _burst(bursts, number)]
    if more and seed % TROUBLED == TROUBLED - 1:
        etcd = random.Random(f"{seed} Etcd")
        kinds = etcd.choices(list(ETCD_FAULTS), weights=list(ETCD_FAULTS.values()), k=etcd.randrange(1, 3))
        steps += [_etcd_fault(etcd, kind) for kind in kinds]
    if more and seed % HANDLED == HANDLED - 1:
        steps += _by_hand(random.Random(f"{seed} by hand"))
    if more and seed % LATE_CLOCKS == LATE_CLOCKS - 2:
        steps.append(_set_back(random.Random(f"{seed} set back")))
    if more and seed % LIMITED == LIMITED - 1:
        limits = random.Random(f"{seed} limits")
        weights = list(LIMIT_FAULTS.values())
        kinds = limits.choices(list(LIMIT_FAULTS), weights=weights, k=limits.randrange(1, 5))
        steps += [_limit_fault(limits, kind) for kind in kinds]
    if more and seed % MORTAL == MORTAL - 2:
        steps += _deaths(random.Random(f"{seed} deaths"))
    if more and unusual(seed):
        steps += _oddities(random.Random(f"{seed} odd"))
    return sorted(steps, key=lambda step: step.at)


def _by_hand(chance: random.Random) -> list[Step]:
    """Return steps in which people and other programs change a resource, and its windows."""
    name, other = chance.sample(list(RESOURCES), 2)
    at = chance.uniform(5.0, DURATION * 0.8)
    window = (other, chance.choice((0, 1, 5)), chance.randrange(1, 4), chance.choice((15.0, 90.0)))
    return [
        Step(at, chance.choice(("foreign_reset", "foreign_remake")), (name,)),
        Step(chance.uniform(1.0, DURATION * 0.6), "foreign_window", window),
    ]


def _set_back(chance: random.Random) -> Step:
    back = -chance.choice((3600.0, 10 * 365 * 86400.0))
    return Step(chance.uniform(0.0, DURATION * 0.7), "clock_jumps", (back, chance.uniform(1.0, 30.0)))


def _etcd_fault(chance: random.Random, kind: str) -> Step:
    at, seconds = chance.uniform(1.0, DURATION * 0.9), chance.choice((0.5, 3.0, 15.0, 60.0))
    details: tuple[Detail, ...] = (
        (seconds,) if kind == "etcd_restored" else (chance.choice(list(RESOURCES)), seconds)
    )
    return Step(at, kind, details)


def _limit_fault(chance: random.Random, kind: str) -> Step:
    """Return a step in which a server has reached a limit, or has forgotten what it knew."""
    at, seconds = chance.uniform(1.0, DURATION * 0.9), chance.choice((0.5, 3.0, 15.0, 60.0))
    queue = chance.choice(("dead", "rejected", f"w{chance.randrange(WORKERS)}"))
    details: dict[str, tuple[Detail, ...]] = {
        "broker_forgets": (seconds,),
        "queue_refuses": (queue, seconds),
        "queue_forbidden": (f"w{chance.randrange(WORKERS)}", seconds),
        "delivery_limit": (chance.choice((5, 10)),),
        "database_full": (seconds,),
        "etcd_small": (chance.choice(("operations", "size")), seconds),
        "submit_wide": (f"{kind}{at:.0f}", chance.choice(TYPES), chance.choice((33, 60, 200))),
    }
    return Step(at, kind, details[kind])


def _deaths(chance: random.Random) -> list[Step]:
    """Return steps that kill tasks, and steps that concern dead tasks and the dead queue."""
    steps = []
    for number in range(chance.randrange(1, 5)):
        doomed = (f"doomed{number}", chance.choice(TYPES))
        steps.append(Step(chance.uniform(1.0, DURATION * 0.6), "submit_deadly", doomed))
    for _ in range(chance.randrange(1, 5)):
        how = chance.choice(("retry_dead", "retry_dead", "settle_dead"))
        steps.append(Step(chance.uniform(30.0, DURATION), "settle_dead_tasks", (how,)))
    for _ in range(chance.randrange(3)):
        refuses = ("dead", chance.choice((3.0, 15.0, 60.0)))
        steps.append(Step(chance.uniform(1.0, DURATION), "queue_refuses", refuses))
    if chance.random() < 0.3:
        steps.append(Step(chance.uniform(30.0, DURATION), "dead_queue_lost"))
    return steps


def _oddities(chance: random.Random) -> list[Step]:
    """Return steps that occur only in unusual grids."""
    kinds: dict[str, tuple[Detail, ...]] = {
        "clock_jumps": (chance.choice((3600.0, 10 * 365 * 86400.0)), chance.uniform(1.0, 30.0)),
        "worker_comes_back": (chance.randrange(WORKERS), chance.uniform(0.1, 2.0)),
        "worker_reconnects": (chance.randrange(WORKERS), chance.uniform(1.0, 12.0)),
        "worker_fetches": (chance.randrange(WORKERS),),
    }
    steps = [
        Step(chance.uniform(0.0, DURATION * 0.7), kind, details)
        for kind, details in kinds.items()
        if chance.random() < 0.4
    ]
    again = [
        Step(step.at + chance.uniform(0.5, 9.0), "told_again", step.details[:1])
        for step in steps
        if step.what == "worker_comes_back"
    ]
    return [*steps, *again]


def _task(chance: random.Random, extra: random.Random | None, number: int) -> Step:
    names = tuple(name for name in RESOURCES if chance.random() < 0.3)
    seconds = chance.choice((0.1, 1.0, 5.0, 20.0))
    if extra is not None:
        names += tuple(name for name in ("cloud", LATER) if extra.random() < 0.1)
        if number % 10 == 3:
            seconds = 0.0  # all its messages arrive at once
    details = (
        f"t{number}",
        chance.choice(TYPES),
        float(chance.choice((1, 1, 1, 5))),
        names,
        chance.choice(SUITES),
        seconds,
    )
    return Step(chance.uniform(0.0, DURATION * 0.7), "submit", details)


def _burst(chance: random.Random, number: int) -> list[Step]:
    """Return many short tasks that are submitted at once and need the same resources."""
    at = chance.uniform(0.0, DURATION * 0.7)
    task_type = chance.choice(TYPES)
    names = tuple(name for name in RESOURCES if chance.random() < 0.3)
    steps = []
    for each in range(chance.randrange(5, 25)):
        priority, suite = float(chance.choice((1, 1, 5))), chance.choice(SUITES)
        seconds = chance.choice((0.1, 0.1, 1.0))
        details = (f"b{number}.{each}", task_type, priority, names, suite, seconds)
        steps.append(Step(at + each / 1000, "submit", details))
    return steps


def _fault(chance: random.Random, kind: str) -> Step:
    at = chance.uniform(1.0, DURATION * 0.9)
    seconds = chance.choice((0.5, 3.0, 15.0, 60.0))
    worker = chance.randrange(WORKERS)
    details: dict[str, tuple[Detail, ...]] = {
        "kill_manager": (seconds,),
        "freeze_manager": (seconds,),
        "broker_away": (seconds,),
        "database_away": (seconds,),
        "etcd_away": (seconds,),
        "commit_lost": (chance.choice(("before", "after")),),
        "kill_worker": (worker, seconds),
        "stick_worker": (worker, seconds * 3),
        "worker_gives_up": (worker,),
        "worker_leaves": (worker, seconds),
        "worker_queue_lost": (worker,),
        "foreign_take": (chance.choice(list(RESOURCES)), seconds),
        "foreign_limit": (chance.choice(list(RESOURCES)), seconds),
        "pause_suite": (chance.choice(("S1", "S2")), seconds),
        "set_state": (chance.choice(("paused", "stopped")), seconds),
        "stop_suite": (chance.choice(("S1", "S2")),),
    }
    return Step(at, kind, details.get(kind, ()))


def _other_fault(chance: random.Random, kind: str, tasks: int) -> Step:
    at = chance.uniform(1.0, DURATION * 0.9)
    seconds = chance.choice((0.5, 3.0, 15.0, 60.0))
    pause = chance.choice((5.0, 9.0, 11.0, 14.0, 40.0))
    guid = f"{kind}{at:.3f}"
    steps = chance.choice((1, 2, 3, 5, 10, 20, 50)) + chance.randrange(5)
    worker = chance.randrange(WORKERS)
    details: dict[str, tuple[Detail, ...]] = {
        "kill_at_step": (steps, seconds),
        "disturb_at_step": (steps, chance.choice(("UNHEARD", "UNANSWERED"))),
        "freeze_at_step": (steps, pause),
        "cut_off_at_step": (steps, pause),
        "broker_blocked": (seconds,),
        "database_silent": (seconds,),
        "slow": (chance.choice(("database", "Etcd", "broker", "workers")), seconds),
        "hang_worker": (worker, chance.choice((30.0, 70.0, 150.0))),
        "deafen_worker": (worker, chance.choice((10.0, 40.0))),
        "foreign_close": (chance.choice(list(LIMITS)), seconds),
        "foreign_create": (LATER, 1),
        "submit_again": (f"t{chance.randrange(tasks)}",),
        "submit_deadly": (guid, chance.choice(TYPES)),
        "submit_long": (guid, chance.choice(TYPES), 1.0, ("db",), None, 90.0),
        "send_garbage": (chance.choice(("{", "[]", '{"type": "task"}')),),
    }
    return Step(at, "submit" if kind == "submit_long" else kind, details[kind])
