"""Takes in new tasks and carries out control messages."""

from __future__ import annotations

from tefmanager.core.blockers import Blockers
from tefmanager.core.books.counters import Counters
from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.effects import Reply, ReplyTo, ReplyWorkers, WorkerInfo
from tefmanager.core.model.entities import Phase, Task, Worker
from tefmanager.core.model.events import Commanded, TaskSubmitted
from tefmanager.core.model.values import Moment, TaskSpec
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.running.workers import Workers
from tefmanager.core.sharing.pool import Pool
from tefmanager.core.stops import Stops
from tefmanager.core.waiting.backlog import Backlog
from tefmanager.protocol import catalogue
from tefmanager.protocol.messages import DispatchTasks, GetWorkers, SetState, SuiteCommand


class Intake:
    """Takes in new tasks and carries out control messages.

    Args:
        counters: assign the ids of tasks.
    """

    def __init__(
        self,
        ledger: Ledger,
        backlog: Backlog,
        workers: Workers,
        pool: Pool,
        attempts: Attempts,
        stops: Stops,
        counters: Counters,
    ) -> None:
        self._ledger = ledger
        self._backlog = backlog
        self._workers = workers
        self._pool = pool
        self._attempts = attempts
        self.blockers = Blockers(ledger, workers, pool)
        self._stops = stops
        self._counters = counters
        self._suite_actions = {
            "pause_suite": self._pause,
            "ready_suite": self._ready,
            "stop_suite": self._stop,
        }

    def submitted(self, event: TaskSubmitted, now: Moment) -> None:
        """Accept a task, unless its guid is known."""
        message = event.message
        self._stops.stop_now(message.guid, now)
        known = self._backlog.by_guid.get(message.guid)
        finished = event.finished or self._ledger.finished_now(message.guid)
        if known is not None or (event.redelivered and finished):
            state = "finished" if known is None else known.state
            line = catalogue.TASK_DUPLICATE(message.task_type, message.guid, state)
            self._answer(event.reply, line.text)
            self._ledger.log(line)
        else:
            spec = self._accept(event, now)
            self._answer(event.reply, True, self.blockers.look(spec, now))

    def _accept(self, event: TaskSubmitted, now: Moment) -> TaskSpec:
        message = event.message
        spec = TaskSpec(
            id=self._counters.task(),
            guid=message.guid,
            task_type=message.task_type,
            priority=message.priority,
            resources=message.resources,
            suite=message.suite,
            time_limit=message.time_limit,
            received=now.wall,
        )
        task = Task(spec)
        self._backlog.by_guid[spec.guid] = task
        self._backlog.add(task)
        self._attempts.suites.came(spec.suite)
        self._ledger.accepted(task, event.body, event.properties)
        priority = catalogue.plain(spec.priority)
        line = catalogue.TASK_ACCEPTED(spec.task_type, spec.guid, priority, spec.suite or "")
        self._ledger.log(line, spec)
        return spec

    def commanded(self, event: Commanded, now: Moment) -> None:
        """Carry out a control message. For ``dispatch_tasks``, the plan of the same turn does the rest."""
        match event.message:
            case GetWorkers():
                self._list_workers(event.reply)
                return
            case SetState(state):
                self._counters.set_state(state, now.wall)
            case SuiteCommand(command) as named:
                for suite in named.suites:
                    self._suite_actions[command](suite, event, now)
            case DispatchTasks():
                self._pool.second_look()
                self._backlog.wake_all()
        self._answer(event.reply, True)

    def _list_workers(self, reply: ReplyTo | None) -> None:
        if reply is not None:
            infos = tuple(self._info(worker) for worker in self._workers)
            self._ledger.do(ReplyWorkers(reply, infos))

    def _info(self, worker: Worker) -> WorkerInfo:
        held = worker.live
        if held is not None:
            self._ledger.body(held.task)
        return WorkerInfo(
            name=worker.name,
            work_queue=worker.exchange_name,
            status=worker.status,
            task_id=None if held is None else held.task.spec.id,
            guid=None if held is None else held.task.spec.guid,
            worker_type=worker.worker_type,
            since=worker.since,
        )

    def _answer(self, reply: ReplyTo | None, response: str | bool, warnings: tuple[str, ...] = ()) -> None:
        if reply is not None:
            self._ledger.do(Reply(reply, response, warnings))

    # --- suites ---

    def _pause(self, suite: str, event: Commanded, now: Moment) -> None:
        self._unbook(suite, now)
        if suite not in self._backlog.paused:
            self._ledger.paused(suite)
        self._backlog.pause(suite)
        self._backlog.wake_all()
        self._ledger.log(catalogue.SUITE_PAUSED(suite, self._backlog.suite_size(suite)))

    def _ready(self, suite: str, event: Commanded, now: Moment) -> None:
        if suite in self._backlog.paused:
            self._ledger.readied(suite)
        self._backlog.ready(suite)
        self._ledger.log(catalogue.SUITE_READIED(suite, self._backlog.suite_size(suite)))

    def _stop(self, suite: str, event: Commanded, now: Moment) -> None:
        self._unbook(suite, now)
        self._stops.command(suite, self._counters.next_task, now, redelivered=event.redelivered)

    def _unbook(self, suite: str, now: Moment) -> None:
        """Let a suite's tasks wait again whose resources are being reserved."""
        asked = [attempt for attempt in self._attempts.reserving.values() if attempt.live]
        for attempt in asked:
            if attempt.phase is Phase.RESERVING and attempt.task.spec.suite == suite:
                self._attempts.unbook(attempt, now)
