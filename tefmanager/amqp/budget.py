"""How many channels the manager may open, as far as the broker has told."""

from __future__ import annotations

from collections.abc import Callable

from tefmanager.amqp.amqp_protocol import MAX_CHANNELS

REFUSED = "number of channels opened"
"""Part of the broker's reason when it closes a connection because of one channel too many for the
connection, the user or the node."""

FORGOTTEN = 600.0
"""Seconds after which a new connection tries again to open the full number of channels."""


class ChannelBudget:
    """The channels that the manager may open, shared by its connections.

    A RabbitMQ limit for a user counts the channels of all its connections. The publisher is the one that
    gives channels up; its first channel can do everything necessary.

    Args:
        seconds: reads a clock that never goes back.

    Attributes:
        used: number of channels that the publisher has opened or is about to open.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._most = MAX_CHANNELS
        self._since = 0.0
        self._watchers: list[Callable[[], None]] = []
        self.used = 0

    def on_decrease(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` whenever the allowed number decreases."""
        self._watchers.append(tell)

    @property
    def most(self) -> int:
        """The number of channels that the publisher may open."""
        return MAX_CHANNELS if self._seconds() - self._since > FORGOTTEN else self._most

    def ended(self, reason: str) -> bool:
        """Take in why a connection ended; return True if it was because of one channel too many."""
        if REFUSED not in reason:
            return False
        self._most = max(1, min(self.most, self.used) - 1)
        self._since = self._seconds()
        for tell in self._watchers:
            tell()
        return True
