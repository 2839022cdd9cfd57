"""The configured behaviour, in the form in which manager and engine need it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tefmanager.core.model.limits import Limits
from tefmanager.interfaces.meter import IMeter, NoMeter


@dataclass(frozen=True, slots=True)
class Queues:
    """The manager's own queue, and the queues for dead tasks and rejected messages.

    Attributes:
        exchanges: the exchanges to which the manager publishes events, or from which it takes messages.
    """

    own: bytes
    dead: bytes
    rejected: bytes
    exchanges: frozenset[str] = frozenset()

    @property
    def names(self) -> frozenset[str]:
        """The names of all queues and exchanges of the manager. No worker can have one of them."""
        return self.exchanges | {name.decode() for name in (self.own, self.dead, self.rejected)}


@dataclass(frozen=True, slots=True)
class Policy:
    """The configured behaviour of the manager.

    Attributes:
        limits: times and counts for the core.
        queues: the manager's queues.
        dispatch_interval: seconds between two slow catch-all passes.
        read_interval: seconds between two reads of all resources. Each read also shows whether Etcd is
            reachable.
        message_limit: the largest size of a message, in bytes.
        history: seconds for which finished tasks stay in history.
        meter: is told what is measured.
    """

    limits: Limits
    queues: Queues
    dispatch_interval: float = 10.0
    read_interval: float = 6.0
    message_limit: int = 16 * 1024 * 1024
    history: float = 7 * 86400.0
    meter: IMeter = field(default_factory=NoMeter)
