"""Judges a simulation from outside: what lasts too long while nothing is broken, and the final state.

Like the observer, it shares no code with the core. It reads rows and keys as anybody could.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from tests.simulation.broker import Broker
from tests.simulation.observer import Observer
from tests.simulation.world import START

if TYPE_CHECKING:
    from tefmanager.core.model.values import AttemptRow, TaskRow, TaskSpec
    from tests.fakes.store import FakeDatabase, FinishedTask, Rows

INTERVAL = 10.0
"""The dispatch interval: seconds between two regular passes of the manager."""

HEALING = 15.0
"""Seconds after mending until everything is connected again."""

FORGOTTEN = 30.0 + 20.0 + 2.0 + 2 * INTERVAL
"""Seconds after which the manager must know a free worker: dispatch timeout, heartbeat, release grace."""

ENDING = 10.0
"""Seconds more for a worker that says that it ends tasks itself."""

LOOK = 2.0
"""Seconds between two checks."""


MOST_TURNS = 5
"""Turns of one suite between two of another that waits: some were decided before it came."""


class Program(Protocol):
    """A worker, as seen from outside."""

    name: str
    worker_type: str
    alive: bool
    born: float

    @property
    def idle(self) -> bool:
        """Whether it would begin a task at once."""


def _may_wait_for(row: TaskRow, claimant: TaskRow) -> bool:
    """Tell whether a task may have to wait for another one's claim, on a resource or on a worker."""
    mine, other = row.spec, claimant.spec
    shared = set(mine.resources) & set(other.resources) or mine.task_type == other.task_type
    return row is not claimant and other.priority >= mine.priority and bool(shared)


def _unjust(waiting: TaskSpec, sent: Iterable[tuple[TaskSpec, float]]) -> Iterable[str]:
    """Describe tasks in a list of dispatches, with times, that were not next: a waiting task was."""
    mine = set(waiting.resources)
    alike = [(spec, at) for spec, at in sent if mine <= set(spec.resources)]
    for spec, _ in alike:
        if spec.priority < waiting.priority:
            yield f"{spec.guid} went before {waiting.guid}, which has a higher priority"
    equals = [
        (spec.suite, at)
        for spec, at in alike
        if mine == set(spec.resources) and spec.priority == waiting.priority
    ]
    last = max((at for suite, at in equals if suite == waiting.suite), default=0.0)
    like_it = [spec for spec, _ in alike if mine == set(spec.resources) and spec.suite == waiting.suite]
    if sum(spec.priority == waiting.priority and spec.id > waiting.id for spec in like_it) > MOST_TURNS:
        yield f"younger tasks of its suite and priority go before {waiting.guid}"
    for suite, turns in Counter(suite for suite, at in equals if at > last).items():
        if turns > MOST_TURNS:
            yield f"suite {suite} has turn after turn while {waiting.guid} of suite {waiting.suite} waits"


class Judge:
    """Checks every few seconds, and at the end.

    Args:
        prefix: of the manager's lock keys.
        queue: the manager's queue.
        max_attempts: number of attempts after which a task is dead.
        newcomers: resources that were created while attempts were in flight.
        denied: resources that the manager may never change: tasks that need them wait for ever.
        to_settle: the messages that ask to retry or settle dead tasks, by task ids.
        delay: additional seconds that the manager may need after all is mended.
        time_limit: seconds that a task may take.
        ending: workers that end tasks themselves which exceed it; they have some seconds more.
        clocks_right: no wall clock was ever behind, so nothing happened after its recorded end.
    """

    def __init__(
        self,
        observer: Observer,
        keys: Mapping[str, str],
        database: FakeDatabase,
        broker: Broker,
        prefix: str,
        queue: str,
        max_attempts: int,
    ) -> None:
        self._observer = observer
        self._keys = keys
        self._database = database
        self._broker = broker
        self._prefix = prefix
        self._queue = queue
        self._max_attempts = max_attempts
        self.newcomers: set[str] = set()
        self.to_settle: dict[int, bytes] = {}
        self.denied: set[str] = set()
        self.delay = 0.0
        self._since: dict[str, float] = {}
        self._history: dict[int, FinishedTask] = {}
        self._attempts: dict[int, AttemptRow] = {}
        self._looked_into: set[int] = set()
        self._held_since: dict[tuple[str, int], float] = {}
        self._lacked_since: dict[tuple[str, int | None], float] = {}
        self.time_limit = 0.0
        self.ending: set[str] = set()
        self.clocks_right = True

    # --- every few seconds ---

    def look(self, time: float, mended: float | None, workers: Sequence[Program]) -> None:
        """Check what must never happen, and, while nothing is broken, what must not last."""
        self._past_is_past()
        self._ended_with_reason(time, workers)
        if mended is not None and time > mended + HEALING + self.delay:
            self._owed_first(time)
            odd = dict.fromkeys((*self._strays(), *self._lacks(), *self._unread()), 2 * INTERVAL)
            odd |= dict.fromkeys(self._not_dispatched(workers), 2 * INTERVAL)
            odd |= dict.fromkeys(self._forgotten(workers), FORGOTTEN)
            for unjust in self._out_of_turn(START + mended + HEALING + self.delay, START + time, workers):
                self._observer.object(unjust)
            self._since = {what: self._since.get(what, time) for what in odd}
            for what, patience in odd.items():
                if time - self._since[what] > patience:
                    self._observer.object(f"{what}, for {patience:g} s")

    def _past_is_past(self) -> None:
        """What has ended does not change: late events have no effect on it."""
        rows = self._database.rows
        for id, task in rows.history.items():
            known = self._history.setdefault(id, task)
            if known is not task and known != dataclasses.replace(
                task, settled=known.settled, copy=known.copy
            ):
                self._observer.object(f"{task.row.spec.guid} changed after it had ended")
        for id in self._history.keys() - rows.history.keys():
            self._observer.object(f"task {id} is gone from history")
        for id, row in rows.attempts.items():
            before = self._attempts.setdefault(id, row)
            if before is not row:
                self._attempts[id] = row
                if before.result is None:  # its worker may still say how it went
                    row = replace(row, result=None, message=None, details=None)
                if replace(row, unresolved=False) != replace(before, unresolved=False):
                    self._observer.object(f"attempt {id} of {row.guid} changed after it had ended")

    def _ended_with_reason(self, time: float, workers: Sequence[Program]) -> None:
        """What has ended since the last check ended for its recorded reason, if the clocks were right."""
        programs = {worker.name: worker for worker in workers}
        for id, row in self._database.rows.attempts.items():
            if id in self._looked_into:
                continue
            self._looked_into.add(id)
            if row.end == "stalled":
                self._stalled_in_time(row, time)
            program = programs.get(row.worker)
            ended = row.ended - START
            lately = time - 2 * LOOK < ended <= time  # otherwise the clocks were wrong
            back = program is not None and program.alive and program.born < ended
            again = self._broker.goodbyes.get(row.worker, inf) < row.dispatched - START
            if row.end == "offline" and lately and back and again:
                self._observer.object(f"an old goodbye took {row.guid} from {row.worker}")

    def _stalled_in_time(self, row: AttemptRow, time: float) -> None:
        mine = [
            deed.time
            for deed in self._observer.starts
            if (deed.worker, deed.guid) == (row.worker, row.guid)
        ]
        limit = self.time_limit + (ENDING if row.worker in self.ending else 0.0)
        if mine and time - min(mine) < limit - 1.0:
            self._observer.object(f"{row.worker} counts as stalled {time - min(mine):.0f} s after it began")

    def _locks(self) -> list[tuple[str, int]]:
        """Return (resource, attempt) of the manager's references."""
        found = []
        for path in self._keys:
            name, _, rest = path.partition("/locks/")
            client = rest.split("~")[0]
            if client.startswith(f"{self._prefix}:"):
                found.append((name, int(client.removeprefix(f"{self._prefix}:"))))
        return found

    def _strays(self) -> Iterable[str]:
        """References that belong to no task in flight."""
        in_flight = {row.attempt for row, _ in self._database.rows.tasks.values()}
        for name, attempt in self._locks():
            if attempt not in in_flight and name not in self.denied:
                yield f"a reference to {name} outlives attempt {attempt}"

    def _lacks(self) -> Iterable[str]:
        """Tasks in flight that lack references which they could have."""
        held = set(self._locks())
        for row, _ in self._database.rows.tasks.values():
            if row.attempt is not None:
                for name in set(row.spec.resources) - self.newcomers - self.denied:
                    there = f"{name}/ref_limit" in self._keys
                    if there and (name, row.attempt) not in held and self._observer.room(name):
                        yield f"attempt {row.attempt} of {row.spec.guid} runs without {name}"

    def _owed_first(self, time: float) -> None:
        """An attempt that lacks a reference gets it before anything else does."""
        held = set(self._locks())
        lacks = {
            (name, row.attempt)
            for row, _ in self._database.rows.tasks.values()
            for name in set(row.spec.resources) - self.newcomers - self.denied
            if row.attempt is not None and f"{name}/ref_limit" in self._keys
        } - held
        self._held_since = {lock: self._held_since.get(lock, time) for lock in held}
        self._lacked_since = {lack: self._lacked_since.get(lack, time) for lack in lacks}
        for (name, attempt), since in self._lacked_since.items():
            for (other_name, other), at in self._held_since.items():
                if name == other_name and at > since + 2 * INTERVAL:
                    self._observer.object(f"attempt {other} was given {name}, which {attempt} runs without")

    def _unread(self) -> Iterable[str]:
        if self._broker.queues.get(self._queue):
            yield "nobody reads the manager's queue"

    def _not_dispatched(self, workers: Sequence[Program]) -> Iterable[str]:
        """Tasks that could run, as far as can be seen, and are not dispatched."""
        rows = self._database.rows
        waiting = [row for row, _ in rows.tasks.values() if row.state == "waiting"]
        claimants = [row for row in waiting if self._may_claim(rows, row, workers)]
        for row in waiting:
            claimed = any(_may_wait_for(row, other) for other in claimants)
            if self._worker_for(rows, row, workers) and not claimed:
                yield f"{row.spec.guid} could run and is not dispatched"

    def _out_of_turn(self, begin: float, now: float, workers: Sequence[Program]) -> Iterable[str]:
        """Tasks that wait while others are sent: of lower priority, or turn after turn of another suite.

        Only what needs no less than the one that waits could have gone to it, and only a first dispatch: a
        worker of which nobody knows what it has gets that task again and no other. A dispatch that is
        dated after ``now`` was dated by a wrong clock, before ``begin``.
        """
        rows = self._database.rows
        firsts = {row.task_id: row.dispatched for row in reversed(rows.attempts.values())}
        sent = [(row.spec, row.dispatched) for row, _ in rows.tasks.values() if row.spec.id not in firsts]
        sent += [(rows.history[id].row.spec, at) for id, at in firsts.items() if id in rows.history]
        for row, _ in rows.tasks.values():
            if (
                row.plain
                and row.spec.suite not in rows.paused
                and not self.denied & set(row.spec.resources)
            ):
                since = max(begin, row.spec.received) + INTERVAL
                idle = self._idle_since(rows, row, workers) + INTERVAL
                later = [
                    (spec, at)
                    for spec, at in sent
                    if at is not None
                    and now >= at > (since if spec.task_type == row.spec.task_type else idle)
                ]
                yield from _unjust(row.spec, [each for each in later if each[1] > since])

    def _idle_since(self, rows: Rows, row: TaskRow, workers: Sequence[Program]) -> float:
        """Return since when a worker has been free that could take a task, or infinity."""
        found = self._free_worker(rows, row, workers)
        return rows.workers[found.split(" ")[0]].since if found else inf

    def _may_claim(self, rows: Rows, row: TaskRow, workers: Sequence[Program]) -> bool:
        """Tell whether a task may keep others from its resources: it needs several, all usable now."""
        spec = row.spec
        names = spec.resources
        closed = any(not self._observer.room(name, 0) for name in names)
        return len(names) > 1 and not closed and bool(self._free_worker(rows, row, workers))

    def _worker_for(self, rows: Rows, row: TaskRow, workers: Sequence[Program]) -> str:
        """Return a worker that could take a task now and since when, or an empty text."""
        if not all(self._observer.room(name) for name in row.spec.resources):
            return ""
        return self._free_worker(rows, row, workers)

    def _free_worker(self, rows: Rows, row: TaskRow, workers: Sequence[Program]) -> str:
        """Return the same, whatever resources the task needs."""
        denied = not self.denied.isdisjoint(row.spec.resources)
        if denied or rows.manager.state != "running" or row.spec.suite in rows.paused:
            return ""
        for worker in workers:
            known = rows.workers.get(worker.name)
            fits = worker.worker_type == row.spec.task_type and worker.name not in row.avoid
            if fits and worker.idle and known is not None and known.status == "idle":
                return f"{worker.name} (idle since {known.since:.3f})"
        return ""

    def _forgotten(self, workers: Sequence[Program]) -> Iterable[str]:
        """Workers that are free and get nothing."""
        for worker in workers:
            known = self._database.rows.workers.get(worker.name)
            if worker.idle and (known is None or known.status != "idle"):
                yield f"{worker.name} is idle and counts as {known.status if known else 'unknown'}"

    # --- when all is over ---

    def judge(self, workers: Mapping[str, Collection[str]], stopped: Collection[str]) -> None:
        """Record what went wrong. ``workers``: names by type; ``stopped``: suites."""
        self._everything_ended(workers)
        self._nothing_held()
        for task in self._database.rows.history.values():
            self._ended_rightly(task, stopped)
        self._completed_by_those_who_did()
        self._no_run_without_reason()
        self._rejected()
        self._dropped()
        self._copies()

    def _everything_ended(self, workers: Mapping[str, Collection[str]]) -> None:
        rows = self._database.rows
        history = Counter(task.row.spec.guid for task in rows.history.values())
        waiting = {row.spec.guid: row for row, _ in rows.tasks.values()}
        for_ever = {guid for guid, row in waiting.items() if self.denied.intersection(row.spec.resources)}
        forgotten = self._observer.guids(self._broker.forgotten.get(self._queue, ()))
        for guid, task_type in self._observer.submitted.items():
            if history[guid] > self._observer.sent[guid]:
                self._observer.object(f"{guid} is in history {history[guid]} times")
            elif not history[guid] and guid not in waiting and guid not in forgotten:
                self._observer.object(f"{guid} is lost")
            elif (
                guid in waiting
                and guid not in for_ever
                and not set(workers[task_type]) <= set(waiting[guid].avoid) - set(waiting[guid].shun)
            ):
                self._observer.object(f"{guid} never ended: it is {waiting[guid].state}")

    def _nothing_held(self) -> None:
        for path, value in self._keys.items():
            name, _, rest = path.partition("/")
            if rest.startswith("locks/"):
                self._observer.object(f"the reference {rest} of {name} outlives its task")
            if rest == "ref_count" and value != "0":
                self._observer.object(f"{name}: {value} references are left")

    def _ended_rightly(self, task: FinishedTask, stopped: Collection[str]) -> None:
        spec = task.row.spec
        ended = self._latest(task.finished_at)
        done = [deed for deed in self._observer.results if deed.guid == spec.guid and deed.time <= ended]
        if task.outcome == "completed" and not done:
            self._observer.object(f"{spec.guid} counts as completed, but nobody completed it")
        if task.outcome == "stopped" and spec.suite not in stopped:
            self._observer.object(f"{spec.guid} was stopped by nobody")
        elif task.outcome == "stopped" and self._came_after_all_stops(spec.guid, spec.suite):
            self._observer.object(f"{spec.guid} was stopped by what came before it")
        if task.outcome == "dead":
            if task.row.attempts < self._max_attempts:
                self._observer.object(f"{spec.guid} is dead after {task.row.attempts} attempts")
            if not self._observer.dispatches[spec.guid]:
                self._observer.object(f"{spec.guid} is dead, but was never sent to a worker")
        mine = [row for row in self._database.rows.attempts.values() if row.task_id == spec.id]
        numbers = {row.number for row in mine}
        nothing = {task.row.attempts + 1} if all(map(self._may_not_count, mine[-1:])) else set()
        if numbers - nothing != set(range(1, task.row.attempts + 1)):
            self._observer.object(
                f"{spec.guid} had {task.row.attempts} attempts, in history are {sorted(numbers)}"
            )

    def _may_not_count(self, row: AttemptRow) -> bool:
        """Tell whether nobody may have known that it arrived: then the next attempt has the same number."""
        return row.started is None and row.end not in ("completed", "environment")

    def _latest(self, ended: float) -> float:
        """Return the latest simulated time at which something with this recorded end may have happened."""
        return ended - START if self.clocks_right else inf

    def _came_after_all_stops(self, guid: str, suite: str | None) -> bool:
        """Tell whether a task was sent after all stops: a stop covers only what waits when it comes."""
        return self._observer.came[guid] > self._observer.stops.get(suite or "", 0)

    def _completed_by_those_who_did(self) -> None:
        """A completion is credited to the attempt that did the work, and to no other."""
        for row in self._database.rows.attempts.values():
            ended = self._latest(row.ended)
            by = [(deed.worker, deed.guid) for deed in self._observer.results if deed.time <= ended]
            if row.end == "completed" and (row.worker, row.guid) not in by:
                self._observer.object(f"{row.worker} has not completed {row.guid} in attempt {row.id}")

    def _no_run_without_reason(self) -> None:
        rows = self._database.rows
        attempts = Counter(row.guid for row in rows.attempts.values())
        attempts.update(row.spec.guid for row, _ in rows.tasks.values() if row.attempt is not None)
        completed = Counter(row.guid for row in rows.attempts.values() if row.end == "completed")
        starts = Counter(deed.guid for deed in self._observer.starts)
        for guid, count in starts.items():
            reasons = attempts[guid] - completed[guid] + self._observer.sent[guid]
            if count > min(attempts[guid], reasons):
                self._observer.object(f"{guid} ran {count} times in {attempts[guid]} attempts")
        for guid, count in self._observer.dispatches.items():
            if count > attempts[guid]:
                self._observer.object(f"{guid} was sent {count} times in {attempts[guid]} attempts")

    def _dropped(self) -> None:
        """No message of any kind was given back to its queue too often and lost."""
        for body in self._broker.dropped:
            self._observer.object(f"{body!r} was given back until its queue dropped it")

    def _copies(self) -> None:
        """A dead task that nobody has settled has exactly one copy, and no other task has any."""
        rows = self._database.rows
        copies = Counter(message.headers["x-tef-task"] for message in self._broker.queues.get("dead", ()))
        last = {task.row.spec.guid: id for id, task in sorted(rows.history.items())}
        waiting = {row.spec.guid for row, _ in rows.tasks.values()}
        for id, task in rows.history.items():
            guid = task.row.spec.guid
            listed = task.outcome == "dead" and not task.settled and last[guid] == id
            listed = listed and guid not in waiting
            gone = id in self._broker.destroyed or task.body in self._broker.forgotten.get("dead", ())
            if listed and not copies[id] and not gone:
                self._observer.object(f"{guid} is dead, but not in the dead queue")
            elif listed and self._asked_for(id):
                self._observer.object(f"{guid} was to be retried or settled, and is dead as before")
            elif copies[id] > 1:
                self._observer.object(f"of {guid} there are {copies[id]} copies in the dead queue")
            elif copies[id] and not listed:
                self._observer.object(f"{guid} is settled, and in the dead queue")
        for stray in copies.keys() - rows.history.keys():
            self._observer.object(f"task {stray} is in the dead queue, and not in history")

    def _asked_for(self, id: int) -> bool:
        """Tell whether a message that the broker has not forgotten asks to retry or settle a task."""
        forgotten = self._broker.forgotten.get(self._queue, ())
        return id in self.to_settle and self.to_settle[id] not in forgotten

    def _rejected(self) -> None:
        rejected = self._broker.ever("rejected")
        for body in self._observer.garbage:
            if body not in rejected and body not in self._broker.forgotten.get(self._queue, ()):
                self._observer.object(f"{body!r} was not rejected")
        for body in set(rejected) - set(self._observer.garbage):
            self._observer.object(f"{body!r} was rejected")
        for body, count in Counter(rejected).items():
            again = self._broker.unanswered + self._broker.unheard[body]
            if count > self._observer.garbage.count(body) + again:
                self._observer.object(f"of {body!r} there are {count} copies in the rejected queue")
