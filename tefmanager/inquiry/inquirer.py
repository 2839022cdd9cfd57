"""Answers questions, a few in each turn, when memory and rows agree."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeAlias

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from tefmanager import inquiry
from tefmanager.core.core import Core
from tefmanager.core.model import events
from tefmanager.core.model.endings import Outcome
from tefmanager.core.model.values import FinishedRow, Moment, TaskRow
from tefmanager.inquiry import pages
from tefmanager.inquiry.questions import (
    DropDeadMessages,
    ExplainTask,
    GetDead,
    GetDeadMessages,
    GetDeadTask,
    GetHistory,
    GetResources,
    GetStatus,
    GetSuites,
    GetTask,
    GetTasks,
    GetWorkerDetails,
    Question,
    RetryDead,
    SettleDead,
)
from tefmanager.interfaces.store import CantRead, ILeadership, StoreConflict, StoreLost
from tefmanager.logfile.emit import emit
from tefmanager.protocol import catalogue
from tefmanager.protocol.messages import TaskMessage, parse
from tefmanager.support.outages import Outages

log = Logger()

AT_ONCE = 2
"""How many questions one turn answers: they must not delay dispatching."""

MOST_ASKED = 1000
"""How many questions may be pending."""


Resubmit: TypeAlias = Callable[[Sequence[events.TaskSubmitted]], Awaitable[None]]


class TooManyQuestions(Exception):
    """Too many questions are pending to accept another one."""


class DeadQueue(Protocol):
    """The dead queue, as far as questions need it."""

    def look(self) -> None:
        """Check what to do with copies, because dead tasks were settled."""

    async def others(self, question: GetDeadMessages | DropDeadMessages) -> inquiry.QueuedMessages:
        """Go through messages that are no dead task's copies, and drop those that the question names."""


class Inquirer:
    """Answers the questions of one leadership.

    Answers are made at the end of a turn, after its commit: they contain only what is durable, and rows
    read from the database fit what is in memory. Pages of history, and what is in the dead queue, are read
    beside the turns.

    Args:
        resubmit: accepts tasks again, and returns when that is committed.
        dead: notified when dead tasks are settled, and asked for other messages in the dead queue.
    """

    def __init__(
        self, core: Core, leadership: ILeadership, outages: Outages, resubmit: Resubmit, dead: DeadQueue
    ) -> None:
        self._core = core
        self._resubmit = resubmit
        self._dead = dead
        self._outages = outages
        self._leadership = leadership
        self._asked: deque[tuple[Question, Deferred[object]]] = deque()

    def __bool__(self) -> bool:
        """Tell whether a question is pending."""
        return bool(self._asked)

    def ask(self, question: Question) -> Deferred[object]:
        """Return the future answer: a value that can be encoded as JSON, or None if there is no such task.

        It is cancelled if the leadership ends first. May fail with `TooManyQuestions`.
        """
        answer: Deferred[object] = Deferred()
        if len(self._asked) < MOST_ASKED:
            self._asked.append((question, answer))
        else:
            answer.errback(TooManyQuestions(f"{MOST_ASKED} questions are pending already"))
        return answer

    async def tell(self, question: Question) -> object:
        """Return the answer or, if there is none, the text of a log line that says so."""
        try:
            if isinstance(question, GetDeadMessages | DropDeadMessages):
                return await self._dead.others(question)
            if isinstance(question, GetHistory):
                return await self._page(question)
            return await self.ask(question)
        except CancelledError:
            raise
        except Exception as error:
            if not isinstance(error, TooManyQuestions | CantRead):
                log.failure("a question could not be answered")
            line = catalogue.QUESTION_FAILED(f"{question.type}: {type(error).__name__}: {error}")
            emit(line)
            return line.text

    def forsake(self) -> None:
        """Cancel all pending answers, because the leadership ends."""
        asked, self._asked = self._asked, deque()
        for _, answer in asked:
            answer.cancel()

    async def answer_some(self, now: Moment) -> None:
        """Answer the oldest questions. Call this only at the end of a turn. Raises `StoreLost`."""
        for _ in range(min(AT_ONCE, len(self._asked))):
            question, answer = self._asked[0]
            found = None if answer.called else await self._found(question, now)
            self._asked.popleft()
            if not answer.called:  # nobody waits for the answer any more
                answer.callback(found)

    async def _found(self, question: Question, now: Moment) -> object:
        try:
            return await self._answer(question, now)
        except StoreConflict:
            return Failure()  # type: ignore[no-untyped-call]  # asked again, it would fail again
        except (StoreLost, CancelledError):
            raise
        except Exception:
            return Failure()  # type: ignore[no-untyped-call]

    async def _answer(self, question: Question, now: Moment) -> object:
        core = self._core
        match question:
            case GetStatus():
                return inquiry.status(core, now, self._outages.now())
            case GetWorkerDetails(worker_type=worker_type, status=status, limit=limit):
                return inquiry.workers(core, now, worker_type=worker_type, status=status, at_most=limit)
            case GetSuites(limit=limit):
                return inquiry.suites(core, limit)
            case GetResources(limit=limit):
                return inquiry.resources(core, now, at_most=limit)
            case GetTasks():
                return await self._tasks(question)
            case GetTask(guid=guid):
                return await self._task(guid)
            case ExplainTask(guid=guid):
                return await self._explain(guid, now)
            case GetDead(limit=limit):
                return inquiry.describe_dead(*await self._leadership.dead(limit))
            case GetDeadTask(guid=guid):
                return await self._dead_task(guid)
            case RetryDead(guids=guids):
                return await self._retry(guids)
            case SettleDead(guids=guids):
                return await self._settle(guids)
            case GetDeadMessages() | DropDeadMessages() | GetHistory():
                raise ValueError(f"{question.type} is answered beside the turns")

    async def _page(self, question: GetHistory) -> inquiry.History:
        before = pages.place(question.after)
        page = await self._leadership.reader.past(pages.wanted(question), question.limit, before)
        return pages.history(page, question)

    async def _dead_task(self, guid: str) -> inquiry.DeadDetail | None:
        for finished in await self._history([guid]):
            id = finished.row.spec.id
            stored = await self._leadership.message(id)
            if finished.outcome is Outcome.DEAD and stored is not None:
                ended = await self._leadership.attempts(id)
                told = inquiry.describe_task(inquiry.finished_task(finished), ended, None)
                return inquiry.dead_detail(told, stored)
        return None

    async def _retry(self, guids: Sequence[str]) -> inquiry.Retried:
        """Submit dead tasks again from history: committing them records that they came again."""
        found = await self._leadership.dead_messages(guids)
        again: dict[str, events.TaskSubmitted] = {}
        for dead in found:
            task = parse(dead.message.body, len(dead.message.body))
            if isinstance(task, TaskMessage):
                again[dead.guid] = events.TaskSubmitted(
                    task, dead.message.body, properties=dead.message.properties
                )
        if again:
            await self._resubmit(list(again.values()))
            self._dead.look()
        left = await self._leadership.dead_messages(guids) if found else ()
        return inquiry.Retried(tuple(again), tuple(sorted({dead.guid for dead in left}.difference(again))))

    async def _settle(self, guids: Sequence[str]) -> Sequence[str]:
        settled = await self._leadership.settle(guids)
        emit(*(catalogue.DEAD_SETTLED(guid) for guid in settled))
        self._dead.look()
        return settled

    async def _tasks(self, question: GetTasks) -> inquiry.Tasks:
        if question.guids is None:
            wanted = inquiry.TaskFilter(question.task_type, question.suite_guid, question.state)
            return inquiry.find_tasks(self._core, wanted, question.limit)
        known = self._core.backlog.by_guid
        found = [
            inquiry.task_in_memory(self._core, known[guid]) for guid in question.guids if guid in known
        ]
        missing = [guid for guid in question.guids if guid not in known]
        found += [inquiry.task_of_row(row) for row in await self._unread(missing)]
        missing = sorted(set(missing).difference(info.guid for info in found))
        found += [inquiry.finished_task(row) for row in await self._history(missing)]
        return inquiry.Tasks(len(found), 0, complete=True, tasks=tuple(found))

    async def _task(self, guid: str) -> inquiry.TaskDetail | None:
        task = self._core.backlog.by_guid.get(guid)
        if task is not None:
            ended = await self._leadership.attempts(task.spec.id)
            return inquiry.describe_task(inquiry.task_in_memory(self._core, task), ended, task.attempt)
        for row in await self._unread([guid]):
            return inquiry.describe_task(
                inquiry.task_of_row(row), (), None
            )  # the task never had an attempt
        for finished in await self._history([guid]):
            ended = await self._leadership.attempts(finished.row.spec.id)
            return inquiry.describe_task(inquiry.finished_task(finished), ended, None)
        return None

    async def _explain(self, guid: str, now: Moment) -> inquiry.Explanation | None:
        if guid not in self._core.backlog.by_guid:
            for row in await self._unread([guid]):
                return inquiry.explain(self._core, guid, now, row, self._outages.now())
            for finished in await self._history([guid]):
                return inquiry.explain_finished(inquiry.finished_task(finished), self._outages.now())
        return inquiry.explain(self._core, guid, now, None, self._outages.now())

    async def _unread(self, guids: Sequence[str]) -> Sequence[TaskRow]:
        """Look up tasks that are not in memory; skipped while no task is unread."""
        return await self._leadership.tasks(guids) if guids and self._core.backlog.unread else ()

    async def _history(self, guids: Sequence[str]) -> Sequence[FinishedRow]:
        return await self._leadership.history(guids) if guids else ()
