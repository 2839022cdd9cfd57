"""Clusters on loopback, built from the sandbox's servers."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tefmanager.sandbox import Programs
from tefmanager.sandbox.etcd_server import Etcd
from tefmanager.sandbox.machine import HOST, Account, free_ports
from tefmanager.sandbox.postgresql_server import PostgreSQL
from tefmanager.sandbox.process import Command
from tefmanager.sandbox.rabbitmq_server import RabbitMQ
from tefmanager.sandbox.server import Server

EPMD = Path("/usr/bin/epmd")
CONTROL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")


async def together(*calls: Any) -> None:
    """Await coroutines concurrently."""
    await gatherResults([Deferred.fromCoroutine(call) for call in calls], consumeErrors=True)


class PortMapper(Server):
    """Erlang's port mapper, by which the nodes of a cluster find each other. It outlives all nodes."""

    name = "epmd"

    def __init__(self, reactor: Any, folder: Path, account: Account) -> None:
        super().__init__(reactor, folder, account)
        [self.port] = free_ports(1)

    async def prepare(self) -> None:
        """Do nothing: it stores nothing."""

    def command(self) -> Command:
        """Return the command to run."""
        arguments = [str(EPMD), "-port", str(self.port), "-address", HOST]
        return Command(arguments, self.folder, self.log, self._account)

    async def probe(self) -> None:
        """Connect."""
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        protocol: Any = await TCP4ClientEndpoint(self._reactor, HOST, self.port, timeout=5).connect(factory)
        protocol.transport.loseConnection()


class Node(RabbitMQ):
    """A node of a cluster; it joins the cluster at its first start."""

    def __init__(
        self, reactor: Any, folder: Path, account: Account, program: Path, mapper: int, cookie: str
    ) -> None:
        super().__init__(reactor, folder, account, program)
        self.mapper_port = mapper
        self.peers: list[Node] = []
        self._cookie = cookie

    async def prepare(self) -> None:
        """Write the configuration: the other nodes, and quorum queues as the default."""
        await super().prepare()
        cookie = self.folder / ".erlang.cookie"
        cookie.write_text(self._cookie)
        cookie.chmod(0o400)
        os.chown(cookie, self._account.user, self._account.group)
        vhost = {"name": "/", "metadata": {"default_queue_type": "quorum"}}
        rights = {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
        guest = {"name": "guest", "password": "guest", "tags": "administrator"}
        definitions = self.folder / "definitions.json"
        definitions.write_text(json.dumps({"vhosts": [vhost], "users": [guest], "permissions": [rights]}))
        with (self.folder / "rabbitmq.conf").open("a") as conf:
            conf.write("cluster_formation.peer_discovery_backend = classic_config\n")
            for number, node in enumerate(self.peers, 1):
                conf.write(f"cluster_formation.classic_config.nodes.{number} = {node.node}\n")
            conf.write("cluster_partition_handling = pause_minority\n")
            conf.write(f"load_definitions = {definitions}\n")

    def control(self, *arguments: str) -> str:
        """Run the broker's tool and return its output."""
        own = {"HOME": str(self.folder), "RUNNING_UNDER_SYSTEMD": ""}
        environment = {**os.environ, **self.environment(), **own}
        done = subprocess.run(
            [str(CONTROL), "-q", "-n", self.node, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


class Brokers:
    """Three RabbitMQ nodes whose queues are quorum queues."""

    def __init__(self, reactor: Any, folder: Path, programs: Programs, account: Account) -> None:
        self.mapper = PortMapper(reactor, folder / "epmd", account)
        cookie = secrets.token_hex(10).upper()
        self.nodes = [
            Node(reactor, folder / f"node{n}", account, programs.rabbitmq_server, self.mapper.port, cookie)
            for n in (1, 2, 3)
        ]
        for node in self.nodes:
            node.peers = self.nodes

    async def start(self) -> None:
        """Start one node, then the others: if three start at once, a vhost may stay down."""
        await self.mapper.start()
        first, *others = self.nodes
        await first.start()
        await together(*(node.start() for node in others))

    async def stop(self) -> None:
        """Stop them all."""
        await together(*(node.discard() for node in self.nodes))
        await self.mapper.stop()


class Member(Etcd):
    """A member of an Etcd cluster."""

    def __init__(self, reactor: Any, folder: Path, account: Account, program: Path) -> None:
        super().__init__(reactor, folder, account, program, fast=True)
        self.peers: list[Member] = []

    @property
    def label(self) -> str:
        """Its name in the cluster."""
        return f"member{self.port}"

    @property
    def peer_url(self) -> str:
        """The URL at which other members find it."""
        return f"http://{HOST}:{self._peer_port}"

    def command(self) -> Command:
        """Return the command to run."""
        alone = super().command()
        changed = {
            "--name": self.label,
            "--initial-cluster": ",".join(f"{peer.label}={peer.peer_url}" for peer in self.peers),
        }
        arguments = list(alone.arguments)
        for option, value in changed.items():
            arguments[arguments.index(option) + 1] = value
        return Command(arguments, self.folder, self.log, self._account, alone.environment)


class Etcds:
    """Three Etcd members."""

    def __init__(self, reactor: Any, folder: Path, programs: Programs, account: Account) -> None:
        self.members = [Member(reactor, folder / f"member{n}", account, programs.etcd) for n in (1, 2, 3)]
        for member in self.members:
            member.peers = self.members

    async def start(self) -> None:
        """Start them all."""
        await together(*(member.start() for member in self.members))

    async def stop(self) -> None:
        """Stop them all."""
        await together(*(member.discard() for member in self.members))


class Standby(PostgreSQL):
    """A copy of a primary, kept up to date by streaming, until it is promoted."""

    def __init__(
        self, reactor: Any, folder: Path, account: Account, programs: Programs, primary: PostgreSQL
    ) -> None:
        super().__init__(reactor, folder, account, programs.initdb, programs.postgres, fast=True)
        self.password = primary.password
        self._primary = primary
        self._backup = programs.postgres.with_name("pg_basebackup")
        self._created = True

    async def prepare(self) -> None:
        """Copy the primary; the copy contains where to stream from."""
        source = self._primary.database
        login = f"host={HOST} port={source['port']} user={source['user']} password={self.password}"
        arguments = [
            *(str(self._backup), "--dbname", f"{login} application_name=standby"),
            *("--pgdata", str(self._data), "--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
        ]
        await self.run(Command(arguments, self.folder, self.log, self._account))

    async def promote(self) -> None:
        """Promote it to primary."""
        await self.execute("SELECT pg_promote()")


class Databases:
    """A primary whose commits wait for its one standby."""

    def __init__(self, reactor: Any, folder: Path, programs: Programs, account: Account) -> None:
        self.primary = PostgreSQL(
            reactor, folder / "primary", account, programs.initdb, programs.postgres, fast=True
        )
        self.standby = Standby(reactor, folder / "standby", account, programs, self.primary)

    async def start(self) -> None:
        """Start both; from then on each commit is on both before it is reported."""
        await self.primary.start()
        await self.standby.start()
        await self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        await self.primary.execute("SELECT pg_reload_conf()")

    async def stop(self) -> None:
        """Stop both."""
        await together(self.standby.discard(), self.primary.discard())
