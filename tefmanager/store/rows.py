"""Converts between rows of the database and the values that they stand for.

Rows are sent as a JSON array of objects, one parameter for any number of rows; times are unix times, bodies
are base64. Rows are received as tuples, in the order of the query's columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from tefmanager.core.model.dead_copies import Copy, CopyRow, DeadMessage, Stored
from tefmanager.core.model.endings import AttemptEnd, Ending, Finish, Outcome
from tefmanager.core.model.values import (
    AttemptRow,
    DeadRow,
    Doubt,
    FinishedRow,
    ManagerRow,
    StopRow,
    Stretch,
    TaskRow,
    TaskSpec,
    TaskState,
    Unread,
    WorkerRow,
    WorkerStatus,
)
from tefmanager.protocol.messages import ManagerState
from tefmanager.protocol.verdicts import Result, Verdict

_encoder = msgspec.json.Encoder()
_decode_verdict = msgspec.json.Decoder(Verdict).decode

_STATES: Mapping[str, TaskState] = {state.value: state for state in TaskState}
ENDINGS: Mapping[str, Ending] = {each.value: each for each in (*Outcome, *Result)}
_ENDS: Mapping[str, AttemptEnd] = {end.value: end for end in AttemptEnd}


def as_json(rows: Iterable[object]) -> str:
    """Return rows as a JSON array."""
    return _encoder.encode(list(rows)).decode()


def accepted_json(accepted: Iterable[tuple[TaskRow, bytes]], properties: Mapping[int, bytes]) -> str:
    """Return new tasks with their bodies and properties as JSON."""
    return as_json(_accepted(row, body, properties.get(row.spec.id)) for row, body in accepted)


def changed_json(rows: Iterable[TaskRow]) -> str:
    """Return the changeable parts of tasks as JSON."""
    return as_json(_changed(row) for row in rows)


def finished_json(finished: Mapping[int, Finish]) -> str:
    """Return the ends of tasks as JSON."""
    return as_json(
        {
            "id": id,
            "outcome": end.outcome,
            "finished_at": end.at,
            "attempts": end.attempts,
            "copy": end.copy,
            "result": end.result,
            "message": end.message,
            "attempt": end.attempt,
            "worker": end.worker,
        }
        for id, end in finished.items()
    )


def judged_json(judged: Mapping[int, Verdict]) -> str:
    """Return the workers' verdicts on attempts as JSON."""
    return as_json(
        {"id": id, "result": verdict.result, "message": verdict.message, "details": verdict.details}
        for id, verdict in judged.items()
    )


def copies_json(copies: Mapping[int, Copy | None]) -> str:
    """Return the states of dead tasks' copies as JSON."""
    return as_json({"id": id, "copy": copy} for id, copy in copies.items())


def stretches_json(stretches: Iterable[Stretch]) -> str:
    """Return parts of lanes as JSON, each with its number. Infinity becomes null."""
    return as_json(
        {
            "lane": lane,
            "task_type": stretch.task_type,
            "resources": stretch.resources,
            "suite": stretch.suite,
            "priority": stretch.after[0],
            "id": stretch.after[1],
            "at_most": stretch.at_most,
            "below": stretch.below,
        }
        for lane, stretch in enumerate(stretches)
    )


def _changed(row: TaskRow) -> dict[str, object]:
    return {
        "id": row.spec.id,
        "state": row.state,
        "attempts": row.attempts,
        "attempt": row.attempt,
        "worker": row.worker,
        "dispatched": row.dispatched,
        "started": row.started,
        "avoid": row.avoid,
        "doubt": row.doubt,
        "short_since": row.short_since,
        "tried": row.tried,
        "shun": row.shun,
        "verdict": row.verdict,
    }


def _accepted(row: TaskRow, body: bytes, properties: bytes | None) -> dict[str, object]:
    spec = row.spec
    return {
        **_changed(row),
        "guid": spec.guid,
        "task_type": spec.task_type,
        "priority": spec.priority,
        "resources": spec.resources,
        "suite": spec.suite,
        "time_limit": spec.time_limit,
        "received": spec.received,
        "body": body,
        "properties": properties,
    }


def task_row(row: Sequence[Any]) -> TaskRow:
    """Return the task from a row of ``load_tasks``, or of another query that reads tasks."""
    id, guid, task_type, priority, resources, suite, time_limit, received, state, *rest = row
    attempts, attempt, worker, dispatched, started, avoid, doubt, short_since, tried, shun, verdict = rest
    doubted = None if doubt is None else Doubt(doubt)
    spec = TaskSpec(id, guid, task_type, priority, tuple(resources), suite, time_limit, received)
    at = (attempt, worker, dispatched, started)
    said = None if verdict is None else _decode_verdict(verdict)
    found = TaskRow(spec, _STATES[state], attempts, *at, tuple(avoid), doubted, short_since, tried)
    return replace(found, shun=tuple(shun), verdict=said) if shun or said else found


def finished_row(row: Sequence[Any]) -> FinishedRow:
    """Return the task from a row of ``load_history`` or ``load_past``, with the attempt that ended it."""
    id, guid, task_type, priority, resources, suite, time_limit, received, attempts, *end = row
    outcome, at, result, message, attempt, worker, dispatched, started = end
    spec = TaskSpec(id, guid, task_type, priority, tuple(resources), suite, time_limit, received)
    ended_by = {"attempt": attempt, "worker": worker, "dispatched": dispatched, "started": started}
    found = None if result is None else Result(result)
    return FinishedRow(TaskRow(spec, attempts=attempts, **ended_by), Outcome(outcome), at, found, message)


def dead_row(row: Sequence[Any]) -> DeadRow:
    """Return the task from a row of ``load_dead``."""
    *task, worker, end, _ = row
    unread = (None,) * 6
    return DeadRow(finished_row((*task, *unread)), worker, None if end is None else _ENDS[end])


def stored_row(row: Sequence[Any]) -> Stored:
    """Return the message from a row of ``message``."""
    body, properties = row
    return Stored(bytes(body), None if properties is None else bytes(properties))


def dead_message_row(row: Sequence[Any]) -> DeadMessage:
    """Return the message from a row of ``dead_messages``."""
    id, guid, *message = row
    return DeadMessage(id, guid, stored_row(message))


def copy_row(row: Sequence[Any]) -> CopyRow:
    """Return the task from a row of ``copies``."""
    id, guid, attempts, copy, settled = row
    return CopyRow(id, guid, attempts, Copy(copy), settled)


def unread_row(row: Sequence[Any]) -> Unread:
    """Return what is unread of a demand from a row of ``survey``, after its first task was read."""
    task_type, resources, _, count, best, *_ = row
    return Unread(task_type, tuple(resources), count - 1, best)


def attempt_row(row: tuple[Any, ...]) -> AttemptRow:
    """Return the attempt from a row of ``load_unresolved`` or ``load_attempts``."""
    id, task_id, guid, number, worker, dispatched, started, ended, end, unresolved, *said = row
    result, message, details = said
    whose, times = (id, task_id, guid, number, worker), (dispatched, started, ended)
    found = None if result is None else Result(result)
    return AttemptRow(*whose, *times, _ENDS[end], unresolved, found, message, details)


def worker_row(row: tuple[Any, ...]) -> WorkerRow:
    """Return the worker from a row of ``load_workers``."""
    name, worker_type, exchange_name, status, since, heard = row
    return WorkerRow(name, worker_type, exchange_name, WorkerStatus(status), since, heard)


def stop_row(row: tuple[Any, ...]) -> StopRow:
    """Return the stop from a row of ``load_stops``."""
    suite, below, spared, commands, stopped, over = row
    return StopRow(suite, below, tuple(spared), commands, stopped, over)


def manager_row(row: tuple[Any, ...]) -> ManagerRow:
    """Return the manager's row of ``load_manager``."""
    state, *rest = row
    return ManagerRow(ManagerState(state), *rest)
