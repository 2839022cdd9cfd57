"""The channels for outgoing messages, arranged so that a failure of one affects few other messages."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from math import inf

from tefmanager.amqp.address_kinds import AddressKind
from tefmanager.amqp.amqp_protocol import AmqpProtocol
from tefmanager.amqp.confirms import ConfirmChannel, largest_of
from tefmanager.amqp.connection import LinkState, OnState
from tefmanager.support.lease import Lease

LARGE = 64 * 1024
"""Size in bytes from which a message has a channel to itself, because the broker may find it too large and
close the channel."""

LIMIT_HOLDS = 60.0
"""Seconds for which no message above the broker's reported limit is sent."""


class Role(IntEnum):
    """What a channel is for. The value is its number; channels with the highest are given up first."""

    DISPATCHES = 1
    LOOKUPS = 2
    EVENTS = 3
    ANSWERS = 4
    LARGE = 5
    EXCHANGES = 6
    """Only for messages to exchanges, since a missing exchange closes the channel."""


_WINDOWS = {Role.ANSWERS: inf, Role.LARGE: 1, Role.EXCHANGES: inf}
"""The largest number of unconfirmed messages on the channels that are not for dispatches."""


class Outlets:
    """Chooses the channel for each message, and remembers which size the broker finds too large.

    Args:
        lease: messages wait while it does not hold.
        seconds: reads a clock that never goes back.
        on_state: is told why the broker closed a channel, or lets us publish to no queue.
    """

    def __init__(self, lease: Lease, seconds: Callable[[], float], on_state: OnState) -> None:
        self._seconds = seconds
        self._on_state = on_state
        self._dispatches, *others = (
            ConfirmChannel(role, lease, window, self.closed, self._access)
            for role, window in ((Role.DISPATCHES, inf), *_WINDOWS.items())
        )
        self._others = dict(zip(_WINDOWS, others, strict=True))
        self._most: int = max(Role)
        self._limit = 0
        self._why = ""
        self._until = 0.0

    @property
    def _all(self) -> list[ConfirmChannel]:
        return [self._dispatches, *self._others.values()]

    async def open(self, protocol: AmqpProtocol, most: int) -> None:
        """Open as many channels as allowed on a new connection. Raises `txamqp.client.Closed`."""
        self._most, self._until = most, 0.0
        for role, channel in self._others.items():
            if role <= most:
                await channel.open(protocol)
            else:
                channel.hand_over(self._dispatches)
        await self._dispatches.open(protocol)

    def channel_for(self, kind: AddressKind, size: int, *, answer: bool) -> ConfirmChannel:
        """Return the channel for a message of ``size`` bytes; ``answer``: it is no dispatch."""
        role = Role.DISPATCHES
        if size >= LARGE:
            role = Role.LARGE
        elif kind is AddressKind.EXCHANGE:
            role = Role.EXCHANGES
        elif answer:
            role = Role.ANSWERS
        return self._others.get(role, self._dispatches) if role <= self._most else self._dispatches

    def refusal(self, size: int) -> str | None:
        """Return, in the broker's words, why it takes no message of this size, or None if it may."""
        return self._why if size > self._limit and self._seconds() < self._until else None

    def closed(self, reason: str) -> None:
        """Learn from the reason why the broker closed a channel, and report it."""
        found = largest_of(reason)
        if found is not None:
            self._limit, self._why = found[1], reason
            self._until = self._seconds() + LIMIT_HOLDS
        self._on_state(LinkState.CLOSED, reason)

    def _access(self, reason: str) -> None:
        self._on_state(LinkState.FORBIDDEN if reason else LinkState.PERMITTED, reason)
        if not reason:
            for channel in self._all:
                channel.hurry()

    def set_writable(self, writable: bool) -> None:
        """Send the waiting messages, or hold messages back."""
        for channel in self._all:
            channel.set_writable(writable)

    def give_up(self) -> None:
        """Settle all messages as lost."""
        for channel in self._all:
            channel.give_up()
