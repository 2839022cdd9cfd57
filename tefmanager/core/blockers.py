"""Finds what keeps a new task from running as things are, so that its sender is warned at once."""

from __future__ import annotations

from tefmanager.core.books.ledger import Ledger
from tefmanager.core.model.values import Moment, TaskSpec
from tefmanager.core.running.workers import Workers
from tefmanager.core.sharing.lookalikes import Resembling
from tefmanager.core.sharing.pool import Pool
from tefmanager.protocol import catalogue

FAULTS_TOLD = 5
"""How many faults of a resource a warning lists."""

UNLIMITED = "unlimited"
"""The key prefix for resources without an entry in Etcd, which limit nothing."""

REMEMBERED = 1000
"""How many logged blockers are remembered: the last ones."""


class Blockers:
    """Finds obstacles that the end of another task does not remove, such as a type that no worker has.

    The sender is warned of each blocker. The log has one line per blocker, with the first task that it
    concerns, until the blocker is found to be gone. So ten thousand tasks that are submitted before their
    workers start make one line.

    Attributes:
        resembling: the unknown names that look like an existing one.
    """

    def __init__(self, ledger: Ledger, workers: Workers, pool: Pool) -> None:
        self._ledger = ledger
        self._workers = workers
        self._pool = pool
        self._told: dict[str, None] = {}
        self.resembling = Resembling()

    def look(self, spec: TaskSpec, now: Moment) -> tuple[str, ...]:
        """Return, in words, what keeps a new task from running; log each blocker that is new."""
        found = [self._worker(spec.task_type)]
        if self._pool.ready:
            found += [self._resource(name, now) for name in spec.resources]
        texts = tuple(text for key, text in found if self._note(spec, key, text))
        held = self._pool.impossible.get(spec.resources)  # this has been logged already
        return texts if held is None else (*texts, held.reason)

    def _worker(self, task_type: str) -> tuple[str, str]:
        known = self._workers.knows(task_type)
        return f"type {task_type}", "" if known else f"no worker of type {task_type} is known"

    def _resource(self, name: str, now: Moment) -> tuple[str, str]:
        entry = self._pool.seen.get(name)
        if entry is None:
            return self._unknown(name)
        if entry.settled.limit_at(now.local) != 0:
            return f"resource {name}", ""
        text = f"resource {name} has the limit 0 now, 1 is needed"
        return f"resource {name}", "; ".join([text, *entry.faults[:FAULTS_TOLD]])

    def _unknown(self, name: str) -> tuple[str, str]:
        existing = self.resembling.look(name)
        meant = "" if existing is None else f"; is {existing!r} meant instead of {name!r}?"
        text = f"resource {name} has no entry in Etcd"
        if self._pool.holds_unknown:
            return f"resource {name}", f"{text}{meant}"
        return f"{UNLIMITED} {name}", f"{text} and limits nothing{meant}" if meant else ""

    def _note(self, spec: TaskSpec, key: str, text: str) -> bool:
        """Remember which blockers were logged; return whether there is a blocker."""
        if not text:
            self._told.pop(key, None)
        elif key not in self._told:
            self._told[key] = None
            if len(self._told) > REMEMBERED:
                del self._told[next(iter(self._told))]
            event = catalogue.RESOURCE_UNLIMITED if key.startswith(UNLIMITED) else catalogue.TASK_CANNOT_RUN
            self._ledger.log(event(spec.task_type, spec.guid, text))
        return bool(text)
