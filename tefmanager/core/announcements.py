"""What is told to whoever listens, as JSON and in headers: events, workers, the past of a dead task."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tefmanager.core.effects import Log, WorkerInfo
from tefmanager.core.values import AttemptRow


def announcement(log: Log, time: float) -> bytes:
    """Return the message for an event that has a topic. ``time`` is the unix time to put into it."""
    line = log.line
    found: dict[str, object] = {"event": line.event.topic, "time": time}
    for name, value in zip(line.event.fields, line.values, strict=True):
        found[name] = value if isinstance(value, int) else str(value)
    if log.about is not None:
        found["suite"] = log.about.suite
        if "priority" in found:
            found["priority"] = log.about.priority
    return msgspec.json.encode(found)


def worker(info: WorkerInfo, bodies: Mapping[int, bytes]) -> dict[str, object]:
    """Return a worker as ``get_workers`` shows it; its task is the whole message, as it came."""
    return {
        "name": info.name,
        "work_queue": info.work_queue,
        "status": info.status,
        "task": None if info.task_id is None else msgspec.Raw(bodies[info.task_id]),
        "worker_type": info.worker_type,
        "since": info.since,
    }


def history(row: AttemptRow) -> dict[str, object]:
    """Return an attempt as the headers of a dead task tell of it; times are unix times."""
    return {
        "number": row.number,
        "worker": row.worker,
        "end": row.end.value,
        "dispatched": row.dispatched,
        "started": row.started,
        "ended": row.ended,
    }
