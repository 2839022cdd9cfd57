"""A private RabbitMQ node with a private Erlang port mapper."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from tefmanager.sandbox.machine import HOST, Account, free_ports
from tefmanager.sandbox.process import Command
from tefmanager.sandbox.server import NotReady, Reactor, Server


class RabbitMQ(Server):
    """A RabbitMQ server with the default user guest and the default vhost.

    Args:
        reactor, folder, account: see `Server`.
        program: ``rabbitmq-server``, not Debian's wrapper of it, which insists on its own user.
        ports: for clients, distribution and port mapper; None finds free ones.
    """

    name = "rabbitmq"

    def __init__(
        self,
        reactor: Reactor,
        folder: Path,
        account: Account,
        program: Path,
        ports: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reactor, folder, account)
        self.port, self.distribution_port, self.mapper_port = ports or free_ports(3)
        self.node = f"tef{self.port}@localhost"
        self._program = program

    @property
    def url(self) -> str:
        """How to connect."""
        return f"amqp://guest:guest@{HOST}:{self.port}/"

    async def prepare(self) -> None:
        """Write the configuration: addresses, and little logging.

        All limits (sizes of messages and frames, channels, heartbeats, deliveries) are RabbitMQ's defaults,
        as after installing Debian's package: what works here works there.
        """
        lines = [
            f"listeners.tcp.1 = {HOST}:{self.port}",  # ports of its own, so that several nodes can run
            "log.console.level = warning",  # otherwise each connection is logged
        ]
        self._account.write(self.folder / "rabbitmq.conf", "".join(f"{line}\n" for line in lines))
        self._account.write(self.folder / "enabled_plugins", "[].\n")

    def command(self) -> Command:
        """Return the command to run."""
        return Command([str(self._program)], self.folder, self.log, self._account, self.environment())

    def environment(self) -> dict[str, str]:
        """Return the variables by which the server and ``rabbitmqctl`` find each other."""
        own = {
            "NODENAME": self.node,
            "NODE_IP_ADDRESS": HOST,
            "NODE_PORT": str(self.port),
            "DIST_PORT": str(self.distribution_port),
            "CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "CONF_ENV_FILE": str(
                self.folder / "no-such-file"
            ),  # otherwise it reads /etc/rabbitmq/rabbitmq-env.conf
            "ADVANCED_CONFIG_FILE": str(self.folder / "no-such-file"),
            "ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "GENERATED_CONFIG_DIR": str(self.folder / "generated"),
            "MNESIA_BASE": str(self.folder / "data"),
            "LOG_BASE": str(self.folder),
            "LOGS": "-",
            "PID_FILE": str(self.folder / "pid"),
        }
        return {
            **{f"RABBITMQ_{name}": value for name, value in own.items()},
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self.mapper_port),
            # For each Erlang node: listen on loopback only, with two schedulers at most, which saves
            # memory and time at the start. No limit depends on it.
            "ERL_FLAGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2",
            # The script then executes the server instead of waiting for it.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    async def probe(self) -> None:
        """Log in and open the vhost."""
        login = _Login()
        factory = Factory.forProtocol(lambda: login)
        factory.noisy = False
        await TCP4ClientEndpoint(self._reactor, HOST, self.port, timeout=5).connect(factory)
        try:
            await login.opened
        finally:
            login.hang_up()


class _Login(Protocol):
    """The client's side of an AMQP 0-9-1 handshake, up to an open vhost."""

    _START, _TUNE, _OPEN_OK = (10, 10), (10, 30), (10, 41)
    _MECHANISM = b"\x05PLAIN" + struct.pack(">I", 12) + b"\x00guest\x00guest" + b"\x05en_US"

    def __init__(self) -> None:
        self.opened: Deferred[None] = Deferred()
        self._buffer = b""

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(b"AMQP\x00\x00\x09\x01")

    def dataReceived(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= 7:
            size = struct.unpack_from(">I", self._buffer, 3)[0]
            if len(self._buffer) < size + 8:
                return
            payload, self._buffer = self._buffer[7 : size + 7], self._buffer[size + 8 :]
            self._method(struct.unpack_from(">HH", payload), payload[4:])

    def _method(self, method: tuple[int, ...], arguments: bytes) -> None:
        if method == self._START:
            self._send(11, struct.pack(">I", 0) + self._MECHANISM)
        elif method == self._TUNE:
            self._send(31, arguments)
            self._send(40, b"\x01/\x00\x00")
        elif method == self._OPEN_OK:
            self.opened.callback(None)

    def _send(self, method: int, arguments: bytes) -> None:
        assert self.transport is not None
        payload = struct.pack(">HH", 10, method) + arguments
        self.transport.write(struct.pack(">BHI", 1, 0, len(payload)) + payload + b"\xce")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.opened.called:
            self.opened.errback(NotReady("the connection was closed"))

    def hang_up(self) -> None:
        """Drop the connection."""
        assert self.transport is not None
        self.transport.loseConnection()
