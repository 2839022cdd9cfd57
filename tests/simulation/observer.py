"""Judges a simulation from outside: by what was submitted, what workers did, what keys and rows say.

It shares no code with the core.
"""

from __future__ import annotations

from collections import Counter

from tests.fakes.reservations import FakeEtcd
from tests.fakes.store import FakeDatabase


class Observer:
    """Sees everything, and writes down what must not be."""

    def __init__(self, etcd: FakeEtcd, database: FakeDatabase) -> None:
        self.violations: list[str] = []
        self.submitted: dict[str, str] = {}
        self.starts: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        self.mended: float | None = None
        self._etcd = etcd
        self._database = database
        self._counts: dict[str, int] = {}
        etcd.watch(self._changed)

    def _changed(self, name: str) -> None:
        """Whoever adds a reference must find room for it."""
        count = int(self._etcd.keys.get(f"{name}/ref_count", "0"))
        before = self._counts.get(name, 0)
        self._counts[name] = count
        limit = int(self._etcd.keys.get(f"{name}/ref_limit", "0"))
        if count < 0:
            self.violations.append(f"{name}: {count} references are held")
        if count > before and count > limit:
            self.violations.append(f"{name}: {count} references of at most {limit}")

    def started(self, worker: str, guid: str) -> None:
        """A worker began a task."""
        self.starts[guid] += 1

    def result(self, worker: str, guid: str) -> None:
        """A worker has published a task's result."""
        self.results[guid] += 1

    # --- when all is over ---

    def judge(self, workers: dict[str, set[str]], stopped: bool) -> list[str]:
        """Return what went wrong. ``workers``: names by type; ``stopped``: a suite was stopped."""
        self._everything_ended(workers)
        self._nothing_held()
        self._ended_rightly(stopped)
        return self.violations

    def _everything_ended(self, workers: dict[str, set[str]]) -> None:
        rows = self._database.rows
        history = Counter(task.row.spec.guid for task in rows.history.values())
        waiting = {row.spec.guid: row for row, _ in rows.tasks.values()}
        for guid, task_type in self.submitted.items():
            if history[guid] > 1:
                self.violations.append(f"{guid} is in history {history[guid]} times")
            elif not history[guid] and guid not in waiting:
                self.violations.append(f"{guid} is lost")
            elif not history[guid] and not workers[task_type] <= set(waiting[guid].avoid):
                self.violations.append(f"{guid} never ended: it is {waiting[guid].state}")

    def _nothing_held(self) -> None:
        for path, value in self._etcd.keys.items():
            name, _, rest = path.partition("/")
            if rest.startswith("locks/"):
                self.violations.append(f"the reference {rest} of {name} outlives its task")
            if rest == "ref_count" and value != "0":
                self.violations.append(f"{name}: {value} references are left")

    def _ended_rightly(self, stopped: bool) -> None:
        rows = self._database.rows
        attempts: Counter[str] = Counter(row.guid for row in rows.attempts.values())
        for task in rows.history.values():
            guid = task.row.spec.guid
            if task.outcome == "completed" and not self.results[guid]:
                self.violations.append(f"{guid} counts as completed, but nobody completed it")
            if task.outcome == "stopped" and not stopped:
                self.violations.append(f"{guid} was stopped by nobody")
        for guid, starts in self.starts.items():
            if starts > attempts[guid]:
                self.violations.append(f"{guid} ran {starts} times in {attempts[guid]} attempts")
