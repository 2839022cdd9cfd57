"""Which queues, exchanges and bindings the manager declares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topology:
    """Names as on the wire, in at most 255 bytes of UTF-8 each.

    Attributes:
        in_queue: the manager's queue: durable, declared without arguments since workers declare it so too.
        dead_queue: where tasks go that failed too often: durable.
        rejected_queue: where messages go that can't be understood: durable.
        events_exchange: what events are published to. It is made, and taken, as those of ``bindings``.
        bindings: pairs of exchange and routing key to bind ``in_queue`` to. An exchange that does not exist
            yet is declared durable and topic; one that exists is taken as it is.
    """

    in_queue: str
    dead_queue: str
    rejected_queue: str
    events_exchange: str
    bindings: tuple[tuple[str, str], ...] = ()

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues to declare."""
        return (self.in_queue, self.dead_queue, self.rejected_queue)
