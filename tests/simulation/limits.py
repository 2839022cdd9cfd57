"""Steps of a story in which a server has reached a limit, or has forgotten what it knew."""

from __future__ import annotations

from collections.abc import Callable

from tests.fakes.reservations import FakeEtcd
from tests.fakes.store import FakeDatabase
from tests.simulation.broker import Broker
from tests.simulation.judge import Judge
from tests.simulation.story import WIDE
from tests.simulation.workers import SimWorker
from tests.simulation.world import World

LONGEST_PAUSE = 60.0
"""The longest pause before something that Etcd has refused is tried again, in seconds."""

NO_SPACE = "could not extend file: No space left on device"

TOO_SMALL = (3, 100)
"""Limits of operations and bytes with which Etcd can't grant a single reference."""


class Limits:
    """Steps of a story, for a grid."""

    world: World
    broker: Broker
    etcd: FakeEtcd
    database: FakeDatabase
    judge: Judge
    workers: list[SimWorker]
    submit: Callable[..., None]

    # --- RabbitMQ ---

    def queue_refuses(self, queue: str, seconds: float) -> None:
        """A queue is full and refuses messages."""
        self._bar(self.broker.full, queue, seconds)

    def queue_forbidden(self, queue: str, seconds: float) -> None:
        """The manager's user may not publish to the exchange that leads to a worker's queue."""
        self._bar(self.broker.forbidden, queue, seconds)

    def _bar(self, barred: set[str], queue: str, seconds: float) -> None:
        barred.add(queue)
        self.world.later(seconds, seconds, barred.discard, queue)

    def broker_forgets(self, seconds: float) -> None:
        """RabbitMQ goes down and comes back without its queues; workers declare theirs when they notice."""
        self.broker.forget()
        self.world.later(seconds, seconds, self._come_back_empty)

    def _come_back_empty(self) -> None:
        self.broker.start()
        for worker in self.workers:
            self.world.later(0.1, 6.0, worker.rejoin)

    def delivery_limit(self, times: int) -> None:
        """Somebody sets how often a message may be given back to its queue."""
        self.broker.delivery_limit = times

    # --- PostgreSQL ---

    def database_full(self, seconds: float) -> None:
        """PostgreSQL has no disk space: it answers, but refuses writes."""
        self.database.full = NO_SPACE
        self.world.later(seconds, seconds, self._space)

    def _space(self) -> None:
        self.database.full = None

    # --- Etcd ---

    def etcd_bytes(self, size: int) -> None:
        """Etcd accepts no larger request from now on; each single reference fits into one."""
        self.etcd.size = size

    def etcd_small(self, what: str, seconds: float) -> None:
        """Etcd runs with a limit that is too low for anything."""
        operations, size = TOO_SMALL
        if what == "operations":
            self.etcd.operations = operations
        else:
            self.etcd.size = size
        self.judge.delay = LONGEST_PAUSE
        self.world.later(seconds, seconds, self.etcd.usual_limits)

    def submit_wide(self, guid: str, task_type: str, count: int) -> None:
        """A sender publishes a task that needs very many resources."""
        names = tuple(f"{WIDE}{number}" for number in range(count))
        for name in names:
            if f"{name}/ref_limit" not in self.etcd.keys:
                self.etcd.set(f"{name}/ref_limit", "1")
        self.submit(guid, task_type, 1.0, names, None, 1.0)
