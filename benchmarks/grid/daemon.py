"""The daemon as an operator runs it: ``twistd -n tef-manager``, with its log in a file."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.sql import SQL, Composable, Identifier

from benchmarks.services.bench import Bench
from benchmarks.services.programs import PATIENCE, ROOT, BenchmarkError, Program, environment, until
from tefmanager.store.names import table_prefix_for

_READY = b"BROKER_CONNECTED|consumer"


class Daemon:
    """The manager under a name prefix of its own.

    Args:
        bench: where it runs.
        prefix: its name prefix.
        options: options of the command ``tef-manager``.
        twistd: further options of twistd.
    """

    def __init__(
        self, bench: Bench, prefix: str, options: list[str], twistd: list[str] | None = None
    ) -> None:
        self.log = bench.folder / f"{prefix}.log"
        self._bench = bench
        self._prefix = prefix
        self._options = options
        self._twistd = twistd or []
        self._program: Program | None = None
        self._starts = 0

    def start(self) -> float:
        """Start it, and immediately return the time of the start."""
        self.log.unlink(missing_ok=True)
        self._starts += 1
        began = time.monotonic()
        command = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile="]
        named = (f"--name-prefix={self._prefix}", f"--log-file={self.log}")
        arguments = ["tef-manager", *named, *self._options]
        self._program = Program(
            f"{self._prefix}.{self._starts}",
            [*command, *self._twistd, *arguments],
            self._environment(),
            self._bench.folder,
        )
        return began

    def wait_ready(self, seconds: float = PATIENCE) -> None:
        """Wait until it is active and accepts messages."""
        until(self._is_ready, "the manager", seconds)

    def _is_ready(self) -> bool:
        self.program.check()
        return self.log.exists() and _READY in self.log.read_bytes()

    @property
    def program(self) -> Program:
        """The program, after it was started."""
        if self._program is None:
            raise BenchmarkError("the manager was not started")
        return self._program

    def last_words(self) -> str:
        """Return the end of its log."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else ["no log"]
        return "\n".join(line[:300] for line in lines[-5:])

    def stop(self) -> None:
        """Stop it cleanly if it is running."""
        if self._program is not None:
            self._program.stop()
            self._program = None

    def kill(self) -> None:
        """Kill it, as in a crash."""
        self.program.kill()
        self._program = None

    def _environment(self) -> dict[str, str]:
        host, port = self._bench.etcd
        plugins = self._bench.folder / "plugins"
        target = plugins / "twisted" / "plugins"
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "twisted_plugin" / "tef_manager.py", target)
        return environment(
            PYTHONPATH=f"{plugins}:{ROOT}",
            TEF_ENV="dev",
            TEF_AMQP_URL_DEV=self._bench.amqp_url,
            TEF_MANAGER_DB_CONFIG=str(self._bench.servers),
            TEF_ETCD_HOST_DEV=host,
            TEF_ETCD_PORT_DEV=str(port),
        )


class Tables:
    """The manager's tables, seen from outside.

    Args:
        bench: has the database.
        prefix: the manager's name prefix.
    """

    def __init__(self, bench: Bench, prefix: str) -> None:
        self._prefix = table_prefix_for("dev", prefix)
        self._connection = psycopg2.connect(**bench.database)
        self._connection.autocommit = True

    def run(self, statement: str, *values: object, **parts: Composable) -> list[tuple[Any, ...]]:
        """Execute a statement in which ``{history}`` and so on stand for tables; return its rows."""
        tables = ("tasks", "history", "workers", "manager")
        names = {name: Identifier(self._prefix + name) for name in tables}
        with self._connection.cursor() as cursor:
            cursor.execute(SQL(statement).format(**names, **parts), values)
            return cursor.fetchall() if cursor.description else []

    def count(self, table: str) -> int:
        """Return how many rows a table has."""
        return int(self.run(f"select count(*) from {{{table}}}")[0][0])

    def wait(self, table: str, rows: int, seconds: float = PATIENCE, pause: float = 0.01) -> float:
        """Wait until a table has so many rows, and return the time."""
        until(lambda: self.count(table) >= rows, f"{rows} {table}", seconds, pause)
        return time.monotonic()

    def drop(self) -> None:
        """Drop all tables."""
        found = self.run("select tablename from pg_tables where tablename like %s", self._prefix + "%")
        for (name,) in found:
            with self._connection.cursor() as cursor:
                cursor.execute(SQL("drop table {} cascade").format(Identifier(name)))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
