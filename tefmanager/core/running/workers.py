"""All workers: which exist, and which are free."""

from __future__ import annotations

from collections.abc import Iterator

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.entities import Seen, Worker
from tefmanager.core.model.values import Moment, WorkerStatus


class Workers:
    """Workers by name; the free ones of each type in the order in which they became free.

    Attributes:
        day: unix time by the calendar, which may be slightly old.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.day = 0.0
        self._ledger = ledger
        self._workers: dict[str, Worker] = {}
        self._free: dict[str, dict[Worker, None]] = {}
        self._doubtful: dict[Worker, None] = {}
        self._types: dict[str, dict[Worker, None]] = {}
        self._touched: dict[str, None] = {}

    def __iter__(self) -> Iterator[Worker]:
        """Iterate over all workers, in the order of their registration."""
        return iter(self._workers.values())

    def __len__(self) -> int:
        """Return the number of workers."""
        return len(self._workers)

    def get(self, name: str) -> Worker | None:
        """Return the worker with this name, or None."""
        return self._workers.get(name)

    def add(self, worker: Worker, now: Moment) -> None:
        """Add a new worker."""
        self._workers[worker.name] = worker
        self._types.setdefault(worker.worker_type, {})[worker] = None
        self.changed(worker, now)

    def restore(self, worker: Worker) -> None:
        """Add a worker from its row: nothing has to be written."""
        self._workers[worker.name] = worker
        self._types.setdefault(worker.worker_type, {})[worker] = None
        self._sort(worker)

    def remove(self, worker: Worker) -> None:
        """Remove a worker."""
        del self._workers[worker.name]
        self._leave(worker)
        self._ledger.left(worker)

    def retype(self, worker: Worker, worker_type: str, exchange_name: str, now: Moment) -> None:
        """Change a worker's type and exchange."""
        self._leave(worker)
        worker.worker_type, worker.exchange_name, worker.seen = worker_type, exchange_name, Seen()
        self._types.setdefault(worker_type, {})[worker] = None
        self._ledger.worker(worker)
        self.changed(worker, now)

    def mark(
        self,
        worker: Worker,
        now: Moment,
        *,
        busy: bool | None = None,
        stalled: bool | None = None,
        missing: bool | None = None,
    ) -> None:
        """Change the given parts of a worker's state, and record its new status."""
        worker.busy = worker.busy if busy is None else busy
        worker.stalled = worker.stalled if stalled is None else stalled
        worker.missing = worker.missing if missing is None else missing
        self.changed(worker, now)

    def changed(self, worker: Worker, now: Moment) -> None:
        """Record a worker's status, if it changed, and whether it is free; ignore a removed worker."""
        if self._workers.get(worker.name) is not worker:
            return
        if (status := worker.status) is not worker.shown:
            worker.shown = status
            # If a slow clock dated it, the worker would seem missing for years once the clock is right.
            worker.since = max(now.wall, self.day) if worker.missing else now.wall
            self._ledger.worker(worker)
        self._sort(worker)

    def last(self, worker: Worker, now: Moment) -> None:
        """Record a worker's new status and, if it is free, put it behind the other free ones."""
        self._free.get(worker.worker_type, {}).pop(worker, None)
        self.changed(worker, now)

    def free(self, worker_type: str) -> dict[Worker, None]:
        """Return the free workers of a type, the one that has been free longest first."""
        return self._free.get(worker_type, {})

    def busy(self, worker_type: str) -> bool:
        """Tell whether no worker of a type is free."""
        return not self._free.get(worker_type)

    def touched(self) -> list[str]:
        """Return the types whose free workers have changed since the last call."""
        touched, self._touched = list(self._touched), {}
        return touched

    def doubtful(self) -> list[Worker]:
        """Return the workers that can get only what may be in their queues already."""
        return list(self._doubtful)

    def serves(self, worker_type: str, avoid: frozenset[str]) -> bool:
        """Tell whether a worker of a type works or could work, not counting those to be avoided."""
        gone = (WorkerStatus.MISSING, WorkerStatus.STALLED)
        workers = self._types.get(worker_type, ())
        return any(worker.status not in gone and worker.name not in avoid for worker in workers)

    def knows(self, worker_type: str) -> bool:
        """Tell whether there is any worker of a type."""
        return worker_type in self._types

    def types(self) -> list[str]:
        """Return the types of all workers."""
        return list(self._types)

    def _sort(self, worker: Worker) -> None:
        free = self._free.setdefault(worker.worker_type, {})
        if worker.free != (worker in free):
            self._touched[worker.worker_type] = None
        if not worker.free:
            free.pop(worker, None)
        else:
            free.setdefault(worker, None)
        if worker.doubtful:
            self._doubtful[worker] = None
        else:
            self._doubtful.pop(worker, None)

    def _leave(self, worker: Worker) -> None:
        self._doubtful.pop(worker, None)
        if worker in self._free.get(worker.worker_type, {}):
            del self._free[worker.worker_type][worker]
            self._touched[worker.worker_type] = None
        fellows = self._types[worker.worker_type]
        del fellows[worker]
        if not fellows:
            del self._types[worker.worker_type]
            self._free.pop(worker.worker_type, None)
