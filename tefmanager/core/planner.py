"""Matches waiting tasks with free workers, as far as their resources suffice."""

from __future__ import annotations

from functools import partial

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.entities import Task, Worker
from tefmanager.core.model.timers import Timers
from tefmanager.core.model.values import Moment
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.running.workers import Workers
from tefmanager.core.sharing.pool import Pool, Wait, is_resource
from tefmanager.core.waiting.backlog import Backlog
from tefmanager.core.waiting.lanes import InLine, Lane, PagedOut
from tefmanager.protocol import catalogue


class Planner:
    """Plans until every free worker has a task or no waiting task can run.

    Args:
        patience: seconds for which a task of several resources is first in line, lacking only resources,
            before it claims them.
    """

    def __init__(
        self,
        patience: float,
        ledger: Ledger,
        backlog: Backlog,
        workers: Workers,
        pool: Pool,
        timers: Timers,
        attempts: Attempts,
    ) -> None:
        self._patience = patience
        self._ledger = ledger
        self._backlog = backlog
        self._workers = workers
        self._pool = pool
        self._timers = timers
        self._attempts = attempts

    def limit(self, patience: float) -> None:
        """Change the patience, also for the tasks that already wait."""
        self._patience = patience
        for wait in self._pool.waits.values():
            self._arm(wait)

    def pay_debts(self, now: Moment) -> None:
        """Reserve the references owed to running attempts, once they are available."""
        asked = self._attempts.reserving
        for attempt in self._attempts.owed.values():
            if attempt.id not in asked and self._pool.fits(attempt, now):
                self._attempts.reserve(attempt, now)

    def plan(self, now: Moment) -> None:
        """Book a worker for each waiting task that can run, until a task comes up that must be read first.

        The engine then begins another turn at once by reading it.
        """
        for worker_type in self._workers.touched():
            self._pool.let_pass(worker_type, now)
            type_queue = self._backlog.type_queues.get(worker_type)
            if type_queue is not None and not self._workers.busy(worker_type):
                self._backlog.front.offer(type_queue)
        if not self._plan(now):
            return
        for worker in self._workers.doubtful():
            self._send_again(worker, now)

    def _send_again(self, worker: Worker, now: Moment) -> None:
        """Send a doubtful worker again the task that it has not begun, if the task still waits.

        The worker may not have got the first message. The broker must have answered for that one, or the
        task would be sent again for ever.
        """
        unconfirmed = any(attempt.id in self._attempts.unconfirmed for attempt in worker.queue)
        if unconfirmed or not worker.doubtful:
            return
        task = worker.queue[-1].task
        waits = task.lane is not None and not task.lane.held and not task.aside
        if waits and worker.name not in task.avoid and self._pool.short(task, now, worker) is None:
            self._attempts.book(task, worker, now)

    def _plan(self, now: Moment) -> bool:
        """Serve one lane after the other; return False if rows must be read first."""
        aside: list[InLine] = []
        gives = partial(self._pool.gives, now=now)
        while (lane := self._backlog.best(gives, self._workers.busy)) is not None:
            task = lane.head()
            worker = self._worker_for(lane, task, now)
            if worker is None:
                lane.wait_list.set_aside(lane)
                aside.append(lane)
            elif isinstance(lane, Lane) and task is not None:
                self._serve(lane, task, worker, now)
            elif self._must_read(lane, now):
                break
        for lane in aside:
            lane.demand.type_queue.offer(lane)
        return not self._backlog.to_read.urgent

    def _worker_for(self, lane: InLine, task: Task | None, now: Moment) -> Worker | None:
        """Return the worker that has been free longest among those that may take the head of a lane."""
        free = self._workers.free(lane.demand.type_queue.task_type)
        kept = self._pool.keeps(task, now) if task is not None and self._pool.claimed else ()
        if not (lane.avoid or kept):
            return next(iter(free))
        return next((one for one in free if one.name not in lane.avoid and one not in kept), None)

    def _must_read(self, lane: InLine, now: Moment) -> bool:
        """Ask for a lane's first task to be read, unless its resources have nothing to give.

        A paged-out demand that is short is parked without reading, if a task in memory can represent it.
        """
        short = self._pool.lacking(lane.demand.resources, now)
        first = lane.demand.first() if isinstance(lane, PagedOut) else None
        if short is None or (first is None and is_resource(short)):
            self._backlog.to_read.ask(lane)
            return True
        self._park(lane, first, short, now)
        return False

    def _serve(self, lane: Lane, task: Task, worker: Worker, now: Moment) -> None:
        """Give the head of a lane to a worker, or park the lane at the resource that it is short of."""
        short = self._pool.short(task, now)
        if short is not None:
            self._park(lane, task, short, now)
            return
        type_queue = lane.demand.type_queue
        self._backlog.serve(lane)
        self._pool.yield_to(task, now)
        self._attempts.book(task, worker, now)
        self._pool.let_pass(task.spec.task_type, now)
        waits_at = lane.wait_list.short if lane.stands else None
        if waits_at is not None and self._pool.gives(waits_at, now):
            type_queue.unpark(lane)

    def _park(self, lane: InLine, task: Task | None, short: str, now: Moment) -> None:
        type_queue = lane.demand.type_queue
        type_queue.park(lane, short)
        if task is None or not is_resource(short) or task.spec.id in self._pool.waits:
            return
        if type_queue.step_forward(lane):
            wait = self._pool.wait(task, now)
            self._ledger.task(task)
            self._ledger.log(catalogue.RESOURCE_WAIT(task.spec.task_type, task.spec.guid, short))
            self._arm(wait)

    def _arm(self, wait: Wait) -> None:
        """Set a timer for the end of a task's patience. A task of one resource needs none."""
        if len(wait.task.spec.resources) > 1 and wait.task.claim is None:
            self._timers.cancel(wait.timer)
            due = wait.since + self._patience
            wait.timer = self._timers.at(due, partial(self._lose_patience, wait))

    def _lose_patience(self, wait: Wait, now: Moment) -> None:
        if wait.task.claim is not None or now.monotonic < wait.since + self._patience:
            return  # the patience has been changed since this timer was set
        if self._pool.waits.get(wait.task.spec.id) is wait:
            self._pool.claim(wait)
            if wait.task.lane is not None:
                wait.task.lane.advance(wait.task)
