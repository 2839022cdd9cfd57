"""Describes unfinished tasks, and what became of a task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice

import msgspec
from msgspec import structs

from tefmanager.core.core import Core
from tefmanager.core.model.entities import Attempt, Phase, Task
from tefmanager.core.model.values import AttemptRow, DeadRow, FinishedRow, TaskRow, TaskState
from tefmanager.core.sharing.heldback import HeldBack
from tefmanager.inquiry.answers import AttemptInfo, DeadTask, DeadTasks, TaskDetail, TaskInfo, Tasks
from tefmanager.inquiry.status_answers import LOOK_AT


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks match; None matches any. ``state`` is one of `TaskInfo.state` for unfinished tasks."""

    task_type: str | None = None
    suite: str | None = None
    state: str | None = None

    def fits(self, task: Task) -> bool:
        """Tell whether a task in memory matches."""
        spec = task.spec
        return (
            self.task_type in (None, spec.task_type)
            and self.suite in (None, spec.suite)
            and (self.state is None or self.state == state_of(task))
        )


def find_tasks(core: Core, wanted: TaskFilter, at_most: int = 100) -> Tasks:
    """List matching tasks in memory, and count the unread ones."""
    seen = list(islice(core.backlog.tasks(), LOOK_AT))
    found = [task for task in seen if wanted.fits(task)]
    complete = len(seen) == len(core.backlog.by_guid)
    total, unread = len(found), 0
    if wanted.state in (None, "waiting"):
        # Tasks in lanes are counted there, read or unread; the other tasks are few.
        in_lanes = sum(task.lane is not None for task in found)
        counted = _counted(core, wanted)
        total += counted - in_lanes
        if complete:
            unread = counted - in_lanes
        elif core.backlog.unread:
            unread = min(core.backlog.unread, counted - in_lanes)
    first = nsmallest(at_most, found, key=_likely)
    return Tasks(total, unread, complete, tuple(task_in_memory(core, task) for task in first))


def _counted(core: Core, wanted: TaskFilter) -> int:
    type_queues = core.backlog.type_queues.items()
    return sum(
        type_queue.waiting.total() if wanted.suite is None else type_queue.waiting.get(wanted.suite, 0)
        for name, type_queue in type_queues
        if wanted.task_type in (None, name)
    )


def _likely(task: Task) -> tuple[bool, tuple[float, int, int, int]]:
    return task.state is TaskState.WAITING, task.rank


def state_of(task: Task) -> str:
    """Return the state of a task in memory; one whose resources are being reserved is ``reserving``."""
    at = task.attempt
    if task.state is TaskState.WAITING and at is not None and at.phase is Phase.RESERVING:
        return Phase.RESERVING.value
    return task.state.value


def held_back(core: Core, task: Task) -> HeldBack | None:
    """Return why a waiting task is held back, for its own or its resources' sake, or None."""
    if task.state is not TaskState.WAITING:
        return None
    return core.attempts.held_back.get(task) or core.pool.impossible.get(task.spec.resources)


def task_in_memory(core: Core, task: Task) -> TaskInfo:
    """Describe a task in the core's memory."""
    held, at = held_back(core, task), task.attempt
    info = structs.replace(
        task_of_row(task.row()),
        held_back=None if held is None else held.reason,
        progress=None if at is None else at.said.progress,
    )
    if at is None or at.phase is not Phase.RESERVING:
        return info
    # The attempt is not in the row yet.
    return structs.replace(info, state=state_of(task), attempt=at.id, worker=at.worker.name)


def finished_task(finished: FinishedRow) -> TaskInfo:
    """Describe a task in history."""
    return structs.replace(
        task_of_row(finished.row),
        state=finished.outcome.value,
        finished=finished.at,
        result=finished.result,
        message=finished.message,
    )


def task_of_row(row: TaskRow) -> TaskInfo:
    """Describe an unfinished task by its row."""
    spec = row.spec
    return TaskInfo(
        guid=spec.guid,
        task_type=spec.task_type,
        priority=spec.priority,
        resources=spec.resources,
        suite=spec.suite,
        state=row.state.value,
        received=spec.received,
        attempts=row.attempts,
        attempt=row.attempt,
        worker=row.worker,
        dispatched=row.dispatched,
        started=row.started,
        time_limit=spec.time_limit,
        avoid=row.avoid,
    )


def describe_dead(total: int, rows: Iterable[DeadRow]) -> DeadTasks:
    """Describe dead tasks by their rows; ``total`` is their number."""
    return DeadTasks(total, tuple(map(_dead, rows)))


def _dead(row: DeadRow) -> DeadTask:
    spec = row.finished.row.spec
    return DeadTask(
        guid=spec.guid,
        task_type=spec.task_type,
        priority=spec.priority,
        suite=spec.suite,
        received=spec.received,
        died=row.finished.at,
        attempts=row.finished.row.attempts,
        worker=row.worker,
        end=None if row.end is None else row.end.value,
    )


def _ended(row: AttemptRow) -> AttemptInfo:
    return AttemptInfo(
        id=row.id,
        number=row.number,
        worker=row.worker,
        dispatched=row.dispatched,
        started=row.started,
        ended=row.ended,
        end=row.end.value,
        result=row.result,
        message=row.message,
        details=None if row.details is None else msgspec.Raw(row.details.encode()),
    )


def describe_task(info: TaskInfo, ended: Iterable[AttemptRow], present: Attempt | None) -> TaskDetail:
    """Put a task together with its attempts: those that ended, as rows, and the present one."""
    attempts = [_ended(row) for row in ended]
    if present is not None and present.phase is not Phase.RESERVING:
        at = present
        attempts.append(
            AttemptInfo(at.id, at.number, at.worker.name, at.dispatched, at.started, None, None)
        )
    return TaskDetail(info, tuple(attempts))
