"""Runs the other task queues: their workers, and the programs that submit to them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers import record
from benchmarks.peers.kinds import Kind
from benchmarks.services.bench import PEERS, Bench
from benchmarks.services.programs import BenchmarkError, Program, environment, until

WARM_UP = 32
"""How many tasks workers complete before a measurement, if they are started before it."""

_PATIENCE = 300.0


@dataclass
class Peer:
    """One of the other task queues, ready to be measured.

    Attributes:
        bench: the servers.
        kind: which task queue it is.
        name: the name of its queue.
        variables: for its programs.
        record: file with the completed tasks.
        next: number of the next task.
        programs: the running programs.
    """

    bench: Bench
    kind: Kind
    name: str
    variables: dict[str, str]
    record: Path
    next: int = 0
    programs: list[Program] = field(default_factory=list)

    def start(self, name: str, *arguments: str) -> Program:
        """Run a program of the virtual environment."""
        path = PEERS / arguments[0]
        where = self.bench.folder
        program = Program(f"{self.name}.{name}", [str(path), *arguments[1:]], self.variables, where)
        self.programs.append(program)
        return program

    def start_workers(self) -> None:
        """Start the workers."""
        self.start("worker", *self.kind.worker(self.variables))

    def warm_up(self) -> None:
        """Let the workers complete some tasks."""
        self.submit(WARM_UP)
        self.wait(WARM_UP)

    def submit(self, count: int, pause: float = 0.0) -> Program:
        """Begin to submit; return the program that submits."""
        first, self.next = self.next, self.next + count
        module = f"benchmarks.peers.{self.kind.app}_app"
        arguments = ("python", "-P", "-m", module, str(first), str(count), f"--pause={pause}")
        return self.start(f"submit{first}", *arguments)

    def submitted(self, program: Program) -> dict[str, Any]:
        """Wait until all tasks are submitted; return the times."""
        until(lambda: self._told(program), "tasks to be submitted", _PATIENCE, 0.02)
        return dict(json.loads(program.output.read_text()))

    def _told(self, program: Program) -> bool:
        told = program.output.read_text().endswith("\n")
        if not told and not record.count(self.record):
            self.check()
        return told

    def check(self) -> None:
        """Raise `BenchmarkError` if a program has failed."""
        for program in self.programs:
            if program.failed:
                program.check()

    def wait(self, count: int) -> list[tuple[int, float]]:
        """Wait until so many tasks are done in total; return numbers and times. Raises `BenchmarkError`."""
        until(lambda: self._done() >= count, "tasks", _PATIENCE, 0.005)
        time.sleep(0.05)
        found = record.read(self.record)
        if len(found) != count or len({number for number, _ in found}) != count:
            raise BenchmarkError(f"{self.kind.name}: {len(found)} tasks were done instead of {count}")
        return found

    def _done(self) -> int:
        self.check()
        return record.count(self.record)

    def stop(self) -> None:
        """Stop all of its programs, the last one first."""
        while self.programs:
            self.programs.pop().stop()


@contextmanager
def open_peer(bench: Bench, kind: Kind, *, confirm: bool = False, resources: int = 0) -> Iterator[Peer]:
    """Prepare one of the other task queues; at the end remove everything."""
    name = bench.name(kind.name)
    path = bench.folder / f"{name}.record"
    variables = environment(
        BENCH_AMQP_URL=bench.amqp_url,
        BENCH_DATABASE_URL=bench.database_url,
        BENCH_QUEUE=name.replace(".", "-"),
        BENCH_RECORD=str(path),
        BENCH_CONFIRM="yes" if confirm else "no",
        BENCH_RESOURCES=str(resources),
    )
    with ExitStack() as stack:
        peer = Peer(bench, kind, name, variables, path)
        stack.callback(kind.clean, bench, variables)
        stack.callback(peer.stop)
        kind.prepare(peer)
        yield peer
