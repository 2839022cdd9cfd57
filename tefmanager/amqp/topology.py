"""The queues, exchanges and bindings that the manager declares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topology:
    """Names as on the wire, of at most 255 bytes of UTF-8 each.

    Attributes:
        in_queue: the manager's queue: durable, and declared without arguments because workers do so too.
        dead_queue: the durable queue for tasks that failed too often.
        rejected_queue: the durable queue for messages that can't be understood.
        events_exchange: the exchange for events, declared like those of ``bindings``.
        bindings: pairs of exchange and routing key to which ``in_queue`` is bound. A missing exchange is
            declared as a durable topic exchange; an existing one is used as it is.
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
