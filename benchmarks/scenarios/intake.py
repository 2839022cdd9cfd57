"""What happens when somebody publishes 100,000 tasks as fast as one pika process can.

There are workers, but none of their type: the manager accepts the tasks and writes them. Its rate is
compared with that of the same process publishing to a queue without consumers. After every 1,000 tasks the
process asks for the workers. Since all messages are in one queue, the answer can't come before the tasks
ahead of it were accepted. What counts is how much later it comes: the time from the moment at which the
manager accepted the task just before the question (the row says it) to the answer. Compare it with the mean
length of a turn.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pika

from benchmarks.case import Case
from benchmarks.grid import bodies
from benchmarks.grid.grid import Grid, Resources, open_grid
from benchmarks.results import Outcome, percentile
from benchmarks.scenarios.throughput import US
from benchmarks.services.bench import Bench, Options
from benchmarks.services.programs import BenchmarkError, Program, environment
from benchmarks.services.usage import memory

GROUP = "intake"
TASKS = 100_000
RATE = "tasks/s taken in"
ALONE = "tasks/s published alone"
PUBLISHED = "tasks/s published"
RATIO = "taken in / published alone"
PEAK = "MB, most"
TURN = "ms a turn"
BEHIND = "ms behind its tasks, median"
MOST_BEHIND = "ms behind its tasks, most"
QUEUED = "s in the queue, most"

_WORKERS = 8
_EVERY = 1000
_STEP = 0.1
_LONGEST = 300.0


def cases(options: Options) -> Iterator[Case]:
    """Iterate over the cases."""
    tasks = options.scaled(TASKS, 2000)
    yield Case(
        GROUP, {"who": US, "tasks": tasks}, 12 + tasks / 2500, RATE, lambda bench: _measure(bench, tasks)
    )


def _measure(bench: Bench, tasks: int) -> Outcome:
    bench.say("published, with nobody there")
    alone = _alone(bench, tasks)
    with open_grid(bench, Resources()) as grid:
        grid.daemon.start()
        grid.daemon.wait_ready()
        with _connected(bench) as connection:
            watch = Watch(grid, connection.channel(), tasks)
            watch.register()
            values, series = watch.run()
            grid.daemon.kill()  # stopping it with so many waiting tasks would show nothing
            _remove(connection, grid)
    return Outcome({ALONE: alone, RATIO: values[RATE] / alone, **values}, series)


def _connected(bench: Bench) -> pika.BlockingConnection:
    return pika.BlockingConnection(pika.URLParameters(bench.amqp_url + "%2f"))


def _alone(bench: Bench, tasks: int) -> float:
    queue = bench.name("flood")
    with _connected(bench) as connection:
        channel = connection.channel()
        channel.queue_declare(queue, durable=True)
        told = json.loads(_flood(bench, queue, tasks).wait(_LONGEST))
        channel.queue_delete(queue)
    return float(tasks / (told["last"] - told["first"]))


def _flood(bench: Bench, queue: str, tasks: int, *options: str) -> Program:
    arguments = [
        sys.executable,
        "-P",
        "-m",
        "benchmarks.grid.flood",
        bench.amqp_url + "%2f",
        queue,
        str(tasks),
    ]
    return Program(bench.name("flood"), [*arguments, *options], environment(), bench.folder)


def _remove(connection: pika.BlockingConnection, grid: Grid) -> None:
    for suffix in ("", ".dead", ".rejected"):
        connection.channel().queue_delete(f"{grid.prefix}.manager{suffix}")


@dataclass
class Watch:
    """Watches the manager while many tasks arrive.

    Attributes:
        grid: the manager.
        channel: for answers.
        tasks: number of tasks to be published.
        answered: unix times of the answers, by the number of tasks before the question.
        times, sizes: samples of the manager's memory: seconds from the beginning, and MB.
    """

    grid: Grid
    channel: pika.adapters.blocking_connection.BlockingChannel
    tasks: int
    answered: dict[int, float] = field(default_factory=dict)
    times: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)

    def register(self) -> None:
        """Register some workers that can do none of these tasks."""
        for number in range(_WORKERS):
            body = bodies.status(f"other-{number}", f"{self.grid.prefix}.none", "idle", "other")
            self.channel.basic_publish("", f"{self.grid.prefix}.manager", body)
        self.grid.tables.wait("workers", _WORKERS)

    def run(self) -> tuple[dict[str, float], dict[str, list[float]]]:
        """Publish the tasks and wait until all are accepted; return values and series."""
        turns, began = self._turns(), time.monotonic()
        program = self._start()
        try:
            ended = self._until_all_are_in(began)
            told = json.loads(program.wait())
        finally:
            program.stop()
        turns = self._turns() - turns
        self._take_answers(len(told["asked"]))
        values = {
            RATE: self.tasks / (ended - told["first"]),
            PUBLISHED: self.tasks / (told["last"] - told["first"]),
            PEAK: memory(self.grid.daemon.program.pid)[1],
            TURN: 1000 * (ended - told["first"]) / turns,
            **self._delays(told["asked"]),
        }
        return values, {"s": self.times, "MB": self.sizes}

    def _start(self) -> Program:
        answers = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.basic_consume(answers, self._answered, auto_ack=True)
        options = (f"--reply-to={answers}", f"--every={min(_EVERY, self.tasks // 10)}")
        return _flood(self.grid.bench, f"{self.grid.prefix}.manager", self.tasks, *options)

    def _answered(
        self, channel: object, method: object, properties: pika.BasicProperties, body: bytes
    ) -> None:
        self.answered[int(properties.correlation_id)] = time.time()

    def _until_all_are_in(self, began: float) -> float:
        while (now := time.monotonic()) < began + _LONGEST:
            self.times.append(now - began)
            self.sizes.append(memory(self.grid.daemon.program.pid)[0])
            last = self.grid.tables.run("select max(id) from {tasks}")[0][
                0
            ]  # numbered from 1, without gaps
            if last == self.tasks:
                return time.monotonic()
            self.channel.connection.process_data_events(time_limit=_STEP)
        raise BenchmarkError(f"not all tasks were taken in within {_LONGEST:g} s")

    def _take_answers(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while len(self.answered) < count and time.monotonic() < deadline:
            self.channel.connection.process_data_events(time_limit=_STEP)
        if len(self.answered) < count:
            raise BenchmarkError(f"{count - len(self.answered)} questions were not answered")

    def _turns(self) -> int:
        return int(self.grid.tables.run("select turns from {manager}")[0][0])

    def _delays(self, asked: list[float]) -> dict[str, float]:
        numbers = sorted(self.answered)
        rows = self.grid.tables.run(
            "select id, date_part('epoch', received) from {tasks} where id = any (%s)", numbers
        )
        received = dict(rows)
        behind = [1000 * (self.answered[number] - received[number]) for number in numbers]
        queued = [self.answered[number] - at for number, at in zip(numbers, asked, strict=True)]
        return {BEHIND: percentile(behind, 50), MOST_BEHIND: max(behind), QUEUED: max(queued)}
