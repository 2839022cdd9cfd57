"""The daemon killed at each step there is: what was confirmed is done in the end, nothing is left held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tefmanager.support.crashpoints import VARIABLE, CrashPoint
from tests.integration.daemon import Daemon, until
from tests.integration.grid_client import Grid, Received, RubyWorker, fresh
from tests.integration.grid_etcd import APIS, Make, Shared, all_back, makes_resources
from tests.services import Services

OPTIONS = (
    "--etcd-api=v3",
    "--dispatch-interval=1",
    "--dispatch-timeout=1",
    "--release-grace=0.2",
    "--max-attempts=2",
)

PASSES = {
    **dict.fromkeys(
        (
            CrashPoint.TURN_APPLIED,
            CrashPoint.TURN_COMMITTED,
            CrashPoint.TURN_CARRIED_OUT,
            CrashPoint.TURN_ACKNOWLEDGED,
        ),
        (2, 5, 9, 14),
    ),
    CrashPoint.RESERVING: (2,),
    CrashPoint.RESERVED: (2,),
    CrashPoint.PUBLISHING: (3,),
    CrashPoint.PUBLISHED: (3,),
    CrashPoint.RELEASING: (2,),
    CrashPoint.RELEASED: (2,),
}
"""How often a step goes well before the one at which the daemon dies: it dies in the midst of work.

Turns take tasks in, begin, and complete them, whichever it is at the time.
"""

CASES = [(point, passes) for point in CrashPoint for passes in PASSES.get(point, (0,))]

TAKEOVER = (
    CrashPoint.LEADERSHIP_GAINED,
    CrashPoint.LEADERSHIP_LOADED,
    CrashPoint.LEADERSHIP_CONSUMING,
    CrashPoint.LEADERSHIP_RECONCILED,
)
"""Steps that a standby takes when it takes over."""

AT_THE_END = (CrashPoint.STOPPING, CrashPoint.LEADERSHIP_ENDING)
"""Steps that only a stop comes to."""

EXCUSES = ("DISPATCH_TIMEOUT|", "DISPATCH_UNCERTAIN|", "TASK_RELEASED|")
"""What must be logged of a task that is run twice."""


class Story:
    """Tasks over two resources, one that nobody gets done, and other messages; and how it all ended."""

    def __init__(self, grid: Grid, make: Make) -> None:
        self.grid = grid
        self.resources: list[Shared] = [make(2), make(3)]
        self.workers = [RubyWorker(grid, fresh("crew")) for _ in range(1)]
        self.workers += [RubyWorker(grid, self.workers[0].worker_type) for _ in range(2)]
        for worker in self.workers:
            worker.work_off()
        self.loser = RubyWorker(grid, fresh("loser"))
        self.loser.job = self._give_up
        self.guids: list[str] = []
        self.doomed = ""

    def _give_up(self, received: Received) -> None:
        self.loser.say("working")
        self.loser.say("idle")

    def tell(self) -> None:
        """Send everything."""
        for worker in (*self.workers, self.loser):
            worker.free()
        names = [resource.name for resource in self.resources]
        self.grid.send({"type": "task", "task_type": "no guid"})
        self.grid.send({"type": "settle_dead", "data": {"guids": ["nobody"]}})
        self.doomed = self.grid.task(self.loser.worker_type, resources=names)
        self.guids = [self.grid.task(self.workers[0].worker_type, resources=names) for _ in range(12)]

    def over(self, daemon: Daemon) -> bool:
        """Tell whether all has ended. History says so: a line of the log may be lost with the process."""
        self.grid.serve(0.2)
        for worker in (*self.workers, self.loser):
            worker.heartbeat()
        return {row["guid"] for row in daemon.rows("history")} == {*self.guids, self.doomed}

    def judge(self, daemon: Daemon, excuses: Sequence[str] = ()) -> None:
        """Check that nothing is lost, left held, or was done twice without a reason in a log."""
        assert {received.guid for received in self.grid.take_all(f"{daemon.prefix}.manager.dead", 1)} == {
            self.doomed
        }
        rejected = self.grid.take_all(f"{daemon.prefix}.manager.rejected", 1)
        assert rejected[0].message == {"type": "task", "task_type": "no guid"}
        for guid in (*self.guids, self.doomed):
            (row,) = daemon.rows("history", guid=guid)
            assert row["outcome"] == ("dead" if guid == self.doomed else "completed")
        runs = Counter(received.guid for worker in self.workers for received in worker.received)
        excused = {line.split("|")[2] for line in (*daemon.logged(EXCUSES), *excuses)}
        assert {guid for guid, count in runs.items() if count > 1} <= excused
        assert daemon.rows("tasks") == []
        until(lambda: all_back(*self.resources), "all references back")


@pytest.fixture
def make(services: Services) -> Iterator[Make]:
    """Make resources of new names, and remove them afterwards."""
    with makes_resources(APIS["v3"](services.etcd)) as make:
        yield make


@pytest.mark.parametrize(("point", "passes"), CASES)
def test_killed_at(
    services: Services, tmp_path: Path, unique: str, make: Make, point: CrashPoint, passes: int
) -> None:
    """Killed there, the daemon makes good everything when it is started again."""
    daemon = Daemon(services, tmp_path, unique, *OPTIONS)
    grid = Grid(services.amqp_url, daemon.prefix)
    try:
        story = Story(grid, make)
        daemon.start(ready=False, variables={VARIABLE: f"{point}:{passes}"})
        grid.channel.queue_declare(daemon.queue, durable=True)
        story.tell()
        if point in AT_THE_END:
            grid.wait(lambda: len(daemon.logged(("TASK_COMPLETED|",))) > 3, "some tasks done")
            daemon.terminate()
        grid.wait(lambda: not daemon.alive, "its death")
        daemon.killed()
        daemon.start()
        grid.wait(lambda: story.over(daemon), "the end of all tasks", 30.0)
        daemon.stop()
        story.judge(daemon)
    finally:
        daemon.end()
        grid.close()


@pytest.mark.parametrize("point", TAKEOVER)
def test_killed_while_taking_over(
    services: Services, tmp_path: Path, unique: str, make: Make, point: CrashPoint
) -> None:
    """A standby that dies as it takes over leaves nothing worse than it found it."""
    first, second = (Daemon(services, tmp_path / name, unique, *OPTIONS) for name in ("first", "second"))
    grid = Grid(services.amqp_url, first.prefix)
    try:
        story = Story(grid, make)
        first.start()
        second.start(ready=False, variables={VARIABLE: f"{point}:0"})
        story.tell()
        grid.wait(lambda: len(first.logged(("TASK_COMPLETED|",))) > 3, "some tasks done")
        first.kill()
        grid.wait(lambda: not second.alive, "the death of the standby")
        second.killed()
        second.start()
        grid.wait(lambda: story.over(second), "the end of all tasks", 30.0)
        second.stop()
        excuses = first.logged(EXCUSES)
        story.judge(second, excuses)
    finally:
        first.end()
        second.end()
        grid.close()
