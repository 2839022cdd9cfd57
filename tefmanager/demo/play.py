"""Runs the demo from beginning to end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

from pika.exceptions import AMQPError
from rich.console import Console

from tefmanager.demo.client import Client
from tefmanager.demo.grid import DemoError, Grid, Services, check_machine, new_grid
from tefmanager.demo.observation import Observer
from tefmanager.demo.report import print_report
from tefmanager.demo.screen import open_screen
from tefmanager.demo.shared_resources import make_etcd, put_resources
from tefmanager.demo.suite import LIMITS, REPORT, SHELL, make_suite
from tefmanager.demo.verdict import Verdict, judge

__all__ = ["DemoError", "DemoOptions", "play"]

_JOIN_LIMIT = 30.0
_SETTLE_LIMIT = 10.0
_DEATH_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of the command line.

    Attributes:
        tasks: number of tasks.
        workers: number of workers, of the two types alternately.
        etcd_api: ``v2`` or ``v3``.
        seed: seed of the suite.
        timeout: seconds after which a task without a result counts as lost.
        plain: print lines instead of a live display.
    """

    tasks: int
    workers: int
    etcd_api: str
    seed: int
    timeout: float
    plain: bool


class Play:
    """One run of the demo.

    Args:
        options: the options of the command line.
        console: where everything is shown.
        grid: runs the processes.
    """

    def __init__(self, options: DemoOptions, console: Console, grid: Grid) -> None:
        self._options = options
        self._console = console
        self._grid = grid
        self._tasks = make_suite(options.tasks, options.seed)

    def run(self) -> Verdict:
        """Run it to the end, and print the report. Raises `DemoError` if that is not possible."""
        with self._step("Starting RabbitMQ, PostgreSQL, Etcd and the manager"):
            services = self._grid.start_manager(self._options.etcd_api)
        with self._in_touch():
            return self._work(services)

    def _work(self, services: Services) -> Verdict:
        etcd = make_etcd(self._options.etcd_api, services.etcd_url)
        put_resources(etcd, LIMITS)
        client = Client(services.amqp_url, (SHELL, REPORT))
        with self._step("Starting the workers"):
            self._start_workers(client)
        observer = Observer(self._tasks, client, etcd, self._grid.log)
        observer.begin()
        submitted = time.time()
        client.submit(self._tasks)
        seconds = self._show(observer)
        verdict = judge(self._tasks, submitted, client.keeper.results, observer.uses, observer.most)
        print_report(self._console, verdict, seconds)
        return verdict

    def _start_workers(self, client: Client) -> None:
        for index in range(self._options.workers):
            worker_type = (SHELL, REPORT)[index % 2]
            self._grid.start_worker(worker_type, f"{worker_type}-{index // 2 + 1}")
        deadline = time.monotonic() + _JOIN_LIMIT
        while len(client.workers) < self._options.workers:
            if time.monotonic() > deadline:
                raise DemoError(f"after {_JOIN_LIMIT:.0f} seconds the manager does not know all workers")
            self._grid.check()
            client.ask_for_workers()
            client.turn(0.1)

    def _show(self, observer: Observer) -> float:
        """Show what happens until all is done, or for as long as is allowed; return the seconds it took."""
        took = None
        with open_screen(self._console, self._options.plain) as screen:
            while not observer.finished:
                self._grid.check()
                view = observer.look()
                screen.show(view)
                if took is None and view.done == view.total:
                    took = view.elapsed
                if observer.elapsed > self._limit(took):
                    break
        return observer.elapsed if took is None else took

    def _limit(self, took: float | None) -> float:
        return self._options.timeout if took is None else took + _SETTLE_LIMIT

    def _step(self, text: str) -> AbstractContextManager[object]:
        """Show which step is under way."""
        if self._options.plain:
            self._console.print(text, highlight=False)
            return nullcontext()
        return self._console.status(text)

    @contextmanager
    def _in_touch(self) -> Iterator[None]:
        """Turn a lost service into one line for people."""
        try:
            yield
        except (AMQPError, OSError) as error:
            self._grid.check(_DEATH_LIMIT)
            raise DemoError(
                f"lost the connection to the sandbox: {error or type(error).__name__}"
            ) from error

    def stop(self) -> None:
        """Stop everything. Raises `DemoError` if anything did not end as it should."""
        with self._step("Stopping and removing everything"):
            problems = self._grid.stop()
        if problems:
            raise DemoError("\n".join(problems))


def play(options: DemoOptions, console: Console) -> None:
    """Run the demo. Raises `DemoError` if it could not be run to its end, or anything was lost."""
    check_machine()
    with new_grid() as grid:
        run = Play(options, console, grid)
        verdict = run.run()
        run.stop()
        if verdict.faults:
            raise DemoError("Something was lost or went wrong, see above.")
