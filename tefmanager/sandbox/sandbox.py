"""The three servers together: started in parallel, stopped together, their folder removed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.utils import getProcessValue
from twisted.logger import Logger

from tefmanager.sandbox.addresses import Addresses
from tefmanager.sandbox.etcd import Etcd
from tefmanager.sandbox.machine import HOST, Account, Programs
from tefmanager.sandbox.postgresql import PostgreSQL
from tefmanager.sandbox.rabbitmq import RabbitMQ
from tefmanager.sandbox.server import Reactor, Server

_log = Logger()


class Sandbox:
    """A private RabbitMQ, PostgreSQL and Etcd.

    Args:
        reactor: runs everything.
        folder: where to put everything, a folder that does not exist yet; None makes one among the
            temporary files. It is removed at `stop`.
        programs: the servers' programs; None looks for them at `start`.
        fast: the servers do not wait for the disk: for tests.

    Attributes:
        rabbitmq, postgresql, etcd: the servers, once `start` was called, to be stopped, started and
            broken one by one.
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
        self._servers: list[Server] = []

    async def start(self) -> Addresses:
        """Start all servers, and return when each of them answers.

        Raises `SandboxError` when a program is missing or a server does not come up; `stop` cleans up
        then, too.
        """
        programs = self._programs or Programs.find()
        account = Account.unprivileged()
        folder = self._make_folder(account)
        self._servers = self._make_servers(programs, account, folder)
        results = await _gather([server.start for server in self._servers])
        for result in results:
            if isinstance(result, BaseException):
                raise result
        self._write_database_file(folder)
        return Addresses(self.rabbitmq.url, self.postgresql.database, (HOST, self.etcd.port), folder)

    async def stop(self) -> None:
        """End all servers and remove the folder. Never raises; may be called again, and at any time."""
        servers, self._servers = self._servers, []
        for server, error in zip(
            servers, await _gather([server.discard for server in servers]), strict=True
        ):
            if isinstance(error, BaseException):
                _log.error("{server} could not be stopped: {error!r}", server=server.name, error=error)
        folder, self._folder = self._folder, None
        if servers and folder is not None:
            await self._remove(folder)

    def pids(self) -> list[int]:
        """Return the ids of all processes of the sandbox."""
        return [pid for server in self._servers for pid in server.pids()]

    def _make_folder(self, account: Account) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="tef-sandbox-"))
        return account.make_folder(self._folder)

    def _make_servers(self, programs: Programs, account: Account, folder: Path) -> list[Server]:
        common = self._reactor
        self.rabbitmq = RabbitMQ(common, folder / "rabbitmq", account, programs.rabbitmq_server)
        self.postgresql = PostgreSQL(
            common, folder / "postgresql", account, programs.initdb, programs.postgres, self._fast
        )
        self.etcd = Etcd(common, folder / "etcd", account, programs.etcd, self._fast)
        return [self.rabbitmq, self.postgresql, self.etcd]

    def _write_database_file(self, folder: Path) -> None:
        """Say how to reach the database in the form that ``TEF_MANAGER_DB_CONFIG`` names, for each environment."""
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
            (folder / f"database_{env}.yml").write_text("".join(f"{line}\n" for line in lines))

    async def _remove(self, folder: Path) -> None:
        # By a program: thousands of files would hold up the reactor.
        status = await getProcessValue("/bin/rm", ["-rf", "--", str(folder)], reactor=self._reactor)
        if status:
            _log.error("{folder} could not be removed", folder=str(folder))


async def _gather(calls: list[Callable[[], Coroutine[Any, Any, None]]]) -> list[BaseException | None]:
    """Call all at once; return, when all are done, what each of them raised."""
    pending = [Deferred.fromCoroutine(call()) for call in calls]
    results = await DeferredList(pending, consumeErrors=True)
    return [None if success else failure.value for success, failure in results]
