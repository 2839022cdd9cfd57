"""The daemon as a process: started like an operator starts it, judged by its log and exit status."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extras import RealDictCursor
from psycopg2.sql import SQL, Identifier

from tefmanager.store.names import table_prefix_for
from tests.paths import ROOT
from tests.services import Services

PATIENCE = 45.0
"""Seconds to wait for the daemon before a test fails."""

QUICK = (
    "--dispatch-timeout=1",
    "--release-grace=0.4",
    "--missing-interval=2",
    "--dispatch-interval=60",
)
"""Options for tests that wait until some time is up."""

CALM = ("--dispatch-interval=60",)
"""Options that prevent the regular pass, so that only events cause dispatches."""

_LINE = re.compile(r"\S+ (?:debug|info|warn|error|critical) (.*)")
_BREAKS = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's categories of control characters, lone surrogates, and separators of lines and paragraphs."""

FAULTS = ("Traceback", "Unhandled", " critical [", "never awaited", "Unable to format")
"""What must not be in a log: it would be a fault of the daemon itself."""


class Log:
    """The output of a process in a file.

    It is a file and no pipe, so a line that was printed before another effect became visible is in it as
    soon as that effect is visible.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._lines: list[str] = []
        self._rest = b""

    @property
    def lines(self) -> list[str]:
        """All complete lines so far."""
        *whole, self._rest = (self._rest + self._file.read()).split(b"\n")
        self._lines += [line.decode("utf-8", "backslashreplace") for line in whole]
        return self._lines

    def events(self, start: str = "") -> list[str]:
        """Return the events that begin with a text, without the time and level before them."""
        found = (_LINE.fullmatch(line) for line in self.lines)
        return [match[1] for match in found if match and match[1].startswith(start)]

    def wait(self, start: str, count: int = 1, timeout: float = PATIENCE) -> list[str]:
        """Wait until so many events begin with a text, and return them."""
        end = time.monotonic() + timeout
        while len(found := self.events(start)) < count:
            assert time.monotonic() < end, f"no {count} × {start!r} in:\n" + self.tail()
            self._wait_for_more(end)
        return found

    def _wait_for_more(self, end: float) -> None:
        size = self._file.tell()
        while os.fstat(self._file.fileno()).st_size == size and time.monotonic() < end:
            time.sleep(0.003)

    def tail(self) -> str:
        """Return the last lines, for the message of a failed test."""
        return "\n".join(line[:300] for line in self.lines[-40:])


class Daemon:
    """``twistd -n tef-manager`` on the services of the session, under a name prefix of its own.

    Args:
        services: the services.
        folder: for its files; created if necessary.
        name: part of its name prefix; no other test may use it.
        options: options of the command.
        env: ``dev``, ``test`` or ``prod``.
        variables: additional environment variables.
    """

    def __init__(
        self,
        services: Services,
        folder: Path,
        name: str,
        *options: str,
        env: str = "dev",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.prefix = f"judge.{name}"
        self._variables = dict(variables or {})
        self.env = env
        self._services = services
        self._folder = folder
        self._options = options
        self._logs: list[Log] = []
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def queue(self) -> str:
        """The queue from which it consumes."""
        return f"{self.prefix}.manager"

    @property
    def log(self) -> Log:
        """Its log since its last start."""
        return self._logs[-1]

    @property
    def pid(self) -> int:
        """Its process's id."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def log_size(self) -> int:
        """Return how many bytes it has logged since its last start."""
        return self._log_path.stat().st_size

    def start(self, *, ready: bool = True, variables: Mapping[str, str] | None = None) -> None:
        """Start it, and with ``ready`` wait until it is active.

        ``variables`` are additional environment variables for this start.
        """
        assert not self.alive
        command = [
            str(Path(sys.executable).with_name("twistd")),
            *("-n", "--pidfile=", "tef-manager", f"--name-prefix={self.prefix}"),
            *self._options,
        ]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._log_path = self._folder / f"log.{len(self._logs)}"
        with self._log_path.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env={**self.environment(), **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._logs.append(Log(self._log_path))
        if ready:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Wait until it is active and consumes."""
        self.log.wait("LEADERSHIP_GAINED|")
        self.log.wait("BROKER_CONNECTED|consumer")

    def stop(self) -> float:
        """Stop it like systemd, check that it had no fault, and return the seconds it took."""
        assert self._process is not None
        begin = time.monotonic()
        if self.alive:
            self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(PATIENCE)
        took = time.monotonic() - begin
        self.check()
        assert status == 0, f"exit status {status}:\n{self.log.tail()}"
        return took

    def terminate(self) -> None:
        """Ask it to end."""
        os.kill(self.pid, signal.SIGTERM)

    def killed(self) -> None:
        """Check that it has been killed."""
        assert self._process is not None
        status = self._process.wait(PATIENCE)
        assert status == -signal.SIGKILL, f"exit status {status}:\n{self.log.tail()}"

    def logged(self, starts: tuple[str, ...]) -> list[str]:
        """Return the events since its first start that begin with one of these texts."""
        return [line for log in self._logs for line in log.events() if line.startswith(starts)]

    def kill(self) -> None:
        """Kill it, as in a crash."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(PATIENCE)

    def end(self) -> None:
        """End its process, whatever has happened; never raises."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def check(self) -> None:
        """Check that its log since the first start contains no fault of its own."""
        faults = [line for line in self.every_line() if any(fault in line for fault in FAULTS)]
        assert not faults, "\n".join(faults) + "\n\n" + self.log.tail()

    def every_line(self) -> list[str]:
        """Return everything that it has logged since its first start."""
        return [line for log in self._logs for line in log.lines]

    def rows(self, table: str, **equal: object) -> list[dict[str, Any]]:
        """Return rows of a table, selected by column values, oldest first."""
        connection = psycopg2.connect(**self._services.database, cursor_factory=RealDictCursor)
        try:
            with connection, connection.cursor() as cursor:
                conditions = [SQL("{} = %s").format(Identifier(column)) for column in equal]
                where = SQL(" and ").join([SQL("true"), *conditions])
                name = Identifier(self.table(table))
                cursor.execute(SQL("select * from {} where {}").format(name, where), list(equal.values()))
                rows = [dict(row) for row in cursor.fetchall()]
        finally:
            connection.close()
        return sorted(rows, key=lambda row: row.get("id", 0))

    def table(self, table: str) -> str:
        """Return the full name of one of its tables."""
        return f"{table_prefix_for(self.env, self.prefix)}{table}"

    def environment(self) -> dict[str, str]:
        """Return its environment variables."""
        kept = {name: text for name, text in os.environ.items() if not name.upper().startswith("TEF_")}
        path = [str(plugin_folder(self._folder)), str(ROOT), kept.get("PYTHONPATH", "")]
        suffix = self.env.upper()
        host, port = self._services.etcd
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join(part for part in path if part),
            "PYTHONUNBUFFERED": "1",
            "TEF_ENV": self.env,
            f"TEF_AMQP_URL_{suffix}": self._services.amqp_url,
            "TEF_MANAGER_DB_CONFIG": str(self._database_folder()),
            f"TEF_ETCD_HOST_{suffix}": host,
            f"TEF_ETCD_PORT_{suffix}": str(port),
            **self._variables,
        }

    def _database_folder(self) -> Path:
        keys = {"dbname": "database", "user": "username"}
        lines = [f"{keys.get(key, key)}: '{value}'" for key, value in self._services.database.items()]
        text = "".join(f"{line}\n" for line in ["adapter: postgresql", *lines])
        (self._folder / f"database_{self.env}.yml").write_text(text)
        return self._folder


def plugin_folder(folder: Path) -> Path:
    """Return a folder in which Twisted finds the plugin as after an installation."""
    target = folder / "plugins" / "twisted" / "plugins"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "twisted_plugin" / "tef_manager.py", target)
    return folder / "plugins"


def is_one_line(line: str) -> bool:
    """Tell whether a log line has the right beginning, and no program could take it for two lines."""
    return bool(_LINE.fullmatch(line)) and not any(unicodedata.category(one) in _BREAKS for one in line)


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    """Run a daemon; if the test succeeds, it is stopped and must end without a fault."""
    try:
        daemon.start()
        yield daemon
        daemon.stop()
    finally:
        daemon.end()


def until(true: Callable[[], object], what: str = "it", timeout: float = PATIENCE) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)
