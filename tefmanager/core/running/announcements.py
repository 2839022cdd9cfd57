"""Builds messages for listeners, as JSON and headers: events, workers, a dead task's history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from tefmanager.core.model.effects import Log, WorkerInfo
from tefmanager.core.model.values import AttemptRow

LARGEST = 256 * 1024
ROOM = 4 * 1024 * 1024
"""How many bytes of task messages the list of workers may contain, each and in total; larger ones are left
out."""


def announcement(log: Log, time: float) -> bytes:
    """Return the message for an event that has a topic. ``time`` is the event's unix time."""
    line = log.line
    found: dict[str, object] = {"event": line.type.topic, "time": time}
    for name, value in zip(line.type.fields, line.values, strict=True):
        found[name] = value if isinstance(value, int | float) else str(value)
    found.update(zip(line.type.told, line.told, strict=True))
    if log.about is not None:
        found["suite"] = log.about.suite
        if "priority" in found:
            found["priority"] = log.about.priority
    return msgspec.json.encode(found)


def workers_told(workers: Sequence[WorkerInfo], bodies: Mapping[int, bytes]) -> list[dict[str, object]]:
    """Return workers as ``get_workers`` shows them, with their tasks' messages as far as there is room."""
    found, room = [], ROOM
    for info in workers:
        body = None if info.task_id is None else bodies[info.task_id]
        if body is None:
            task: object = None
        elif len(body) <= min(LARGEST, room):
            task, room = msgspec.Raw(body), room - len(body)
        else:
            task = {"guid": info.guid, "left_out": len(body)}
        found.append(_worker(info, task))
    return found


def _worker(info: WorkerInfo, task: object) -> dict[str, object]:
    return {
        "name": info.name,
        "work_queue": info.work_queue,
        "status": info.status,
        "task": task,
        "worker_type": info.worker_type,
        "since": info.since,
    }


def history(row: AttemptRow) -> dict[str, object]:
    """Return an attempt for the headers of a dead task; times are unix times."""
    return {
        "number": row.number,
        "worker": row.worker,
        "end": row.end.value,
        "dispatched": row.dispatched,
        "started": row.started,
        "ended": row.ended,
    }
