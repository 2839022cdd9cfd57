"""The grid: servers behind proxies, two managers, workers, a sender."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.sql import SQL, Identifier

from tefmanager.sandbox import Sandbox
from tefmanager.sandbox.server import Server
from tests.chaos.broker import Broker, Gone
from tests.chaos.etcd import Administrator
from tests.chaos.judge import Change
from tests.chaos.space import Space
from tests.contract.own_etcd import USER
from tests.integration.daemon import Daemon
from tests.integration.grid_etcd import Shared
from tests.paths import ROOT
from tests.proxy import Proxy
from tests.services import Services

PREFIX = "chaos"
TYPES = ("compile", "install")
SERVICES = ("rabbitmq", "postgresql", "etcd")
LIMITS = {"database": 4, "licence": 2, "night-server": 1, "floor": 3}
"""The resources, each with the number of tasks that may use it at a time."""

WORKERS = 12
_WORKERS = "tef.dev.worker."
"""The first part of the names of the workers' queues."""

OPTIONS = (
    "--etcd-api=v3",
    "--dispatch-interval=3",
    "--dispatch-timeout=5",
    "--missing-interval=8",
    "--time-limit=15",
    "--release-grace=1",
    "--max-attempts=6",
    "--silence-limit=8",
)
"""Short times, because slow events can't happen often."""


@dataclass
class Program:
    """A worker or the sender: a process that can be broken.

    Attributes:
        arguments: its command line.
        process: the running process, if any.
        frozen: it was stopped with SIGSTOP.
    """

    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None
    frozen: bool = False

    def start(self) -> None:
        """Start it."""
        self.process = subprocess.Popen(self.arguments, cwd=ROOT, stdin=subprocess.DEVNULL)
        self.frozen = False

    @property
    def alive(self) -> bool:
        """Whether it runs, frozen or not."""
        return self.process is not None and self.process.poll() is None

    @property
    def ended_by_itself(self) -> bool:
        """Whether it ended without being killed."""
        return self.process is not None and self.process.poll() not in (None, -signal.SIGKILL)

    def freeze(self) -> None:
        """Suspend it."""
        self._signal(signal.SIGSTOP)
        self.frozen = self.alive

    def thaw(self) -> None:
        """Let it continue."""
        self._signal(signal.SIGCONT)
        self.frozen = False

    def kill(self) -> None:
        """Kill it, as in a crash."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            assert self.process is not None
            self.process.send_signal(number)


@dataclass
class Worker(Program):
    """A worker. After it was killed it starts again under its name or, like Ruby's, under a new one."""

    name: str = ""
    vocabulary: str = "ruby"
    worker_type: str = TYPES[0]

    @property
    def queue(self) -> str:
        """Its queue."""
        return f"{_WORKERS}{self.name}"


class Manager(Daemon):
    """One of the two managers; remembers what was done to it."""

    def __init__(self, services: Services, folder: Path, name: str) -> None:
        login = {"TEF_ETCD_USER_DEV": USER, "TEF_ETCD_PASSWORD_DEV": USER}
        super().__init__(services, folder, PREFIX, *OPTIONS, variables=login)
        self.prefix = PREFIX
        self.name = name
        self.frozen = False
        self.deaf = False
        self.wanted = False

    @property
    def active(self) -> bool:
        """Whether it is the active manager, according to its log."""
        said = self.log.events("LEADERSHIP_") if self.alive else []
        return bool(said) and said[-1].startswith("LEADERSHIP_GAINED|")

    @property
    def state(self) -> str:
        """Its state, for people."""
        if not self.alive:
            return "dead"
        return "frozen" if self.frozen else "active" if self.active else "standby"


@dataclass
class Grid:
    """The whole grid.

    Args:
        sandbox: the running servers.
        direct: their addresses without proxies.
        folder: for journals and logs.
        rng: decides what is random about the workers.
    """

    sandbox: Sandbox
    direct: Services
    folder: Path
    rng: random.Random
    broker: Broker = field(init=False)
    etcd: Administrator = field(init=False)
    space: Space = field(init=False)
    proxies: dict[str, Proxy] = field(init=False)
    managers: list[Manager] = field(init=False)
    workers: list[Worker] = field(init=False)
    sender: Program = field(init=False)
    killed: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """When each service was down and may have forgotten its last actions: unix times."""
    gone: Gone = field(default_factory=dict)
    """Tasks whose messages were in queues that are lost."""
    changes: list[Change] = field(default_factory=list)
    """Earlier changes from an Etcd that has forgotten them."""
    _names: int = 0

    def __post_init__(self) -> None:
        database = self.direct.database
        port = int(self.direct.amqp_url.rstrip("/").rpartition(":")[2])
        targets = {
            "rabbitmq": ("127.0.0.1", port),
            "postgresql": (str(database["host"]), int(database["port"])),
            "etcd": self.direct.etcd,
        }
        self.proxies = {name: Proxy(target) for name, target in targets.items()}
        broken = Services(
            self.direct.amqp_url.replace(str(port), str(self.proxies["rabbitmq"].endpoint[1])),
            {**database, "port": str(self.proxies["postgresql"].endpoint[1])},
            self.proxies["etcd"].endpoint,
            self.sandbox,
        )
        self.managers = [Manager(broken, self.folder / name, name) for name in ("manager-1", "manager-2")]
        self.workers = [self._worker(number) for number in range(WORKERS)]
        self.broker = Broker(self.direct, self.queue)
        self.etcd = Administrator(self.direct.etcd)
        self.space = Space(database, self.managers[0].table)
        self._url = f"{broken.amqp_url}%2f"

    @property
    def queue(self) -> str:
        """The managers' queue."""
        return f"{PREFIX}.manager"

    def server(self, name: str) -> Server:
        """Return one of the servers."""
        server = getattr(self.sandbox, name)
        assert isinstance(server, Server)
        return server

    async def make_resources(self) -> None:
        """Write the resources into Etcd, and allow the managers to change nothing else there."""
        await self.etcd.let_in(*LIMITS)
        keys = self.etcd.keys()
        for name, limit in LIMITS.items():
            Shared(keys, name).make(limit)

    def resources(self) -> list[Shared]:
        """Return the resources as Etcd has them. Raises if Etcd does not answer."""
        keys = self.etcd.keys()
        return [Shared(keys, name) for name in LIMITS]

    def known_guids(self) -> set[str]:
        """Return the tasks that the managers have accepted. Raises if the database does not answer."""
        connection = psycopg2.connect(**self.direct.database, connect_timeout=2)
        tables = [Identifier(self.managers[0].table(name)) for name in ("tasks", "history")]
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(SQL("select guid from {} union select guid from {}").format(*tables))
                return {guid for (guid,) in cursor.fetchall()}
        finally:
            connection.close()

    def _worker(self, number: int) -> Worker:
        # Both types have workers of both vocabularies.
        vocabulary = ("ruby", "ruby", "readme")[number % 3]
        return Worker([], vocabulary=vocabulary, worker_type=TYPES[number % 2])

    def start_worker(self, worker: Worker) -> None:
        """Start a worker, for the first time or again."""
        if not worker.name or worker.vocabulary == "ruby":
            self._names += 1
            worker.name = f"{worker.vocabulary}-{self._names:03}"
        about = {
            "--url": self._url,
            "--manager": self.queue,
            "--name": worker.name,
            "--type": worker.worker_type,
            "--vocabulary": worker.vocabulary,
            "--longest": "0.3",
            "--journal": str(self.folder / f"worker.{worker.name}.jsonl"),
        }
        worker.arguments = _program("tests.chaos.worker", about)
        worker.start()

    def worker_queues(self) -> list[str]:
        """Return the queues of all present and former workers."""
        return [
            f"{_WORKERS}{path.stem.removeprefix('worker.')}" for path in self.folder.glob("worker.*.jsonl")
        ]

    def start_sender(self, tasks: int, seconds: float, seed: int) -> None:
        """Start to send tasks."""
        about = {
            "--url": self._url,
            "--manager": self.queue,
            "--tasks": str(tasks),
            "--seconds": str(seconds),
            "--seed": str(seed),
            "--journal": str(self.folder / "sender.jsonl"),
        }
        more = ["--types", *TYPES, "--resources", *LIMITS]
        self.sender = Program([*_program("tests.chaos.sender", about), *more])
        self.sender.start()

    def start_manager(self, manager: Manager) -> None:
        """Start a manager, without waiting for anything."""
        manager.frozen = manager.deaf = False
        manager.wanted = True
        manager.start(ready=False)

    def note_down(self, name: str, begin: float) -> None:
        """Record that a service was down from a unix time until now."""
        self.killed.setdefault(name, []).append((begin, time.time()))

    def note_gone(self, gone: Gone) -> None:
        """Record which tasks' messages are lost."""
        for queue, guids in gone.items():
            self.gone.setdefault(queue, []).extend(guids)

    def end(self) -> None:
        """End all processes, whatever has happened; never raises."""
        for program in [*self.workers, *([self.sender] if hasattr(self, "sender") else [])]:
            program.kill()
        for manager in self.managers:
            manager.end()
        for proxy in self.proxies.values():
            proxy.cut()


def _program(module: str, about: dict[str, str]) -> list[str]:
    arguments: list[Any] = [sys.executable, "-m", module]
    return [str(each) for each in (*arguments, *(part for pair in about.items() for part in pair))]
