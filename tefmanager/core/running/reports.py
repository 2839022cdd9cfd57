"""Handles what workers say: the table of worker states.

`UNHELD` and `HELD` are the one place that says what happens; ``docs/protocol.md`` draws them, and a test
keeps the page and the tables equal. The two vocabularies in the field differ in the word for *free*:
``ready``, which also ends a task, and ``idle``, which does not.

In one of the vocabularies, a worker's messages name no task. Then they refer to the oldest dispatch that is
not settled, since a worker takes its queue in order.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.effects import Reply
from tefmanager.core.model.entities import Attempt, Phase, Worker
from tefmanager.core.model.events import WorkerReported
from tefmanager.core.model.said import Said
from tefmanager.core.model.values import Moment, TaskState
from tefmanager.core.running.attempts import Attempts
from tefmanager.core.running.departures import Departures
from tefmanager.core.running.workers import Workers
from tefmanager.core.waiting.backlog import Backlog
from tefmanager.protocol import catalogue
from tefmanager.protocol.messages import WorkerMessage

OFFLINE = "offline"


class Word(StrEnum):
    """What a worker can say while it stays."""

    READY = "ready"
    IDLE = "idle"
    WORKING = "working"
    TASK_COMPLETE = "task_complete"


_WORDS = {word.value: word for word in Word}


class Holds(StrEnum):
    """What the manager holds for the worker of the task that the message refers to."""

    NOTHING = "nothing"
    DISPATCHED = "dispatched"
    WORKING = "working"
    TAKEN = "taken away"


class Reports:
    """Registers workers and does what the tables say."""

    def __init__(
        self,
        ledger: Ledger,
        backlog: Backlog,
        workers: Workers,
        attempts: Attempts,
        departures: Departures,
    ) -> None:
        self._ledger = ledger
        self._backlog = backlog
        self._workers = workers
        self._attempts = attempts
        self._departures = departures

    def handle(self, event: WorkerReported, now: Moment) -> None:
        """Handle one ``worker_status``."""
        problem = self._handle(event, now)
        if problem is not None:
            self._ledger.log(problem)
        if event.reply is not None:
            self._ledger.do(Reply(event.reply, True if problem is None else problem.text))

    def _handle(self, event: WorkerReported, now: Moment) -> catalogue.LoggedEvent | None:
        message = event.message
        if message.status == OFFLINE:
            self._departures.offline(message.name, now, again=event.redelivered)
            return None
        word = _WORDS.get(message.status)
        if word is None:
            return catalogue.UNKNOWN_STATUS(message.name, message.status)
        worker = self._known(message, now)
        if worker is None:
            return catalogue.MISSING_WORKER_TYPE(message.name)
        worker.heard, worker.heard_at = now.monotonic, now.wall
        self._keeps_limits(worker, message.limits)
        for fault in message.faults:
            self._ledger.log(catalogue.RESULT_FAULTY(worker.name, message.task or "", fault))
        self._departures.stays(worker, now, free=word in (Word.READY, Word.IDLE))
        self._act(worker, word, event, now)
        self._workers.changed(worker, now)
        return None

    def _keeps_limits(self, worker: Worker, limits: bool) -> None:
        changed, worker.limits = worker.limits is not limits, limits
        if changed and worker.live is not None:
            self._attempts.deadlines.arm(worker.live)

    def _act(self, worker: Worker, word: Word, event: WorkerReported, now: Moment) -> None:
        meant = self._meant(worker, word, event.message)
        if meant is None:
            UNHELD[word](self, worker, None, event, now)
        else:
            HELD[self._holding(meant), word](self, worker, meant, event, now)

    def _meant(self, worker: Worker, word: Word, message: WorkerMessage) -> Attempt | None:
        """Return the attempt that a message refers to."""
        if word in (Word.READY, Word.IDLE):
            return worker.live
        if message.attempt is not None:
            named = next((each for each in worker.queue if each.is_named(message.attempt)), None)
            if named is not None:
                return named
        if message.task is not None:
            return self._live_of_its_task(worker, worker.holds(message.task))
        return self._live_of_its_task(worker, worker.queue[0] if worker.queue else None)

    def _live_of_its_task(self, worker: Worker, meant: Attempt | None) -> Attempt | None:
        """Return the live dispatch if a worker has two of the same task and the older one is meant.

        It has the task that it should have. The two change places: the other one is still in its queue.
        """
        live = worker.live
        if meant is None or live is None or live is meant or live.task is not meant.task:
            return meant
        older, newer = worker.queue.index(meant), worker.queue.index(live)
        worker.queue[older], worker.queue[newer] = live, meant
        meant.phase = Phase.DISPATCHED
        return live

    def _holding(self, attempt: Attempt) -> Holds:
        return Holds(attempt.phase.value) if attempt.live else Holds.TAKEN

    # --- who it is ---

    def _known(self, message: WorkerMessage, now: Moment) -> Worker | None:
        worker = self._workers.get(message.name)
        if worker is None:
            return self._register(message, now)
        worker_type = message.worker_type or worker.worker_type
        if (worker_type, message.exchange_name) != (worker.worker_type, worker.exchange_name):
            if worker.booked is not None:
                self._attempts.unbook(worker.booked, now)
            self._workers.retype(worker, worker_type, message.exchange_name, now)
            self._ledger.log(catalogue.WORKER_UPDATED(worker.name, worker_type, message.exchange_name))
        return worker

    def _register(self, message: WorkerMessage, now: Moment) -> Worker | None:
        if message.worker_type is None:
            return None
        heard = (now.monotonic, now.wall)
        worker = Worker(message.name, message.worker_type, message.exchange_name, *heard, busy=True)
        self._workers.add(worker, now)
        self._departures.arm(worker)
        self._ledger.log(catalogue.WORKER_REGISTERED(worker.name, worker.worker_type, worker.exchange_name))
        return worker

    # --- the actions of the tables; each takes (worker, the attempt meant, the event, now) ---

    def _free(self, worker: Worker, meant: Attempt | None, event: WorkerReported, now: Moment) -> None:
        idle = event.message.status == Word.IDLE
        for attempt in [each for each in worker.queue if each.phase is Phase.WORKING]:
            said, task = attempt.said, attempt.task
            over = said.beats and self._backlog.by_guid.get(task.spec.guid) is not task
            if idle and said.quiet is None and not over:
                # It may have crossed its *working*, or overtaken its *task_complete*: the next one tells.
                attempt.said = said.free(now.monotonic)
                if said.beats:
                    self._attempts.deadlines.ended_silently(attempt, now)
            else:
                self._attempts.resolve(attempt, now)
        self._attempts.deadlines.seen_free(worker, now)
        self._departures.back(worker, now)
        if worker.stalled:
            self._ledger.log(catalogue.WORKER_BACK(worker.name, worker.worker_type, "stalled"))
        self._workers.mark(worker, now, busy=False, stalled=False)

    def _busy(self, worker: Worker, meant: Attempt | None, event: WorkerReported, now: Moment) -> None:
        guid = event.message.task
        task = None if guid is None or worker.live is not None else self._backlog.by_guid.get(guid)
        self._occupied(worker, now)
        if task is not None and worker.name not in task.shun and self._waits(task.attempt, task.state):
            self._attempts.take_over(task, worker, now)

    def _unmatched(self, worker: Worker, meant: Attempt | None, event: WorkerReported, now: Moment) -> None:
        self._occupied(worker, now)
        guid = event.message.task
        task = None if guid is None else self._backlog.by_guid.get(guid)
        if task is None or not task.tried:
            reason = "no such task is waiting or in flight" if guid else "the worker holds no task"
            self._ledger.log(catalogue.COMPLETION_IGNORED(worker.name, guid or "", reason))
        else:
            by = Attempt(0, task, worker, live=False, said=Said(verdict=event.message.verdict))
            self._complete_late(by, now)

    def _heartbeat(self, worker: Worker, meant: Attempt | None, event: WorkerReported, now: Moment) -> None:
        self._departures.back(worker, now)

    def _start(self, worker: Worker, meant: Attempt, event: WorkerReported, now: Moment) -> None:
        if event.redelivered and event.message.task is None:
            # It may be a redelivered start of the task before. If it is not, a heartbeat will say so.
            meant.since = now.monotonic
            self._departures.back(worker, now)
        else:
            self._passed_over(worker, meant, now)
            self._attempts.start(meant, event.message.progress, now)

    def _quick(self, worker: Worker, meant: Attempt, event: WorkerReported, now: Moment) -> None:
        if _may_be_older(meant, event):
            guid = event.message.task or ""
            reason = f"delivered again, and names no {'attempt' if guid else 'task'}"
            self._ledger.log(catalogue.COMPLETION_IGNORED(worker.name, guid, reason))
        else:
            self._end(worker, meant, event, now)

    def _done(self, worker: Worker, meant: Attempt, event: WorkerReported, now: Moment) -> None:
        if _may_be_older(meant, event):
            self._doubt(meant, event, now)
        else:
            self._end(worker, meant, event, now)

    def _done_and_free(self, worker: Worker, meant: Attempt, event: WorkerReported, now: Moment) -> None:
        if _names_another(meant, event.message):
            self._heartbeat(worker, meant, event, now)
        elif event.redelivered and not _names(meant, event.message):
            self._doubt(meant, event, now)
        else:
            self._end(worker, meant, event, now)
            self._free(worker, None, event, now)

    def _quiet(self, worker: Worker, meant: Attempt, event: WorkerReported, now: Moment) -> None:
        said = meant.said
        if said.first_hand and event.redelivered:
            return  # it may be from before the restart; the next heartbeat will tell
        if said.first_hand and said.doubt is not None:
            self._end(worker, meant, event, now)
            self._free(worker, None, event, now)
        elif said.quiet is None:
            meant.said = said.free(now.monotonic)
            self._attempts.deadlines.arm(meant)

    def _doubt(self, meant: Attempt, event: WorkerReported, now: Moment) -> None:
        """Believe a message that may be the redelivered end of the task before, unless *working* follows.

        If *working* was heard first-hand, a redelivered message decides nothing by itself.
        """
        verdict = event.message.verdict
        self._attempts.hear(meant, meant.said.done_again(now.monotonic).judged(verdict))
        if not meant.said.first_hand:
            self._attempts.deadlines.arm(meant)

    def _carry_on(self, worker: Worker, meant: Attempt, event: WorkerReported, now: Moment) -> None:
        said = meant.said.working(event.message.progress, first_hand=not event.redelivered)
        self._attempts.hear(meant, said)

    def _regain(self, worker: Worker, meant: Attempt, event: WorkerReported, now: Moment) -> None:
        if meant.phase is Phase.WORKING:
            meant.said = meant.said.beating()
        meant.phase = Phase.WORKING
        self._occupied(worker, now)
        self._passed_over(worker, meant, now)
        task = meant.task
        current = self._backlog.by_guid.get(task.spec.guid) is task and self._waits(
            task.attempt, task.state
        )
        may = not worker.stalled and worker.name not in task.avoid
        if current and worker.live is None and may:
            self._attempts.resolve(meant, now)
            self._attempts.take_over(task, worker, now, meant.known_as or meant.id)

    def _late(self, worker: Worker, meant: Attempt, event: WorkerReported, now: Moment) -> None:
        self._passed_over(worker, meant, now)
        self._attempts.resolve(meant, now)
        self._occupied(worker, now)
        task = meant.task
        if self._backlog.by_guid.get(task.spec.guid) is task:
            meant.said = meant.said.judged(event.message.verdict)
            self._complete_late(meant, now)
        else:
            reason = "the task is finished already"
            self._ledger.log(catalogue.COMPLETION_IGNORED(worker.name, task.spec.guid, reason))

    def _complete_late(self, by: Attempt, now: Moment) -> None:
        """Complete a task by an attempt that is over; it is too late to ask for another attempt."""
        if by.said.verdict.retry:
            reason = "the attempt is over already, and asks for another"
            self._ledger.log(catalogue.COMPLETION_IGNORED(by.worker.name, by.task.spec.guid, reason))
        else:
            self._attempts.complete(by.task, by, now)

    def _end(self, worker: Worker, attempt: Attempt, event: WorkerReported, now: Moment) -> None:
        self._passed_over(worker, attempt, now)
        self._occupied(worker, now)
        verdict = event.message.verdict
        over = event.message.status == Word.TASK_COMPLETE
        attempt.said = attempt.said.ended(verdict) if over else attempt.said.judged(verdict)
        self._attempts.end_by_worker(attempt, now)

    # --- what they share ---

    def _occupied(self, worker: Worker, now: Moment) -> None:
        """Note that the worker is there, and not free until it says so."""
        self._departures.back(worker, now)
        self._workers.mark(worker, now, busy=True)
        if worker.booked is not None:
            self._attempts.unbook(worker.booked, now)

    def _passed_over(self, worker: Worker, meant: Attempt, now: Moment) -> None:
        """Settle earlier dispatches: a worker takes its queue in order, so they are not in it any more."""
        for attempt in worker.queue[: worker.queue.index(meant)]:
            if not attempt.live:
                self._attempts.resolve(attempt, now)

    def _waits(self, attempt: Attempt | None, state: TaskState) -> bool:
        return state is TaskState.WAITING and (attempt is None or attempt.phase is Phase.RESERVING)


def _names_another(meant: Attempt, message: WorkerMessage) -> bool:
    """Tell whether a message that is about one attempt at most names another."""
    if message.task is not None:
        return message.task != meant.task.spec.guid
    return message.attempt is not None and not meant.is_named(message.attempt)


def _names(meant: Attempt, message: WorkerMessage) -> bool:
    """Tell whether a message names just this attempt, by its number."""
    return message.attempt is not None and meant.is_named(message.attempt)


def _may_be_older(meant: Attempt, event: WorkerReported) -> bool:
    """Tell whether the end of a task is redelivered, and may be the end of an attempt before.

    A task that was completed is not sent again; one that its worker wanted to be tried elsewhere is.
    """
    message = event.message
    if not event.redelivered or _names(meant, message):
        return False
    return message.task is None or message.verdict.retry


UNHELD: dict[Word, Callable[[Reports, Worker, None, WorkerReported, Moment], None]] = {
    Word.READY: Reports._free,
    Word.IDLE: Reports._free,
    Word.WORKING: Reports._busy,
    Word.TASK_COMPLETE: Reports._unmatched,
}
"""What follows from a worker's word if the manager holds nothing for it."""

HELD: dict[tuple[Holds, Word], Callable[[Reports, Worker, Attempt, WorkerReported, Moment], None]] = {
    (Holds.DISPATCHED, Word.READY): Reports._heartbeat,
    (Holds.DISPATCHED, Word.IDLE): Reports._heartbeat,
    (Holds.DISPATCHED, Word.WORKING): Reports._start,
    (Holds.DISPATCHED, Word.TASK_COMPLETE): Reports._quick,
    (Holds.WORKING, Word.READY): Reports._done_and_free,
    (Holds.WORKING, Word.IDLE): Reports._quiet,
    (Holds.WORKING, Word.WORKING): Reports._carry_on,
    (Holds.WORKING, Word.TASK_COMPLETE): Reports._done,
    (Holds.TAKEN, Word.READY): Reports._free,
    (Holds.TAKEN, Word.IDLE): Reports._free,
    (Holds.TAKEN, Word.WORKING): Reports._regain,
    (Holds.TAKEN, Word.TASK_COMPLETE): Reports._late,
}
"""What follows from a worker's word about an attempt."""
