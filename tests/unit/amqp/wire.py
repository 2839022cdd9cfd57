"""The broker's side of AMQP on an in-memory transport, for tests of the real protocol code."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from txamqp.connection import Method

from tefmanager.amqp import frames
from tefmanager.amqp.amqp_protocol import SPEC, AmqpProtocol, decode_method, encode_method
from tefmanager.config.endpoints import AmqpEndpoint


def method(channel: int, name: str, *args: object) -> bytes:
    """Return a method's frame, by its name such as ``basic.ack``."""
    encoded = encode_method(Method(SPEC.parse_method(name), *args))
    return frames.frame(frames.METHOD, channel, encoded)


def content(channel: int, body: bytes, pieces: int = 1, properties: bytes = b"\0\0") -> bytes:
    """Return header and body frames of a message, its body in about so many frames."""
    header = struct.pack(">HHQ", 60, 0, len(body)) + properties
    size = max(1, -(-len(body) // pieces))
    cut = [body[start : start + size] for start in range(0, len(body), size)]
    return frames.frame(frames.HEADER, channel, header) + b"".join(
        frames.frame(frames.BODY, channel, piece) for piece in cut
    )


def deliver(tag: int, body: bytes, pieces: int = 1, properties: bytes = b"\0\0") -> bytes:
    """Return all frames of a delivery on channel 1."""
    called = method(1, "basic.deliver", "consumer", tag, False, "", "queue")
    return called + content(1, body, pieces, properties)


START = method(0, "connection.start", 0, 9, {"product": "fake"}, "PLAIN AMQPLAIN", "en_US")


class Transport(StringTransport):
    """Records whether it was aborted."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._aborted = False

    def abortConnection(self) -> None:
        self._aborted = True

    def is_aborted(self) -> bool:
        """Tell whether the connection was dropped."""
        return self._aborted

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data: bytes = self.value()  # type: ignore[no-untyped-call]
        self.clear()  # type: ignore[no-untyped-call]
        return data


class Wire:
    """A protocol on an in-memory connection.

    Attributes:
        clock: the protocol's time.
        transport: what it writes to.
        protocol: the protocol.
    """

    def __init__(self, endpoint: AmqpEndpoint | None = None) -> None:
        self.clock = Clock()
        self.transport = Transport()
        self.protocol: Any = AmqpProtocol(endpoint or AmqpEndpoint(heartbeat=10), "test", self.clock)
        self.protocol.makeConnection(self.transport)

    def receive(self, data: bytes) -> None:
        """Let the protocol receive bytes."""
        self.protocol.dataReceived(data)

    def sent(self) -> list[tuple[int, int, bytes]]:
        """Return kind, channel and payload of the frames written since the last call."""
        data = self.transport.take().removeprefix(frames.PROTOCOL_HEADER)
        result = []
        while data:
            kind, channel, size = struct.unpack_from(">BHI", data)
            assert data[7 + size] == frames.FRAME_END
            result.append((kind, channel, data[7 : 7 + size]))
            data = data[8 + size :]
        return result

    def called(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Return names and arguments of the methods among these frames."""
        result = []
        for kind, _, payload in self.sent():
            if kind == frames.METHOD:
                found, args = decode_method(payload)
                result.append((f"{found.klass.name}.{found.name}", args))
        return result

    def log_in(self, frame_max: int = 131072, channel_max: int = 2047, heartbeat: int = 60) -> None:
        """Complete the handshake."""
        Deferred.fromCoroutine(self.protocol.login())
        self.receive(START + method(0, "connection.tune", channel_max, frame_max, heartbeat))
        self.receive(method(0, "connection.open-ok", ""))

    def hang_up(self) -> None:
        """Lose the connection."""
        self.protocol.connectionLost(Failure(ConnectionLost()))  # type: ignore[no-untyped-call]
