"""The servers on which everything is measured, and a folder for the programs' output."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.services.programs import ROOT, Helper

PEERS = Path(os.environ.get("PEERS", ROOT / ".venv-bench")) / "bin"
"""The folder with the programs of the other task queues."""


@dataclass(frozen=True)
class Options:
    """The options of a run.

    Attributes:
        tasks: number of tasks of a throughput measurement.
        quick: measure as little as possible, only to see that it works.
    """

    tasks: int = 5000
    quick: bool = False

    def scaled(self, count: int, least: int = 50) -> int:
        """Return ``count`` if ``tasks`` is 5,000, otherwise a proportional number."""
        return max(least, count * self.tasks // 5000)


@dataclass(frozen=True)
class Bench:
    """The servers, and whatever else all measurements need.

    Attributes:
        amqp_url: RabbitMQ's URL.
        database: libpq's keywords for PostgreSQL.
        etcd: host and port.
        servers: folder of the sandbox.
        roots: ids of the servers' topmost processes, by name.
        folder: for logs; removed at the end.
        options: options of the run.
        say: shows people what happens.
    """

    amqp_url: str
    database: dict[str, Any]
    etcd: tuple[str, int]
    servers: Path
    roots: dict[str, int]
    folder: Path
    options: Options
    say: Callable[[str], None] = lambda text: None
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def amqp_port(self) -> int:
        """RabbitMQ's port."""
        return int(self.amqp_url.rstrip("/").rpartition(":")[2])

    @property
    def database_url(self) -> str:
        """The database's URL, including the password."""
        return "postgresql://{user}:{password}@{host}:{port}/{dbname}".format(**self.database)

    def name(self, what: str) -> str:
        """Return a name that no other measurement of this run has."""
        return f"bench.{what}{next(self.numbers)}"


@contextmanager
def open_bench(options: Options, say: Callable[[str], None], *, fast: bool = False) -> Iterator[Bench]:
    """Start the servers; at the end stop and remove everything."""
    folder = Path(tempfile.mkdtemp(prefix="tef-bench-"))
    arguments = ["--fast"] if fast else []
    sandbox = Helper("the sandbox", "benchmarks.services.sandbox", arguments, folder / "sandbox.err")
    try:
        found = sandbox.wait("started", 120)
        yield Bench(
            found["amqp_url"],
            found["database"],
            tuple(found["etcd"]),
            Path(found["folder"]),
            found["roots"],
            folder,
            options,
            say=say,
        )
    finally:
        sandbox.stop()
        shutil.rmtree(folder)
