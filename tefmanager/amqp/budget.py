"""How many channels we may open, as far as the broker has told."""

from __future__ import annotations

from collections.abc import Callable

from tefmanager.amqp.protocol import MAX_CHANNELS

REFUSED = "number of channels opened"
"""What the broker says when it ends a connection for a channel too many: of it, of a user, of a node."""

FORGOTTEN = 600.0
"""Seconds after which a new connection tries again to open as many as it would like."""


class ChannelBudget:
    """Shared by our connections: a limit of RabbitMQ for a user counts the channels of all of them.

    The publisher is the one that gives channels up: its first one does all that is necessary.

    Args:
        seconds: reads a clock that never goes back.

    Attributes:
        used: channels that the publisher has opened, or is about to.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._most = MAX_CHANNELS
        self._since = 0.0
        self._watchers: list[Callable[[], None]] = []
        self.used = 0

    def watch(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` whenever fewer are allowed."""
        self._watchers.append(tell)

    @property
    def most(self) -> int:
        """How many the publisher may open."""
        return MAX_CHANNELS if self._seconds() - self._since > FORGOTTEN else self._most

    def ended(self, reason: str) -> bool:
        """Take in why a connection ended; True where it was for a channel too many."""
        if REFUSED not in reason:
            return False
        self._most = max(1, min(self.most, self.used) - 1)
        self._since = self._seconds()
        for tell in self._watchers:
            tell()
        return True
