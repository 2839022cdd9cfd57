"""Answers the methods that the broker calls: the handshake, closing, blocking."""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure
from txamqp.client import ChannelClosed, Closed, ConnectionClosed, TwistedDelegate

import tefmanager
from tefmanager.amqp import frames
from tefmanager.config.secrets import KNOWN

CAPABILITIES = {
    "publisher_confirms": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}
"""What the broker may use because we support it."""


class BrokerDelegate(TwistedDelegate):  # type: ignore[misc]  # txamqp has no types
    """The methods that a broker may call, named as txamqp names them: *class_method*."""

    def connection_start(self, channel: Any, call: Any) -> None:
        """Identify ourselves and log in."""
        client = self.client
        client.server = call.server_properties
        if "PLAIN" not in call.mechanisms.split():
            client.abort(f"the broker offers no PLAIN login, only {call.mechanisms}")
            return
        endpoint = client.endpoint
        properties = {
            "product": "tef-manager",
            "version": tefmanager.__version__,
            "platform": "Python, Twisted",
            "connection_name": client.name,
            "capabilities": CAPABILITIES,
        }
        response = f"\0{endpoint.user}\0{endpoint.password}"
        channel.connection_start_ok(properties, "PLAIN", response, "en_US")

    def connection_secure(self, channel: Any, call: Any) -> None:
        """Do nothing: PLAIN has no second step."""
        self.client.abort("the broker wants more than user and password")

    def connection_tune(self, channel: Any, call: Any) -> None:
        """Agree on the frame size, the number of channels and the heartbeat; 0 means no limit or none."""
        client = self.client
        client.frame_max = _agreed(call.frame_max, client.frame_max)
        client.channel_max = _agreed(call.channel_max, client.channel_max)
        if client.frame_max < frames.MIN_FRAME_MAX:
            client.abort(f"the broker wants frames of at most {client.frame_max} bytes")
            return
        ours = client.endpoint.heartbeat
        # Our own 0 wins: the operator has switched heartbeats off.
        interval = _agreed(call.heartbeat, ours) if ours else 0
        channel.connection_tune_ok(client.channel_max, client.frame_max, interval)
        client.heartbeat.start(interval)
        client.started.fire()

    def connection_close(self, channel: Any, call: Any) -> None:
        """Note that the broker closes the connection."""
        self.client.note(reason_of(call))
        super().connection_close(channel, call)

    def close(self, reason: Any) -> None:
        """Hang up after everything has been sent."""
        super().close(reason)
        # With TLS we would wait for a close notification, which RabbitMQ does not send.
        below = getattr(self.client.transport, "transport", None)
        if below is not None:
            below.loseConnection()

    def connection_blocked(self, channel: Any, call: Any) -> None:
        """Note that the broker accepts no messages for now."""
        self.client.blocked = call.reason
        self.client.on_blocked()

    def connection_unblocked(self, channel: Any, call: Any) -> None:
        """Note that the broker accepts messages again."""
        self.client.blocked = None
        self.client.on_blocked()

    def channel_close(self, channel: Any, call: Any) -> None:
        """Note that the broker closes a channel: first fail the calls on it, then tell its user.

        A failed caller may at once open another channel with the same number.
        """
        channel.channel_close_ok()
        events = self.client.channel_closed(channel.id)
        channel.close(call)
        if events is not None:
            events.closed_by_broker(call.reply_code, reason_of(call))

    def basic_cancel(self, channel: Any, call: Any) -> None:
        """Note that the broker ends a consumer: its queue was deleted, or its node is down."""
        if not call.nowait:
            channel.basic_cancel_ok(call.consumer_tag)
        events = self.client.events_of(channel.id)
        if events is not None:
            events.cancelled()


def _agreed(theirs: int, ours: int) -> int:
    return min(theirs, ours) if theirs else ours


def why(error: BaseException | None) -> str:
    """Return, for people, why a channel or connection failed.

    txamqp passes on whatever closed it: the broker's words, Twisted's network error, or a text.
    """
    if isinstance(error, (ChannelClosed, ConnectionClosed)):
        return reason_of(error.args[0])
    if isinstance(error, Closed) and error.args and isinstance(error.args[0], Failure):
        return error.args[0].getErrorMessage()
    return str(error) or type(error).__name__


def reason_of(call: Any) -> str:
    """Return the broker's reason for closing, such as "404 NOT_FOUND - no queue 'q'"."""
    return KNOWN.hide(f"{call.reply_code} {call.reply_text}")
