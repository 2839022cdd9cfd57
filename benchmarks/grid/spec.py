"""The description of a simulated grid, passed to its process as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class LoadSpec:
    """A simulated grid.

    Attributes:
        port: RabbitMQ's port on loopback.
        prefix: first part of the names of all queues.
        workers: number of workers, which are numbered from 0.
        listen: workers have queues and take tasks; otherwise they only send heartbeats.
        answer: workers say *working*, *task_complete* and *idle* for each task; otherwise nothing.
        tasks: number of tasks to submit; the work is done when as many have arrived.
        each: number of resources of each task.
        names: the resources.
        window: how many unconfirmed tasks the submitter may have.
        rate: tasks submitted per second, whatever becomes of them; 0: as many as possible.
        pause: seconds between a task's arrival and the next one, one at a time; 0: no.
        bare: tasks go directly to the first worker's queue, not to the manager.
        heartbeat: seconds between two heartbeats of a worker.
    """

    port: int
    prefix: str
    workers: int = 8
    listen: bool = True
    answer: bool = True
    tasks: int = 0
    each: int = 0
    names: Sequence[str] = ()
    window: int = 500
    rate: float = 0.0
    pause: float = 0.0
    bare: bool = False
    heartbeat: float = 20.0

    @property
    def queue(self) -> str:
        """The manager's queue."""
        return f"{self.prefix}.manager"

    def address(self, worker: int) -> str:
        """Return a worker's queue."""
        return f"{self.prefix}.worker.{worker}"

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LoadSpec:
        """Return the description in a line of JSON."""
        return cls(**json.loads(text))
