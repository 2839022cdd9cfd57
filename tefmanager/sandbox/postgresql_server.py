"""A PostgreSQL cluster with one user and one database, both named ``tef``."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import psycopg2
from twisted.internet.defer import Deferred
from txpostgres.txpostgres import Connection

from tefmanager.sandbox.machine import HOST, Account, free_ports
from tefmanager.sandbox.process import Command
from tefmanager.sandbox.server import NotReady, Reactor, Server

Database: TypeAlias = dict[str, Any]
"""libpq's keywords for a connection: host, port, dbname, user, password."""

_NAME = "tef"
_LONGEST_SOCKET = 107


class PostgreSQL(Server):
    """A PostgreSQL server.

    Args:
        reactor, folder, account: see `Server`.
        initdb, postgres: the programs.
        fast: do not wait for the disk. A crash of the machine, but not of the server, may destroy the data.
        ports: one port, for clients; None finds a free one.
    """

    name = "postgresql"

    def __init__(
        self,
        reactor: Reactor,
        folder: Path,
        account: Account,
        initdb: Path,
        postgres: Path,
        fast: bool,
        ports: Sequence[int] | None = None,
    ) -> None:
        super().__init__(reactor, folder, account)
        [self.port] = ports or free_ports(1)
        self.password = secrets.token_hex(8)
        self._data = folder / "data"
        self._initdb = initdb
        self._postgres = postgres
        self._fast = fast
        self._created = False

    @property
    def database(self) -> Database:
        """How to connect."""
        return self._connection_to(_NAME)

    async def prepare(self) -> None:
        """Create the cluster. The database itself is created at the first start."""
        password_file = self.folder / "password"
        self._account.write(password_file, self.password)
        options = ["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"]
        login = [f"--username={_NAME}", f"--pwfile={password_file}"]
        arguments = [str(self._initdb), f"--pgdata={self._data}", *options, *login]
        await self.run(Command(arguments, self.folder, self.log, self._account))

    def command(self) -> Command:
        """Return the command to run."""
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": self._socket_folder(),
            # Shared memory in the data folder is removed with it, however the server ends.
            "dynamic_shared_memory_type": "mmap",
            **(dict.fromkeys(("fsync", "full_page_writes"), "off") if self._fast else {}),
        }
        arguments = [str(self._postgres), "-D", str(self._data)]
        for key, value in settings.items():
            arguments += ["-c", f"{key}={value}"]
        # SIGINT ends clients' sessions; SIGTERM would wait for the clients.
        return Command(arguments, self.folder, self.log, self._account, stop_signal=signal.SIGINT)

    async def probe(self) -> None:
        """Connect, and create the database if it does not exist yet."""
        if not self._created:
            await self._create()
            self._created = True
        await self._execute(_NAME, "SELECT 1")

    async def discard(self) -> None:
        """Stop it; if it were killed, a segment of shared memory would remain on the machine."""
        await self.stop()

    async def execute(self, statement: str) -> None:
        """Execute a statement as the superuser. Raises `NotReady` if the server can't do that now."""
        await self._execute("postgres", statement)

    async def _create(self) -> None:
        try:
            await self._execute("postgres", f"CREATE DATABASE {_NAME}")
        except psycopg2.errors.DuplicateDatabase:
            return

    async def _execute(self, dbname: str, statement: str) -> None:
        connection = _Connection(reactor=self._reactor)
        try:
            await _uncancelled(connection.connect(**self._connection_to(dbname)))
            await _uncancelled(connection.runOperation(statement))
        except psycopg2.OperationalError as error:
            raise NotReady from error
        finally:
            connection.close()

    def _connection_to(self, dbname: str) -> Database:
        login = {"user": _NAME, "password": self.password}
        return {"host": HOST, "port": self.port, "dbname": dbname, **login}

    def _socket_folder(self) -> str:
        """Return the folder of the Unix socket; empty if its path would be too long for a socket."""
        longest = len(str(self.folder / f".s.PGSQL.{self.port}.lock"))
        return str(self.folder) if longest <= _LONGEST_SOCKET else ""


class _Connection(Connection):  # type: ignore[misc]  # txpostgres has no types
    def continuePolling(self, swallowErrors: bool = False) -> None:
        # A refused connection keeps reading until it is closed, and would log again and again the error
        # that its Deferred has reported already.
        super().continuePolling(swallowErrors=True)


def _uncancelled(call: Deferred[object]) -> Deferred[object]:
    """Hide a cancellation from txpostgres, which would raise an error of its own while it connects."""
    result: Deferred[object] = Deferred()
    call.chainDeferred(result)
    return result
