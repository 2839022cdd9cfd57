"""The three servers together: started in parallel, stopped together, their folder removed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from tefmanager.sandbox.addresses import Addresses
from tefmanager.sandbox.etcd_server import Etcd
from tefmanager.sandbox.machine import HOST, Account, Programs, SandboxError, free_ports
from tefmanager.sandbox.postgresql_server import PostgreSQL
from tefmanager.sandbox.process import Command, Process
from tefmanager.sandbox.rabbitmq_server import RabbitMQ
from tefmanager.sandbox.server import Reactor, Server

_log = Logger()


class Sandbox:
    """A private RabbitMQ, PostgreSQL and Etcd.

    Args:
        reactor: runs everything.
        folder: where to put everything, a folder that does not exist yet; None creates one among the
            temporary files. `stop` removes it.
        programs: the servers' programs; None looks for them at `start`.
        fast: the servers do not wait for the disk; for tests.

    Attributes:
        rabbitmq, postgresql, etcd: the servers after `start`, which can be stopped, started and broken one
            by one.
    """

    rabbitmq: RabbitMQ
    postgresql: PostgreSQL
    etcd: Etcd

    def __init__(
        self,
        reactor: Reactor,
        folder: Path | None = None,
        programs: Programs | None = None,
        *,
        fast: bool = False,
    ) -> None:
        self._reactor = reactor
        self._folder = folder
        self._programs = programs
        self._fast = fast
        self._made: Path | None = None
        self._servers: list[Server] = []

    async def start(self) -> Addresses:
        """Start all servers, and return when each of them answers.

        Raises `SandboxError` if a program is missing or a server does not come up; `stop` cleans up in this
        case too.
        """
        programs = self._programs or Programs.find()
        account = Account.unprivileged()
        folder = self._make_folder(account)
        self._servers = self._make_servers(programs, account, folder)
        for error in await _errors([server.start for server in self._servers]):
            if error is not None:
                raise error
        self._write_database_file(folder)
        return Addresses(self.rabbitmq.url, self.postgresql.database, (HOST, self.etcd.port), folder)

    async def stop(self) -> None:
        """Stop all servers and remove the folder. Never raises; may be called again, and at any time."""
        servers, self._servers = self._servers, []
        errors = await _errors([server.discard for server in servers])
        for server, error in zip(servers, errors, strict=True):
            if error is not None:
                _log.error("{server} could not be stopped: {error!r}", server=server.name, error=error)
        made, self._made = self._made, None
        if made is not None:
            await self._remove(made)

    def pids(self) -> list[int]:
        """Return the ids of all processes of the sandbox."""
        return [pid for server in self._servers for pid in server.pids()]

    def _make_folder(self, account: Account) -> Path:
        if self._folder is None:
            self._made = Path(tempfile.mkdtemp(prefix="tef-sandbox-"))
            return account.open_way(self._made)
        try:
            made = account.make_room(self._folder.absolute())
        except FileExistsError:
            raise SandboxError(f"{self._folder} exists: the sandbox needs a new folder") from None
        self._made = made
        return made

    def _make_servers(self, programs: Programs, account: Account, folder: Path) -> list[Server]:
        common, fast = self._reactor, self._fast
        ports = free_ports(6)  # all together, so that no two servers get the same port
        self.rabbitmq = RabbitMQ(common, folder / "rabbitmq", account, programs.rabbitmq_server, ports[:3])
        self.postgresql = PostgreSQL(
            common, folder / "postgresql", account, programs.initdb, programs.postgres, fast, ports[3:4]
        )
        self.etcd = Etcd(common, folder / "etcd", account, programs.etcd, fast, ports[4:])
        return [self.rabbitmq, self.postgresql, self.etcd]

    def _write_database_file(self, folder: Path) -> None:
        """Write the files that ``TEF_MANAGER_DB_CONFIG`` points to, with the database's address."""
        database = self.postgresql.database
        keys = {
            "host": "host",
            "port": "port",
            "database": "dbname",
            "username": "user",
            "password": "password",
        }
        lines = ["adapter: postgresql", *(f"{key}: {database[name]}" for key, name in keys.items())]
        for env in ("dev", "test", "prod"):
            Account().write(folder / f"database_{env}.yml", "".join(f"{line}\n" for line in lines))

    async def _remove(self, folder: Path) -> None:
        # By a separate program: removing thousands of files would block the reactor.
        remove = Command(["/bin/rm", "-rf", "--", str(folder)], Path("/"), Path(os.devnull))
        if await Process(self._reactor, remove).wait():
            _log.error("{folder} could not be removed", folder=str(folder))


async def _errors(calls: list[Callable[[], Coroutine[Any, Any, None]]]) -> list[Exception | None]:
    """Call all at once; return, when all have ended, what each of them raised."""
    return await gatherResults([Deferred.fromCoroutine(_error(call)) for call in calls])


async def _error(call: Callable[[], Coroutine[Any, Any, None]]) -> Exception | None:
    try:
        await call()
    except Exception as error:
        return error
    return None
