"""How the manager goes about its work: what is configured, as manager and engine need it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tefmanager.core.model.limits import Limits
from tefmanager.interfaces.meter import IMeter, NoMeter


@dataclass(frozen=True, slots=True)
class Queues:
    """The manager's own queue, and where messages go that nobody can use: dead tasks, rejected messages.

    Attributes:
        exchanges: that the manager publishes events to, or takes messages from.
    """

    own: bytes
    dead: bytes
    rejected: bytes
    exchanges: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """All that is the manager's, and so can't be a worker's."""
        return self.exchanges | {name.decode() for name in (self.own, self.dead, self.rejected)}


@dataclass(frozen=True, slots=True)
class Policy:
    """How the manager goes about its work.

    Attributes:
        limits: times and counts for the core.
        queues: for dead tasks and rejected messages.
        dispatch_interval: seconds between two slow catch-all passes.
        read_interval: seconds between two reads of all resources, which also find out whether Etcd is
            there still.
        message_limit: bytes that a message may have.
        history: seconds that finished tasks stay in history.
        meter: is told what is measured.
    """

    limits: Limits
    queues: Queues
    dispatch_interval: float = 10.0
    read_interval: float = 6.0
    message_limit: int = 16 * 1024 * 1024
    history: float = 7 * 86400.0
    meter: IMeter = field(default_factory=NoMeter)
