"""What a broker sends on a channel by itself."""

from __future__ import annotations

from txamqp.client import Closed

from tefmanager.amqp.frames import Properties


class NoChannel(Closed):  # type: ignore[misc]  # txamqp has no types
    """The broker allows no further channel on this connection, or to our user."""


class ChannelEvents:
    """Who is told what happens on one channel. Each method does nothing unless it is overridden."""

    def delivered(self, tag: int, redelivered: bool, properties: Properties, body: bytes) -> None:
        """Take in a message of a consumer."""

    def returned(self, reason: str, properties: Properties) -> None:
        """A message we published could not be routed. Its confirm is still to come."""

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """The broker has taken, or refused, the message with that number, or all up to it."""

    def cancelled(self) -> None:
        """The broker has ended the channel's consumer."""

    def closed_by_broker(self, code: int, reason: str) -> None:
        """The broker has closed the channel alone; ``reason`` begins with the code."""
        self.closed(reason)

    def closed(self, reason: str) -> None:
        """The channel is gone, with the connection or alone. Nothing is told after this."""
