"""The methods that a broker sends on a channel without being asked."""

from __future__ import annotations

from txamqp.client import Closed

from tefmanager.amqp.frames import Properties


class NoChannel(Closed):  # type: ignore[misc]  # txamqp has no types
    """The broker allows no further channel on this connection, or for our user."""


class ChannelEvents:
    """Receives what happens on one channel. A method does nothing unless it is overridden."""

    def delivered(self, tag: int, redelivered: bool, properties: Properties, body: bytes) -> None:
        """Take in a message for the channel's consumer."""

    def returned(self, reason: str, properties: Properties) -> None:
        """Note that a published message could not be routed. Its confirm is still to come."""

    def confirmed(self, tag: int, multiple: bool, ok: bool) -> None:
        """Note that the broker accepted or refused one message by its number, or all up to it."""

    def cancelled(self) -> None:
        """Note that the broker ended the channel's consumer."""

    def closed_by_broker(self, code: int, reason: str) -> None:
        """Note that the broker closed only this channel; ``reason`` begins with the code."""
        self.closed(reason)

    def closed(self, reason: str) -> None:
        """Note that the channel is closed, alone or with its connection. No event follows."""
