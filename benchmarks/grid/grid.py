"""A manager with its simulated grid, from resources to rows, for one measurement."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.grid.daemon import Daemon, Tables
from benchmarks.grid.spec import LoadSpec
from benchmarks.services.bench import Bench
from benchmarks.services.etcd import Etcd
from benchmarks.services.programs import BenchmarkError, Helper
from benchmarks.services.usage import Meter


@dataclass(frozen=True)
class Resources:
    """The resources of a measurement.

    Attributes:
        count: number of resources.
        limit: most references to each at a time.
        each: how many resources each task needs.
        api: Etcd's API, ``v2`` or ``v3``.
    """

    count: int = 20
    limit: int = 15
    each: int = 0
    api: str = "v3"

    @property
    def names(self) -> Sequence[str]:
        """Their names."""
        return [f"resource-{number:04}" for number in range(self.count)]


@dataclass(frozen=True)
class Grid:
    """The objects that a measurement uses.

    Attributes:
        bench: the servers.
        prefix: the name prefix.
        daemon: the manager.
        tables: its tables.
    """

    bench: Bench
    prefix: str
    daemon: Daemon
    tables: Tables

    @contextmanager
    def load(self, spec: LoadSpec) -> Iterator[Helper]:
        """Run a simulated grid. At the end the manager is stopped, and all queues are removed."""
        errors = self.bench.folder / f"{self.prefix}.load.err"
        helper = Helper("the simulated grid", "benchmarks.grid.load", [spec.to_json()], errors)
        try:
            helper.wait("open")
            yield helper
        finally:
            self.daemon.stop()
            helper.stop()

    def meter(self, load: Helper) -> Meter:
        """Measure the CPU time of all programs from now on."""
        return Meter({**self.bench.roots, "manager": self.daemon.program.root, "load": load.root})

    def spec(self, resources: Resources, **fields: object) -> LoadSpec:
        """Return a simulated grid for this manager."""
        names = resources.names if resources.each else ()
        port = self.bench.amqp_port
        return LoadSpec(port, self.prefix, each=resources.each, names=names, **fields)  # type: ignore[arg-type]


@contextmanager
def open_grid(
    bench: Bench, resources: Resources, *options: str, twistd: Sequence[str] = ()
) -> Iterator[Grid]:
    """Create the resources, and a manager that is not started yet; at the end remove everything."""
    prefix = bench.name("grid")
    with ExitStack() as stack:
        etcd = Etcd(bench.etcd, resources.api)
        stack.callback(etcd.close)
        stack.callback(etcd.clear)
        etcd.clear()
        if resources.each:
            etcd.make(resources.names, resources.limit)
        tables = Tables(bench, prefix)
        stack.callback(tables.close)
        stack.callback(tables.drop)
        daemon = Daemon(bench, prefix, [f"--etcd-api={resources.api}", *options], list(twistd))
        stack.callback(daemon.stop)
        try:
            yield Grid(bench, prefix, daemon, tables)
        except BenchmarkError as error:
            raise BenchmarkError(f"{error}\n{daemon.last_words()}") from error
