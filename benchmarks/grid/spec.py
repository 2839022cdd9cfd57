"""What a simulated grid is to do: given to its process as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class LoadSpec:
    """A simulated grid.

    Attributes:
        port: of RabbitMQ on loopback.
        prefix: of the names of all queues.
        workers: how many; numbered from 0.
        listen: they have queues and take tasks; else they only send heartbeats.
        answer: they say *working*, *task_complete* and *idle* to each task; else nothing.
        tasks: how many are submitted, and after how many that came the work is done.
        each: resources of each task.
        names: the resources.
        window: most tasks that the submitter leaves unconfirmed.
        rate: tasks that it submits a second whatever comes of them, instead of as many as it can; 0: no.
        pause: seconds after which a task that came is followed by the next, one at a time; 0: no.
        bare: tasks go straight to the first worker's queue, past the manager.
        heartbeat: seconds between the heartbeats of a worker.
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
        """Read it back."""
        return cls(**json.loads(text))
