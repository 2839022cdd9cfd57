"""Resources as the planner sees them: what is free now, who waits for it, and who has a claim on it.

This is only a forecast that saves requests; the reservation in Etcd decides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from tefmanager.core.model.entities import Attempt, Task, Worker
from tefmanager.core.model.resources import Resource
from tefmanager.core.model.timers import Timer, Timers
from tefmanager.core.model.values import Moment
from tefmanager.core.sharing.heldback import HeldBack, HoldBacks

NOT_READ = "(Etcd)"
"""The resource that tasks are short of while no resources have been read."""


@dataclass(slots=True)
class Wait:
    """The wait of a task that is first in line and lacks only resources.

    Attributes:
        task: the task.
        since: monotonic time from which it has been first in line.
        yielded: it has a claim, but let another task take what it claims, because no worker was free for
            it.
        timer: fires when its patience ends.
    """

    task: Task
    since: float
    yielded: bool = False
    timer: Timer | None = None


class Pool:
    """The resources as last seen, minus what is being reserved.

    Args:
        hold_unknown: whether a name without an entry makes a task wait; otherwise it limits nothing.
        runnable: tells whether a task could be dispatched if it had its resources and a worker.
        free: returns the free workers of a type.
        wake: called with resources that a claim no longer blocks.
        wanted: tells whether a task that waits, or that lacks references, needs exactly these resources.

    Attributes:
        ready: whether the resources have been read.
        seen: the resources as last seen, by name.
        pending: how many references of each resource are being reserved.
        waits: the waits of tasks that are first in line and lack only resources, by task id.
        holds_unknown: whether a name without an entry makes a task wait.
        impossible: sets of names that nobody can reserve together. Tasks that need exactly these wait at
            `HeldBack.place`, as at a resource that they are short of.
    """

    def __init__(
        self,
        *,
        hold_unknown: bool,
        runnable: Callable[[Task], bool],
        free: Callable[[str], Mapping[Worker, None]],
        wake: Callable[[Iterable[str]], None],
        timers: Timers,
        wanted: Callable[[tuple[str, ...]], bool],
    ) -> None:
        self.ready = False
        self.seen: dict[str, Resource] = {}
        self.pending: Counter[str] = Counter()
        self.waits: dict[int, Wait] = {}
        self.holds_unknown = hold_unknown
        self._timers = timers
        self._runnable = runnable
        self._workers = free
        self._owed: dict[int, tuple[str, ...]] = {}
        self._owing: Counter[str] = Counter()
        self._wake = wake
        self._wanted = wanted
        self.impossible: HoldBacks[tuple[str, ...]] = HoldBacks(timers, self._try_again)
        self._refused: set[str] = set()
        self._doubted: set[str] = set()
        self._claims: dict[str, dict[int, Wait]] = {}
        self._claims_of: dict[str, dict[int, Wait]] = {}
        self._counted: dict[str, float] = {}
        self._counted_at: Moment | None = None
        self._claimed = 0

    # --- what is free ---

    def short(self, task: Task, now: Moment, worker: Worker | None = None) -> str | None:
        """Return the first of a task's resources that has no reference left for it, or None.

        ``worker``: the worker that would get the task, if it is free for this task only.
        """
        if not task.spec.resources:
            return None
        if not self.ready:
            return NOT_READ
        if not self._claims:
            return self.lacking(task.spec.resources, now)
        if (place := self._held_at(task.spec.resources, now)) is not None:
            return place
        return next((name for name in task.spec.resources if not self._free(name, now, task, worker)), None)

    def lacking(self, names: tuple[str, ...], now: Moment) -> str | None:
        """Return the first of these resources that has no reference left for anyone, or None."""
        if not names:
            return None
        if not self.ready:
            return NOT_READ
        if (place := self._held_at(names, now)) is not None:
            return place
        for name in names:
            if self.left(name, now) < 1:
                return name
        return None

    def fits(self, attempt: Attempt, now: Moment) -> bool:
        """Tell whether an attempt that runs without its references could get them, before any claim."""
        if not self.ready or self._held_at(attempt.references.lacks, now) is not None:
            return False
        return all(self._count(name, now) >= 1 for name in attempt.references.lacks)

    def gives(self, name: str, now: Moment) -> bool:
        """Tell whether a resource has a reference left for at least one task."""
        if is_resource(name):
            return self.ready and self.left(name, now) >= 1
        held = self.impossible.at(name)
        return self.ready and (held is None or now.monotonic >= held.until)

    def _free(self, name: str, now: Moment, task: Task, worker: Worker | None) -> bool:
        left = self.left(name, now)
        return left >= 1 and left - len(self.claims_before(name, now, task, worker)) >= 1

    def left(self, name: str, now: Moment) -> float:
        """Return how many references a resource has left, claims not considered; below 1 it is short.

        The number is cached for one moment: the planner asks for it far more often than it changes.
        """
        if now is not self._counted_at:
            self._counted_at = now
            self._counted.clear()
        left = self._counted.get(name)
        if left is None:
            left = self._counted[name] = self._count(name, now) - self._owing[name]
        return left

    def _count(self, name: str, now: Moment) -> float:
        resource = self.seen.get(name)
        if resource is None:
            return 0 if self.holds_unknown else inf
        if name in self._refused:
            return 0
        return resource.free_at(now.local) - self.pending[name]

    def claims_before(self, name: str, now: Moment, task: Task, worker: Worker | None = None) -> list[Wait]:
        """Return the claims on a resource that go before a task."""
        claims = self._claims.get(name, {}).values()
        return [
            each for each in claims if _goes_before(each.task, task) and self._in_force(each, now, worker)
        ]

    def _in_force(self, wait: Wait, now: Moment, worker: Worker | None) -> bool:
        """Tell whether a claim counts now: one that could not be used anyway blocks nobody."""
        return self._has_worker(wait, worker) and self._may_be_met(wait, now)

    def _may_be_met(self, wait: Wait, now: Moment) -> bool:
        """Tell whether a task could ever get its resources as they, and its suite, are now."""
        if not self._runnable(wait.task) or self.impossible.get(wait.task.spec.resources) is not None:
            return False
        entries = (self.seen.get(name) for name in wait.task.spec.resources)
        return all(entry is None or entry.limit_at(now.local) != 0 for entry in entries)

    def _has_worker(self, wait: Wait, worker: Worker | None = None) -> bool:
        """Tell whether a worker is free for a task; ``worker`` counts as free."""
        kind = wait.task.spec.task_type
        if worker is not None and worker.worker_type == kind and _fits(worker, wait.task):
            return True
        return any(_fits(worker, wait.task) for worker in self._workers(kind))

    # --- claims and workers ---

    @property
    def claimed(self) -> bool:
        """Whether there are any claims."""
        return bool(self._claims)

    def yield_to(self, task: Task, now: Moment) -> None:
        """Mark the claims that let a task pass for want of a free worker: they keep the next worker."""
        for name in task.spec.resources if self._claims else ():
            for wait in self._claims.get(name, {}).values():
                if _goes_before(wait.task, task) and not self._has_worker(wait):
                    wait.yielded = True

    def keeps(self, task: Task, now: Moment) -> set[Worker]:
        """Return the workers that are kept from a task, for tasks whose claims have let others pass.

        Otherwise those might never have a worker and the resources at the same time.
        """
        kept: set[Worker] = set()
        claims = self._claims_of.get(task.spec.task_type)
        if not claims or not self.ready:
            return kept
        yielded = [wait for wait in claims.values() if wait.yielded and _goes_before(wait.task, task)]
        for wait in sorted(yielded, key=lambda wait: wait.task.rank):
            if self._may_be_met(wait, now):
                free = self._workers(task.spec.task_type)
                worker = next((one for one in free if one not in kept and _fits(one, wait.task)), None)
                if worker is not None:
                    kept.add(worker)
        return kept

    def let_pass(self, worker_type: str, now: Moment) -> None:
        """Wake the tasks that were blocked by claims for which no worker is free any more."""
        claims = self._claims_of.get(worker_type)
        for wait in claims.values() if claims and self.ready else ():
            if not self._has_worker(wait):
                self._wake(name for name in wait.task.spec.resources if self.left(name, now) >= 1)

    # --- owed references ---

    def owe(self, attempt: Attempt) -> None:
        """Set references aside for an attempt whose worker uses the resources without holding any."""
        self.owe_no_more(attempt)
        self._owed[attempt.id] = attempt.references.lacks
        self._owing.update(attempt.references.lacks)
        self._counted_at = None

    def owe_no_more(self, attempt: Attempt) -> None:
        """Stop setting references aside for an attempt: it has them, or needs none."""
        names = self._owed.pop(attempt.id, ())
        self._owing.subtract(names)
        for name in names:
            if not self._owing[name]:
                del self._owing[name]
        if names:
            self._counted_at = None
            self._wake(names)

    # --- what is being reserved ---

    def book(self, attempt: Attempt, now: Moment) -> None:
        """Count the references that an attempt is asking for as taken."""
        self.impossible.tried(attempt.references.lacks, now)
        self.pending.update(attempt.references.lacks)
        for name in attempt.references.lacks:
            self._counted.pop(name, None)

    def unbook(self, attempt: Attempt) -> None:
        """Stop counting them: Etcd has answered, or never will."""
        self.pending.subtract(attempt.references.lacks)
        self._counted_at = None
        for name in attempt.references.lacks:
            if not self.pending[name]:
                del self.pending[name]

    # --- what Etcd says ---

    def see(self, seen: Mapping[str, Resource | None]) -> None:
        """Take in changed resources; None means that one was removed."""
        for name, resource in seen.items():
            if resource is None:
                self.seen.pop(name, None)
            else:
                self.seen[name] = resource
        self._counted_at = None
        self._refused.difference_update(seen)
        self._doubted.difference_update(seen)

    def read(self, seen: Mapping[str, Resource | None]) -> None:
        """Replace all resources by the result of a full read."""
        self.seen = {name: resource for name, resource in seen.items() if resource is not None}
        self.second_look()
        if not self.ready:
            self.impossible.clear()  # Etcd may have been repaired before it came back
        self.ready = True

    def lose(self) -> None:
        """Forget all resources, because Etcd is away."""
        self.ready = False

    def refuse(self, name: str) -> None:
        """Treat a resource as short until a change of it is seen.

        The first refusal may be older than what was seen last, so only the second one counts.
        """
        if name in self._doubted:
            self._refused.add(name)
            self._counted_at = None
        self._doubted.add(name)

    def second_look(self) -> None:
        """Allow resources that were refused to be tried again."""
        self._counted_at = None
        self._refused.clear()
        self._doubted.clear()

    # --- what is impossible ---

    def hold_back(self, names: tuple[str, ...], reason: str, now: Moment) -> bool:
        """Let nobody ask for exactly these resources for a while; return whether the reason is new."""
        news = self.impossible.hold(names, reason, now)
        self._wake(self.beside(names))
        return news

    def possible(self, names: tuple[str, ...]) -> None:
        """Note that these resources were reserved together: they are not held back any more."""
        if (held := self.impossible.drop(names)) is not None:
            self._wake((held.place,))

    def _held_at(self, names: tuple[str, ...], now: Moment) -> str | None:
        held = self.impossible.get(names) if self.impossible else None
        return held.place if held is not None and now.monotonic < held.until else None

    def _try_again(self, names: tuple[str, ...], held: HeldBack, now: Moment) -> bool:
        self._wake((held.place,))
        return self._wanted(names)

    # --- patience ---

    def wait(self, task: Task, now: Moment) -> Wait:
        """Note that a task is first in line and lacks only resources."""
        if task.short_since is None:
            task.short_since = now.wall
        wait = self.waits[task.spec.id] = Wait(task, now.monotonic)
        return wait

    def claim(self, wait: Wait) -> None:
        """Give a task whose patience has ended a claim on its resources."""
        self._claimed += 1
        wait.task.claim = self._claimed
        for name in wait.task.spec.resources:
            self._claims.setdefault(name, {})[wait.task.spec.id] = wait
        self._claims_of.setdefault(wait.task.spec.task_type, {})[wait.task.spec.id] = wait

    def settle(self, task: Task) -> None:
        """Note that a task does not wait any more, and drop its claim."""
        task.short_since = None
        wait = self.waits.pop(task.spec.id, None)
        if wait is None:
            return
        self._timers.cancel(wait.timer)
        if task.claim is None:
            return
        task.claim = None
        for name in task.spec.resources:
            _drop(self._claims, name, task)
        _drop(self._claims_of, task.spec.task_type, task)
        self._wake(task.spec.resources)

    def beside(self, names: Iterable[str]) -> set[str]:
        """Return these resources, and those that are claimed together with one of them.

        A claim that includes a closed resource blocks nobody, so a change of one may make the others
        available.
        """
        found = set(names)
        claimed = [claims for name, claims in self._claims.items() if name in found]
        return found.union(*(wait.task.spec.resources for claims in claimed for wait in claims.values()))

    def timed(self, names: Iterable[str]) -> list[str]:
        """Return which of the resources, and of the claimed ones, have limits by the time of day."""
        every = sorted({*names, *self._claims})
        return [name for name in every if (entry := self.seen.get(name)) is not None and entry.windows]


def _drop(claims: dict[str, dict[int, Wait]], key: str, task: Task) -> None:
    del claims[key][task.spec.id]
    if not claims[key]:
        del claims[key]


def _fits(worker: Worker, task: Task) -> bool:
    return worker.name not in task.avoid


def is_resource(short: str) -> bool:
    """Tell whether what a task is short of is a resource."""
    return short != NOT_READ and not is_held_back(short)


def is_held_back(short: str) -> bool:
    """Tell whether a place stands for a set of resources that cannot be reserved together."""
    return short.startswith("\0")


def _goes_before(claimant: Task, task: Task) -> bool:
    """Tell whether a claim blocks a task.

    The order must be the same as that of the lanes, or two tasks could wait for each other.
    """
    if claimant is task:
        return False
    if task.claim is None or claimant.claim is None:
        return claimant.spec.priority >= task.spec.priority
    return (-claimant.spec.priority, claimant.claim) < (-task.spec.priority, task.claim)
