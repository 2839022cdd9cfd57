"""Describes the workers, and what they do."""

from __future__ import annotations

from heapq import nsmallest

from tefmanager.core.core import Core
from tefmanager.core.model.entities import Worker
from tefmanager.core.model.values import Moment, WorkerStatus
from tefmanager.inquiry.answers import WorkerDetail, Workers

GONE = (WorkerStatus.MISSING, WorkerStatus.STALLED)
"""Statuses of workers that can't get tasks."""


def workers(
    core: Core,
    now: Moment,
    *,
    worker_type: str | None = None,
    status: str | None = None,
    at_most: int = 1000,
    worst_first: bool = False,
) -> Workers:
    """List the workers, with this type and status if given.

    ``worst_first``: missing and stalled workers come first.
    """
    found = [
        worker
        for worker in core.workers
        if worker_type in (None, worker.worker_type) and status in (None, worker.status.value)
    ]
    first = nsmallest(
        at_most,
        found,
        key=lambda worker: (worst_first and worker.status not in GONE, worker.worker_type, worker.name),
    )
    return Workers(len(found), tuple(_detail(worker, now) for worker in first))


def _silent(worker: Worker, now: Moment) -> float:
    """Return how long a worker has been silent; for a missing one perhaps since an earlier leadership."""
    if worker.missing and worker.heard_at is not None:
        return max(0.0, now.wall - worker.heard_at)
    return max(0.0, now.monotonic - worker.heard)


def _detail(worker: Worker, now: Moment) -> WorkerDetail:
    live = worker.live
    return WorkerDetail(
        name=worker.name,
        worker_type=worker.worker_type,
        work_queue=worker.exchange_name,
        status=worker.status.value,
        since=worker.since,
        silent=_silent(worker, now),
        task=None if live is None else live.task.spec.guid,
        attempt=None if live is None else live.id,
        booked=None if worker.booked is None else worker.booked.task.spec.guid,
    )
